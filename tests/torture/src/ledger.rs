//! What the child was promised, kept outside of it: one line for each thing that it learned, said after it learned it.
//!
//! How the lines travel and what ended the child is no business of this file: a pipe and SIGKILL, or a journal of the
//! block device and a power cut.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crashkit::model::State;
use forelog::{CommitMode, Incarnation, Lsn, Outcome, Token};

use super::model::{Action, Name};
use super::script::{MODES, Script, mode_index};

/// Where a child says what it learned. Saying it has reached the other side when it returns.
pub(crate) trait Reporter: Send + Sync {
    fn say(&self, line: &Line);
}

/// One thing that a child says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// The open returned, and reported everything up to here as recovered.
    Opened(Lsn),
    /// The open failed, with this kind of error.
    NotOpened(String),
    /// Commit is about to be called.
    Submit(Name, Action),
    /// Commit returned. The creation of a keyspace has no token.
    Ack {
        name: Name,
        mode: CommitMode,
        lsn: Lsn,
        token: Option<Token>,
    },
    /// The commit's receipt said that it is durable.
    Durable(Name),
    /// A flush said that everything up to here is durable.
    Flushed(Lsn),
    /// Commit returned an error of this kind; with a token if it took its place.
    Fail {
        name: Name,
        kind: String,
        token: Option<Token>,
    },
    /// The engine takes no more commits.
    Poisoned,
    /// A bare log is about to retire everything up to here.
    Retire(Lsn),
    Retired,
    Closing,
    Closed,
    /// The close failed, with this kind of error.
    NotClosed(String),
    /// The child saw what must not be.
    Wrong(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |token: &Option<Token>| token.map_or("-".to_owned(), |token| token.to_string());
        match self {
            Line::Opened(lsn) => write!(f, "opened {}", lsn.get()),
            Line::NotOpened(kind) => write!(f, "not-opened {kind}"),
            Line::Submit(name, action) => write!(f, "submit {name} {action}"),
            Line::Ack { name, mode, lsn, token } => {
                write!(f, "ack {name} {} {} {}", MODES[mode_index(*mode)].0, lsn.get(), word(token))
            }
            Line::Durable(name) => write!(f, "durable {name}"),
            Line::Flushed(lsn) => write!(f, "flushed {}", lsn.get()),
            Line::Fail { name, kind, token } => write!(f, "fail {name} {kind} {}", word(token)),
            Line::Poisoned => f.write_str("poisoned"),
            Line::Retire(lsn) => write!(f, "retire {}", lsn.get()),
            Line::Retired => f.write_str("retired"),
            Line::Closing => f.write_str("closing"),
            Line::Closed => f.write_str("closed"),
            Line::NotClosed(kind) => write!(f, "not-closed {kind}"),
            Line::Wrong(what) => write!(f, "wrong {}", what.replace('\n', " ")),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let unknown = || format!("the child said '{line}'");
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words = rest.split(' ');
        let mut word = || words.next().ok_or_else(unknown);
        let lsn = |word: &str| word.parse().map(Lsn::new).map_err(|_| unknown());
        let token = |word: &str| match word {
            "-" => Ok(None),
            word => word.parse().map(Some).map_err(|_| unknown()),
        };
        Ok(match what {
            "opened" => Line::Opened(lsn(word()?)?),
            "not-opened" => Line::NotOpened(word()?.to_owned()),
            "submit" => Line::Submit(word()?.parse()?, word()?.parse()?),
            "ack" => {
                let (name, mode) = (word()?.parse()?, word()?);
                let mode = MODES.iter().find(|(known, _)| *known == mode).ok_or_else(unknown)?.1;
                Line::Ack { name, mode, lsn: lsn(word()?)?, token: token(word()?)? }
            }
            "durable" => Line::Durable(word()?.parse()?),
            "flushed" => Line::Flushed(lsn(word()?)?),
            "fail" => Line::Fail { name: word()?.parse()?, kind: word()?.to_owned(), token: token(word()?)? },
            "poisoned" => Line::Poisoned,
            "retire" => Line::Retire(lsn(word()?)?),
            "retired" => Line::Retired,
            "closing" => Line::Closing,
            "closed" => Line::Closed,
            "not-closed" => Line::NotClosed(word()?.to_owned()),
            "wrong" => Line::Wrong(rest.to_owned()),
            _ => return Err(unknown()),
        })
    }
}

/// What ended a life of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The process died, the machine went on.
    Process,
    /// The power was cut.
    #[allow(dead_code, reason = "said by whoever cuts the power")]
    Power,
    /// The process died, after a write that had not done what it said: what that took is nobody's fault.
    Lie,
}

/// What a commit was promised: it survives this ending, and all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Promise {
    Nothing,
    ProcessDeath,
    PowerLoss,
}

/// What is known of a commit's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It may be there or not; whichever an open shows, stays.
    Open,
    Kept,
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) action: Action,
    /// Its place in the log, if the child was told.
    pub(crate) lsn: Option<Lsn>,
    pub(crate) token: Option<Token>,
    /// The mode in which it was acknowledged, if it was.
    pub(crate) acknowledged: Option<CommitMode>,
    pub(crate) promise: Promise,
    pub(crate) fate: Fate,
    /// Given to others before it was submitted: its own place lies above.
    above: Lsn,
    /// It was submitted after the engine had said that it takes no more.
    after_poison: bool,
}

/// One life of the database, as its child told it.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) script: Script,
    pub(crate) commits: BTreeMap<Name, Commit>,
    pub(crate) ending: Ending,
    pub(crate) opened: Option<Lsn>,
    pub(crate) incarnation: Option<Incarnation>,
    /// Inside a call that retires.
    pub(crate) retiring: bool,
    pub(crate) closing: bool,
    pub(crate) closed: bool,
    pub(crate) poisoned: bool,
    /// The kinds of all errors, in order.
    pub(crate) errors: Vec<String>,
}

/// Everything that the children of one database were told.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) seed: u64,
    /// The contents at the last check, and what was settled by it.
    pub(crate) base: State,
    pub(crate) settled: Vec<(Token, Outcome)>,
    pub(crate) settled_lsn: Lsn,
    /// Of a bare log: its records, and up to where they may be gone.
    pub(crate) records: BTreeMap<Lsn, Name>,
    pub(crate) retired: Lsn,
    /// The lives since then.
    pub(crate) lives: Vec<Life>,
    /// An open returned, once: the database is there for good.
    pub(crate) exists: bool,
    next_life: u32,
    /// The highest LSN ever given to anybody.
    highest: Lsn,
    incarnations: HashSet<u64>,
}

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        Ledger {
            seed,
            base: State::default(),
            settled: Vec::new(),
            settled_lsn: Lsn::ZERO,
            records: BTreeMap::new(),
            retired: Lsn::ZERO,
            lives: Vec::new(),
            exists: false,
            next_life: 1,
            highest: Lsn::ZERO,
            incarnations: HashSet::new(),
        }
    }

    /// A child is about to be started; returns the number of its life, which it must be told.
    pub(crate) fn begin(&mut self, script: &Script, ending: Ending) -> u32 {
        self.lives.push(Life {
            script: script.clone(),
            commits: BTreeMap::new(),
            ending,
            opened: None,
            incarnation: None,
            retiring: false,
            closing: false,
            closed: false,
            poisoned: false,
            errors: Vec::new(),
        });
        self.next_life += 1;
        self.next_life - 1
    }

    /// Takes down a line of the running child.
    ///
    /// # Errors
    /// What it says breaks a promise by itself.
    pub(crate) fn hear(&mut self, line: &Line) -> Result<(), String> {
        if let Line::Opened(lsn) = line {
            self.lives.last_mut().ok_or("no life has begun")?.opened = Some(*lsn);
            self.exists = true;
            let earlier = self.lives.len() - 1;
            // Promise 5: what an open reported is durable, whatever happens to the one who was told.
            return self.settle_lives(earlier, *lsn);
        }
        let highest = self.highest;
        let life = self.lives.last_mut().ok_or("no life has begun")?;
        match line {
            Line::Submit(name, action) => {
                let commit = Commit {
                    action: action.clone(),
                    lsn: None,
                    token: None,
                    acknowledged: None,
                    promise: Promise::Nothing,
                    fate: Fate::Open,
                    above: highest,
                    after_poison: life.poisoned,
                };
                life.commits.insert(*name, commit);
            }
            Line::Ack { name, mode, lsn, token } => self.acknowledge(*name, *mode, *lsn, *token)?,
            Line::Durable(name) => life.commit(name)?.promise = Promise::PowerLoss,
            Line::Flushed(lsn) => {
                for commit in life.commits.values_mut().filter(|commit| commit.lsn.is_some_and(|own| own <= *lsn)) {
                    commit.promise = Promise::PowerLoss;
                }
            }
            Line::Fail { name, kind, token } => {
                life.errors.push(kind.clone());
                match token {
                    Some(token) => self.place(*name, token.lsn, Some(*token))?,
                    // An error without a token says: nothing was done.
                    None => life.commit(name)?.fate = Fate::Gone,
                }
            }
            Line::Poisoned => life.poisoned = true,
            Line::Retire(lsn) => {
                life.retiring = true;
                self.retired = *lsn;
            }
            Line::Retired => life.retiring = false,
            Line::Closing => life.closing = true,
            Line::Closed => {
                life.closed = true;
                for commit in life.commits.values_mut().filter(|commit| commit.acknowledged.is_some()) {
                    commit.promise = Promise::PowerLoss;
                }
            }
            Line::NotClosed(kind) | Line::NotOpened(kind) => life.errors.push(kind.clone()),
            Line::Wrong(what) => return Err(what.clone()),
            Line::Opened(_) => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, name: Name, mode: CommitMode, lsn: Lsn, token: Option<Token>) -> Result<(), String> {
        self.place(name, lsn, token)?;
        let life = self.lives.last_mut().ok_or("no life has begun")?;
        let commit = life.commit(&name)?;
        if commit.after_poison {
            return Err(format!("I11: commit {name} was acknowledged after the engine had stopped"));
        }
        commit.acknowledged = Some(mode);
        commit.promise = match mode {
            CommitMode::Sync => Promise::PowerLoss,
            CommitMode::Written => Promise::ProcessDeath,
            _ => Promise::Nothing,
        };
        self.highest = self.highest.max(lsn);
        Ok(())
    }

    /// A commit of the running child has its place in the log.
    fn place(&mut self, name: Name, lsn: Lsn, token: Option<Token>) -> Result<(), String> {
        let life = self.lives.last_mut().ok_or("no life has begun")?;
        let earlier = life.incarnation;
        let commit = life.commit(&name)?;
        if lsn <= commit.above {
            return Err(format!(
                "I1, I8: commit {name} was given LSN {lsn}, and {} had been given before it was submitted",
                commit.above
            ));
        }
        (commit.lsn, commit.token) = (Some(lsn), token);
        let Some(token) = token else { return Ok(()) };
        if token.lsn != lsn {
            return Err(format!("I16: the token of commit {name} at LSN {lsn} says {}", token.lsn));
        }
        match earlier {
            Some(incarnation) if incarnation == token.incarnation => Ok(()),
            Some(incarnation) => Err(format!("I8: one life, two incarnations: {incarnation:?}, {token}")),
            None => {
                life.incarnation = Some(token.incarnation);
                let new = self.incarnations.insert(token.incarnation.number);
                if new { Ok(()) } else { Err(format!("I8: incarnation {:?} was begun twice", token.incarnation)) }
            }
        }
    }

    /// An open says that everything up to `recovered` is there and durable: the fate of each commit in all lives so
    /// far whose place is known.
    ///
    /// # Errors
    /// A promise was broken.
    pub(crate) fn settle(&mut self, recovered: Lsn) -> Result<(), String> {
        self.settle_lives(self.lives.len(), recovered)
    }

    fn settle_lives(&mut self, lives: usize, recovered: Lsn) -> Result<(), String> {
        if recovered < self.settled_lsn {
            return Err(format!("I10: recovered to {recovered}, and {} had been recovered before", self.settled_lsn));
        }
        self.settled_lsn = recovered;
        for life in &mut self.lives[..lives] {
            let survives = match life.ending {
                Ending::Process => Some(Promise::ProcessDeath),
                Ending::Power => Some(Promise::PowerLoss),
                Ending::Lie => None,
            };
            for (name, commit) in life.commits.iter_mut().filter(|(_, commit)| commit.fate == Fate::Open) {
                let Some(lsn) = commit.lsn else { continue };
                if lsn > recovered && survives.is_some_and(|least| commit.promise >= least) {
                    return Err(format!(
                        "I2-I4: commit {name} at LSN {lsn} was promised ({:?}), and only {recovered} was recovered",
                        commit.promise
                    ));
                }
                commit.fate = if lsn <= recovered { Fate::Kept } else { Fate::Gone };
            }
        }
        Ok(())
    }
}

impl Life {
    fn commit(&mut self, name: &Name) -> Result<&mut Commit, String> {
        self.commits.get_mut(name).ok_or_else(|| format!("the child never submitted commit {name}"))
    }

    /// Commits acknowledged so far.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = (&Name, &Commit)> {
        self.commits.iter().filter(|(_, commit)| commit.acknowledged.is_some())
    }
}
