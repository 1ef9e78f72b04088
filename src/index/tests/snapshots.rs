use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn what_is_applied_is_seen_once_it_is_published() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"a", b"old");
    let applied = fixture.try_apply(|batch| batch.put(1, b"a", b"new").unwrap()).unwrap();
    let before = fixture.index.hold();
    assert!(before.lsn() < applied);
    assert_eq!(tree.get(b"a", before.lsn()).unwrap().unwrap(), b"old");

    fixture.index.publish(applied);
    assert_eq!(fixture.index.visible(), applied);
    assert_eq!(tree.get(b"a", fixture.index.hold().lsn()).unwrap().unwrap(), b"new");
    assert_eq!(tree.get(b"a", before.lsn()).unwrap().unwrap(), b"old");
}

#[test]
fn the_last_write_to_a_key_in_a_batch_wins() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let lsn = fixture.commit(|batch| {
        batch.put(1, b"a", b"1").unwrap();
        batch.put(1, b"b", b"1").unwrap();
        batch.delete(1, b"a").unwrap();
        batch.put(1, b"b", b"2").unwrap();
        batch.delete(1, b"c").unwrap();
        batch.put(1, b"c", b"3").unwrap();
    });
    assert_eq!(scan(&tree, ALL, lsn), [(b"b".into(), b"2".into()), (b"c".into(), b"3".into())]);
    assert_eq!(tree.len_estimate(), 2);
    assert_eq!(tree.version_count(), 2);
}

/// A transaction that had read the key, or a range around it, met a conflict with a batch that changed nothing.
#[test]
fn to_put_and_delete_a_key_that_is_not_there_is_no_change() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let put_and_delete = |batch: &mut BatchBuilder| {
        batch.put(1, b"a", b"1").unwrap();
        batch.delete(1, b"a").unwrap();
    };
    let never_there = fixture.index.hold_to_validate();
    fixture.commit(put_and_delete);
    assert!(!tree.changed_since(b"a", never_there.lsn()).unwrap());
    assert_eq!(tree.version_count(), 0);

    fixture.put(b"a", b"0");
    fixture.delete(b"a");
    let deleted = fixture.index.hold_to_validate();
    fixture.commit(put_and_delete);
    assert!(!tree.range_changed_since(ALL, deleted.lsn()).unwrap());
    assert!(tree.changed_since(b"a", never_there.lsn()).unwrap());
    drop((never_there, deleted));
    fixture.prune();
    assert_eq!(tree.version_count(), 0);
}

#[test]
fn a_key_changed_since_an_lsn_if_its_newest_version_is_later() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let first = fixture.put(b"a", b"1");
    let hold = fixture.index.hold_to_validate();
    assert!(!tree.changed_since(b"a", first).unwrap());
    assert!(tree.changed_since(b"a", Lsn::new(first.get() - 1)).unwrap());

    fixture.delete(b"a");
    fixture.prune();
    assert!(tree.changed_since(b"a", hold.lsn()).unwrap(), "a tombstone is a change");
    assert!(!tree.changed_since(b"b", hold.lsn()).unwrap());
    fixture.delete(b"b");
    assert!(!tree.changed_since(b"b", hold.lsn()).unwrap(), "deleting nothing is none");
}

#[test]
fn a_range_changed_since_an_lsn_if_a_key_in_it_came_changed_or_went() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"a", b"1");
    fixture.put(b"d", b"1");
    let hold = fixture.index.hold_to_validate();
    let changed = |range: KeyRange<'_>| tree.range_changed_since(range, hold.lsn()).unwrap();
    assert!(!changed(ALL));
    fixture.put(b"b", b"1");
    fixture.delete(b"d");
    fixture.prune();
    let (a, b, d): (&[u8], &[u8], &[u8]) = (b"a", b"b", b"d");
    assert!(changed(ALL));
    assert!(changed((Bound::Included(b), Bound::Included(b))));
    assert!(changed((Bound::Included(d), Bound::Unbounded)));
    assert!(!changed((Bound::Included(a), Bound::Excluded(b))));
    assert!(!changed((Bound::Excluded(b), Bound::Excluded(d))));
    assert!(!changed((Bound::Included(d), Bound::Excluded(a))), "a range that ends before it begins has no keys");
}

#[test]
fn a_snapshot_is_taken_between_what_was_pruned_and_what_is_visible() {
    let (mut fixture, _tree) = Fixture::with_keyspace();
    let durable = fixture.put(b"a", b"1");
    fixture.durable = Some(durable);
    let visible = fixture.put(b"a", b"2");
    let hold_at = |lsn: Lsn| fixture.index.hold_at(|_| lsn).lsn();
    assert_eq!(hold_at(durable), durable);
    assert_eq!(hold_at(Lsn::new(durable.get() + 1)), Lsn::new(durable.get() + 1));
    assert_eq!(hold_at(Lsn::new(u64::MAX)), visible);
    fixture.prune();
    assert_eq!(hold_at(Lsn::ZERO), durable);
}

#[test]
fn a_clone_of_a_hold_goes_on_holding() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let held = fixture.put(b"a", b"1");
    let hold = fixture.index.hold();
    let clone = hold.clone();
    drop(hold);
    fixture.put(b"a", b"2");
    fixture.put(b"a", b"3");
    fixture.prune();
    assert_eq!(clone.lsn(), held);
    assert_eq!(tree.get(b"a", held).unwrap().unwrap(), b"1");
}

/// A transaction's iterator may be kept for longer than the transaction.
#[test]
fn a_snapshot_that_was_held_to_validate_goes_on_being_held_to_read() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"a", b"1");
    let transaction = fixture.index.hold_to_validate();
    fixture.put(b"a", b"2");
    fixture.delete(b"b");
    fixture.put(b"b", b"1");
    fixture.delete(b"b");
    fixture.prune();
    assert_eq!(tree.version_count(), 3, "a note of b");
    // Held again and again, below what was pruned, while what waits for the end of the hold before is due.
    for _ in 0..3 {
        let reader = transaction.to_read();
        fixture.prune();
        drop(reader);
        let reader = transaction.to_read();
        assert_eq!(fixture.index.prune(fixture.prune_to(), 1), 0);
        drop(reader);
    }
    let reader = transaction.to_read();
    assert!(tree.changed_since(b"b", transaction.lsn()).unwrap());
    drop(transaction);
    fixture.prune();
    assert_eq!(tree.version_count(), 2);
    assert_eq!(tree.get(b"a", reader.lsn()).unwrap().unwrap(), b"1");
    let clone = reader.clone();
    drop(reader);
    fixture.put(b"a", b"3");
    fixture.prune();
    assert_eq!(tree.get(b"a", clone.lsn()).unwrap().unwrap(), b"1");
    drop(clone);
    fixture.prune();
    assert_eq!(tree.version_count(), 1);
}

/// Every commit moves an amount between two accounts; every snapshot, taken at any moment, has the same sum.
#[test]
fn snapshots_are_whole_while_commits_go_on() {
    const ACCOUNTS: u32 = 40;
    let (mut fixture, tree) = Fixture::with_keyspace();
    let key = |account: u32| account.to_be_bytes();
    fixture.commit(|batch| {
        for account in 0..ACCOUNTS {
            batch.put(1, &key(account), &100_i64.to_le_bytes()).unwrap();
        }
    });
    let balance = |value: &Value| i64::from_le_bytes(value.as_ref().try_into().unwrap());
    let index = Arc::new(std::mem::take(&mut fixture.index));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for backward in [false, true] {
            let (index, tree, done) = (&index, &tree, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let hold = index.hold();
                    let cursor = entries(Arc::clone(tree), ALL, hold.lsn());
                    let entries: Vec<_> = if backward { cursor.rev().collect() } else { cursor.collect() };
                    assert_eq!(entries.len(), 40);
                    assert_eq!(entries.iter().map(|(_, value)| balance(value)).sum::<i64>(), 4000);
                }
            });
        }
        for round in 1..20_000_u32 {
            let (from, to) = (key(round % ACCOUNTS), key((round * 7 + 1) % ACCOUNTS));
            let at = index.visible();
            let read = |key: &[u8]| balance(&tree.get(key, at).unwrap().unwrap());
            let mut batch = BatchBuilder::new();
            if from != to {
                batch.put(1, &from, &(read(&from) - 1).to_le_bytes()).unwrap();
                batch.put(1, &to, &(read(&to) + 1).to_le_bytes()).unwrap();
            }
            let lsn = Lsn::new(at.get() + 8);
            index.apply(lsn, &batch.batch(), at).unwrap();
            index.publish(lsn);
        }
        done.store(true, Ordering::Relaxed);
    });
    while index.prune(index.visible(), 100) >= 100 {}
    assert_eq!(index.version_count(), 40);
}
