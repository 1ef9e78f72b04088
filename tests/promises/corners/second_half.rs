//! Promises 6 to 16.

use super::*;

/// Each transaction lies in two or three segments, and the second open reads what the first one settled.
#[test]
fn promise_8_a_torn_transaction_is_gone_for_good() {
    let lengths = RefCell::new(BTreeSet::new());
    simulate(|disk, engine, keys| {
        for number in 0..4u32 {
            let mut batch = engine.batch().unwrap();
            for part in 0..12u32 {
                batch.put(keys, [number, part].map(u32::to_be_bytes).concat(), vec![1; 900]).unwrap();
            }
            batch.commit_with(CommitMode::Written).unwrap();
        }
        let parts = |disk: &SimDisk| {
            let engine = open(disk);
            let Ok(keys) = engine.open_keyspace("keys") else { return 0 };
            engine.snapshot().unwrap().iter(&keys).unwrap().count()
        };
        let point = disk.crash_point();
        let atoms = point.atoms(Granularity::Sector);
        for landed in (0..=atoms).step_by(7) {
            // All that was written up to some place; any.
            for loss in [Loss::AllBut(vec![true; landed]), Loss::Seeded(landed as u64)] {
                let disk = point.power_loss(&loss, Granularity::Sector);
                let found = parts(&disk);
                assert_eq!(found % 12, 0, "a part of a transaction");
                assert_eq!(parts(&power_loss(&disk)), found);
                lengths.borrow_mut().insert(found);
            }
        }
    });
    assert!(lengths.borrow().len() > 3, "the crashes differ: {lengths:?}");
}

/// Small transactions in two keyspaces, cut off at every operation on the disk, and torn at any sector.
#[test]
fn promise_8_both_keyspaces_or_none_at_every_moment() {
    let torn = Cell::new(0);
    simulate(|disk, engine, keys| {
        let other = engine.create_keyspace("other").unwrap();
        let points = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&points);
        disk.on_op(move |disk, _| note.lock().unwrap().push(disk.crash_point()));
        for number in 0..12u32 {
            let mut batch = engine.batch().unwrap();
            batch.put(keys, number.to_be_bytes(), [1; 150]).unwrap();
            batch.put(&other, number.to_be_bytes(), [2; 150]).unwrap();
            let mode = [CommitMode::Async, CommitMode::Written, CommitMode::Sync][number as usize % 3];
            batch.commit_with(if number < 6 { mode } else { CommitMode::Written }).unwrap();
        }
        disk.clear_on_op();
        let check = |disk: &SimDisk| {
            let engine = open(disk);
            let snapshot = engine.snapshot().unwrap();
            let count = |name| snapshot.keyspace(name).unwrap().map_or(0, |keys| snapshot.iter(&keys).unwrap().count());
            assert_eq!(count("keys"), count("other"), "a part of a transaction");
            torn.set(torn.get() + u32::from(count("keys") > 6 && count("keys") < 12));
        };
        for point in points.lock().unwrap().iter() {
            check(&point.process_kill());
            check(&point.power_loss(&Loss::Everything, Granularity::Sector));
        }
        for seed in 0..10 {
            check(&disk.crash_point().power_loss(&Loss::Seeded(seed), Granularity::Sector));
        }
    });
    assert!(torn.get() > 0, "some were lost, and some not");
}

/// One flush of two or three segments.
#[test]
fn promise_9_a_durable_commit_proves_those_in_earlier_segments_durable() {
    simulate(|disk, engine, keys| {
        let earlier: Vec<_> = (0..14).map(|n| put_large(engine, keys, n, CommitMode::Async).unwrap()).collect();
        put_large(engine, keys, 14, CommitMode::Sync).unwrap();
        assert!(earlier.iter().all(Receipt::is_durable));
        let after = power_loss(disk);
        assert!((0..15).all(|number| is_there(&after, number)));
    });
}

#[test]
fn promise_10_a_durable_snapshot_shows_the_former_value() {
    simulate(|_, engine, keys| {
        put(engine, keys, 0, CommitMode::Sync).unwrap();
        let durable = engine.durable_lsn();
        for _ in 0..20 {
            let mut batch = engine.batch().unwrap();
            batch.put(keys, 0u32.to_be_bytes(), b"newer").unwrap();
            batch.commit_with(CommitMode::Async).unwrap();
        }
        let snapshot = engine.durable_snapshot().unwrap();
        if engine.durable_lsn() == durable {
            assert_eq!(snapshot.lsn(), durable);
            assert_eq!(snapshot.get(keys, 0u32.to_be_bytes()).unwrap().unwrap(), 0u32.to_be_bytes());
        }
        assert!(snapshot.is_durable(), "it holds nothing that a crash could take");
    });
}

/// `Async` commits 1 to 40 on top of durable ones, brought to the file by one write call; then the disk after a power
/// loss that took the first sector of that write and no other.
fn first_sector_lost(disk: &SimDisk, engine: &Engine, keys: &Keyspace) -> (Vec<Token>, SimDisk) {
    put(engine, keys, 0, CommitMode::Sync).unwrap();
    let mode = |number| if number == 40 { CommitMode::Written } else { CommitMode::Async };
    let tokens = (1..=40).map(|number| put(engine, keys, number, mode(number)).unwrap().token()).collect();
    let point = disk.crash_point();
    let mut landed = vec![true; point.atoms(Granularity::Sector)];
    assert!(landed.len() > 2, "one write, of several sectors");
    landed[0] = false;
    (tokens, point.power_loss(&Loss::AllBut(landed), Granularity::Sector))
}

#[test]
fn promise_12_the_account_tells_what_was_seen_and_dropped() {
    simulate(|disk, engine, keys| {
        let (tokens, torn) = first_sector_lost(disk, engine, keys);
        let durable = engine.durable_lsn();
        let last = tokens.last().unwrap().lsn;
        // The death of the process alone: all is written again, and said so.
        let killed = open(&disk.crash_point().process_kill());
        let account = killed.recovery();
        assert_eq!((account.recovered_to, account.dropped_frames), (last, 0));
        assert!(account.proven_durable <= durable, "nothing in the log proves more");
        assert!(account.rewritten_bytes >= last.get() - durable.get());
        let after = open(&torn);
        let account = after.recovery();
        assert!(account.recovered_to >= durable && account.recovered_to < tokens[20].lsn);
        assert!(account.dropped_frames > 0 && account.dropped_bytes >= account.dropped_frames * 32, "{account:?}");
        for token in &tokens {
            let expected = if token.lsn <= account.recovered_to { Outcome::Durable } else { Outcome::Lost };
            assert_eq!(after.outcome(token).unwrap(), expected);
        }
        after.close().unwrap();
        assert_eq!(open(&torn).recovery().crashed, None, "closed");
    });
}

/// Later frames landed whole behind a torn one; they stay gone, while new commits come and crashes follow.
#[test]
fn promise_13_frames_behind_a_torn_one_never_come_back() {
    simulate(|disk, engine, keys| {
        let (tokens, mut disk) = first_sector_lost(disk, engine, keys);
        let first = open(&disk);
        assert!(first.recovery().dropped_frames > 0, "there is something that could come back");
        let kept = count(&first);
        assert!((1..40).contains(&kept));
        drop(first);
        for round in 0..4 {
            let engine = open(&disk);
            assert_eq!(count(&engine), kept, "something came back in round {round}");
            assert_eq!(engine.outcome(tokens.last().unwrap()).unwrap(), Outcome::Lost);
            let others = engine.create_keyspace("others").unwrap();
            put(&engine, &others, round, CommitMode::Written).unwrap();
            disk = random_power_loss(&disk, u64::from(round));
        }
        assert_eq!(count(&open(&disk)), kept);
    });
}

/// Every way to be told tells of a failure, too.
#[test]
fn promise_14_every_receipt_is_told() {
    simulate(|disk, engine, keys| {
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages: Pages::KeepNew }));
        let mut receipt = put(engine, keys, 0, CommitMode::Written).unwrap();
        let told = Arc::new(AtomicU32::new(0));
        let note = Arc::clone(&told);
        receipt
            .on_durable(move |verdict| {
                let right = verdict.is_err_and(|error| error.kind() == ErrorKind::Indeterminate);
                note.store(if right { 1 } else { 2 }, Ordering::Relaxed);
            })
            .unwrap();
        let verdict = poll_for_long(&mut receipt).expect("told");
        assert_eq!(verdict.unwrap_err().kind(), ErrorKind::Indeterminate);
        assert_eq!(receipt.wait_timeout(LONG).unwrap_err().kind(), ErrorKind::Indeterminate);
        sim::sleep(INSTANT);
        assert_eq!(told.load(Ordering::Relaxed), 1, "the callback was not told, or wrongly");
        assert_eq!(engine.poisoned().unwrap().cause.kind(), ErrorKind::Io);
    });
}

/// A key that appears in a range that was read is a conflict.
#[test]
fn promise_16_no_phantoms() {
    simulate(|_, engine, keys| {
        three_clients(engine, keys, 4, |tx, keys| {
            let next = u32::try_from(tx.iter(keys)?.count()).unwrap();
            tx.put(keys, next.to_be_bytes(), next.to_be_bytes())
        });
        assert_eq!(count(engine), 12);
    });
}

#[test]
fn promise_16_a_snapshot_is_stable_for_as_long_as_it_is_held() {
    simulate(|_, engine, keys| {
        for number in 0..4 {
            put(engine, keys, number, CommitMode::Sync).unwrap();
        }
        let snapshot = engine.snapshot().unwrap();
        for number in 0..40u32 {
            let mut batch = engine.batch().unwrap();
            batch.put(keys, (number % 3).to_be_bytes(), b"newer").unwrap();
            batch.delete(keys, 3u32.to_be_bytes()).unwrap();
            batch.put(keys, (100 + number).to_be_bytes(), b"new").unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
        }
        let seen: Vec<_> = snapshot.iter(keys).unwrap().map(Result::unwrap).collect();
        assert_eq!(seen.len(), 4);
        assert!(
            (0..4)
                .all(|number: u32| snapshot.get(keys, number.to_be_bytes()).unwrap().unwrap() == number.to_be_bytes())
        );
        assert!(seen.iter().all(|(key, value)| key == value));
    });
}

/// What a power cut takes, by the count of the one who was told, not by the engine's own books.
#[test]
fn promise_6c_a_power_cut_takes_no_more_than_the_budget() {
    let budget = LossBudget::default().max_commits(5);
    simulate_with(&options().loss_budget(budget), |disk, engine, keys| {
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).skip(2), FaultKind::Stall(Duration::from_millis(20))));
        let acknowledged = Arc::new(AtomicU32::new(0));
        let (client_engine, client_keys, note) = (engine.clone(), keys.clone(), Arc::clone(&acknowledged));
        let client = sim::start("client", move || {
            for number in 0..40 {
                let mode = if number % 2 == 0 { CommitMode::Async } else { CommitMode::Written };
                put(&client_engine, &client_keys, number, mode).unwrap();
                note.store(number + 1, Ordering::Relaxed);
                sim::sleep(Duration::from_micros(400));
            }
        });
        while acknowledged.load(Ordering::Relaxed) < 40 {
            let told = acknowledged.load(Ordering::Relaxed);
            let kept = count(&open(&power_loss(disk)));
            assert!(told.saturating_sub(kept) <= 5, "told {told}, kept {kept}");
            sim::sleep(Duration::from_micros(700));
        }
        client.join();
    });
}

/// The device stalls the write call of a `Written` commit for longer than the window may last.
#[test]
fn promise_6c_a_written_commit_is_not_acknowledged_beside_one_that_is_too_old() {
    let age = Duration::from_millis(30);
    simulate_with(&options().loss_budget(LossBudget::default().max_age(age)), |disk, engine, keys| {
        engine.flush().unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::Stall(4 * age)));
        let start = sim::now().unwrap();
        let oldest = put(engine, keys, 0, CommitMode::Async).unwrap();
        put(engine, keys, 1, CommitMode::Written).unwrap();
        assert!(oldest.is_durable() || sim::now().unwrap().since(start) <= age, "acknowledged too far apart");
    });
}

/// The segments of an image, with the position of their first byte.
fn segments(image: &SimDisk) -> Vec<(u64, PathBuf, Vec<u8>)> {
    let base = |path: &Path| u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok();
    let files = image.files().into_iter();
    files.filter_map(|(path, bytes)| Some((base(&path)?, path, bytes))).collect()
}

fn refused(image: &SimDisk) {
    let error = options().open_on(Arc::new(image.clone()), DIR).expect_err("damage was not seen");
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
}

/// A sector shows what it held before any commit, or cannot be read; records above it were acknowledged.
#[test]
fn promise_11_a_sector_below_the_last_group_that_reverts_or_fails_is_refused() {
    simulate(|disk, engine, keys| {
        let former = segments(&power_loss(disk));
        for number in 0..30 {
            put(engine, keys, number, CommitMode::Sync).unwrap();
        }
        let below = engine.durable_lsn().get();
        put(engine, keys, 30, CommitMode::Sync).unwrap();
        let image = power_loss(disk);
        let (base, path, bytes) = &segments(&image)[0];
        let sectors = (1..(below - base) / 512).map(|sector| usize::try_from(sector * 512).unwrap());
        for at in sectors {
            let copy = image.crash_point().process_kill();
            assert_ne!(bytes[at..at + 512], former[0].2[at..at + 512]);
            copy.overwrite(path, at as u64, &former[0].2[at..at + 512]).unwrap();
            refused(&copy);
            let copy = image.crash_point().process_kill();
            let sector = at as u64..at as u64 + 512;
            let name = path.file_name().unwrap().to_str().unwrap();
            copy.inject(Fault::lasting(OpSelector::of(OpKind::Read).on(name).touching(sector), FaultKind::Errno(5)));
            let error = options().open_on(Arc::new(copy), DIR).expect_err("the error was not seen");
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        }
    });
}

#[test]
fn promise_11_a_missing_segment_is_refused() {
    simulate(|disk, engine, keys| {
        for number in 0..12 {
            put_large(engine, keys, number, CommitMode::Sync).unwrap();
        }
        let image = power_loss(disk);
        let segments = segments(&image);
        assert!(segments.len() > 2);
        for (_, path, _) in &segments {
            let copy = image.crash_point().process_kill();
            copy.delete(path).unwrap();
            refused(&copy);
        }
    });
}

/// Outside the simulation, where a thread can be interrupted anywhere: places are taken and applied in one order.
#[test]
fn promise_16_the_log_and_the_index_have_one_order() {
    let disk = SimDisk::new();
    let engine = open(&disk);
    let keys = engine.create_keyspace("keys").unwrap();
    let newest = std::thread::scope(|scope| {
        let client = |client: u32| {
            let (engine, keys) = (&engine, &keys);
            scope.spawn(move || {
                let one = |_| {
                    let mut batch = engine.batch().unwrap();
                    batch.put(keys, b"last", client.to_be_bytes()).unwrap();
                    (batch.commit_with(CommitMode::Async).unwrap().lsn(), client)
                };
                (0..1500).map(one).max()
            })
        };
        let clients: Vec<_> = (0..4).map(client).collect();
        clients.into_iter().filter_map(|client| client.join().unwrap()).max().unwrap()
    });
    let last =
        |engine: &Engine| engine.snapshot().unwrap().get(&engine.create_keyspace("keys").unwrap(), b"last").unwrap();
    assert_eq!(last(&engine).unwrap(), newest.1.to_be_bytes());
    engine.flush().unwrap();
    assert_eq!(last(&open(&power_loss(&disk))).unwrap(), newest.1.to_be_bytes(), "replayed in another order");
}
