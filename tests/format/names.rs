//! A disk for models: names in directories, with what a kill, a power loss and a failed fsync leave of them.
//!
//! A file's content is durable before it gets its name, as everywhere in the format; so only the names are at stake.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::Hash;

/// The directory of a database, and that of its tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Dir {
    Database,
    Table,
}

/// One name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Entry<C> {
    /// What an open sees.
    now: Option<C>,
    /// What a power loss may leave instead: what is durable, and every content since (A6).
    otherwise: BTreeSet<Option<C>>,
    /// Whether the next fsync makes it durable: not after a failed one (A9).
    fresh: bool,
}

/// Names `N` in directories `D`, each with a content `C`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Names<D, N, C> {
    entries: BTreeMap<(D, N), Entry<C>>,
}

impl<D: Ord + Copy, N: Ord + Clone, C: Ord + Clone> Names<D, N, C> {
    pub(crate) fn new() -> Self {
        Names { entries: BTreeMap::new() }
    }

    /// What an open sees.
    pub(crate) fn get(&self, dir: D, name: &N) -> Option<&C> {
        self.entries.get(&(dir, name.clone()))?.now.as_ref()
    }

    pub(crate) fn list(&self, dir: D) -> Vec<N> {
        let there = self.entries.iter().filter(|((d, _), entry)| *d == dir && entry.now.is_some());
        there.map(|((_, name), _)| name.clone()).collect()
    }

    /// A rename to this name, or a removal.
    pub(crate) fn set(&mut self, dir: D, name: N, content: Option<C>) {
        let absent = Entry { now: None, otherwise: BTreeSet::new(), fresh: true };
        let entry = self.entries.entry((dir, name)).or_insert(absent);
        entry.otherwise.insert(entry.now.take());
        entry.otherwise.remove(&content);
        entry.now = content;
        entry.fresh = true;
    }

    /// A rename that fails and is done all the same: as seen from now on, or on the medium alone. No later fsync tells.
    pub(crate) fn fail_to_set(&mut self, dir: D, name: N, content: Option<C>, is_seen: bool) {
        let before = self.get(dir, &name).cloned();
        self.set(dir, name.clone(), content.clone());
        let entry = self.entries.get_mut(&(dir, name)).expect("it was just set");
        if !is_seen {
            entry.now = before;
            entry.otherwise.insert(content);
            entry.otherwise.remove(&entry.now);
        }
        entry.fresh = false;
    }

    /// The directory itself is gone.
    pub(crate) fn clear(&mut self, dir: D) {
        self.entries.retain(|(d, _), _| *d != dir);
    }

    fn of(&mut self, dir: D) -> impl Iterator<Item = &mut Entry<C>> {
        self.entries.iter_mut().filter(move |((d, _), _)| *d == dir).map(|(_, entry)| entry)
    }

    /// A successful fsync of the directory.
    pub(crate) fn sync(&mut self, dir: D) {
        self.of(dir).filter(|entry| entry.fresh).for_each(|entry| entry.otherwise.clear());
        self.entries.retain(|_, entry| entry.now.is_some() || !entry.otherwise.is_empty());
    }

    /// A failed one (A9): what was pending may be there or not, and no later fsync tells.
    pub(crate) fn fail_to_sync(&mut self, dir: D) {
        self.of(dir).filter(|entry| !entry.otherwise.is_empty()).for_each(|entry| entry.fresh = false);
    }

    /// Every state that a power loss may leave: each name as it was durable, or as at any moment since.
    pub(crate) fn power_losses(&self) -> Vec<Self> {
        let mut states = vec![Names::new()];
        for (key, entry) in &self.entries {
            let choices = || entry.otherwise.iter().chain([&entry.now]);
            let with = |state: &Self, content: &Option<C>| {
                let mut next = state.clone();
                if content.is_some() {
                    let entry = Entry { now: content.clone(), otherwise: BTreeSet::new(), fresh: true };
                    next.entries.insert(key.clone(), entry);
                }
                next
            };
            states = states.iter().flat_map(|state| choices().map(|content| with(state, content))).collect();
        }
        states
    }
}

/// What a program is about to do to its directories.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Step<D, N, C> {
    /// A name gets this content, or goes.
    Set(D, N, Option<C>),
    /// The directory is synced.
    Sync(D),
}

/// Directories, what the program that is running has still to do to them, and how often something went wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State<D: Ord, N: Ord, C: Ord> {
    pub(crate) disk: Names<D, N, C>,
    pub(crate) steps: VecDeque<Step<D, N, C>>,
    pub(crate) failures: u8,
}

impl<D: Ord, N: Ord, C: Ord> State<D, N, C> {
    pub(crate) fn new(disk: Names<D, N, C>) -> Self {
        State { disk, steps: VecDeque::new(), failures: 0 }
    }

    /// After one more failure, which ended the program and left this.
    pub(crate) fn failed(&self, disk: Names<D, N, C>) -> Self {
        State { failures: self.failures + 1, ..State::new(disk) }
    }
}

/// Every state that can be reached from `begin`, or what is wrong with one of them.
pub(crate) fn reach<S: Clone + Eq + Hash>(
    begin: S,
    successors: impl Fn(&S) -> Result<Vec<S>, String>,
) -> Result<HashSet<S>, String> {
    let mut seen = HashSet::from([begin.clone()]);
    let mut queue = VecDeque::from([begin]);
    while let Some(state) = queue.pop_front() {
        for next in successors(&state)? {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
        if seen.len() > 1_000_000 {
            return Err("too many states".to_owned());
        }
    }
    Ok(seen)
}

/// Explores without one rule, which must be caught.
#[track_caller]
pub(crate) fn must_be_caught<S>(rule: &str, found: Result<HashSet<S>, String>) {
    let Err(found) = found else { panic!("nothing is wrong without {rule}") };
    println!("without {rule}: {found}");
    assert_ne!(found, "too many states", "{rule}");
}
