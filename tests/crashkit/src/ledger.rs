//! What the clients of a database were told, kept outside of it, and what follows from that for the next open.
//!
//! A [`Ledger`] hears one [`Event`] after the other. How events travel, and what ends a life of the database, is no
//! business of it: clients on a simulated disk and a crash point, a pipe and SIGKILL, a block device and a power cut.
//!
//! Everything up to two positions must be there: one after the death of the process, one after a power loss. Both only
//! grow, until an ending takes what it may:
//!
//! | event | process death | power loss | promise |
//! |---|---|---|---|
//! | acknowledged in `Written` mode | its LSN | | 7 |
//! | acknowledged in `Sync` mode | its LSN | its LSN | 2 |
//! | told to be durable, or backed up | that LSN | that LSN | 3 |
//! | closed | what was acknowledged | the same | |
//! | opened | what was recovered | the same | 5 |
//! | a crash, and a look at what it left | what was recovered | the same if the power was cut | |
//!
//! Whether what must be there is there, the [judge](crate::judge) says.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use forelog::{CommitMode, Incarnation, Lsn, Token};

use crate::event::{Event, Name};
use crate::model::{Placed, Write};

/// What ended a life of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The process died, the machine went on with all that it had cached.
    Process,
    /// The power was cut, or the machine has lost its cache otherwise.
    Power,
}

/// What is known of a commit's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It may be there or not; whichever an open shows, stays.
    Open,
    /// It is there for ever.
    Kept,
    /// It is lost for ever, or nothing was done.
    Gone,
}

/// An attempt to commit.
#[derive(Clone, Debug)]
pub struct Commit<W> {
    /// The mode that it was submitted in.
    pub mode: CommitMode,
    /// What it does.
    pub work: W,
    /// Its place in the log, if its client was told.
    pub lsn: Option<Lsn>,
    /// Its token, if its client was told.
    pub token: Option<Token>,
    /// Commit returned a receipt.
    pub acknowledged: bool,
    /// Commit has returned.
    pub returned: bool,
    /// What became of it.
    pub fate: Fate,
    /// Given to others before it was submitted: its own place lies above.
    above: Lsn,
    /// It was submitted after the engine had said that it takes no more.
    after_stop: bool,
}

/// One life of a database, from before its open to its end.
#[derive(Clone, Debug)]
pub struct Life<W> {
    /// The attempts to commit.
    pub commits: BTreeMap<Name, Commit<W>>,
    /// What the open reported.
    pub opened: Option<Lsn>,
    /// That of its tokens.
    pub incarnation: Option<Incarnation>,
    /// Inside a call that retires.
    pub retiring: bool,
    /// A checkpoint was asked for.
    pub checkpointing: bool,
    /// Close was called.
    pub closing: bool,
    /// Close returned.
    pub closed: bool,
    /// The engine said that it takes no more commits.
    pub poisoned: bool,
    /// The kinds of all errors, in order.
    pub errors: Vec<String>,
    places: BTreeSet<Lsn>,
}

impl<W> Default for Life<W> {
    fn default() -> Self {
        Life {
            commits: BTreeMap::new(),
            opened: None,
            incarnation: None,
            retiring: false,
            checkpointing: false,
            closing: false,
            closed: false,
            poisoned: false,
            errors: Vec::new(),
            places: BTreeSet::new(),
        }
    }
}

impl<W> Life<W> {
    /// The commits that were acknowledged.
    pub fn acknowledged(&self) -> impl Iterator<Item = (&Name, &Commit<W>)> {
        self.commits.iter().filter(|(_, commit)| commit.acknowledged)
    }
}

/// Everything that the clients of one database were told.
#[derive(Clone, Debug)]
pub struct Ledger<W> {
    /// The lives since what was there was last compared with all of this.
    pub lives: Vec<Life<W>>,
    /// Every token that was ever handed out.
    pub tokens: Vec<(Token, Fate)>,
    /// An open returned, once: the database is there for good.
    pub exists: bool,
    /// Each position up to which a log was asked to retire.
    pub retiring: Vec<Lsn>,
    /// The highest up to which it has done so.
    pub retired: Lsn,
    /// It was asked to forget incarnations that are retired whole.
    pub pruned: bool,
    /// The backups that were made, and up to where each has everything.
    pub backups: Vec<(Lsn, String)>,
    /// What an open has reported, or a comparison found: no crash can take it any more.
    settled: Lsn,
    /// What must be there, by [`Ending`].
    floors: [Lsn; 2],
    /// The same as it was when the medium began to lie.
    before_lies: Option<[Lsn; 2]>,
    /// The highest LSN ever given to a client.
    highest: Lsn,
    next_life: u32,
    numbers: HashSet<u64>,
    nonces: HashSet<u64>,
}

impl<W> Default for Ledger<W> {
    fn default() -> Self {
        Ledger {
            lives: Vec::new(),
            tokens: Vec::new(),
            exists: false,
            retiring: Vec::new(),
            retired: Lsn::ZERO,
            pruned: false,
            backups: Vec::new(),
            settled: Lsn::ZERO,
            floors: [Lsn::ZERO; 2],
            before_lies: None,
            highest: Lsn::ZERO,
            next_life: 1,
            numbers: HashSet::new(),
            nonces: HashSet::new(),
        }
    }
}

impl<W> Ledger<W> {
    /// A life is about to begin; returns its number.
    pub fn begin(&mut self) -> u32 {
        self.lives.push(Life::default());
        self.next_life += 1;
        self.next_life - 1
    }

    /// How many lives were begun: the number of the last one.
    pub fn lives_begun(&self) -> u32 {
        self.next_life - 1
    }

    /// The life that is running, or was the last one.
    ///
    /// # Panics
    /// None was begun.
    pub fn life(&self) -> &Life<W> {
        self.lives.last().expect("a life was begun")
    }

    fn running(&mut self) -> Result<&mut Life<W>, String> {
        self.lives.last_mut().ok_or_else(|| "no life has begun".to_owned())
    }

    fn commit(&mut self, name: &Name) -> Result<&mut Commit<W>, String> {
        let commit = self.running()?.commits.get_mut(name);
        commit.ok_or_else(|| format!("commit {name} was never submitted"))
    }

    /// Takes down what a client of the running life does or is told.
    ///
    /// # Errors
    /// It breaks a promise by itself.
    pub fn hear(&mut self, event: Event<W>) -> Result<(), String> {
        let highest = self.highest;
        let life = self.running()?;
        match event {
            Event::Opened(lsn) => {
                life.opened = Some(lsn);
                self.exists = true;
                let earlier = self.lives.len() - 1;
                // Promise 5: what an open reported is durable, whatever happens to the process that was told.
                return self.settle_lives(earlier, lsn);
            }
            Event::Submit(name, mode, work) => {
                let after_stop = life.poisoned;
                let commit = Commit {
                    mode,
                    work,
                    lsn: None,
                    token: None,
                    acknowledged: false,
                    returned: false,
                    fate: Fate::Open,
                    above: highest,
                    after_stop,
                };
                if life.commits.insert(name, commit).is_some() {
                    return Err(format!("commit {name} was submitted twice"));
                }
            }
            Event::Ack(name, lsn, token) => {
                if let Some(lsn) = lsn {
                    self.place(name, lsn, token)?;
                    self.highest = self.highest.max(lsn);
                }
                let commit = self.commit(&name)?;
                (commit.acknowledged, commit.returned) = (true, true);
                if commit.after_stop {
                    return Err(format!("I11: commit {name} was acknowledged after the engine had stopped"));
                }
                let lsn = commit.lsn.unwrap_or_default();
                match commit.mode {
                    CommitMode::Sync => self.raise(lsn, Ending::Power),
                    CommitMode::Written => self.raise(lsn, Ending::Process),
                    _ => {}
                }
            }
            Event::Fail(name, kind, token) => {
                life.errors.push(kind);
                let commit = self.commit(&name)?;
                commit.returned = true;
                match token {
                    Some(token) => self.place(name, token.lsn, Some(token))?,
                    None => commit.fate = Fate::Gone,
                }
            }
            Event::Durable(lsn) => self.raise(lsn, Ending::Power),
            Event::BackedUp(lsn, name) => {
                // It begins with a checkpoint of everything that is visible.
                self.raise(lsn, Ending::Power);
                self.backups.push((lsn, name));
            }
            Event::Poisoned => life.poisoned = true,
            Event::Struck => self.before_lies = Some(self.before_lies.unwrap_or(self.floors)),
            Event::Retire(lsn) => {
                life.retiring = true;
                self.retiring.push(lsn);
            }
            Event::Retired(lsn) => {
                life.retiring = false;
                self.retired = self.retired.max(lsn);
            }
            Event::Checkpoint => life.checkpointing = true,
            Event::Prune => self.pruned = true,
            Event::Closing => life.closing = true,
            Event::Closed => {
                life.closed = true;
                let last = life.acknowledged().filter_map(|(_, commit)| commit.lsn).max();
                self.raise(last.unwrap_or_default(), Ending::Power);
            }
            Event::NotCheckpointed(kind)
            | Event::NotBackedUp(kind)
            | Event::NotClosed(kind)
            | Event::NotOpened(kind) => life.errors.push(kind),
            Event::Wrong(what) => return Err(what),
        }
        Ok(())
    }

    fn raise(&mut self, lsn: Lsn, survives: Ending) {
        for floor in &mut self.floors[..=survives as usize] {
            *floor = lsn.max(*floor);
        }
    }

    /// A commit of the running life has its place in the log.
    fn place(&mut self, name: Name, lsn: Lsn, token: Option<Token>) -> Result<(), String> {
        let commit = self.commit(&name)?;
        if lsn <= commit.above {
            return Err(format!(
                "I1, I8: commit {name} was given LSN {lsn}, and {} had been given before it was submitted",
                commit.above
            ));
        }
        (commit.lsn, commit.token) = (Some(lsn), token);
        let life = self.running()?;
        if !life.places.insert(lsn) {
            return Err(format!("I1: LSN {lsn} was handed out twice, the second time to {name}"));
        }
        let Some(token) = token else { return Ok(()) };
        if token.lsn != lsn {
            return Err(format!("I16: the token of commit {name} at LSN {lsn} says {}", token.lsn));
        }
        let known = *life.incarnation.get_or_insert(token.incarnation);
        let first = life.commits.values().filter(|commit| commit.token.is_some()).count() == 1;
        self.tokens.push((token, Fate::Open));
        if known != token.incarnation {
            return Err(format!("I8: one life, two incarnations: {known:?}, {token}"));
        }
        if first && !(self.numbers.insert(known.number) && self.nonces.insert(known.nonce)) {
            return Err(format!("I8: incarnation {known:?} was begun twice, by its number or its nonce"));
        }
        Ok(())
    }

    /// Everything up to here must be there after such an ending of the running life.
    pub fn floor(&self, ending: Ending) -> Lsn {
        self.floors[ending as usize].max(self.settled)
    }

    /// Everything up to here must be there whatever happens.
    pub fn durable(&self) -> Lsn {
        self.floor(Ending::Power)
    }

    /// The same on a medium that may have lied: what was told before.
    pub fn floor_before_lies(&self, ending: Ending) -> Lsn {
        self.before_lies.unwrap_or(self.floors)[ending as usize]
    }

    /// The highest place of a commit that may be there.
    pub fn ceiling(&self) -> Lsn {
        let commits = self.lives.iter().flat_map(|life| life.commits.values());
        let places = commits.filter(|commit| commit.fate != Fate::Gone).filter_map(|commit| commit.lsn);
        places.max().unwrap_or_default().max(self.floor(Ending::Process))
    }

    /// Takes over where the attempts that had not returned found their place, from the ledger of a later moment.
    pub fn learn_places(&mut self, later: &Ledger<W>) {
        for (own, later) in self.lives.iter_mut().rev().zip(later.lives.iter().rev()).take(1) {
            for (name, commit) in own.commits.iter_mut().filter(|(_, commit)| !commit.returned) {
                commit.lsn = later.commits.get(name).and_then(|known| known.lsn);
            }
        }
    }

    /// A look at what an ending left has found everything up to `recovered`. If no commit is known to lie there, the
    /// attempt of the one client that had not returned does: from now on it is there like any other. An attempt of an
    /// earlier life, which was found so, stays where it is.
    pub fn land(&mut self, recovered: Lsn) {
        let commits = || self.lives.iter().flat_map(|life| life.commits.values()).filter(|c| c.fate != Fate::Gone);
        if commits().filter_map(|commit| commit.lsn).max().is_some_and(|last| last >= recovered) {
            return;
        }
        for commit in self.lives.iter_mut().flat_map(|life| life.commits.values_mut()) {
            if commit.fate != Fate::Gone && !commit.returned && commit.lsn.is_none() {
                commit.lsn = Some(recovered);
            }
        }
    }

    /// Forgets the commits that lie at or below `lsn`, or are lost: their tokens are known still.
    pub fn forget(&mut self, lsn: Lsn) {
        for life in &mut self.lives {
            life.commits.retain(|_, commit| commit.fate != Fate::Gone && commit.lsn.is_some_and(|own| own > lsn));
        }
        self.lives.retain(|life| !life.commits.is_empty());
    }

    /// Which incarnation the next open must name as ended by a crash, if the running life ends here; `None` if that
    /// cannot be known.
    pub fn crashed(&self) -> Option<Option<Incarnation>> {
        let life = self.lives.last().filter(|life| life.opened.is_some())?;
        match life.incarnation {
            // Nothing is certain once the close had begun, until it returned.
            Some(_) if life.closing && !life.closed => None,
            Some(incarnation) => Some((!life.closed).then_some(incarnation)),
            // Of an incarnation without a commit that was answered nobody knows.
            None => (life.commits.is_empty() && !life.checkpointing).then_some(None),
        }
    }

    /// The running life has ended. A medium that has `lied` since [`Event::Struck`] holds what was told before.
    pub fn end(&mut self, ending: Ending, lied: bool) {
        if let Some(before) = self.before_lies.filter(|_| lied) {
            self.floors = before;
        }
        if ending == Ending::Power {
            self.floors = [self.floors[Ending::Power as usize]; 2];
        }
    }

    /// After such an ending, a look at what is left has found everything up to `recovered`. What lies above is lost for
    /// good; the rest is as safe as the ending left it.
    pub fn look(&mut self, ending: Ending, recovered: Lsn) {
        self.end(ending, false);
        self.raise(recovered, ending);
        self.highest = self.highest.max(recovered);
        for commit in self.lives.iter_mut().flat_map(|life| life.commits.values_mut()) {
            if commit.lsn.is_none_or(|lsn| lsn > recovered) {
                commit.fate = Fate::Gone;
            }
        }
        for (token, fate) in self.tokens.iter_mut().filter(|(token, _)| token.lsn > recovered) {
            debug_assert!(*fate != Fate::Kept, "{token:?}");
            *fate = Fate::Gone;
        }
    }

    /// An open says that everything up to `recovered` is there and durable: the fate of each commit so far whose place
    /// is known.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn settle(&mut self, recovered: Lsn) -> Result<(), String> {
        self.before_lies = None;
        self.settle_lives(self.lives.len(), recovered)
    }

    fn settle_lives(&mut self, lives: usize, recovered: Lsn) -> Result<(), String> {
        if recovered < self.settled {
            return Err(format!("I10: recovered to {recovered}, and {} had been recovered before", self.settled));
        }
        let floor = self.floor(Ending::Process);
        for (name, commit) in self.lives[..lives].iter_mut().flat_map(|life| &mut life.commits) {
            let Some(lsn) = commit.lsn.filter(|_| commit.fate == Fate::Open) else { continue };
            if lsn > recovered && lsn <= floor {
                return Err(format!(
                    "I2-I4: commit {name} at LSN {lsn} was promised ({:?}), and only {recovered} was recovered",
                    commit.mode
                ));
            }
            commit.fate = if lsn <= recovered { Fate::Kept } else { Fate::Gone };
        }
        for (token, fate) in self.tokens.iter_mut().filter(|(_, fate)| *fate == Fate::Open) {
            *fate = if token.lsn <= recovered { Fate::Kept } else { Fate::Gone };
        }
        (self.settled, self.floors) = (recovered, [recovered; 2]);
        // What was read from the cache of a machine is in it, whatever its medium says.
        if let Some(before) = &mut self.before_lies {
            before[Ending::Process as usize] = recovered;
        }
        self.highest = self.highest.max(recovered);
        Ok(())
    }
}

impl Ledger<Arc<[Write]>> {
    /// The commits that have their place and are not lost, in LSN order.
    pub fn placed(&self) -> Vec<Placed> {
        let commits = self.lives.iter().flat_map(|life| life.commits.values()).filter(|c| c.fate != Fate::Gone);
        let placed =
            |commit: &Commit<Arc<[Write]>>| Some(Placed { lsn: commit.lsn?, writes: Arc::clone(&commit.work) });
        let mut placed: Vec<_> = commits.filter_map(placed).collect();
        placed.sort_by_key(|commit| commit.lsn);
        placed
    }
}
