//! The index against the simplest model: one whole map for each LSN.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

type State = BTreeMap<u8, u8>;

#[derive(Clone, Debug)]
enum Step {
    /// Puts (`Some`) and deletes of one transaction.
    Commit(Vec<(u8, Option<u8>)>),
    /// Holds a snapshot to read, or to validate (`true`).
    Hold(bool),
    HoldDurable,
    /// Holds one of the held snapshots again, to read.
    HoldToRead(usize),
    /// Drops one of the held snapshots.
    Release(usize),
    /// Everything visible becomes durable.
    Flush,
    /// Prunes some of the versions that are due.
    Prune(usize),
    /// Prunes all that is due, and counts.
    PruneAll,
    Scan {
        held: usize,
        low: Bound<u8>,
        high: Bound<u8>,
        turns: u64,
    },
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![Just(Bound::Unbounded), (0..KEYS).prop_map(Bound::Included), (0..KEYS).prop_map(Bound::Excluded)]
}

const KEYS: u8 = 24;

fn write() -> impl Strategy<Value = (u8, Option<u8>)> {
    (0..KEYS, proptest::option::weighted(0.6, any::<u8>()))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(write(), 0..6).prop_map(Step::Commit),
        3 => any::<bool>().prop_map(Step::Hold),
        1 => Just(Step::HoldDurable),
        1 => any::<usize>().prop_map(Step::HoldToRead),
        3 => any::<usize>().prop_map(Step::Release),
        2 => Just(Step::Flush),
        1 => (0..20_usize).prop_map(Step::Prune),
        1 => Just(Step::PruneAll),
        2 => (any::<usize>(), bound(), bound(), any::<u64>())
            .prop_map(|(held, low, high, turns)| Step::Scan { held, low, high, turns }),
    ]
}

struct Model {
    fixture: Fixture,
    tree: Arc<Tree>,
    /// The state at each LSN, from the first.
    states: BTreeMap<Lsn, State>,
    /// Each LSN at which a key was put (`true`), or deleted while it was there.
    versions: BTreeMap<u8, Vec<(Lsn, bool)>>,
    /// Each LSN at which a key was deleted while it was there, also if the same commit put it again.
    deletions: BTreeMap<u8, Vec<Lsn>>,
    holds: Vec<Hold>,
}

struct Hold {
    guard: SnapshotGuard,
    validates: bool,
}

impl Hold {
    fn lsn(&self) -> Lsn {
        self.guard.lsn()
    }
}

impl Model {
    fn new() -> Self {
        let (mut fixture, tree) = Fixture::with_keyspace();
        let first = fixture.index.visible();
        fixture.durable = Some(first);
        let states = BTreeMap::from([(first, State::new())]);
        Model { fixture, tree, states, versions: BTreeMap::new(), deletions: BTreeMap::new(), holds: Vec::new() }
    }

    fn state(&self, at: Lsn) -> &State {
        self.states.range(..=at).next_back().expect("held LSNs are not before the first").1
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Commit(writes) => self.commit(&writes),
            Step::Hold(validates) => {
                let index = &self.fixture.index;
                let guard = if validates { index.hold_to_validate() } else { index.hold() };
                self.holds.push(Hold { guard, validates });
            }
            Step::HoldDurable => {
                let durable = self.fixture.prune_to();
                let guard = self.fixture.index.hold_at(|_| durable);
                assert_eq!(guard.lsn(), durable);
                self.holds.push(Hold { guard, validates: false });
            }
            Step::HoldToRead(index) => {
                if !self.holds.is_empty() {
                    let guard = self.holds[index % self.holds.len()].guard.to_read();
                    self.holds.push(Hold { guard, validates: false });
                }
            }
            Step::Release(index) => {
                if !self.holds.is_empty() {
                    self.holds.swap_remove(index % self.holds.len());
                }
            }
            Step::Flush => self.fixture.durable = Some(self.fixture.index.visible()),
            Step::Prune(budget) => {
                self.fixture.index.prune(self.fixture.prune_to(), budget);
            }
            Step::PruneAll => self.check_memory(),
            Step::Scan { held, low, high, turns } => {
                if !self.holds.is_empty() {
                    self.scan(&self.holds[held % self.holds.len()], low, high, turns);
                }
            }
        }
    }

    fn commit(&mut self, writes: &[(u8, Option<u8>)]) {
        let mut state = self.state(self.fixture.index.visible()).clone();
        let lsn = self.fixture.try_apply(|batch| {
            for (key, value) in writes {
                match value {
                    Some(value) => batch.put(1, &[*key], &[*value]).unwrap(),
                    None => batch.delete(1, &[*key]).unwrap(),
                }
            }
        });
        let lsn = lsn.unwrap();
        let before = state.clone();
        for (key, value) in writes {
            let before_it = match value {
                Some(value) => state.insert(*key, *value),
                None => state.remove(key),
            };
            if value.is_none() && before_it.is_some() {
                self.deletions.entry(*key).or_default().push(lsn);
            }
            let versions = self.versions.entry(*key).or_default();
            versions.pop_if(|(last, _)| *last == lsn);
            // Deleting a key that was not there is no change, whatever else the transaction did before.
            if before.contains_key(key) || value.is_some() {
                versions.push((lsn, value.is_some()));
            }
        }
        self.versions.retain(|_, versions| !versions.is_empty());
        self.states.insert(lsn, state);
        self.check();
        self.fixture.index.publish(lsn);
    }

    fn changed_since(&self, key: u8, lsn: Lsn) -> bool {
        self.versions.get(&key).and_then(|versions| versions.last()).is_some_and(|(last, _)| *last > lsn)
    }

    /// Takes from the two ends in the order of the bits of `turns`.
    fn scan(&self, hold: &Hold, low: Bound<u8>, high: Bound<u8>, turns: u64) {
        let at = hold.lsn();
        let within = |key: u8| (low, high).contains(&key);
        let (low_key, high_key) = (low.map(|key| [key]), high.map(|key| [key]));
        let range = (low_key.as_ref().map(|key| &key[..]), high_key.as_ref().map(|key| &key[..]));
        let mut expected = self.state(at).iter().filter(|(key, _)| within(**key));
        let mut cursor = entries(Arc::clone(&self.tree), range, at);
        for turn in 0..=u32::from(KEYS) {
            let (got, expected) = if turns >> turn & 1 == 0 {
                (cursor.next(), expected.next())
            } else {
                (cursor.next_back(), expected.next_back())
            };
            assert_eq!(got.map(|(key, value)| (key[0], value[0])), expected.map(|(key, value)| (*key, *value)));
        }
        if hold.validates {
            let changed = (0..KEYS).any(|key| within(key) && self.changed_since(key, at));
            assert_eq!(self.tree.range_changed_since(range, at).unwrap(), changed);
        }
    }

    /// Every question to the index has the right answer.
    fn check(&self) {
        let held = self.holds.iter().map(Hold::lsn);
        let readable = self.states.range(self.fixture.prune_to()..).map(|(&lsn, _)| lsn);
        for at in held.chain(readable) {
            let entries = scan(&self.tree, ALL, at);
            assert!(entries.iter().map(|(key, value)| (&key[0], &value[0])).eq(self.state(at)), "at {at}");
        }
        let held = self.holds.iter().map(|hold| (hold.lsn(), hold.validates));
        for (at, validates) in held.chain([(self.fixture.index.visible(), true)]) {
            for key in 0..KEYS {
                assert_eq!(self.tree.get(&[key], at).unwrap().map(|value| value[0]), self.state(at).get(&key).copied());
                if validates {
                    let is_changed = self.tree.changed_since(&[key], at).unwrap();
                    assert_eq!(is_changed, self.changed_since(key, at), "key {key} since {at}");
                }
            }
        }
        assert_eq!(self.tree.len_estimate(), self.state(Lsn::new(u64::MAX)).len());
    }

    /// Once everything due was pruned, the index has exactly the versions that a reader can tell apart, and tombstones
    /// that will go a moment later.
    fn check_memory(&self) {
        self.fixture.prune();
        let (least, most) =
            self.versions.iter().map(|(key, versions)| self.needed(*key, versions)).fold((0, 0), |all, key| {
                let (least, most) = key;
                (all.0 + least, all.1 + most)
            });
        assert!(
            (least..=most).contains(&self.tree.version_count()),
            "{} of {least} to {most}",
            self.tree.version_count()
        );
    }

    /// Releases everything.
    fn end(mut self) {
        self.holds.clear();
        self.run(Step::Flush);
        self.fixture.prune();
        self.check();
        assert_eq!(self.tree.version_count(), self.tree.len_estimate());
    }

    /// How many of a key's versions are needed by a held snapshot, or by one that could still be taken: the least, and
    /// the number with superseded tombstones. A tombstone that was settled when it was superseded had left the map, and
    /// is not there.
    fn needed(&self, key: u8, versions: &[(Lsn, bool)]) -> (usize, usize) {
        let durable = self.fixture.prune_to();
        let is_held = |from: Lsn, until: Lsn| self.holds.iter().any(|hold| (from..until).contains(&hold.lsn()));
        let is_needed = |pair: &&[(Lsn, bool)]| pair[1].0 > durable || is_held(pair[0].0, pair[1].0);
        let older = || versions.windows(2).filter(is_needed).map(|pair| pair[0].1);
        let (newest, is_put) = versions[versions.len() - 1];
        // A settled deletion is noted for the transactions that began before it: by the version that it deleted, if a
        // holder reads that; otherwise under the newest of them, together with the version that it reads, if it is the
        // newest holder of that version. Beside a reader it may be or not.
        let noted_under = |lsn: Lsn| {
            let transactions = self.holds.iter().filter(|hold| hold.validates && hold.lsn() < lsn);
            transactions.map(Hold::lsn).max()
        };
        let is_apart = |at: Lsn| {
            let next = versions.partition_point(|(lsn, _)| *lsn <= at);
            if next == 0 || !versions[next - 1].1 {
                return (true, true);
            }
            let until = versions.get(next).map_or(Lsn::new(u64::MAX), |(lsn, _)| *lsn);
            (false, self.holds.iter().any(|hold| !hold.validates && (at..until).contains(&hold.lsn())))
        };
        let is_in_version = versions.windows(2).last().is_some_and(|pair| is_held(pair[0].0, pair[1].0));
        // A deletion that is not durable is a tombstone, which takes no note's place.
        let newest_note = if is_put || newest > durable || is_in_version { None } else { noted_under(newest) };
        // When a holder ends, a note in its entry moves on with the version there, to a holder above the transaction.
        let may_have_moved = |at: Lsn| {
            let is_read_above =
                |pair: &[(Lsn, bool)]| pair[0].1 && is_held(pair[0].0.max(Lsn::new(at.get() + 1)), pair[1].0);
            versions.windows(2).any(is_read_above)
        };
        let (is_note_apart, may_be_note) = newest_note.map_or((false, false), is_apart);
        let note = is_note_apart && !newest_note.is_some_and(may_have_moved);
        // The notes of earlier deletions may stay, one under each transaction.
        let earlier = self.deletions.get(&key).into_iter().flatten().filter(|lsn| **lsn <= durable && **lsn != newest);
        let newest = usize::from(is_put || newest > durable);
        let mut notes: BTreeSet<_> = earlier.filter_map(|lsn| noted_under(*lsn)).filter(|at| is_apart(*at).1).collect();
        notes.extend(newest_note.filter(|_| may_be_note));
        let least = newest + usize::from(note) + older().filter(|is_put| *is_put).count();
        (least, newest + older().count() + notes.len())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
            model.check();
        }
        model.end();
    }
}

proptest! {
    // Each check asks for each hold.
    #![proptest_config(ProptestConfig { cases: cases(12), ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_the_model_does_under_hundreds_of_holds(
        held in proptest::collection::vec((proptest::collection::vec(write(), 1..3), any::<bool>()), 70..250),
        steps in proptest::collection::vec(step(), 1..60),
        releases in proptest::collection::vec(any::<usize>(), 150),
    ) {
        let mut model = Model::new();
        for (writes, validates) in held {
            model.commit(&writes);
            model.run(Step::Hold(validates));
            model.run(Step::Flush);
        }
        model.check_memory();
        for (number, step) in steps.into_iter().enumerate() {
            model.run(step);
            if number % 8 == 0 {
                model.check();
            }
        }
        for release in releases {
            model.run(Step::Release(release));
            model.check_memory();
        }
        model.check();
        model.end();
    }
}
