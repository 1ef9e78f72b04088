//! Checkpoints and merges of random histories, against what each readable LSN must show.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::format::batch::{Batch, BatchBuilder, Op};
use crate::format::table::data::Interval;
use crate::format::table::manifest::{NamedRun, Role};
use crate::format::table::range_tombstones::RangeTombstone;
use crate::format::table::{split_full_key, write_full_key};
use crate::table::checkpoint::Piece;
use crate::table::job::Stepped;
use crate::table::layer::Sizes;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;

#[derive(Clone, Copy, Debug)]
enum Write {
    Put(u8),
    Delete,
    /// With all behind it, up to this key.
    DeleteRange(Option<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    /// A record: keyspace, key, what becomes of it.
    Write(Vec<(u8, u8, Write)>),
    /// Drops the keyspace and creates the next one, in one record.
    Replace(u8),
    Hold,
    Release(u8),
    Checkpoint(u64),
    /// One step of a merge: the first group, and how many if these are in no job; the lengths of runs and of a part.
    Merge(u8, u8, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run_bytes = || prop::sample::select(vec![1, 700, u64::MAX]);
    let what = prop_oneof![
        6 => any::<u8>().prop_map(Write::Put),
        2 => Just(Write::Delete),
        1 => prop::option::weighted(0.8, 1..7_u8).prop_map(Write::DeleteRange),
    ];
    let write = prop::collection::vec((0..3_u8, 0..6_u8, what), 1..5);
    let step = prop_oneof![
        6 => write.prop_map(Step::Write),
        1 => (0..3_u8).prop_map(Step::Replace),
        1 => Just(Step::Hold),
        1 => any::<u8>().prop_map(Step::Release),
        3 => run_bytes().prop_map(Step::Checkpoint),
        4 => (any::<u8>(), 1..5_u8, run_bytes(), run_bytes())
            .prop_map(|(first, count, run, part)| Step::Merge(first, count, run, part)),
    ];
    prop::collection::vec(step, 0..60)
}

/// Keyspaces with what they hold.
type State = BTreeMap<u32, BTreeMap<Vec<u8>, Vec<u8>>>;

struct World {
    dir: Arc<dyn Dir>,
    store: Store,
    /// Records by the LSN at which they end.
    log: BTreeMap<Lsn, Vec<u8>>,
    held: BTreeSet<Lsn>,
    /// The ids of the keyspaces that are alive.
    alive: Vec<u32>,
    next_id: u32,
}

impl World {
    fn new() -> Self {
        let dir = memory_dir();
        let store = new_store(&dir);
        let mut world =
            World { dir, store, log: BTreeMap::new(), held: BTreeSet::new(), alive: vec![0, 1, 2], next_id: 3 };
        let mut batch = BatchBuilder::new();
        for id in 0..3 {
            batch.create_keyspace(id, &format!("k{id}")).unwrap();
        }
        world.append(&batch);
        world
    }

    fn end(&self) -> Lsn {
        self.log.last_key_value().map_or(Lsn::ZERO, |(lsn, _)| *lsn)
    }

    fn append(&mut self, batch: &BatchBuilder) {
        let lsn = Lsn::new(self.end().get() + 8);
        self.log.insert(lsn, batch.batch().bytes().to_vec());
    }

    /// What a reader at `lsn` must find.
    fn expected(&self, lsn: Lsn) -> State {
        let mut state = State::new();
        for payload in self.log.range(..=lsn).map(|(_, payload)| payload) {
            for op in &Batch::parse(payload).unwrap() {
                match op {
                    Op::Put { keyspace, key, value } => {
                        state.get_mut(&keyspace).unwrap().insert(key.to_vec(), value.to_vec());
                    }
                    Op::Delete { keyspace, key } => drop(state.get_mut(&keyspace).unwrap().remove(key)),
                    Op::DeleteRange { keyspace, from, to } => {
                        let is_in = |key: &Vec<u8>| from <= key.as_slice() && to.is_none_or(|to| key.as_slice() < to);
                        state.get_mut(&keyspace).unwrap().retain(|key, _| !is_in(key));
                    }
                    Op::CreateKeyspace { keyspace, .. } => drop(state.insert(keyspace, BTreeMap::new())),
                    Op::DropKeyspace { keyspace } => drop(state.remove(&keyspace)),
                }
            }
        }
        state
    }

    /// What the layers say to one.
    fn found(&self, stack: &Stack, lsn: Lsn) -> State {
        let lives = |one: &&crate::format::table::keyspaces::Keyspace| {
            one.created <= lsn && one.dropped.is_none_or(|dropped| dropped > lsn)
        };
        let mut state: State = stack.keyspaces.iter().filter(lives).map(|one| (one.id, BTreeMap::new())).collect();
        let mut newest: BTreeMap<Vec<u8>, (Lsn, Option<Vec<u8>>)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (layer, from) in stack.manifest.begins() {
            for ((key, version), value) in versions_from(&self.store, layer, from).unwrap() {
                assert!(seen.insert((key.clone(), version)), "it is in one layer");
                if version <= lsn && newest.get(&key).is_none_or(|(known, _)| *known < version) {
                    newest.insert(key, (version, value));
                }
            }
        }
        let deleted: Vec<_> =
            stack.manifest.begins().flat_map(|(layer, from)| ranges_from(&self.store, layer, from)).collect();
        for (full, (version, value)) in newest {
            let (id, key) = split_full_key(&full).unwrap();
            let covers =
                |one: &&RangeTombstone| one.start <= full && full < one.end && version < one.lsn && one.lsn <= lsn;
            if deleted.iter().any(|one| covers(&one)) {
                continue;
            }
            if let (Some(keyspace), Some(value)) = (state.get_mut(&id), value) {
                keyspace.insert(key.to_vec(), value);
            }
        }
        state
    }

    fn horizon(&self, floor: Lsn) -> Retain {
        let held = self.held.iter().copied().filter(|lsn| *lsn < floor).collect();
        Retain { floor, held, is_last: false }
    }

    fn checkpoint(&mut self, run_bytes: u64) {
        let from = self.store.stack().map_or(Lsn::ZERO, |stack| stack.manifest.to);
        let to = self.end();
        if from == to {
            return;
        }
        let mut keyspaces = self.store.stack().map_or_else(KeyspaceList::default, |stack| (*stack.keyspaces).clone());
        let mut sorter = Sorter::default();
        for (lsn, payload) in self.log.range(Lsn::new(from.get() + 1)..=to) {
            let batch = Batch::parse(payload).unwrap();
            keyspaces.add(*lsn, &batch);
            sorter.add(*lsn, &batch);
        }
        let (ranges, writes, horizon) = (sorter.take_ranges(), sorter.finish(), self.horizon(to));
        let piece = Piece {
            interval: Interval { from, to },
            branch: BRANCH,
            writes,
            ranges,
            keyspaces,
            horizon,
            log_bytes: to.get() - from.get(),
        };
        let mut layer = self.store.write_layer(piece, run_bytes).unwrap();
        let stack = layer.install(|oldest| oldest, |_| ()).unwrap();
        assert_eq!((stack.manifest.to, self.store.is_settled()), (to, true));
        self.check();
    }

    fn merge(&mut self, first: u8, count: u8, sizes: Sizes) {
        let Some(stack) = self.store.stack() else { return };
        let groups: Vec<&[Layer]> = stack.manifest.groups().collect();
        let first = usize::from(first) % groups.len();
        let count = match groups[first..].iter().take_while(|group| group[0].role == Role::Whole).count() {
            0 => 1,
            whole => whole.min(usize::from(count)),
        };
        let layers = |groups: &[&[Layer]]| groups.iter().map(|group| group.len()).sum::<usize>();
        let place = layers(&groups[..first])..layers(&groups[..first + count]);
        let mut step = self.store.merge_step(&stack, place, &self.horizon(stack.manifest.to), sizes).unwrap();
        let stepped = step.install(|_| ()).unwrap();
        let merged = self.store.stack().unwrap();
        let now: Vec<&[Layer]> = merged.manifest.groups().collect();
        assert_eq!(now.len(), groups.len() - count + 1);
        let is_whole = now[first].len() == 1;
        assert_eq!(is_whole, matches!(stepped, Stepped::Done), "{stepped:?}");
        // A reader of the stack before keeps its files.
        self.store.remove_needless().unwrap();
        self.check_stack(&stack);
        drop(groups);
        drop((stack, merged, step));
        self.check();
    }

    /// Ends all jobs, and merges what is then there.
    fn merge_all(&mut self) {
        while let Some(stack) = self.store.stack() {
            let job = stack.manifest.groups().position(|group| group[0].role != Role::Whole);
            let (first, is_one) = (job.unwrap_or(0), stack.manifest.layers.len() == 1);
            drop(stack);
            self.merge(u8::try_from(first).unwrap(), u8::MAX, Sizes::whole(u64::MAX));
            if is_one {
                break;
            }
        }
    }

    fn check(&self) {
        self.store.remove_needless().unwrap();
        let stack = self.store.stack().unwrap();
        self.check_stack(&stack);
        let found = read_stack(&self.dir).unwrap().unwrap();
        assert_eq!((&found.manifest, &found.keyspaces, found.crc), (&stack.manifest, &stack.keyspaces, stack.crc));
        let names = self.dir.list().unwrap().len();
        assert_eq!(names, 1 + found.manifest.numbers().count(), "nothing else is there");
    }

    fn check_stack(&self, stack: &Stack) {
        let to = stack.manifest.to;
        let readable = self.held.iter().copied().filter(|lsn| *lsn <= to).chain([to]);
        for lsn in readable {
            assert_eq!(self.found(stack, lsn), self.expected(lsn), "{lsn}");
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(writes) => {
                let mut batch = BatchBuilder::new();
                for (keyspace, key, value) in writes {
                    let keyspace = self.alive[usize::from(*keyspace)];
                    match value {
                        Write::Put(value) => batch.put(keyspace, &[*key], &[*value; 60]).unwrap(),
                        Write::Delete => batch.delete(keyspace, &[*key]).unwrap(),
                        Write::DeleteRange(Some(to)) if to <= key => {}
                        Write::DeleteRange(to) => {
                            batch
                                .delete_range(keyspace, &[*key], to.map(|to| [to]).as_ref().map(|to| &to[..]))
                                .unwrap();
                        }
                    }
                }
                self.append(&batch);
            }
            Step::Replace(which) => {
                let (which, mut batch) = (usize::from(*which), BatchBuilder::new());
                batch.put(self.alive[which], b"in the same record", b"and gone with it").unwrap();
                batch.drop_keyspace(self.alive[which]).unwrap();
                batch.create_keyspace(self.next_id, &format!("k{which}")).unwrap();
                self.alive[which] = self.next_id;
                self.next_id += 1;
                self.append(&batch);
            }
            Step::Hold => drop(self.held.insert(self.end())),
            Step::Release(which) => {
                if let Some(lsn) = self.held.iter().nth(usize::from(*which) % self.held.len().max(1)).copied() {
                    self.held.remove(&lsn);
                }
            }
            Step::Checkpoint(run_bytes) => self.checkpoint(*run_bytes),
            Step::Merge(first, count, run, part) => self.merge(*first, *count, Sizes { run: *run, part: *part }),
        }
    }
}

/// The range tombstones of a layer from a bound on.
fn ranges_from(store: &Store, layer: &Layer, from: &[u8]) -> Vec<RangeTombstone> {
    let of_run = |named: &NamedRun| store.open_run(named, layer.interval).unwrap().range_tombstones;
    let all = layer.runs.iter().flat_map(of_run).filter(|one| one.end.as_slice() > from);
    all.map(|one| RangeTombstone { start: one.start.clone().max(from.to_vec()), ..one }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn layers_show_what_the_log_has_done(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.checkpoint(u64::MAX);
        world.merge_all();
        // A snapshot that begins now keeps nothing of what was dropped before.
        world.held = [world.end()].into();
        world.take(&Step::Write(vec![(0, 0, Write::Put(1))]));
        world.checkpoint(u64::MAX);
        world.merge_all();
        let stack = world.store.stack().unwrap();
        let listed: Vec<u32> = stack.keyspaces.iter().map(|one| one.id).collect();
        for (key, _) in versions(&world.store, &stack.manifest.layers[0]).unwrap().keys() {
            prop_assert!(listed.contains(&split_full_key(key).unwrap().0), "{:?} of {:?}", key, listed);
        }
        drop(stack);
        // With nothing held and all merged, only what lives is there.
        world.held.clear();
        {
            world.merge_all();
            let stack = world.store.stack().unwrap();
            let found = versions(&world.store, &stack.manifest.layers[0]).unwrap();
            let live: BTreeSet<Vec<u8>> = world
                .expected(stack.manifest.to)
                .iter()
                .flat_map(|(id, keys)| keys.keys().map(|key| {
                    let mut full = Vec::new();
                    write_full_key(&mut full, *id, key);
                    full
                }))
                .collect();
            let keys: Vec<_> = found.keys().map(|(key, _)| key.clone()).collect();
            prop_assert_eq!(keys, live.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(ranges_from(&world.store, &stack.manifest.layers[0], &[]), []);
        }
    }
}

/// Runs that end with their keyspaces ended no part: a step of many small keyspaces wrote eight times what it was to.
#[test]
fn a_part_of_many_small_keyspaces_ends() {
    let mut world = World::new();
    let mut batch = BatchBuilder::new();
    for id in 3..43 {
        batch.create_keyspace(id, &format!("k{id}")).unwrap();
        for key in 0..110_u8 {
            batch.put(id, &[key], &[7; 100]).unwrap();
        }
    }
    world.append(&batch);
    world.checkpoint(u64::MAX);
    let stack = world.store.stack().unwrap();
    let sizes = Sizes { run: 40_000, part: 40_000 };
    let step = world.store.merge_step(&stack, 0..1, &Retain::default(), sizes).unwrap();
    assert!((40_000..80_000).contains(&step.bytes()), "{}", step.bytes());
}
