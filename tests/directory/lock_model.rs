//! The lock's life cycle as a small machine: every interleaving of its openers, each of which may die between any two
//! calls. The rules and the steps are those of `src/disk/LOCK.md`; each rule can be left out, and must be missed.

use std::collections::HashSet;

type Ino = usize;
type Who = usize;

/// Rules of `LOCK.md` that a scenario may leave out, to show that it is needed.
#[derive(Clone, Copy)]
struct Rules {
    /// Rule 2, and whether the file system has a lock for directories.
    directory_lock: bool,
    /// Rule 3.
    compare: bool,
    /// Rule 4: HISTORY is looked at again once the new LOCK is locked.
    look_again: bool,
    /// Rule 5.
    lock_stays: bool,
    /// Rule 6.
    only_empty: bool,
    /// Rule 7.
    begin_again: bool,
    /// Rule 8.
    check_history: bool,
}

const ALL: Rules = Rules {
    directory_lock: true,
    compare: true,
    look_again: true,
    lock_stays: true,
    only_empty: true,
    begin_again: true,
    check_history: true,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Opens or creates, by the steps of `LOCK.md`.
    New,
    /// The same; the sync of its directory's name fails.
    Failing,
    /// A version before these rules: `LOCK` by path, no comparison, nothing to take back.
    Old,
    /// The same, and one that takes back what it made: it removes `LOCK`, also the winner's.
    OldCreator,
    /// Deletes `LOCK` once: only while no process has it locked, or at any time.
    Hand { any_time: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum At {
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

use At::*;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Opener {
    at: At,
    dir: Option<Ino>,
    made: bool,
    lock: Option<Ino>,
    read: u8,
    again: u8,
}

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
struct Directory {
    named: bool,
    lock: Option<Ino>,
    held: Option<Who>,
    /// Counts what was written to HISTORY; 0: there is none.
    history: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    openers: Vec<Opener>,
    dirs: Vec<Directory>,
    /// Who holds each LOCK that ever was.
    locks: Vec<Option<Who>>,
    /// LOCK was removed from under its holder, by hand or by an old creator.
    lock_lost: bool,
    /// One of this version wrote though LOCK was no longer the one that it holds.
    wrote_blindly: bool,
}

impl World {
    fn path(&self) -> Option<Ino> {
        self.dirs.iter().position(|dir| dir.named)
    }

    fn end(&mut self, who: Who, at: At) {
        self.openers[who].at = at;
        self.locks.iter_mut().chain(self.dirs.iter_mut().map(|dir| &mut dir.held)).for_each(|held| {
            if *held == Some(who) {
                *held = None;
            }
        });
    }

    fn new_lock(&mut self, dir: usize) -> Ino {
        self.locks.push(None);
        self.dirs[dir].lock = Some(self.locks.len() - 1);
        self.locks.len() - 1
    }

    fn remove_lock(&mut self, dir: usize) {
        if let Some(lock) = self.dirs[dir].lock.take() {
            self.lock_lost |= self.locks[lock].is_some();
        }
    }

    /// One call of an opener of this version.
    fn step_new(&mut self, who: Who, rules: Rules, fails: bool) {
        let Opener { at, dir, made, lock, read, again } = self.openers[who].clone();
        let d = dir.unwrap_or(0);
        let path = self.path();
        let is_named = dir.is_some() && self.dirs[d].lock == lock;
        let me = &mut self.openers[who];
        match at {
            Find => {
                me.dir = path;
                me.at = if path.is_some() { LockDirectory } else { Make };
            }
            Make => {
                me.dir = path.or(Some(self.dirs.len()));
                me.made = path.is_none();
                me.at = LockDirectory;
                if path.is_none() {
                    self.dirs.push(Directory { named: true, ..Directory::default() });
                }
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
            LookAgain => me.at = Write,
            Read => {
                me.read = self.dirs[d].history;
                me.at = match (me.read, lock) {
                    (0, _) => SyncName,
                    (_, None) => CreateLock,
                    _ => Write,
                };
            }
            SyncName if fails => me.at = TakeBack,
            SyncName => me.at = if lock.is_none() { CreateLock } else { Write },
            TakeBack => {
                let empty = self.dirs[d].lock.is_none() && self.dirs[d].history == 0;
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
    fn step_old(&mut self, who: Who, takes_back: bool) {
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
            (Read, _) => (me.read, me.at) = (self.dirs[d].history, Write),
            (Write, Some(path)) if Some(path) == dir => {
                self.dirs[d].history += 1;
                me.at = Unlock;
            }
            (Unlock, _) => self.end(who, Closed),
            _ => self.end(who, Failed),
        }
    }

    fn step_hand(&mut self, who: Who, any_time: bool) {
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
    fn check(&self, kinds: &[Kind], rules: Rules) -> Result<(), &'static str> {
        let owns = |who: &Who| matches!(self.openers[*who].at, Write | WriteAgain | Unlock);
        let owners: Vec<Who> = (0..kinds.len()).filter(owns).collect();
        let is_new = |who: &Who| matches!(kinds[*who], Kind::New | Kind::Failing);
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
        for who in owners.iter().filter(|who| is_new(who)) {
            let me = &self.openers[*who];
            let dir = &self.dirs[me.dir.unwrap()];
            if !dir.named {
                return Err("it owns a directory that no path leads to");
            }
            if dir.lock != me.lock && !self.lock_lost {
                return Err("the winner's LOCK is gone");
            }
            if me.at == Write && me.read != dir.history && dir.lock == me.lock && !self.lock_lost {
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
    fn new() -> Self {
        Opener { at: Find, dir: None, made: false, lock: None, read: 0, again: 0 }
    }

    fn is_over(&self) -> bool {
        matches!(self.at, Closed | Noticed | Refused | Failed | Dead)
    }
}

/// What the directory was before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nothing,
    Empty,
    Killed,
    WithoutLock,
}

fn world(kinds: &[Kind], before: Before) -> World {
    let mut world = World {
        openers: kinds.iter().map(|_| Opener::new()).collect(),
        dirs: Vec::new(),
        locks: Vec::new(),
        lock_lost: false,
        wrote_blindly: false,
    };
    if before != Before::Nothing {
        world.dirs.push(Directory { named: true, history: u8::from(before != Before::Empty), ..Directory::default() });
    }
    if before == Before::Killed {
        world.new_lock(0);
    }
    world
}

/// Walks through every interleaving; returns how many states there are, or what is wrong in one of them.
fn explore(kinds: &[Kind], before: Before, rules: Rules, crashes: bool) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut open = vec![world(kinds, before)];
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        state.check(kinds, rules).map_err(|what| format!("{what}: {kinds:?}, {before:?}: {state:?}"))?;
        let running: Vec<Who> = (0..kinds.len()).filter(|who| !state.openers[*who].is_over()).collect();
        if running.is_empty() {
            check_end(&state, kinds, rules).map_err(|what| format!("{what}: {kinds:?}, {before:?}: {state:?}"))?;
        }
        for who in running {
            let mut next = state.clone();
            match kinds[who] {
                Kind::New => next.step_new(who, rules, false),
                Kind::Failing => next.step_new(who, rules, true),
                Kind::Old => next.step_old(who, false),
                Kind::OldCreator => next.step_old(who, true),
                Kind::Hand { any_time } => next.step_hand(who, any_time),
            }
            open.push(next);
            if crashes && !matches!(kinds[who], Kind::Hand { .. }) {
                let mut next = state.clone();
                next.end(who, Dead);
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// When all are over: one of them had it, unless one died or failed; and the next one gets it.
fn check_end(state: &World, kinds: &[Kind], rules: Rules) -> Result<(), &'static str> {
    let some = |ends: &[At]| state.openers.iter().any(|opener| ends.contains(&opener.at));
    let calm = !some(&[Dead]) && kinds.iter().all(|kind| matches!(kind, Kind::New | Kind::Old | Kind::Failing));
    let tried = kinds.iter().any(|kind| matches!(kind, Kind::New | Kind::Old));
    let failing = kinds.contains(&Kind::Failing);
    // One that fails may have refused the other one before; but none may fail because of it.
    let others_failed = (0..kinds.len()).any(|who| kinds[who] == Kind::New && state.openers[who].at == Failed);
    if calm && tried && (others_failed || (!failing && !some(&[Closed]))) {
        return Err("no one had it");
    }
    let mut after = state.clone();
    after.openers.push(Opener::new());
    let last = kinds.len();
    while !after.openers[last].is_over() {
        after.step_new(last, Rules { compare: true, ..rules }, false);
    }
    if after.openers[last].at == Closed { Ok(()) } else { Err("what is left cannot be opened") }
}

const CASTS: [&[Kind]; 9] = [
    &[Kind::New, Kind::New, Kind::New],
    &[Kind::New, Kind::New, Kind::Failing],
    &[Kind::New, Kind::Failing, Kind::Failing],
    &[Kind::New, Kind::New, Kind::Old],
    &[Kind::New, Kind::Failing, Kind::Old],
    &[Kind::New, Kind::New, Kind::Hand { any_time: false }],
    &[Kind::New, Kind::New, Kind::Hand { any_time: true }],
    &[Kind::New, Kind::OldCreator, Kind::OldCreator],
    &[Kind::New, Kind::New, Kind::OldCreator],
];

const BEFORE: [Before; 4] = [Before::Nothing, Before::Empty, Before::Killed, Before::WithoutLock];

/// All casts on all directories, with and without a lock for directories; returns how many states there are.
fn everything(rules: Rules) -> Result<usize, String> {
    let mut states = 0;
    for directory_lock in [true, false] {
        let rules = Rules { directory_lock, ..rules };
        for (kinds, before) in CASTS.iter().flat_map(|kinds| BEFORE.map(|before| (kinds, before))) {
            for crashes in [false, true] {
                states += explore(kinds, before, rules, crashes)?;
            }
        }
    }
    Ok(states)
}

#[test]
fn every_interleaving_keeps_the_rules() {
    let states = everything(ALL).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("the lock's life cycle: {states} states");
    assert!(states > 100_000, "{states} states");
}

#[test]
fn each_rule_is_needed() {
    let without: [(&str, Rules); 6] = [
        ("3, compare", Rules { compare: false, ..ALL }),
        ("4, look again", Rules { look_again: false, ..ALL }),
        ("5, LOCK stays", Rules { lock_stays: false, ..ALL }),
        ("6, only what is empty", Rules { only_empty: false, ..ALL }),
        ("7, begin again", Rules { begin_again: false, ..ALL }),
        ("8, check before HISTORY", Rules { check_history: false, ..ALL }),
    ];
    for (rule, rules) in without {
        let wrong = everything(rules).err().unwrap_or_else(|| panic!("without rule {rule} nothing goes wrong"));
        println!("without rule {rule}: {wrong}");
    }
}

/// Rule 2: where directories can be locked, LOCK may be deleted at any time, and two of this version stay apart.
#[test]
fn the_lock_on_the_directory_is_needed() {
    let kinds: &[Kind] = &[Kind::New, Kind::New, Kind::Hand { any_time: true }];
    explore(kinds, Before::Killed, ALL, true).unwrap();
    let two =
        |state: &World| state.openers.iter().filter(|opener| matches!(opener.at, WriteAgain | Unlock)).count() == 2;
    let mut seen = HashSet::new();
    let mut open = vec![world(kinds, Before::Killed)];
    let mut found = false;
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        found |= two(&state);
        for who in (0..3).filter(|who| !state.openers[*who].is_over()) {
            let mut next = state.clone();
            match kinds[who] {
                Kind::Hand { any_time } => next.step_hand(who, any_time),
                _ => next.step_new(who, Rules { directory_lock: false, ..ALL }, false),
            }
            open.push(next);
        }
    }
    assert!(found, "without the lock on the directory nothing goes wrong");
}
