//! What a client of a database does and is told, as a value, and as a line of text for a client in another process.

use std::fmt;
use std::str::FromStr;

use forelog::{CommitMode, Lsn, Token};

/// Names one attempt to commit for ever: the life of the database, the client, its count of attempts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// As the ledger counts them.
    pub life: u32,
    /// Who commits.
    pub client: u32,
    /// Unique among the attempts of this client in this life.
    pub number: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.life, self.client, self.number)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some(&[life, client, number]) => Ok(Name { life, client, number }),
            _ => Err(format!("no commit is called '{text}'")),
        }
    }
}

/// One thing that a client does or is told. `W` is what a commit does: its writes, or what they follow from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<W> {
    /// The open returned, and reported everything up to here as recovered.
    Opened(Lsn),
    /// The open failed, with this kind of error.
    NotOpened(String),
    /// Commit is about to be called, in this mode, for this work.
    Submit(Name, CommitMode, W),
    /// Commit returned a receipt. The creation of a keyspace has no token, and its place may be learned later.
    Ack(Name, Option<Lsn>, Option<Token>),
    /// Commit returned an error of this kind; with a token if it took its place, otherwise nothing was done.
    Fail(Name, String, Option<Token>),
    /// A receipt, a flush or the engine said that everything up to here is durable.
    Durable(Lsn),
    /// The engine takes no more commits.
    Poisoned,
    /// The medium may lie from now on: of what is told from here on, nothing has to survive.
    Struck,
    /// A log is about to retire everything up to here.
    Retire(Lsn),
    /// It has done so.
    Retired(Lsn),
    /// A log is about to forget incarnations of which everything is retired.
    Prune,
    /// A checkpoint is about to be made: it may begin the incarnation.
    Checkpoint,
    /// A backup of this name was made, of everything up to here.
    BackedUp(Lsn, String),
    /// The backup failed, with this kind of error.
    NotBackedUp(String),
    /// The checkpoint failed, with this kind of error.
    NotCheckpointed(String),
    /// Close is about to be called.
    Closing,
    /// Close returned.
    Closed,
    /// The close failed, with this kind of error.
    NotClosed(String),
    /// The client saw what must not be.
    Wrong(String),
}

impl<W: fmt::Display> fmt::Display for Event<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = |token: &Option<Token>| token.map_or("-".to_owned(), |token| token.to_string());
        match self {
            Event::Opened(lsn) => write!(f, "opened {}", lsn.get()),
            Event::NotOpened(kind) => write!(f, "not-opened {kind}"),
            Event::Submit(name, mode, work) => write!(f, "submit {name} {mode} {work}"),
            Event::Ack(name, lsn, handed_out) => {
                let lsn = lsn.map_or("-".to_owned(), |lsn| lsn.get().to_string());
                write!(f, "ack {name} {lsn} {}", token(handed_out))
            }
            Event::Fail(name, kind, handed_out) => write!(f, "fail {name} {kind} {}", token(handed_out)),
            Event::Durable(lsn) => write!(f, "durable {}", lsn.get()),
            Event::Poisoned => f.write_str("poisoned"),
            Event::Struck => f.write_str("struck"),
            Event::Retire(lsn) => write!(f, "retire {}", lsn.get()),
            Event::Retired(lsn) => write!(f, "retired {}", lsn.get()),
            Event::Prune => f.write_str("prune"),
            Event::Checkpoint => f.write_str("checkpoint"),
            Event::BackedUp(lsn, name) => write!(f, "backed-up {} {name}", lsn.get()),
            Event::NotBackedUp(kind) => write!(f, "not-backed-up {kind}"),
            Event::NotCheckpointed(kind) => write!(f, "not-checkpointed {kind}"),
            Event::Closing => f.write_str("closing"),
            Event::Closed => f.write_str("closed"),
            Event::NotClosed(kind) => write!(f, "not-closed {kind}"),
            Event::Wrong(what) => write!(f, "wrong {}", what.replace('\n', " ")),
        }
    }
}

impl<W: FromStr> FromStr for Event<W> {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("a client said '{line}'");
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split(' ');
        let mut word = || words.next().filter(|word| !word.is_empty()).ok_or_else(unknown);
        let lsn = |word: &str| word.parse().map(Lsn::new).map_err(|_| unknown());
        let token = |word: &str| match word {
            "-" => Ok(None),
            word => word.parse().map(Some).map_err(|_| unknown()),
        };
        let event = match what {
            "opened" => Event::Opened(lsn(word()?)?),
            "not-opened" => Event::NotOpened(word()?.to_owned()),
            "submit" => {
                let (name, mode) = (word()?.parse()?, word()?.parse().map_err(|_| unknown())?);
                Event::Submit(name, mode, word()?.parse().map_err(|_| unknown())?)
            }
            "ack" => {
                let (name, place) = (word()?.parse()?, word()?);
                let lsn = if place == "-" { None } else { Some(lsn(place)?) };
                Event::Ack(name, lsn, token(word()?)?)
            }
            "fail" => Event::Fail(word()?.parse()?, word()?.to_owned(), token(word()?)?),
            "durable" => Event::Durable(lsn(word()?)?),
            "poisoned" => Event::Poisoned,
            "struck" => Event::Struck,
            "retire" => Event::Retire(lsn(word()?)?),
            "retired" => Event::Retired(lsn(word()?)?),
            "prune" => Event::Prune,
            "checkpoint" => Event::Checkpoint,
            "backed-up" => Event::BackedUp(lsn(word()?)?, word()?.to_owned()),
            "not-backed-up" => Event::NotBackedUp(word()?.to_owned()),
            "not-checkpointed" => Event::NotCheckpointed(word()?.to_owned()),
            "closing" => Event::Closing,
            "closed" => Event::Closed,
            "not-closed" => Event::NotClosed(word()?.to_owned()),
            "wrong" => return Ok(Event::Wrong(rest.to_owned())),
            _ => return Err(unknown()),
        };
        if word().is_ok() { Err(unknown()) } else { Ok(event) }
    }
}
