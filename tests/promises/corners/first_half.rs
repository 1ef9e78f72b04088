//! Promises 1 to 5.

use super::*;

/// Each record lies in two or three sectors, of which any may have landed.
#[test]
fn promise_1_a_prefix_is_left_of_what_was_not_synced() {
    let lengths = RefCell::new(BTreeSet::new());
    simulate(|disk, engine, keys| {
        put_large(engine, keys, 0, CommitMode::Sync).unwrap();
        for number in 1..16 {
            let mode = if number % 5 == 0 { CommitMode::Written } else { CommitMode::Async };
            put_large(engine, keys, number, mode).unwrap();
        }
        let point = disk.crash_point();
        for lost in 0..point.atoms(Granularity::Sector) {
            // One sector is lost and all others land, or as it comes.
            let all_but_one = (0..point.atoms(Granularity::Sector)).map(|atom| atom != lost).collect();
            for loss in [Loss::AllBut(all_but_one), Loss::Seeded(lost as u64)] {
                let kept = count_large(&point.power_loss(&loss, Granularity::Sector));
                assert!((1..=16).contains(&kept));
                lengths.borrow_mut().insert(kept);
            }
        }
    });
    assert!(lengths.borrow().len() > 5, "the crashes differ: {lengths:?}");
}

#[test]
fn promise_4_a_token_of_what_was_lost_says_so_for_ever() {
    let lost = Cell::new(0);
    simulate(|disk, engine, keys| {
        let tokens = put_unsynced(engine, keys);
        for seed in 0..4 {
            let mut disk = random_power_loss(disk, seed);
            let kept = count(&open(&disk)) as usize;
            for round in 0..3 {
                let engine = open(&disk);
                for (number, token) in tokens.iter().enumerate() {
                    let expected = if number < kept { Outcome::Durable } else { Outcome::Lost };
                    assert_eq!(engine.outcome(token).unwrap(), expected, "of {number} in round {round}");
                }
                lost.set(lost.get() + tokens.len() - kept);
                let others = engine.create_keyspace("others").unwrap();
                (0..30).for_each(|number| drop(put(&engine, &others, number, CommitMode::Async).unwrap()));
                disk = random_power_loss(&disk, seed);
            }
        }
    });
    assert!(lost.get() > 0, "something was lost");
}

/// Over several segments, and while a neighbour writes into the file that is being synced.
#[test]
fn promises_2_and_3_hold_in_every_segment_among_written_commits() {
    simulate(|disk, engine, keys| {
        let clients: Vec<_> = (0..2)
            .map(|client| {
                let (disk, engine, keys) = (disk.clone(), engine.clone(), keys.clone());
                sim::start("sync", move || {
                    for number in client * 100..client * 100 + 8 {
                        put_large(&engine, &keys, number, CommitMode::Sync).unwrap();
                        assert!(is_there(&power_loss(&disk), number), "lost a Sync commit");
                    }
                })
            })
            .collect();
        let mut receipts = Vec::new();
        for number in 1000..1012 {
            sim::sleep(3 * INSTANT);
            receipts.push((number, put_large(engine, keys, number, CommitMode::Written).unwrap()));
            if let Some((number, _)) = receipts.iter().rev().find(|(_, receipt)| receipt.is_durable()) {
                assert!(is_there(&power_loss(disk), *number), "it said durable");
            }
        }
        for client in clients {
            client.join();
        }
    });
}

/// A commit written while an fsync is in flight is not covered by it.
#[test]
fn promise_3_a_fsync_proves_only_what_was_written_before_it() {
    simulate(|disk, engine, keys| {
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Stall(Duration::from_millis(1))));
        let (sync_engine, sync_keys) = (engine.clone(), keys.clone());
        let flusher = sim::start("sync", move || {
            put(&sync_engine, &sync_keys, 0, CommitMode::Sync).unwrap();
        });
        sim::sleep(Duration::from_micros(300));
        let written = put(engine, keys, 1, CommitMode::Written).unwrap();
        flusher.join();
        if written.is_durable() {
            assert!(is_there(&power_loss(disk), 1), "it said durable");
        }
    });
}

#[test]
fn promise_3_every_way_to_be_told_durable_is_kept() {
    simulate(|disk, engine, keys| {
        let told = Arc::new(AtomicU32::new(0));
        let kept = Arc::new(AtomicU32::new(0));
        let mut number = 0;
        for mode in [CommitMode::Async, CommitMode::Written] {
            let mut awaited = put(engine, keys, number, mode).unwrap();
            poll_for_long(&mut awaited).expect("a verdict").unwrap();
            assert!(is_there(&power_loss(disk), number), "awaited, and lost");
            number += 1;

            put(engine, keys, number, mode).unwrap().wait_timeout(LONG).unwrap();
            assert!(is_there(&power_loss(disk), number), "waited for with a timeout, and lost");
            number += 1;

            let called = put(engine, keys, number, mode).unwrap();
            let (disk, told, kept) = (disk.clone(), Arc::clone(&told), Arc::clone(&kept));
            called
                .on_durable(move |verdict| {
                    told.fetch_add(1, Ordering::Relaxed);
                    let is_kept = verdict.is_ok() && is_there(&power_loss(&disk), number);
                    kept.fetch_add(u32::from(is_kept), Ordering::Relaxed);
                })
                .unwrap();
            sim::sleep(LONG);
            number += 1;
        }
        assert_eq!(told.load(Ordering::Relaxed), 2, "called");
        assert_eq!(kept.load(Ordering::Relaxed), 2, "called, and lost");
    });
}

/// Two branches of one directory begin the same incarnation, with other nonces.
#[test]
fn promise_4_a_token_of_another_branch_or_log_is_foreign() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        let here = power_loss(disk);
        let there = here.crash_point().process_kill();
        let token_of = |disk: &SimDisk| {
            let engine = open(disk);
            let keys = engine.open_keyspace("keys").unwrap();
            (put(&engine, &keys, 1, CommitMode::Sync).unwrap().token(), engine)
        };
        let ((ours, branch), (theirs, other_branch)) = (token_of(&here), token_of(&there));
        assert_eq!(ours.incarnation.number, theirs.incarnation.number);
        assert_eq!((ours.lsn, ours.log_id), (theirs.lsn, theirs.log_id));
        assert_eq!(branch.outcome(&theirs).unwrap(), Outcome::Foreign);
        assert_eq!(other_branch.outcome(&ours).unwrap(), Outcome::Foreign);
        let after = open(&power_loss(&here));
        assert_eq!(after.outcome(&theirs).unwrap(), Outcome::Foreign);
        assert_eq!(after.outcome(&ours).unwrap(), Outcome::Durable);
        let stranger = options().open_on(Arc::new(SimDisk::new()), DIR).unwrap();
        assert_eq!(stranger.outcome(&ours).unwrap(), Outcome::Foreign);
        // The token of a transaction that read the empty log.
        let nothing = stranger.begin().unwrap().commit().unwrap().token();
        assert_eq!(stranger.outcome(&nothing).unwrap(), Outcome::Durable);
        assert_eq!(after.outcome(&nothing).unwrap(), Outcome::Foreign);
    });
}

/// A bare LSN names one commit, or none, for ever.
#[test]
fn promise_4_no_lsn_is_handed_out_twice() {
    simulate(|disk, _, _| {
        let mut highest = Lsn::ZERO;
        let mut disk = power_loss(disk);
        for _ in 0..4 {
            let engine = open(&disk);
            let keys = engine.create_keyspace("keys").unwrap();
            for number in 0..6 {
                let lsn = put(&engine, &keys, number, CommitMode::Async).unwrap().lsn();
                assert!(lsn > highest, "{lsn} was handed out before the crash");
                highest = lsn;
            }
            disk = power_loss(&disk);
        }
    });
}

#[test]
fn promise_5_an_open_that_cannot_make_its_verdict_durable_fails() {
    for kind in [OpKind::Sync, OpKind::Write, OpKind::SyncDir] {
        simulate(|disk, engine, keys| {
            for number in 0..5 {
                put(engine, keys, number, CommitMode::Written).unwrap();
            }
            let killed = disk.crash_point().process_kill();
            let fault = match kind {
                OpKind::Write => FaultKind::Errno(5),
                _ => FaultKind::SyncFails { pages: Pages::KeepNew },
            };
            killed.inject(Fault::once(OpSelector::of(kind), fault));
            options().open_on(Arc::new(killed.clone()), DIR).expect_err("its verdict is not durable");
            assert_eq!(count(&open(&killed)), 5);
            assert_eq!(count(&open(&power_loss(&killed))), 5, "reported, and then gone");
        });
    }
}

/// Recovery that is cut off anywhere by a power loss: the next one opens, and reports no more than there was.
#[test]
fn promise_5_recovery_may_be_cut_off_anywhere() {
    simulate(|disk, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        for number in 1..8 {
            put(engine, keys, number, CommitMode::Written).unwrap();
        }
        let killed = disk.crash_point().process_kill();
        let points = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&points);
        killed.on_op(move |disk, _| note.lock().unwrap().push(disk.crash_point()));
        assert_eq!(count(&open(&killed)), 8);
        killed.clear_on_op();
        for point in points.lock().unwrap().iter() {
            for (loss, at_least) in [(Loss::Nothing, 8), (Loss::Everything, 1), (Loss::Seeded(3), 1)] {
                let kept = count(&open(&point.power_loss(&loss, Granularity::Sector)));
                assert!((at_least..=8).contains(&kept));
            }
        }
    });
}
