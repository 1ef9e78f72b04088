//! Clauses of `table/RULES.md` whose histories are too rare to be drawn.

use super::*;

/// A machine that has put `K` and another key, in layers alone.
fn away() -> Machine {
    let mut machine = Machine::new();
    machine.run(Step::Commit(vec![Write::Put(K, 1), Write::Put(1, 1)]));
    machine.run(Step::Checkpoint);
    machine.open(false);
    machine
}

/// Puts keys below `K` until the leaf has split by itself: `K` is in the part that is new.
fn fill_up(machine: &mut Machine) {
    for number in 0..400_u16 {
        let lsn = Lsn::new(machine.last.get() + 8);
        let key = [b"a".as_slice(), &number.to_be_bytes()].concat();
        let mut batch = BatchBuilder::new();
        batch.put(1, &key, b"v").unwrap();
        machine.index.apply(lsn, &batch.batch(), machine.durable).unwrap();
        machine.index.publish(lsn);
        machine.last = lsn;
        machine.history.insert(key, vec![(lsn, Some(b"v".to_vec()))]);
    }
    machine.check();
}

/// 2: `forgot` counts the deletions that were buried.
#[test]
fn a_fill_from_before_a_deletion_that_was_buried_and_forgotten_does_not_land() {
    let mut machine = away();
    machine.run(Step::Read(0));
    machine.fill_all();
    delete_and_bury(&mut machine);
    machine.run(Step::Checkpoint);
    machine.run(Step::Forget(0, 6));
    machine.run(Step::Land(0));
}

/// 7: a fill brings only what memory has not.
#[test]
fn a_fill_does_not_bring_back_what_a_complete_leaf_has_buried() {
    let mut machine = away();
    machine.run(Step::Read(0));
    machine.fill_all();
    delete_and_bury(&mut machine);
    machine.run(Step::Land(0));
}

/// 7: a leaf is complete for everybody only if its LSNs are at or below the floor.
#[test]
fn a_snapshot_that_begins_below_what_a_range_is_complete_from_asks_layers() {
    let mut machine = away();
    let durable = machine.durable;
    machine.run(Step::Commit(vec![Write::Delete(K)]));
    machine.fill_all();
    let guard = machine.index.hold_at(|_| durable);
    assert_eq!(guard.lsn(), durable);
    let found = machine.tree.get(&key_of(K), durable).unwrap();
    assert_eq!(found.as_deref(), machine.state(durable).get(&key_of(K)).map(Vec::as_slice));
    assert!(found.is_some());
}

/// 5: a split copies `forgot`. The key was not there before: no superseded version tells of it.
#[test]
fn a_transaction_finds_its_conflict_in_a_leaf_that_has_forgotten_and_split() {
    let mut machine = away();
    machine.run(Step::FillAll);
    machine.run(Step::Hold(true));
    machine.run(Step::Commit(vec![Write::Put(5, 2)]));
    machine.run(Step::Checkpoint);
    machine.run(Step::Commit(vec![Write::Put(6, 1)]));
    machine.run(Step::Forget(0, 6));
    fill_up(&mut machine);
}

/// 5: a split copies `buried`.
#[test]
fn a_leaf_that_has_buried_and_split_does_not_forget_above_the_layers() {
    let mut machine = away();
    machine.fill_all();
    machine.run(Step::Commit(vec![Write::Put(K + 1, 1)]));
    delete_and_bury(&mut machine);
    fill_up(&mut machine);
    machine.tree.forget(b"", 1_000, machine.layers.now().to);
    machine.tree.forget(b"", 1_000, machine.layers.now().to);
    machine.check();
}

/// The same where a fill cuts a leaf, which it does in the ranges of leaves that are not complete alone: those bury nothing, but
/// they forget.
#[test]
fn a_transaction_finds_its_conflict_in_a_leaf_that_has_forgotten_and_was_cut() {
    let mut machine = away();
    machine.run(Step::FillAll);
    machine.run(Step::Hold(true));
    machine.run(Step::Commit(vec![Write::Put(8, 2)]));
    machine.run(Step::Checkpoint);
    machine.run(Step::Commit((0..8).map(|key| Write::Put(key, 1)).collect()));
    machine.run(Step::Forget(0, 6));
    machine.run(Step::Read(0));
    machine.run(Step::Land(0));
}

/// 6: the layers are taken after memory was looked at. Here a checkpoint is installed, and memory forgets, as soon as a reader has
/// taken layers.
#[test]
fn a_reader_looks_at_memory_before_it_takes_layers() {
    let mut machine = away();
    machine.run(Step::Commit(vec![Write::Put(5, 9)]));
    machine.run(Step::Flush);
    let (to, layers, tree) = (machine.last, Arc::clone(&machine.layers), Arc::clone(&machine.tree));
    let next = layers.now().with(&machine.history, to, machine.index.horizon(to), false);
    machine.layers.once_taken(move || {
        layers.install(next);
        (0..2).for_each(|_| drop(tree.forget(b"", 100, to)));
    });
    for key in [5, K] {
        assert!(machine.tree.get(&key_of(key), to).unwrap().is_some(), "key {key}");
    }
    machine.check();
}

/// 5: a join takes the larger `buried`.
#[test]
fn a_range_that_has_buried_and_was_joined_does_not_forget_above_the_layers() {
    let mut machine = Machine::new();
    machine.run(Step::Commit((0..9).map(|key| Write::Put(key, 1)).collect()));
    machine.run(Step::Checkpoint);
    machine.open(false);
    // In leaves of three keys, which join once one of them has fewer.
    machine.fill_all();
    machine.run(Step::Commit(vec![Write::Delete(4)]));
    machine.run(Step::Flush);
    machine.run(Step::Prune(100));
    machine.run(Step::Forget(0, 6));
}

/// 7: a range is complete from the end of the fill's layers on.
#[test]
fn a_snapshot_below_a_deletion_that_only_layers_have_is_not_told_absent() {
    let mut machine = away();
    machine.run(Step::Hold(false));
    machine.run(Step::Commit(vec![Write::Delete(K)]));
    machine.run(Step::Checkpoint);
    machine.run(Step::Prune(100));
    machine.run(Step::FillAll);
}
