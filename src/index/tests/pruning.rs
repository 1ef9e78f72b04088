use super::*;

#[test]
fn versions_that_nobody_needs_go_with_the_next_commits() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    for round in 0..1000_u32 {
        fixture.put(&(round % 10).to_be_bytes(), &round.to_le_bytes());
        assert!(tree.version_count() <= 10 + 3, "{} versions", tree.version_count());
    }
    fixture.prune();
    assert_eq!(tree.version_count(), 10);
}

#[test]
fn one_commit_of_many_writes_is_pruned_by_the_next() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let overwrite = |batch: &mut BatchBuilder| {
        for key in 0..500_u32 {
            batch.put(1, &key.to_be_bytes(), b"value").unwrap();
        }
    };
    for _ in 0..5 {
        fixture.commit(overwrite);
    }
    assert!(tree.version_count() <= 1000);
    // Small commits have a small budget, and prune everything too.
    for _ in 0..60 {
        fixture.put(b"other", b"value");
    }
    assert!(tree.version_count() <= 502);
}

#[test]
fn deleted_keys_vanish() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    for key in 0..100_u32 {
        fixture.put(&key.to_be_bytes(), b"value");
    }
    for key in 0..100_u32 {
        fixture.delete(&key.to_be_bytes());
    }
    assert_eq!(tree.len_estimate(), 0);
    fixture.prune();
    assert_eq!(tree.version_count(), 0);
    let lsn = fixture.put(&7_u32.to_be_bytes(), b"again");
    assert_eq!(scan(&tree, ALL, lsn).len(), 1);
}

#[test]
fn a_tombstone_stays_while_a_transaction_could_conflict_with_it() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"z", b"unrelated");
    let hold = fixture.index.hold_to_validate();
    fixture.put(b"a", b"after the snapshot");
    fixture.delete(b"a");
    fixture.prune();
    assert!(tree.changed_since(b"a", hold.lsn()).unwrap());
    drop(hold);
    fixture.prune();
    assert_eq!(tree.version_count(), 1);
}

/// Promise 16: snapshots are stable for as long as they are held.
#[test]
fn a_long_held_snapshot_is_stable_and_costs_only_what_it_sees() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    for key in 0..100_u32 {
        fixture.put(&key.to_be_bytes(), b"before");
    }
    let hold = fixture.index.hold();
    let seen = scan(&tree, ALL, hold.lsn());
    for round in 0..10_000_u32 {
        let key = (round * 31 % 130).to_be_bytes();
        if round % 7 == 0 {
            fixture.delete(&key)
        } else {
            fixture.put(&key, &round.to_le_bytes())
        };
        assert!(tree.version_count() <= 100 + 130 + 40, "{} versions", tree.version_count());
        if round % 500 == 0 {
            assert_eq!(scan(&tree, ALL, hold.lsn()), seen);
        }
    }
    assert_eq!(scan(&tree, ALL, hold.lsn()), seen);
    drop(hold);
    fixture.prune();
    assert_eq!(tree.version_count(), tree.len_estimate());
    assert_eq!(scan(&tree, ALL, fixture.index.visible()).len(), tree.len_estimate());
}

#[test]
fn each_held_snapshot_keeps_its_own_version_and_no_other() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let mut holds = Vec::new();
    for round in 0..1000_u32 {
        fixture.put(b"key", &round.to_le_bytes());
        if round % 100 == 0 {
            holds.push((round, fixture.index.hold()));
        }
    }
    fixture.prune();
    assert_eq!(tree.version_count(), 1 + holds.len());
    // Neither the oldest nor the newest first.
    while !holds.is_empty() {
        holds.swap_remove(holds.len() / 2);
        fixture.prune();
        assert_eq!(tree.version_count(), 1 + holds.len());
        for (round, hold) in &holds {
            assert_eq!(tree.get(b"key", hold.lsn()).unwrap().unwrap(), round.to_le_bytes());
        }
    }
}

/// Of held snapshots 64 were told apart. Under more, nothing that was superseded later than the 65th was pruned: a
/// million versions of ten keys.
#[test]
fn each_of_hundreds_of_held_snapshots_keeps_its_own_version_and_no_other() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let mut holds = Vec::new();
    for round in 0..300_u32 {
        fixture.put(b"key", b"seen by nobody");
        fixture.put(b"key", &round.to_le_bytes());
        holds.push((round, fixture.index.hold()));
    }
    for round in 0..5000_u32 {
        fixture.put(&(round % 10).to_be_bytes(), b"other");
        let count = tree.version_count();
        assert!(count <= holds.len() + 10 + 40, "{count} versions");
    }
    while !holds.is_empty() {
        holds.swap_remove(holds.len() * 3 / 4);
        fixture.prune();
        // The newest hold and the last write share a version.
        let shared = usize::from(holds.iter().any(|(round, _)| *round == 299));
        assert_eq!(tree.version_count(), holds.len() + 11 - shared);
        for (round, hold) in &holds {
            assert_eq!(tree.get(b"key", hold.lsn()).unwrap().unwrap(), round.to_le_bytes());
        }
    }
}

/// A snapshot kept a note for every key that was put and deleted after it began, as if it could meet a conflict with
/// that: a million notes for a queue that was never longer than one.
#[test]
fn what_is_born_and_deleted_under_a_reader_leaves_nothing() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let holds: Vec<_> = (0..100_u32)
        .map(|number| {
            fixture.put(b"unrelated", &number.to_le_bytes());
            fixture.index.hold()
        })
        .collect();
    for number in 0..1000_u32 {
        fixture.put(&number.to_be_bytes(), b"job");
        fixture.delete(&number.to_be_bytes());
        assert!(tree.version_count() <= holds.len() + 40, "{} versions", tree.version_count());
    }
    fixture.prune();
    assert_eq!(tree.version_count(), holds.len());

    // An older transaction needs the notes, and the readers then keep none of them.
    let transaction = fixture.index.hold_to_validate();
    let reader = transaction.to_read();
    for number in 0..100_u32 {
        fixture.put(&number.to_be_bytes(), b"job");
        fixture.delete(&number.to_be_bytes());
    }
    let later = fixture.index.hold();
    fixture.prune();
    assert_eq!(tree.version_count(), holds.len() + 100);
    assert!(tree.changed_since(&7_u32.to_be_bytes(), transaction.lsn()).unwrap());
    drop(transaction);
    fixture.prune();
    assert_eq!(tree.version_count(), holds.len());
    drop((holds, reader, later));
    fixture.prune();
    assert_eq!(tree.version_count(), 1);
}

/// The newest transaction has ended, and an older one takes its notes over.
#[test]
fn a_deletion_stays_noted_for_each_transaction_until_it_ends() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"z", b"unrelated");
    let mut transactions = Vec::new();
    for _ in 0..100 {
        transactions.push(fixture.index.hold_to_validate());
        fixture.put(b"a", b"1");
        fixture.delete(b"a");
        fixture.prune();
    }
    let readers: Vec<_> = transactions.iter().map(SnapshotGuard::to_read).collect();
    while let Some(last) = transactions.pop() {
        fixture.prune();
        assert!(tree.changed_since(b"a", last.lsn()).unwrap());
        for transaction in &transactions {
            assert!(tree.changed_since(b"a", transaction.lsn()).unwrap());
        }
    }
    fixture.prune();
    assert_eq!(tree.version_count(), 1);
    drop(readers);
}

#[test]
fn versions_from_the_durable_lsn_on_are_kept() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let durable = fixture.put(b"key", b"durable");
    fixture.durable = Some(durable);
    for round in 0..100_u32 {
        fixture.put(b"key", &round.to_le_bytes());
    }
    fixture.prune();
    assert_eq!(tree.version_count(), 101, "any LSN in between could become the durable one");
    let hold = fixture.index.hold_at(|_| durable);
    assert_eq!(tree.get(b"key", hold.lsn()).unwrap().unwrap(), b"durable");

    fixture.durable = Some(fixture.index.visible());
    fixture.prune();
    assert_eq!(tree.version_count(), 2);
    drop(hold);
    fixture.prune();
    assert_eq!(tree.version_count(), 1);
}

#[test]
fn a_long_unsettled_history_does_not_slow_down_writes() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.durable = Some(fixture.put(b"key", b"durable"));
    // Quadratic work would be 10^10 steps here.
    for _ in 0..100_000 {
        fixture.put(b"key", b"value");
    }
    assert_eq!(tree.version_count(), 100_001);
    fixture.durable = None;
    fixture.put(b"key", b"value");
    fixture.prune();
    assert_eq!(tree.version_count(), 1);
}

#[test]
fn pruning_looks_at_no_more_keys_than_its_budget() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let hold = fixture.index.hold_to_validate();
    for key in 0..100_u32 {
        fixture.put(&key.to_be_bytes(), b"value");
        fixture.delete(&key.to_be_bytes());
    }
    fixture.prune();
    assert_eq!(tree.version_count(), 100);
    drop(hold);
    assert_eq!(fixture.index.prune(fixture.prune_to(), 30), 30);
    assert_eq!(tree.version_count(), 70);
    assert_eq!(fixture.index.prune(fixture.prune_to(), 100), 70);
    assert_eq!(tree.version_count(), 0);
    assert_eq!(fixture.index.prune(fixture.prune_to(), 100), 0);
}

/// A pruning first asks for the durable LSN and then waits for its turn; meanwhile another may have pruned to a newer
/// one. The versions that this one had retained for a snapshot held between the two LSNs looked as if the snapshot were
/// gone.
#[test]
fn whoever_prunes_with_an_old_durable_lsn_takes_nothing_from_newer_snapshots() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let old = fixture.put(b"a", b"0");
    fixture.put(b"a", b"1");
    fixture.put(b"b", b"1");
    let hold = fixture.index.hold_to_validate();
    fixture.put(b"a", b"2");
    fixture.delete(b"b");
    fixture.prune();
    fixture.index.prune(old, 100);
    assert_eq!(tree.get(b"a", hold.lsn()).unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(tree.get(b"b", hold.lsn()).unwrap().as_deref(), Some(&b"1"[..]));
    assert!(tree.changed_since(b"b", hold.lsn()).unwrap());
}

/// Each deletion of a key noted once more, under the same snapshot, that there was a tombstone to look at.
#[test]
fn deleting_a_key_again_and_again_is_noted_once_for_a_transaction() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"a", b"0");
    let hold = fixture.index.hold_to_validate();
    for _ in 0..1000 {
        fixture.put(b"a", b"1");
        fixture.delete(b"a");
        fixture.prune();
    }
    let between = fixture.index.hold_to_validate();
    fixture.put(b"a", b"1");
    fixture.delete(b"a");
    fixture.prune();
    assert!(tree.changed_since(b"a", between.lsn()).unwrap());
    drop(between);
    fixture.prune();
    assert!(tree.changed_since(b"a", hold.lsn()).unwrap());
    drop(hold);
    let looked_at = fixture.index.prune(fixture.prune_to(), usize::MAX);
    assert!(looked_at <= 3, "{looked_at} versions were due");
    assert_eq!(tree.version_count(), 0);
}

/// The number of keys that a reader at the newest LSN looks at to find the first one.
fn looked_at_for_the_first(tree: &Arc<Tree>, at: Lsn, direction: Direction) -> usize {
    let mut looked_at = 0;
    let mut range = ALL;
    let mut found = false;
    while !found {
        let piece = scan::Piece { range, at, direction, limit: 1 };
        let scanned = tree.scan(&piece, |_, content| {
            looked_at += 1;
            found = !content.is_deleted();
        });
        let scan::Scanned::Known(Some(Bound::Excluded(last))) = scanned.unwrap() else { return looked_at };
        let last = Box::leak(last.to_vec().into_boxed_slice());
        match direction {
            Direction::Forward => range.0 = Bound::Excluded(last),
            Direction::Backward => range.1 = Bound::Excluded(last),
        }
    }
    looked_at
}

/// A queue under hundreds of held snapshots: of the pops behind the 65th, each looked at the tombstones of the ones before,
/// 2 ms under 300.
#[test]
fn pops_under_hundreds_of_held_snapshots_look_at_nothing_that_was_popped() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    for key in 0..3000_u32 {
        fixture.put(&key.to_be_bytes(), b"value");
    }
    let mut holds = Vec::new();
    for number in 0..2990_u32 {
        if number % 10 == 0 {
            holds.push((number, fixture.index.hold()));
        }
        let lsn = fixture.delete(&number.to_be_bytes());
        fixture.prune();
        let looked_at = looked_at_for_the_first(&tree, lsn, Direction::Forward);
        assert!(looked_at <= 2, "{looked_at} keys after {number} pops under {} snapshots", holds.len());
    }
    assert_eq!(tree.version_count(), 3000);
    for (popped, hold) in holds.iter().step_by(37) {
        for backward in [false, true] {
            let seen = entries(Arc::clone(&tree), ALL, hold.lsn());
            let first = u32::from_be_bytes(seen.clone().next().unwrap().0.as_slice().try_into().unwrap());
            let count = if backward { seen.rev().count() } else { seen.count() };
            assert_eq!((first, count), (*popped, 3000 - *popped as usize));
        }
    }
    drop(holds);
    fixture.prune();
    assert_eq!(tree.version_count(), 10);
}

/// A queue under a held snapshot: each pop looked at the tombstone of every one before it, 3.7 ms after 40,000.
#[test]
fn what_was_popped_under_a_held_snapshot_is_not_looked_at_again() {
    for direction in [Direction::Forward, Direction::Backward] {
        let (mut fixture, tree) = Fixture::with_keyspace();
        for key in 0..5000_u32 {
            fixture.put(&key.to_be_bytes(), b"value");
        }
        let hold = fixture.index.hold();
        // Another reader, from half-way on, sees the rest.
        let mut half = None;
        for number in 0..4990_u32 {
            let key = if direction == Direction::Forward { number } else { 4999 - number };
            let lsn = fixture.delete(&key.to_be_bytes());
            fixture.prune();
            let looked_at = looked_at_for_the_first(&tree, lsn, direction);
            assert!(looked_at <= 2, "{looked_at} keys after {number} pops");
            if number == 2499 {
                half = Some(fixture.index.hold());
            }
        }
        let half = half.unwrap();
        assert_eq!(scan(&tree, ALL, hold.lsn()).len(), 5000);
        assert_eq!(scan(&tree, ALL, half.lsn()).len(), 2500);
        assert!(looked_at_for_the_first(&tree, half.lsn(), direction) <= 2);
        assert_eq!(tree.version_count(), 5000);
        drop(hold);
        fixture.prune();
        assert_eq!(tree.version_count(), 2500);
        drop(half);
        fixture.prune();
        assert_eq!(tree.version_count(), 10);
    }
}
