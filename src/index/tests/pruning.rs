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
fn a_tombstone_stays_while_a_snapshot_could_conflict_with_it() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"z", b"unrelated");
    let hold = fixture.index.hold();
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

#[test]
fn more_snapshots_than_are_told_apart_are_stable_too() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let mut holds = Vec::new();
    for round in 0..300_u32 {
        fixture.put(b"key", &round.to_le_bytes());
        fixture.put(b"key", b"seen by nobody");
        fixture.put(b"key", &round.to_le_bytes());
        holds.push((round, fixture.index.hold()));
    }
    while !holds.is_empty() {
        holds.swap_remove(holds.len() * 3 / 4);
        fixture.prune();
        for (round, hold) in &holds {
            assert_eq!(tree.get(b"key", hold.lsn()).unwrap().unwrap(), round.to_le_bytes());
        }
    }
    assert_eq!(tree.version_count(), 1);
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
    let hold = fixture.index.hold();
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
    let hold = fixture.index.hold();
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
fn deleting_a_key_again_and_again_is_noted_once_for_a_held_snapshot() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"a", b"0");
    let hold = fixture.index.hold();
    for _ in 0..1000 {
        fixture.put(b"a", b"1");
        fixture.delete(b"a");
        fixture.prune();
    }
    let between = fixture.index.hold();
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
        let Some(last) = tree
            .scan(&piece, |_, content| {
                looked_at += 1;
                found = !content.is_deleted();
            })
            .unwrap()
        else {
            return looked_at;
        };
        let last = Box::leak(last.to_vec().into_boxed_slice());
        match direction {
            Direction::Forward => range.0 = Bound::Excluded(last),
            Direction::Backward => range.1 = Bound::Excluded(last),
        }
    }
    looked_at
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
