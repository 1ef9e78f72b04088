//! Deletions of ranges, all in memory, against one whole map for each LSN.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEYS: u8 = 40;

#[derive(Clone, Copy, Debug)]
enum Write {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, Option<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    Hold(bool),
    Release(usize),
    Flush,
    Prune(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop_oneof![
        5 => (0..KEYS, any::<u8>()).prop_map(|(key, value)| Write::Put(key, value)),
        2 => (0..KEYS).prop_map(Write::Delete),
        2 => (0..KEYS, proptest::option::weighted(0.8, 0..=KEYS)).prop_map(|(from, to)| Write::DeleteRange(from, to)),
    ];
    prop_oneof![
        8 => proptest::collection::vec(write, 0..6).prop_map(Step::Commit),
        2 => any::<bool>().prop_map(Step::Hold),
        2 => any::<usize>().prop_map(Step::Release),
        2 => Just(Step::Flush),
        3 => (0..30_usize).prop_map(Step::Prune),
    ]
}

type State = BTreeMap<u8, u8>;

struct Model {
    fixture: Fixture,
    tree: Arc<Tree>,
    states: BTreeMap<Lsn, State>,
    /// The newest LSN that put a key, deleted it while it was there, or deleted a range with it.
    changed: BTreeMap<u8, Lsn>,
    holds: Vec<(SnapshotGuard, bool)>,
}

impl Model {
    fn new() -> Self {
        let (mut fixture, tree) = Fixture::with_keyspace();
        let first = fixture.index.visible();
        fixture.durable = Some(first);
        Model { fixture, tree, states: [(first, State::new())].into(), changed: BTreeMap::new(), holds: Vec::new() }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Commit(writes) => self.commit(&writes),
            Step::Hold(validates) => {
                let index = &self.fixture.index;
                self.holds.push((if validates { index.hold_to_validate() } else { index.hold() }, validates));
            }
            Step::Release(number) if !self.holds.is_empty() => drop(self.holds.swap_remove(number % self.holds.len())),
            Step::Release(_) => {}
            Step::Flush => self.fixture.durable = Some(self.fixture.index.visible()),
            Step::Prune(budget) => drop(self.fixture.index.prune(self.fixture.prune_to(), budget)),
        }
        self.check();
    }

    fn commit(&mut self, writes: &[Write]) {
        let mut state = self.states.last_key_value().unwrap().1.clone();
        let lsn = self.fixture.commit(|batch| {
            for write in writes {
                match *write {
                    Write::Put(key, value) => batch.put(1, &[key], &[value; 3]).unwrap(),
                    Write::Delete(key) => batch.delete(1, &[key]).unwrap(),
                    Write::DeleteRange(from, to) if to.is_none_or(|to| from < to) => {
                        batch.delete_range(1, &[from], to.map(|to| [to]).as_ref().map(|to| &to[..])).unwrap();
                    }
                    Write::DeleteRange(..) => {}
                }
            }
        });
        let before = state.clone();
        for write in writes {
            match *write {
                Write::Put(key, value) => {
                    state.insert(key, value);
                }
                Write::Delete(key) => {
                    state.remove(&key);
                    // To delete what was not there is no change, whatever the commit did to it before.
                    if before.contains_key(&key) {
                        self.changed.insert(key, lsn);
                    }
                }
                Write::DeleteRange(from, to) => {
                    for key in from..to.unwrap_or(KEYS) {
                        state.remove(&key);
                        self.changed.insert(key, lsn);
                    }
                }
            }
        }
        let puts = writes.iter().filter_map(|write| if let Write::Put(key, _) = write { Some(*key) } else { None });
        self.changed.extend(puts.filter(|key| state.contains_key(key)).map(|key| (key, lsn)));
        self.states.insert(lsn, state);
    }

    fn check(&self) {
        let newest = (self.fixture.index.hold(), false);
        for (guard, validates) in self.holds.iter().chain([&newest]) {
            let at = guard.lsn();
            let state = self.states.range(..=at).next_back().unwrap().1;
            let found = scan(&self.tree, ALL, at);
            assert!(
                found.iter().map(|(key, value)| (&key[0], &value[0])).eq(state),
                "at {at}: {found:?}, not {state:?}"
            );
            for key in 0..KEYS {
                assert_eq!(self.tree.get(&[key], at).unwrap().map(|value| value[0]), state.get(&key).copied());
                if *validates {
                    self.check_changed(key, at);
                }
            }
        }
        self.tree.check();
    }

    fn check_changed(&self, key: u8, at: Lsn) {
        let expected = self.changed.get(&key).is_some_and(|changed| *changed > at);
        // What has left a long list is noted for more keys.
        if expected || !self.tree.look().map.has_forgotten(ALL, at) {
            assert_eq!(self.tree.changed_since(&[key], at).unwrap(), expected, "key {key} since {at}");
            let range = (Bound::Included(&[key][..]), Bound::Included(&[key][..]));
            assert_eq!(self.tree.range_changed_since(range, at).unwrap(), expected, "range of key {key} since {at}");
        }
    }

    fn end(mut self) {
        self.holds.clear();
        self.run(Step::Flush);
        self.fixture.prune();
        self.check();
        let state = self.tree.look();
        assert!(state.ranges.is_empty(), "{:?} {:?}", state.ranges, state.sweep);
        drop(state);
        assert_eq!((self.tree.version_count(), self.tree.len_estimate()), {
            let count = self.states.last_key_value().unwrap().1.len();
            (count, count)
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(500), ..ProptestConfig::default() })]

    #[test]
    fn ranges_are_deleted_for_those_who_come_later(steps in proptest::collection::vec(step(), 1..100)) {
        let mut model = Model::new();
        for step in steps {
            model.run(step);
        }
        model.end();
    }
}

/// A reader between the put and the deletion finds the value, wherever it is kept.
#[test]
fn a_write_over_a_deleted_range_does_not_lengthen_the_life_of_what_was_there() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.durable = Some(fixture.index.visible());
    let put = fixture.put(b"k", b"1");
    let deleted = fixture.commit(|batch| batch.delete_range(1, b"a", None).unwrap());
    let between = fixture.index.hold();
    let again = fixture.put(b"k", b"2");
    let read = |at| tree.get(b"k", at).unwrap().map(|value| value.to_vec());
    assert_eq!([put, deleted, again].map(read), [Some(b"1".to_vec()), None, Some(b"2".to_vec())]);
    fixture.durable = Some(fixture.index.visible());
    fixture.prune();
    assert_eq!((between.lsn(), read(between.lsn()), read(again)), (deleted, None, Some(b"2".to_vec())));
}

/// The tombstone that the second deletion left had the LSN of the range, and its predecessor was the newest in `undo`: the sweep
/// took it for pruned, and the snapshot lost what it reads.
#[test]
fn a_deletion_of_what_a_range_has_deleted_leaves_what_a_snapshot_reads() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"k", b"1");
    let old = fixture.index.hold();
    fixture.commit(|batch| batch.delete_range(1, b"", None).unwrap());
    fixture.commit(|batch| batch.delete_range(1, b"", None).unwrap());
    fixture.durable = Some(fixture.put(b"l", b"1"));
    fixture.put(b"l", b"2");
    fixture.delete(b"k");
    fixture.prune();
    assert_eq!(tree.get(b"k", old.lsn()).unwrap().unwrap(), b"1"[..]);
}

/// The same by way of a put: within its commit the deletion takes it back, and the tombstone of the range stands there again.
#[test]
fn a_put_that_its_commit_takes_back_leaves_what_a_snapshot_reads() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"k", b"1");
    let old = fixture.index.hold();
    fixture.commit(|batch| batch.delete_range(1, b"", None).unwrap());
    fixture.commit(|batch| batch.delete_range(1, b"", None).unwrap());
    fixture.durable = Some(fixture.put(b"l", b"1"));
    fixture.put(b"l", b"2");
    fixture.commit(|batch| {
        batch.put(1, b"k", b"2").unwrap();
        batch.delete(1, b"k").unwrap();
    });
    fixture.prune();
    assert_eq!(tree.get(b"k", old.lsn()).unwrap().unwrap(), b"1"[..]);
}

/// The sweep waited for what pruning had not come to, since it waited itself for a later commit: they asked each other in turn.
#[test]
fn a_sweep_does_not_wait_for_what_is_settled() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.durable = Some(fixture.put(b"k", b"1"));
    let deleted = fixture.commit(|batch| batch.delete_range(1, b"", None).unwrap());
    fixture.put(b"k", b"2");
    fixture.index.prune(fixture.prune_to(), 100);
    fixture.durable = Some(deleted);
    fixture.put(b"k", b"3");
    assert!(fixture.index.prune(fixture.prune_to(), usize::MAX) < 10);
    assert!(tree.look().ranges.is_empty());
}

/// A queue whose front is deleted up to a key, again and again, had a part in the list for each time.
#[test]
fn deletions_that_reach_further_and_further_are_one() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let _old = fixture.index.hold_to_validate();
    for key in 1..200_u8 {
        fixture.put(&[key], b"1");
        fixture.commit(|batch| batch.delete_range(1, b"", Some(&[key])).unwrap());
    }
    assert!(tree.look().ranges.len() < 10, "{:?}", tree.look().ranges);
}

/// The list must not grow with a program that empties its keyspace now and then, while an old snapshot is read.
#[test]
fn deletions_of_the_same_range_give_way_to_the_newest() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"k", b"1");
    let old = fixture.index.hold_to_validate();
    for _ in 0..100 {
        fixture.put(b"k", b"2");
        fixture.commit(|batch| batch.delete_range(1, b"", None).unwrap());
    }
    assert!(tree.look().ranges.len() <= 3, "{:?}", tree.look().ranges);
    assert_eq!(tree.get(b"k", old.lsn()).unwrap().unwrap(), b"1"[..]);
    assert!(tree.changed_since(b"never there", old.lsn()).unwrap());
}
