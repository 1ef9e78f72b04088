//! A layer that is written from memory, piece by piece, while memory goes on changing: layers with it have what the history says, for
//! each reader.

use super::*;
use crate::index::above::MOST_BYTES;

/// A layer that is being written.
pub(super) struct FromMemory {
    hold: SnapshotGuard,
    from: Lsn,
    readers: Vec<Lsn>,
    pieces: Vec<Above>,
    /// Where the next piece begins; `None` at the end.
    low: Option<Key>,
}

impl Machine {
    /// Unless a checkpoint is under way.
    pub(super) fn begin_from_memory(&mut self) {
        let (durable, from) = (self.durable, self.layers.now().to);
        let hold = self.index.hold_at(|visible| durable.min(visible));
        if self.begun.is_some() || self.from_memory.is_some() || hold.lsn() <= from {
            return;
        }
        let held = self.index.held_below(hold.lsn());
        let readers = held.into_iter().filter(|at| *at > from).chain([hold.lsn()]).collect();
        self.from_memory = Some(FromMemory { hold, from, readers, pieces: Vec::new(), low: Some(Key::from(&[])) });
    }

    pub(super) fn write_pieces(&mut self, count: usize) {
        let Some(layer) = &mut self.from_memory else { return };
        for _ in 0..count {
            let Some(low) = layer.low.take() else { return };
            let above = self.tree.above(&low, Readers { from: layer.from, at: &layer.readers });
            assert!(above.next.as_ref().is_none_or(|next| low < *next), "a piece has keys");
            layer.low.clone_from(&above.next);
            layer.pieces.push(above);
        }
    }

    pub(super) fn end_from_memory(&mut self) {
        self.write_pieces(usize::MAX);
        let Some(FromMemory { hold, from, readers, pieces, .. }) = self.from_memory.take() else { return };
        let to = hold.lsn();
        let lsns = pieces.iter().flat_map(|piece| {
            let of_keys = piece.keys.iter().flat_map(|(_, versions)| versions.iter().map(|(lsn, _)| *lsn));
            of_keys.chain(piece.deleted.iter().map(|(.., lsn)| *lsn))
        });
        assert!(lsns.into_iter().all(|lsn| from < lsn && lsn <= to), "in the interval of the layer");
        let keys = pieces.iter().flat_map(|piece| &piece.keys).map(|(key, _)| key);
        assert!(keys.is_sorted_by(|a, b| a < b));
        let layers = self.layers.now().with_pieces(&pieces, to);
        let held = self.held.iter().map(|held| held.guard.lsn()).filter(|at| *at <= to);
        for at in held.chain(readers.into_iter().filter(|at| *at == to)) {
            let state = self.state(at);
            for key in (0..KEYS).map(key_of).chain(self.history.keys().cloned()) {
                let found = layers.read(&key, at).map(|(_, value)| value);
                assert_eq!(found, state.get(&key).map(Vec::as_slice), "layers: {key:?} at {at}");
            }
        }
        self.layers.install(layers);
        self.index.note_installed(to);
    }

    fn write_from_memory(&mut self) {
        self.run(Step::BeginFromMemory);
        self.run(Step::EndFromMemory);
    }

    /// The same. Returns the pieces.
    fn pieces(&mut self) -> Vec<Above> {
        self.run(Step::BeginFromMemory);
        self.write_pieces(usize::MAX);
        let pieces = self.from_memory.as_ref().unwrap().pieces.clone();
        self.run(Step::EndFromMemory);
        pieces
    }

    /// Puts keys beside the usual ones, or deletes them.
    fn commit_keys(&mut self, keys: &[Vec<u8>], value: Option<&[u8]>) {
        let lsn = Lsn::new(self.last.get() + 8);
        let mut batch = BatchBuilder::new();
        for key in keys {
            match value {
                Some(value) => batch.put(1, key, value).unwrap(),
                None => batch.delete(1, key).unwrap(),
            }
            self.history.entry(key.clone()).or_default().push((lsn, value.map(<[u8]>::to_vec)));
        }
        self.index.apply(lsn, &batch.batch(), self.durable).unwrap();
        self.index.publish(lsn);
        self.last = lsn;
    }
}

/// All that was put is in layers and in memory.
fn filled(keys: &[u8]) -> Machine {
    let mut machine = Machine::new();
    machine.run(Step::Commit(keys.iter().map(|key| Write::Put(*key, 1)).collect()));
    machine.run(Step::Checkpoint);
    machine.open(false);
    machine.run(Step::FillAll);
    machine
}

/// Has all pruned, writes the layer, and looks what layers say.
fn prune_and_write(machine: &mut Machine) {
    machine.run(Step::Flush);
    machine.run(Step::Prune(100));
    machine.write_from_memory();
    forget(machine);
}

/// Has all of it forgotten, and looks what layers say.
fn forget(machine: &mut Machine) {
    machine.run(Step::Forget(0, 100));
    machine.run(Step::Forget(0, 100));
}

/// A layer from memory has tombstones over the gaps of complete leaves.
#[test]
fn what_was_buried_is_deleted_in_a_layer_from_memory() {
    let mut machine = filled(&[1, K, 5]);
    delete_and_bury(&mut machine);
    machine.write_from_memory();
    forget(&mut machine);
}

/// Gaps as of its end, and as of each held LSN.
#[test]
fn what_was_buried_is_deleted_for_a_held_snapshot() {
    let mut machine = filled(&[1, K, 5]);
    machine.run(Step::Hold(false));
    machine.run(Step::Commit(vec![Write::Delete(K)]));
    machine.run(Step::Hold(false));
    machine.run(Step::Commit(vec![Write::Put(1, 2)]));
    prune_and_write(&mut machine);
}

/// The gap of the newest reader is above what the older one finds.
#[test]
fn what_a_held_snapshot_finds_is_in_a_layer_from_memory() {
    let mut machine = filled(&[1, 5]);
    machine.run(Step::Commit(vec![Write::Put(K, 2), Write::Put(1, 3)]));
    machine.run(Step::Hold(false));
    machine.run(Step::Commit(vec![Write::Delete(K), Write::Put(1, 4)]));
    machine.run(Step::Commit(vec![Write::Delete(5)]));
    prune_and_write(&mut machine);
}

/// A layer from memory has the range tombstones of the list: a leaf that is not complete may not bury them.
#[test]
fn a_layer_from_memory_has_the_list() {
    let mut machine = Machine::new();
    machine.run(Step::Commit((0..KEYS).map(|key| Write::Put(key, 1)).collect()));
    machine.run(Step::Checkpoint);
    machine.open(false);
    machine.run(Step::Commit(vec![Write::DeleteRange(1, Some(6))]));
    machine.run(Step::Commit(vec![Write::Put(4, 1)]));
    prune_and_write(&mut machine);
}

/// A leaf that has buried something is complete only from an LSN on: a reader below is told nothing of keys of which it has no version.
#[test]
fn a_range_that_is_complete_from_an_lsn_on_has_no_gaps_for_readers_below() {
    let mut machine = Machine::new();
    machine.run(Step::Commit(vec![Write::Put(K, 1), Write::Put(1, 1)]));
    machine.run(Step::Checkpoint);
    machine.open(false);
    machine.run(Step::Commit(vec![Write::Put(1, 2)]));
    machine.run(Step::Hold(false));
    machine.run(Step::Commit(vec![Write::Delete(K)]));
    machine.run(Step::FillAll);
    machine.run(Step::Commit(vec![Write::Put(5, 1)]));
    machine.run(Step::Commit(vec![Write::Delete(5)]));
    prune_and_write(&mut machine);
}

/// Between two pieces a leaf buries what was deleted behind the end of the layer, and what it buried before counts for its gaps as ever.
#[test]
fn a_leaf_that_buries_between_two_pieces_is_told_of_as_of_the_end() {
    let mut machine = filled(&[1, K, 5]);
    machine.run(Step::Commit(vec![Write::Put(5, 3)]));
    machine.run(Step::Flush);
    machine.run(Step::BeginFromMemory);
    delete_and_bury(&mut machine);
    machine.run(Step::Commit(vec![Write::DeleteRange(0, None)]));
    machine.run(Step::Flush);
    machine.run(Step::Prune(100));
    machine.run(Step::EndFromMemory);
    machine.run(Step::Checkpoint);
    forget(&mut machine);
}

/// What held snapshots retain may be more keys than a piece looks at, in one leaf or in none.
#[test]
fn a_piece_ends_in_the_middle_of_what_is_retained() {
    let mut machine = filled(&[1, K, 5]);
    let keys: Vec<_> = (0..3_000_u16).map(|number| [b"a".as_slice(), &number.to_be_bytes()].concat()).collect();
    machine.commit_keys(&keys, Some(b"v"));
    machine.run(Step::Hold(false));
    machine.commit_keys(&keys, None);
    machine.run(Step::Flush);
    machine.run(Step::Prune(10_000));
    machine.run(Step::BeginFromMemory);
    machine.run(Step::Piece(1));
    delete_and_bury(&mut machine);
    machine.run(Step::EndFromMemory);
    forget(&mut machine);
}

/// The gaps of an older reader do for a newer one, who finds no less. At a key that one of them finds, the others get a tombstone.
#[test]
fn gaps_are_not_more_for_more_snapshots() {
    let mut machine = filled(&[1, K, 5, 7]);
    machine.run(Step::Commit(vec![Write::Delete(7)]));
    let mut expected = Vec::new();
    for number in 0..20 {
        machine.run(Step::Commit(vec![Write::Put(8, number)]));
        expected.push((machine.last, true));
        machine.run(Step::Hold(false));
        for _ in 0..3 {
            machine.run(Step::Commit(vec![Write::Delete(8), Write::Put(0, number)]));
            machine.run(Step::Hold(false));
        }
        // The oldest of those who find nothing.
        let deleted = machine.last.get() - 16;
        expected.push((Lsn::new(deleted), false));
    }
    machine.run(Step::Flush);
    machine.run(Step::Prune(1_000));
    let pieces = machine.pieces();
    let keys: usize = pieces.iter().map(|piece| piece.keys.len()).sum();
    let gaps: usize = pieces.iter().map(|piece| piece.deleted.len()).sum();
    assert!((1..=6).contains(&gaps) && keys == 2, "{gaps} gaps, {keys} keys");
    let of_key = pieces.iter().flat_map(|piece| &piece.keys).find(|(key, _)| **key == *key_of(8));
    let versions = of_key.unwrap().1.iter().rev().map(|(lsn, value)| (*lsn, value.is_some()));
    assert!(versions.eq(expected));
    forget(&mut machine);
}

/// Below a keyspace that came later there is nothing to hide, but in the same layer.
#[test]
fn a_keyspace_that_layers_do_not_have_has_no_gaps() {
    let index = Index::new();
    let apply = |lsn: u64, add: &dyn Fn(&mut BatchBuilder)| {
        let mut batch = BatchBuilder::new();
        add(&mut batch);
        index.apply(Lsn::new(lsn), &batch.batch(), Lsn::new(lsn)).unwrap();
        index.publish(Lsn::new(lsn));
    };
    apply(8, &|batch| {
        batch.create_keyspace(1, "one").unwrap();
        (0..5).for_each(|key| batch.put(1, &[key], b"v").unwrap());
    });
    let held = index.hold();
    apply(16, &|batch| (1..4).for_each(|key| batch.delete(1, &[key]).unwrap()));
    while index.prune(Lsn::new(16), 100) >= 100 {}
    let tree = index.keyspace_by_name("one", held.lsn()).unwrap().unwrap();
    let above = |from, at: &[u64]| {
        let at: Vec<_> = at.iter().copied().map(Lsn::new).collect();
        let above = tree.above(b"", Readers { from: Lsn::new(from), at: &at });
        let versions = above.keys.iter().map(|(_, versions)| versions.len()).collect::<Vec<_>>();
        (versions, above.deleted.len())
    };
    assert_eq!(above(0, &[16]), (vec![1, 1], 0));
    assert_eq!(above(0, &[8, 16]), (vec![1, 2, 2, 2, 1], 0));
    // Layers have the keyspace, and what was deleted.
    assert_eq!(above(8, &[16]), (vec![], 3));
}

/// There a range may still be complete only from an LSN on. The gap hides what the same layer has for a reader below that.
#[test]
fn a_keyspace_that_layers_do_not_have_has_gaps_above_readers_who_are_told_nothing() {
    let layers: Arc<Installed> = Arc::default();
    layers.install(Fake { to: Lsn::new(8), ..Fake::default() });
    let index = Index::over(&(layers as Arc<dyn Beyond>), [], Lsn::new(8), 1);
    let apply = |lsn: u64, add: &dyn Fn(&mut BatchBuilder)| {
        let mut batch = BatchBuilder::new();
        add(&mut batch);
        index.apply(Lsn::new(lsn), &batch.batch(), Lsn::new(lsn)).unwrap();
        index.publish(Lsn::new(lsn));
    };
    apply(16, &|batch| batch.create_keyspace(1, "one").unwrap());
    apply(24, &|batch| batch.put(1, b"k", b"v").unwrap());
    let held = index.hold();
    let tree = index.keyspace_by_name("one", held.lsn()).unwrap().unwrap();
    (0..2).for_each(|_| drop(tree.forget(b"", 100, Lsn::new(8))));
    apply(32, &|batch| batch.put(1, b"l", b"v").unwrap());
    let fill = Filler::new(Arc::clone(&tree)).read().unwrap().unwrap();
    assert!(index.land(&tree, &fill));
    apply(40, &|batch| batch.delete(1, b"k").unwrap());
    while index.prune(Lsn::new(40), 100) >= 100 {}
    let above = tree.above(b"", Readers { from: Lsn::new(8), at: &[held.lsn(), Lsn::new(40)] });
    assert_eq!(above.keys.iter().map(|(key, _)| key.as_slice()).collect::<Vec<_>>(), [b"k", b"l"]);
    let is_over = |(from, to, lsn): &(Key, Option<Key>, Lsn)| {
        from.as_slice() <= b"k" && to.as_ref().is_none_or(|to| to.as_slice() > b"k") && *lsn == Lsn::new(40)
    };
    assert!(above.deleted.iter().any(is_over), "{above:?}");
}

/// Long keys make long gaps: a piece ends early.
#[test]
fn a_piece_has_no_more_bytes_than_a_run_has_room_for() {
    let mut machine = filled(&[1, K, 5]);
    let keys: Vec<_> = (0..60_u8).map(|number| [&[b'a', number][..], &[number; 900]].concat()).collect();
    machine.commit_keys(&keys, Some(b"v"));
    machine.run(Step::Checkpoint);
    machine.run(Step::Hold(false));
    let deleted: Vec<_> = keys.iter().step_by(2).cloned().collect();
    machine.commit_keys(&deleted, None);
    machine.run(Step::Hold(false));
    machine.run(Step::Commit(vec![Write::DeleteRange(0, Some(2)), Write::Put(1, 1)]));
    machine.run(Step::Flush);
    machine.run(Step::Prune(1_000));
    let pieces = machine.pieces();
    let bytes = |(from, to, _): &(Key, Option<Key>, Lsn)| from.len() + to.as_ref().map_or(0, |to| to.len());
    let most = pieces.iter().map(|piece| piece.deleted.iter().map(bytes).sum::<usize>()).max();
    assert!(pieces.len() > 5 && most < Some(2 * MOST_BYTES), "{most:?} in {} pieces", pieces.len());
    forget(&mut machine);
}

/// One leaf may lie below any number of deleted ranges, each of them deleted for several snapshots.
#[test]
fn a_piece_ends_in_the_middle_of_the_list() {
    let mut machine = filled(&[1, K, 5]);
    let keys: Vec<_> = (0..300_u16).map(|number| [b"a".as_slice(), &number.to_be_bytes()].concat()).collect();
    machine.commit_keys(&keys, Some(b"v"));
    machine.run(Step::Checkpoint);
    machine.run(Step::Forget(0, 1_000));
    for _ in 0..3 {
        let lsn = Lsn::new(machine.last.get() + 8);
        let mut batch = BatchBuilder::new();
        for pair in keys.windows(2).step_by(2) {
            batch.delete_range(1, &pair[0], Some(&pair[1])).unwrap();
            machine.history.entry(pair[0].clone()).or_default().push((lsn, None));
        }
        machine.index.apply(lsn, &batch.batch(), machine.durable).unwrap();
        machine.index.publish(lsn);
        machine.last = lsn;
        machine.run(Step::Hold(false));
    }
    machine.run(Step::Flush);
    let pieces = machine.pieces();
    let (most, all) =
        pieces.iter().fold((0, 0), |(most, all), piece| (piece.deleted.len().max(most), piece.deleted.len() + all));
    assert!(pieces.len() > 3 && most < 150 && all >= 450, "{most} of {all} in {} pieces", pieces.len());
    forget(&mut machine);
}

/// Much is deleted in leaves that are complete, and layers from memory come in between.
fn step() -> impl Strategy<Value = Step> {
    let write = prop_oneof![
        4 => (0..KEYS, any::<u8>()).prop_map(|(key, value)| Write::Put(key, value)),
        6 => (0..KEYS).prop_map(Write::Delete),
        1 => (0..KEYS, proptest::option::weighted(0.8, 0..KEYS)).prop_map(|(from, to)| Write::DeleteRange(from, to)),
    ];
    prop_oneof![
        10 => proptest::collection::vec(write, 1..3).prop_map(Step::Commit),
        6 => Just(Step::Flush),
        6 => (1..20_usize).prop_map(Step::Prune),
        4 => any::<bool>().prop_map(Step::Hold),
        4 => any::<usize>().prop_map(Step::Release),
        3 => Just(Step::BeginFromMemory),
        3 => (1..3_usize).prop_map(Step::Piece),
        4 => Just(Step::EndFromMemory),
        3 => (0..KEYS, 1..4_usize).prop_map(|(key, count)| Step::Forget(key, count)),
        3 => (0..KEYS).prop_map(Step::Read),
        3 => any::<usize>().prop_map(Step::Land),
        1 => Just(Step::FillAll),
        1 => Just(Step::Merge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn layers_from_memory_have_what_the_history_says(steps in proptest::collection::vec(step(), 0..60)) {
        let mut machine = filled(&(0..KEYS).collect::<Vec<_>>());
        for step in steps {
            machine.run(step);
        }
        machine.end();
    }
}
