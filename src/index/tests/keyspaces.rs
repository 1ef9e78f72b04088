use super::*;

const NEWEST: Lsn = Lsn::new(u64::MAX);

fn names(index: &Index, at: Lsn) -> Vec<String> {
    index.keyspaces(at).unwrap().iter().map(|tree| tree.name().to_owned()).collect()
}

#[test]
fn a_keyspace_is_there_from_its_creation_to_its_drop() {
    let mut fixture = Fixture::new();
    let created = fixture.commit(|batch| batch.create_keyspace(1, "b").unwrap());
    let both = fixture.commit(|batch| batch.create_keyspace(2, "a").unwrap());
    let hold = fixture.index.hold();
    let dropped = fixture.commit(|batch| batch.drop_keyspace(1).unwrap());

    assert_eq!(names(&fixture.index, Lsn::ZERO), [""; 0]);
    assert_eq!(names(&fixture.index, created), ["b"]);
    assert_eq!(names(&fixture.index, both), ["a", "b"]);
    assert_eq!(names(&fixture.index, dropped), ["a"]);
    let tree = fixture.index.keyspace_by_name("b", hold.lsn()).unwrap().unwrap();
    assert_eq!((tree.id(), tree.created(), tree.dropped()), (1, created, Some(dropped)));
    assert!(fixture.index.keyspace_by_name("b", NEWEST).unwrap().is_none());
    assert!(fixture.index.keyspace_by_name("a", NEWEST).unwrap().is_some());
}

#[test]
fn a_snapshot_taken_before_a_drop_goes_on_seeing_the_keyspace() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"key", b"value");
    let hold = fixture.index.hold();
    fixture.commit(|batch| batch.drop_keyspace(1).unwrap());
    for _ in 0..10 {
        fixture.commit(|_| ());
    }
    fixture.prune();
    let seen = fixture.index.keyspace_by_name("one", hold.lsn()).unwrap().unwrap();
    assert_eq!(seen.get(b"key", hold.lsn()).unwrap().unwrap(), b"value");

    drop(hold);
    fixture.prune();
    assert!(fixture.index.keyspace_by_name("one", Lsn::new(fixture.last - 88)).unwrap().is_none(), "forgotten");
    assert_eq!(tree.version_count(), 0, "a handle keeps the keyspace, not what was in it");
    assert_eq!(Arc::strong_count(&tree), 2, "this handle and 'seen'");
}

/// A snapshot kept every keyspace that was dropped after it began, those that were created later as well.
#[test]
fn a_dropped_keyspace_that_no_snapshot_sees_is_forgotten() {
    let (mut fixture, first) = Fixture::with_keyspace();
    fixture.put(b"key", b"value");
    let hold = fixture.index.hold();
    fixture.commit(|batch| batch.drop_keyspace(1).unwrap());
    let mut later = None;
    for id in 2..100 {
        fixture.commit(|batch| {
            batch.create_keyspace(id, "brief").unwrap();
            batch.put(id, b"key", b"value").unwrap();
        });
        later = later.or_else(|| (id == 50).then(|| fixture.index.hold()));
        fixture.commit(|batch| batch.drop_keyspace(id).unwrap());
    }
    fixture.prune();
    assert_eq!(fixture.index.version_count(), 2);
    assert_eq!(names(&fixture.index, hold.lsn()), ["one"]);
    assert_eq!(first.get(b"key", hold.lsn()).unwrap().unwrap(), b"value");
    drop(hold);
    fixture.prune();
    assert_eq!(fixture.index.version_count(), 1);
    assert_eq!(Arc::strong_count(&first), 1);
    drop(later);
    fixture.prune();
    assert_eq!(fixture.index.version_count(), 0);
}

#[test]
fn a_large_keyspace_goes_by_and_by() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.commit(|batch| (0..5000_u32).for_each(|key| batch.put(1, &key.to_be_bytes(), b"value").unwrap()));
    fixture.commit(|batch| batch.drop_keyspace(1).unwrap());
    fixture.commit(|_| ());
    assert_eq!(Arc::strong_count(&tree), 2, "the pruning has not ended");
    for _ in 0..20 {
        fixture.commit(|_| ());
    }
    assert_eq!(tree.version_count(), 0);
    assert_eq!(Arc::strong_count(&tree), 1);
}

/// A keyspace whose deletions wait to be pruned, behind those of another, is freed leaf by leaf meanwhile: its count of
/// keys, which the first leaf sets to zero, went below it. With overflow checks, a commit panicked, and the engine
/// stopped for good.
#[test]
fn a_keyspace_with_deletions_to_prune_is_freed() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.commit(|batch| batch.create_keyspace(2, "two").unwrap());
    fixture.commit(|batch| batch.put(2, b"key", b"value").unwrap());
    fixture.commit(|batch| (0..5000_u32).for_each(|key| batch.put(1, &key.to_be_bytes(), b"value").unwrap()));
    fixture.durable = Some(Lsn::new(fixture.last));
    fixture.commit(|batch| (0..5000_u32).for_each(|key| batch.delete(1, &key.to_be_bytes()).unwrap()));
    fixture.commit(|batch| batch.drop_keyspace(1).unwrap());
    fixture.durable = Some(Lsn::new(fixture.last));
    for _ in 0..2 {
        fixture.commit(|batch| batch.put(2, b"key", b"value").unwrap());
    }
    fixture.durable = Some(Lsn::new(fixture.last));
    fixture.commit(|batch| batch.put(2, b"key", b"value").unwrap());
    fixture.prune();
    assert_eq!((tree.version_count(), Arc::strong_count(&tree)), (0, 1));
}

#[test]
fn a_name_can_be_used_again_under_a_new_id() {
    let (mut fixture, old) = Fixture::with_keyspace();
    fixture.put(b"key", b"old");
    let hold = fixture.index.hold();
    let lsn = fixture.commit(|batch| {
        batch.drop_keyspace(1).unwrap();
        batch.create_keyspace(2, "one").unwrap();
        batch.put(2, b"key", b"new").unwrap();
    });
    let new = fixture.index.keyspace_by_name("one", lsn).unwrap().unwrap();
    assert_eq!(new.id(), 2);
    assert_eq!(new.get(b"key", lsn).unwrap().unwrap(), b"new");
    assert_eq!(fixture.index.keyspace_by_name("one", hold.lsn()).unwrap().unwrap().id(), old.id());
    drop(hold);
    fixture.prune();
    assert_eq!(fixture.index.keyspace_by_name("one", lsn).unwrap().unwrap().id(), 2);
}

#[test]
fn a_keyspace_created_and_dropped_by_one_batch_is_never_seen() {
    let mut fixture = Fixture::new();
    let lsn = fixture.commit(|batch| {
        batch.create_keyspace(1, "brief").unwrap();
        batch.put(1, b"key", b"value").unwrap();
        batch.drop_keyspace(1).unwrap();
    });
    assert!(fixture.index.keyspaces(lsn).unwrap().is_empty());
    assert_eq!(fixture.index.next_keyspace_id(), 2);
}

#[test]
fn ids_are_never_used_again() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.index.next_keyspace_id(), 1);
    fixture.commit(|batch| batch.create_keyspace(7, "seven").unwrap());
    assert_eq!(fixture.index.next_keyspace_id(), 8);
    fixture.commit(|batch| batch.drop_keyspace(7).unwrap());
    fixture.prune();
    assert_eq!(fixture.index.next_keyspace_id(), 8);
    let create = |id: u32| move |batch: &mut BatchBuilder| batch.create_keyspace(id, "again").unwrap();
    assert_eq!(fixture.try_apply(create(7)), Err(ApplyError::IdNotRising { id: 7, next: 8 }));
    assert_eq!(fixture.try_apply(create(u32::MAX)), Err(ApplyError::IdNotRising { id: u32::MAX, next: 8 }));
}

#[test]
fn a_batch_that_cannot_be_applied_changes_nothing() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.put(b"key", b"value");
    let mut refused = |fill: &dyn Fn(&mut BatchBuilder), error: ApplyError| {
        let whole = |batch: &mut BatchBuilder| {
            batch.put(1, b"key", b"changed").unwrap();
            batch.create_keyspace(5, "five").unwrap();
            fill(batch);
        };
        assert_eq!(fixture.try_apply(whole), Err(error));
        assert_eq!(tree.get(b"key", NEWEST).unwrap().unwrap(), b"value");
        assert_eq!(names(&fixture.index, NEWEST), ["one"]);
        assert_eq!(fixture.index.next_keyspace_id(), 2);
    };
    refused(&|batch| batch.put(3, b"key", b"value").unwrap(), ApplyError::NoSuchKeyspace(3));
    refused(&|batch| batch.delete(3, b"key").unwrap(), ApplyError::NoSuchKeyspace(3));
    refused(&|batch| batch.drop_keyspace(3).unwrap(), ApplyError::NoSuchKeyspace(3));
    refused(&|batch| batch.create_keyspace(6, "one").unwrap(), ApplyError::NameTaken("one".into()));
    refused(&|batch| batch.create_keyspace(6, "five").unwrap(), ApplyError::NameTaken("five".into()));
    refused(&|batch| batch.create_keyspace(5, "six").unwrap(), ApplyError::IdNotRising { id: 5, next: 6 });
    let drop_and_put = |id: u32| {
        move |batch: &mut BatchBuilder| {
            batch.drop_keyspace(id).unwrap();
            batch.put(id, b"key", b"value").unwrap();
        }
    };
    refused(&drop_and_put(1), ApplyError::NoSuchKeyspace(1));
    refused(&drop_and_put(5), ApplyError::NoSuchKeyspace(5));
}

#[test]
fn lsns_must_rise() {
    let (mut fixture, _tree) = Fixture::with_keyspace();
    fixture.last -= 8;
    let lsn = Lsn::new(8);
    assert_eq!(fixture.try_apply(|_| ()), Err(ApplyError::LsnNotRising { lsn, applied: lsn }));
}

#[test]
fn writes_to_a_dropped_keyspace_are_refused_while_it_is_still_seen() {
    let (mut fixture, _tree) = Fixture::with_keyspace();
    let _hold = fixture.index.hold();
    fixture.commit(|batch| batch.drop_keyspace(1).unwrap());
    let put = |batch: &mut BatchBuilder| batch.put(1, b"key", b"value").unwrap();
    assert_eq!(fixture.try_apply(put), Err(ApplyError::NoSuchKeyspace(1)));
}

#[test]
fn what_all_keyspaces_take_is_known_until_they_are_freed() {
    let mut fixture = Fixture::new();
    let all = |fixture: &Fixture| {
        let trees = fixture.index.keyspaces(fixture.index.visible()).unwrap();
        trees.iter().map(|tree| tree.look().bytes().all).sum::<usize>()
    };
    for id in 1..=20_u32 {
        fixture.commit(|batch| batch.create_keyspace(id, &id.to_string()).unwrap());
        fixture.commit(|batch| (0..10 * id).for_each(|key| batch.put(id, &key.to_be_bytes(), &[7; 2000]).unwrap()));
        assert_eq!(fixture.index.bytes().all, all(&fixture));
    }
    // Some leaves are free, too few to be worth a move.
    let key = |number: u32| [b"small", &number.to_be_bytes()[..]].concat();
    fixture.commit(|batch| (0..2000).for_each(|number| batch.put(20, &key(number), b"").unwrap()));
    fixture.commit(|batch| (500..1000).for_each(|number| batch.delete(20, &key(number)).unwrap()));
    fixture.prune();
    let before = fixture.index.bytes();
    assert!(before.in_use < before.all);
    assert!(before.all >= 2000 * 10 * 210 && before.in_use <= before.all, "{before:?}");
    for id in 1..=20 {
        fixture.commit(|batch| batch.drop_keyspace(id).unwrap());
    }
    fixture.prune();
    assert_eq!(fixture.index.bytes(), Bytes::default());
}
