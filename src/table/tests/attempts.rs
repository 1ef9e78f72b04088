//! Checkpoints and merges of random histories, against what each readable LSN must show.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::format::batch::{Batch, BatchBuilder, Op};
use crate::format::table::data::Interval;
use crate::format::table::{split_full_key, write_full_key};
use crate::table::checkpoint::Piece;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;

#[derive(Clone, Debug)]
enum Step {
    /// A record: keyspace, key, value.
    Write(Vec<(u8, u8, Option<u8>)>),
    /// Drops the keyspace and creates the next one, in one record.
    Replace(u8),
    Hold,
    Release(u8),
    Checkpoint(u64),
    /// The first layer and how many.
    Merge(u8, u8, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run_bytes = || prop::sample::select(vec![1, 700, u64::MAX]);
    let write = prop::collection::vec((0..3_u8, 0..6_u8, prop::option::weighted(0.7, any::<u8>())), 1..5);
    let step = prop_oneof![
        6 => write.prop_map(Step::Write),
        1 => (0..3_u8).prop_map(Step::Replace),
        1 => Just(Step::Hold),
        1 => any::<u8>().prop_map(Step::Release),
        3 => run_bytes().prop_map(Step::Checkpoint),
        2 => (any::<u8>(), 1..5_u8, run_bytes()).prop_map(|(first, count, bytes)| Step::Merge(first, count, bytes)),
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
        for layer in &stack.manifest.layers {
            for ((key, version), value) in versions(&self.store, layer).unwrap() {
                if version <= lsn && newest.get(&key).is_none_or(|(known, _)| *known < version) {
                    newest.insert(key, (version, value));
                }
            }
        }
        for (full, (_, value)) in newest {
            let (id, key) = split_full_key(&full).unwrap();
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
        let (writes, horizon) = (sorter.finish(), self.horizon(to));
        let piece = Piece {
            interval: Interval { from, to },
            branch: BRANCH,
            writes,
            keyspaces,
            horizon,
            log_bytes: to.get() - from.get(),
        };
        let mut layer = self.store.write_layer(piece, run_bytes).unwrap();
        let stack = layer.install(|oldest| oldest, |_| ()).unwrap();
        assert_eq!((stack.manifest.to, self.store.is_settled()), (to, true));
        self.check();
    }

    fn merge(&mut self, first: u8, count: u8, run_bytes: u64) {
        let Some(stack) = self.store.stack() else { return };
        let layers = stack.manifest.layers.len();
        let first = usize::from(first) % layers;
        let end = layers.min(first + usize::from(count));
        let mut job = self.store.merge(&stack, first..end, &self.horizon(stack.manifest.to), run_bytes).unwrap();
        let merged = job.install(|_| ()).unwrap();
        assert_eq!(merged.manifest.layers.len(), layers - (end - first) + 1);
        // A reader of the stack before keeps its files.
        self.store.remove_needless().unwrap();
        self.check_stack(&stack);
        drop((stack, merged));
        self.check();
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
                        Some(value) => batch.put(keyspace, &[*key], &[*value; 60]).unwrap(),
                        None => batch.delete(keyspace, &[*key]).unwrap(),
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
            Step::Merge(first, count, run_bytes) => self.merge(*first, *count, *run_bytes),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn layers_show_what_the_log_has_done(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.checkpoint(u64::MAX);
        let layers = world.store.stack().map_or(0, |stack| stack.manifest.layers.len());
        if layers > 0 {
            world.merge(0, u8::try_from(layers).unwrap(), u64::MAX);
        }
        // A snapshot that begins now keeps nothing of what was dropped before.
        world.held = [world.end()].into();
        world.take(&Step::Write(vec![(0, 0, Some(1))]));
        world.checkpoint(u64::MAX);
        world.merge(0, u8::MAX, u64::MAX);
        let stack = world.store.stack().unwrap();
        let listed: Vec<u32> = stack.keyspaces.iter().map(|one| one.id).collect();
        for (key, _) in versions(&world.store, &stack.manifest.layers[0]).unwrap().keys() {
            prop_assert!(listed.contains(&split_full_key(key).unwrap().0), "{:?} of {:?}", key, listed);
        }
        drop(stack);
        // With nothing held and all merged, only what lives is there.
        world.held.clear();
        {
            world.merge(0, u8::MAX, u64::MAX);
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
        }
    }
}
