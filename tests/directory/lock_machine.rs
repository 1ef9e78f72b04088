//! The lock's life cycle as a small machine: its openers and copies, step by step, and what must hold in each state. The
//! rules and the steps are those of `src/disk/LOCK.md`; `lock_model` walks through every interleaving.

pub(super) type Ino = usize;
pub(super) type Who = usize;

/// Rules of `LOCK.md` that a scenario may leave out, to show that it is needed.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Rule 2, and whether the file system has a lock for directories.
    pub(super) directory_lock: bool,
    /// Rule 3.
    pub(super) compare: bool,
    /// Rule 4: HISTORY is looked at again once the new LOCK is locked.
    pub(super) look_again: bool,
    /// Rule 4: so is MANIFEST.
    pub(super) look_at_tables: bool,
    /// Rule 5.
    pub(super) lock_stays: bool,
    /// Rule 6.
    pub(super) only_empty: bool,
    /// Rule 7.
    pub(super) begin_again: bool,
    /// Rule 8.
    pub(super) check_history: bool,
    /// Rule 10: a copy looks into the directory and marks it while it holds the locks.
    pub(super) mark_under_lock: bool,
    /// Rule 11: a copy unlocks when it has its HISTORY.
    pub(super) lock_to_the_end: bool,
}

pub(super) const ALL: Rules = Rules {
    directory_lock: true,
    compare: true,
    look_again: true,
    look_at_tables: true,
    lock_stays: true,
    only_empty: true,
    begin_again: true,
    check_history: true,
    mark_under_lock: true,
    lock_to_the_end: true,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Opens or creates, by the steps of `LOCK.md`.
    New,
    /// The same, and all that it changes of a database that is there is MANIFEST: a checkpoint, and no commit.
    Checkpoint,
    /// As `New`; the sync of its directory's name fails.
    Failing,
    /// Makes a copy: the same up to LOCK, and then the steps of a copy.
    Copy,
    /// A version before these rules: `LOCK` by path, no comparison, nothing to take back.
    Old,
    /// The same, and one that takes back what it made: it removes `LOCK`, also the winner's.
    OldCreator,
    /// Deletes `LOCK` once: only while no process has it locked, or at any time.
    Hand { any_time: bool },
}

impl Kind {
    /// Whether it goes by the steps of `LOCK.md`.
    pub(super) fn is_new(self) -> bool {
        matches!(self, Kind::New | Kind::Checkpoint | Kind::Failing | Kind::Copy)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum At {
    Find,
    Make,
    LockDirectory,
    OpenLock,
    TakeLock,
    Compare,
    Read,
    SyncName,
    TakeBack,
    CreateLock,
    TakeCreated,
    CompareCreated,
    LookAgain,
    /// Only without rule 10: a copy looks into the directory by its path, and marks it, before it locks anything.
    LookUnlocked,
    MarkUnlocked,
    Mark,
    WriteCopy,
    Unmark,
    Name,
    Write,
    WriteAgain,
    Unlock,
    /// Over: it owned the directory and closed it, or noticed that it does no longer.
    Closed,
    Noticed,
    Refused,
    Failed,
    Dead,
}

use At::{
    Closed, Compare, CompareCreated, CreateLock, Dead, Failed, Find, LockDirectory, LookAgain, LookUnlocked, Make,
    Mark, MarkUnlocked, Name, Noticed, OpenLock, Read, Refused, SyncName, TakeBack, TakeCreated, TakeLock, Unlock,
    Unmark, Write, WriteAgain, WriteCopy,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Opener {
    pub(super) at: At,
    pub(super) dir: Option<Ino>,
    pub(super) made: bool,
    pub(super) lock: Option<Ino>,
    pub(super) read: u8,
    pub(super) read_tables: u8,
    pub(super) again: u8,
}

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(super) struct Directory {
    pub(super) named: bool,
    pub(super) lock: Option<Ino>,
    pub(super) held: Option<Who>,
    /// Counts what was written to HISTORY; 0: there is none.
    pub(super) history: u8,
    /// The same of MANIFEST.
    pub(super) tables: u8,
    /// UNFINISHED is there.
    pub(super) mark: bool,
    /// HISTORY.unfinished is there.
    pub(super) unfinished: bool,
}

impl Directory {
    fn is_marked(&self) -> bool {
        self.mark || self.unfinished
    }

    /// Whether it holds something that a copy must not be put to.
    fn is_used(&self) -> bool {
        self.history > 0 || self.is_marked()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) openers: Vec<Opener>,
    pub(super) dirs: Vec<Directory>,
    /// Who holds each LOCK that ever was.
    pub(super) locks: Vec<Option<Who>>,
    /// LOCK was removed from under its holder, by hand or by an old creator.
    pub(super) lock_lost: bool,
    /// One of this version wrote though LOCK was no longer the one that it holds.
    pub(super) wrote_blindly: bool,
    /// One that holds the locks said that a copy is unfinished, while that was being made.
    pub(super) misled: bool,
}

impl World {
    pub(super) fn path(&self) -> Option<Ino> {
        self.dirs.iter().position(|dir| dir.named)
    }

    pub(super) fn end(&mut self, who: Who, at: At) {
        self.openers[who].at = at;
        self.locks.iter_mut().chain(self.dirs.iter_mut().map(|dir| &mut dir.held)).for_each(|held| {
            if *held == Some(who) {
                *held = None;
            }
        });
    }

    pub(super) fn new_lock(&mut self, dir: usize) -> Ino {
        self.locks.push(None);
        self.dirs[dir].lock = Some(self.locks.len() - 1);
        self.locks.len() - 1
    }

    fn remove_lock(&mut self, dir: usize) {
        if let Some(lock) = self.dirs[dir].lock.take() {
            self.lock_lost |= self.locks[lock].is_some();
        }
    }

    /// Whether a copy is being made in the directory.
    fn is_being_copied(&self, dir: Ino) -> bool {
        self.openers.iter().any(|opener| opener.dir == Some(dir) && matches!(opener.at, WriteCopy | Unmark | Name))
    }

    /// One call of an opener or a copy of this version.
    pub(super) fn step_new(&mut self, who: Who, rules: Rules, kind: Kind) {
        let (fails, copies) = (kind == Kind::Failing, kind == Kind::Copy);
        let Opener { at, dir, made, lock, read, read_tables, again } = self.openers[who].clone();
        let d = dir.unwrap_or(0);
        let path = self.path();
        let is_named = dir.is_some() && self.dirs[d].lock == lock;
        let me = &mut self.openers[who];
        match at {
            // A look without a lock, so that a copy that can never be made keeps no opener out.
            Find if copies && path.is_some_and(|dir| self.dirs[dir].is_used()) => self.end(who, Refused),
            Find => {
                me.dir = path;
                me.at = match path {
                    Some(_) if copies && !rules.mark_under_lock => LookUnlocked,
                    Some(_) => LockDirectory,
                    None => Make,
                };
            }
            Make => {
                me.dir = path.or(Some(self.dirs.len()));
                me.made = path.is_none();
                me.at = if copies && !rules.mark_under_lock { LookUnlocked } else { LockDirectory };
                if path.is_none() {
                    self.dirs.push(Directory { named: true, ..Directory::default() });
                }
            }
            LookUnlocked if self.dirs[d].is_used() => self.end(who, Refused),
            LookUnlocked => me.at = MarkUnlocked,
            MarkUnlocked if !self.dirs[d].named => self.end(who, Failed),
            MarkUnlocked => {
                self.dirs[d].mark = true;
                me.at = LockDirectory;
            }
            LockDirectory if !rules.directory_lock => me.at = OpenLock,
            LockDirectory if self.dirs[d].held.is_some() => self.refuse(who, rules),
            LockDirectory => {
                self.dirs[d].held = Some(who);
                me.at = OpenLock;
            }
            OpenLock => {
                me.lock = self.dirs[d].lock;
                me.at = if me.lock.is_some() { TakeLock } else { Read };
            }
            TakeLock | TakeCreated if self.locks[lock.unwrap()].is_some() => self.refuse(who, rules),
            TakeLock | TakeCreated => {
                self.locks[lock.unwrap()] = Some(who);
                me.at = if at == TakeLock { Compare } else { CompareCreated };
            }
            Compare | CompareCreated if rules.compare && !is_named => {
                self.locks[lock.unwrap()] = None;
                me.again += 1;
                me.at = OpenLock;
                if again == 2 || at == CompareCreated {
                    self.refuse(who, rules);
                }
            }
            Compare => me.at = Read,
            CompareCreated => me.at = LookAgain,
            LookAgain if rules.look_again && self.dirs[d].history != read => self.refuse(who, rules),
            LookAgain if rules.look_again && self.dirs[d].is_marked() && !me.marks(copies, rules) => {
                self.refuse(who, rules);
            }
            LookAgain if rules.look_at_tables && self.dirs[d].tables != read_tables => self.refuse(who, rules),
            LookAgain => me.at = if copies { Mark } else { Write },
            Read if self.dirs[d].is_marked() && !me.marks(copies, rules) => {
                // Without LOCK it looks again, and says `Locked`.
                self.misled |= lock.is_some() && !self.lock_lost && self.is_being_copied(d);
                self.refuse(who, rules);
            }
            Read if copies && self.dirs[d].history > 0 => self.refuse(who, rules),
            Read => {
                (me.read, me.read_tables) = (self.dirs[d].history, self.dirs[d].tables);
                me.at = match (me.read, lock) {
                    (0, _) => SyncName,
                    (_, None) => CreateLock,
                    _ => Write,
                };
            }
            Mark => {
                self.dirs[d].mark = true;
                me.at = WriteCopy;
            }
            WriteCopy | Unmark | Name if rules.check_history && !is_named => self.end(who, Noticed),
            WriteCopy => {
                self.wrote_blindly |= !is_named;
                self.dirs[d].unfinished = true;
                me.at = Unmark;
                if !rules.lock_to_the_end {
                    self.end(who, Unmark);
                }
            }
            Unmark => {
                self.dirs[d].mark = false;
                me.at = Name;
            }
            Name if self.dirs[d].history > 0 => self.end(who, Failed),
            Name => {
                self.dirs[d].unfinished = false;
                self.dirs[d].history += 1;
                me.at = Unlock;
            }
            SyncName if fails => me.at = TakeBack,
            SyncName if lock.is_none() => me.at = CreateLock,
            SyncName => me.at = if copies { Mark } else { Write },
            TakeBack => {
                let empty = self.dirs[d].lock.is_none() && self.dirs[d].history == 0 && !self.dirs[d].is_marked();
                if made && (empty || !rules.only_empty) {
                    self.dirs[d].named = false;
                }
                self.end(who, Failed);
            }
            CreateLock if !self.dirs[d].named && read == 0 && rules.begin_again && again < 3 => {
                self.end(who, Find);
                let again = again + 1;
                self.openers[who] = Opener { again, ..Opener::new() };
            }
            CreateLock if !self.dirs[d].named => self.end(who, Failed),
            CreateLock if self.dirs[d].lock.is_some() => self.refuse(who, rules),
            CreateLock => {
                let lock = Some(self.new_lock(d));
                let me = &mut self.openers[who];
                (me.lock, me.at) = (lock, TakeCreated);
            }
            Write | WriteAgain if rules.check_history && !is_named => self.end(who, Noticed),
            Write if kind == Kind::Checkpoint && read > 0 => {
                self.wrote_blindly |= !is_named;
                self.dirs[d].tables += 1;
                me.at = Unlock;
            }
            Write | WriteAgain => {
                self.wrote_blindly |= !is_named;
                self.dirs[d].history += 1;
                me.read = self.dirs[d].history;
                me.at = if at == Write { WriteAgain } else { Unlock };
            }
            _ => self.end(who, Closed),
        }
    }

    /// Another one has it. Without rule 5 the loser takes its LOCK back as well.
    fn refuse(&mut self, who: Who, rules: Rules) {
        if !rules.lock_stays && self.openers[who].made {
            self.remove_lock(self.openers[who].dir.unwrap_or(0));
        }
        self.end(who, Refused);
    }

    /// One call of a version that goes by the path.
    pub(super) fn step_old(&mut self, who: Who, takes_back: bool) {
        let Opener { at, dir, made, lock, .. } = self.openers[who].clone();
        let d = dir.unwrap_or(0);
        let path = self.path();
        let me = &mut self.openers[who];
        match (at, path) {
            (Find, Some(_)) => (me.dir, me.at) = (path, OpenLock),
            (Find, None) => me.at = Make,
            (Make, _) => {
                me.dir = path.or(Some(self.dirs.len()));
                // It does not know whether the directory was there by then.
                (me.made, me.at) = (true, OpenLock);
                if path.is_none() {
                    self.dirs.push(Directory { named: true, ..Directory::default() });
                }
            }
            (OpenLock, Some(path)) if Some(path) == dir => {
                let lock = self.dirs[d].lock.unwrap_or_else(|| self.new_lock(d));
                (self.openers[who].lock, self.openers[who].at) = (Some(lock), TakeLock);
            }
            (TakeLock, _) if self.locks[lock.unwrap()].is_some() => {
                me.at = if made && takes_back { TakeBack } else { Refused };
            }
            (TakeLock, _) => {
                self.locks[lock.unwrap()] = Some(who);
                me.at = Read;
            }
            (TakeBack, _) => {
                self.remove_lock(d);
                self.end(who, Refused);
            }
            // It knows no marks, or knows them, and refuses either way.
            (Read, _) if self.dirs[d].is_marked() => self.end(who, Refused),
            (Read, _) => (me.read, me.at) = (self.dirs[d].history, Write),
            (Write, Some(path)) if Some(path) == dir => {
                self.dirs[d].history += 1;
                me.at = Unlock;
            }
            (Unlock, _) => self.end(who, Closed),
            _ => self.end(who, Failed),
        }
    }

    pub(super) fn step_hand(&mut self, who: Who, any_time: bool) {
        let lock = self.path().and_then(|dir| self.dirs[dir].lock);
        let free = lock.is_none_or(|lock| self.locks[lock].is_none());
        if let Some(dir) = self.path()
            && (free || any_time)
        {
            self.remove_lock(dir);
        }
        self.end(who, Refused);
    }

    /// What must hold in each state.
    pub(super) fn check(&self, kinds: &[Kind], rules: Rules) -> Result<(), &'static str> {
        let owns =
            |who: &Who| matches!(self.openers[*who].at, Mark | WriteCopy | Unmark | Name | Write | WriteAgain | Unlock);
        let owners: Vec<Who> = (0..kinds.len()).filter(owns).collect();
        let is_new = |who: &Who| kinds[*who].is_new();
        for (index, one) in owners.iter().enumerate() {
            for other in &owners[index + 1..] {
                let together = self.openers[*one].dir == self.openers[*other].dir;
                // Who removed LOCK may have a writer of an old version beside one of this version, never two of this.
                let excused = self.lock_lost && !(is_new(one) && is_new(other));
                // And if the directory cannot be locked, nothing is left to exclude by.
                if together && !excused && !(self.lock_lost && is_excused(kinds, rules)) {
                    return Err("two own the directory");
                }
            }
        }
        if self.wrote_blindly {
            return Err("it wrote HISTORY when its LOCK was gone");
        }
        if self.misled {
            return Err("it was told that a copy is unfinished, which was being made");
        }
        if self.dirs.iter().any(|dir| dir.history > 0 && dir.is_marked()) && !self.lock_lost {
            return Err("there is a mark beside HISTORY");
        }
        for who in owners.iter().filter(|who| is_new(who)) {
            let me = &self.openers[*who];
            let dir = &self.dirs[me.dir.unwrap()];
            if !dir.named {
                return Err("it owns a directory that no path leads to");
            }
            if dir.lock != me.lock && !self.lock_lost {
                return Err("the winner's LOCK is gone");
            }
            let is_as_read = (me.read, me.read_tables) == (dir.history, dir.tables);
            if me.at == Write && !is_as_read && dir.lock == me.lock && !self.lock_lost {
                return Err("it is about to write what it decided on before another one wrote");
            }
        }
        Ok(())
    }
}

/// LOCK may be removed under its holder, and the file system has no lock for directories: only rule 8 is left.
fn is_excused(kinds: &[Kind], rules: Rules) -> bool {
    !rules.directory_lock && kinds.iter().any(|kind| matches!(kind, Kind::Hand { any_time: true } | Kind::OldCreator))
}

impl Opener {
    pub(super) fn new() -> Self {
        Opener { at: Find, dir: None, made: false, lock: None, read: 0, read_tables: 0, again: 0 }
    }

    /// Whether the mark in the directory is its own, as far as it knows.
    fn marks(&self, copies: bool, rules: Rules) -> bool {
        copies && !rules.mark_under_lock
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, Closed | Noticed | Refused | Failed | Dead)
    }
}

/// What the directory was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Before {
    Nothing,
    Empty,
    Killed,
    WithoutLock,
}

pub(super) fn world(kinds: &[Kind], before: Before) -> World {
    let mut world = World {
        openers: kinds.iter().map(|_| Opener::new()).collect(),
        dirs: Vec::new(),
        locks: Vec::new(),
        lock_lost: false,
        wrote_blindly: false,
        misled: false,
    };
    if before != Before::Nothing {
        world.dirs.push(Directory { named: true, history: u8::from(before != Before::Empty), ..Directory::default() });
    }
    if before == Before::Killed {
        world.new_lock(0);
    }
    world
}
