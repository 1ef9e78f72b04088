//! The models of the commit path.

use super::*;

/// Model `leader_handoff`: one fsync at a time, each commit acknowledged by one that covers it, nobody left behind.
#[test]
fn three_committers_hand_the_lead_on() {
    simulate(&small(), |disk, engine, keys| {
        let leader = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&leader);
        disk.on_op(move |_, op| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            if op.kind == OpKind::Sync && thread != "forelog-prepare" {
                let mut leader = noted.lock().unwrap();
                match op.phase {
                    Phase::Before => assert_eq!(leader.replace(thread), None, "two leaders"),
                    Phase::InFlight => *leader = None,
                }
            }
        });
        let committers: Vec<_> = (0..3)
            .map(|client| {
                let (disk, engine, keys) = (disk.clone(), engine.clone(), keys.clone());
                sim::start("committer", move || {
                    for number in 0..4 {
                        let key = format!("{client}-{number}");
                        let receipt = put(&engine, &keys, &key, "x", CommitMode::Sync).unwrap();
                        assert!(receipt.is_durable() && after_power_loss(&disk).contains(&key));
                    }
                })
            })
            .collect();
        committers.into_iter().for_each(sim::Simulated::join);
        let flushes = engine.stats().flushes;
        assert!(flushes <= 13, "{flushes} flushes for 12 commits and a keyspace");
        disk.clear_on_op();
    });
}

/// Model `lone_flush`: the record of a lone Sync commit goes to the device before it is applied to the index. Whoever
/// takes its place behind it is validated against it all the same.
#[test]
fn whoever_comes_behind_a_lone_commit_sees_it() {
    simulate(&small(), |_, engine, keys| {
        let modes = [CommitMode::Sync, CommitMode::Async, CommitMode::Written];
        let counters: Vec<_> = (0..3)
            .map(|client| {
                let (engine, keys) = (engine.clone(), keys.clone());
                sim::start("counter", move || {
                    let mut random = client as u64;
                    let mut counted = 0;
                    while counted < 4 {
                        let mut transaction = engine.begin().unwrap();
                        let count = transaction.get(&keys, "count").unwrap().map_or(0, |value| value[0]);
                        transaction.put(&keys, "count", [count + 1]).unwrap();
                        match transaction.commit_with(modes[(client + counted) % 3]) {
                            Ok(_) => counted += 1,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                        }
                        pause(&mut random, 20);
                    }
                })
            })
            .collect();
        counters.into_iter().for_each(sim::Simulated::join);
        let count = engine.snapshot().unwrap().get(keys, "count").unwrap();
        assert_eq!(count.as_deref(), Some(&[12][..]), "an update was lost");
    });
}

/// Model `strictest_mode_wins`: whoever leads, and for whatever mode, a follower gets what its own mode promises.
#[test]
fn the_strictest_mode_wins() {
    simulate(&small(), |disk, engine, keys| {
        let modes = [CommitMode::Async, CommitMode::Written, CommitMode::Sync];
        let committers: Vec<_> = (0..3)
            .map(|client| {
                let (disk, engine, keys) = (disk.clone(), engine.clone(), keys.clone());
                sim::start("committer", move || {
                    let mut random = client as u64;
                    for number in 0..6 {
                        let (key, mode) = (format!("{client}-{number}"), modes[(client + number) % 3]);
                        let receipt = put(&engine, &keys, &key, "x", mode).unwrap();
                        match mode {
                            CommitMode::Sync => assert!(after_power_loss(&disk).contains(&key)),
                            CommitMode::Written => {
                                let killed = open_on(&disk.crash_point().process_kill(), small()).unwrap();
                                let keys = killed.open_keyspace("k").unwrap();
                                assert!(killed.snapshot().unwrap().get(&keys, &key).unwrap().is_some());
                            }
                            // Now and then it makes this thread the leader of a flush for everybody.
                            _ if number % 2 == 0 => receipt.wait().unwrap(),
                            _ => {}
                        }
                        if receipt.is_durable() {
                            assert!(after_power_loss(&disk).contains(&key));
                        }
                        pause(&mut random, 20);
                    }
                })
            })
            .collect();
        committers.into_iter().for_each(sim::Simulated::join);
    });
}

/// Model `poison_broadcast`: a failed fsync reaches everybody who waits, in whatever way, and everybody who comes.
#[test]
fn a_failed_fsync_reaches_everybody() {
    let options = small().loss_budget(LossBudget::default().max_commits(6)).flush_interval(Duration::from_millis(1));
    simulate(&options, |disk, engine, keys| {
        let hits = disk.fault_hits();
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).skip(2), FaultKind::SyncFails { pages: Pages::KeepNew }));
        let told = Arc::new(AtomicU32::new(0));
        let in_doubt = Arc::new(Mutex::new(Vec::new()));
        let modes = [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Async];
        let clients: Vec<_> = modes
            .into_iter()
            .enumerate()
            .map(|(client, mode)| {
                let (disk, engine, keys) = (disk.clone(), engine.clone(), keys.clone());
                let (told, in_doubt) = (Arc::clone(&told), Arc::clone(&in_doubt));
                sim::start("client", move || {
                    for number in 0.. {
                        let key = format!("{client}-{number}");
                        let committed = put(&engine, &keys, &key, "x", mode).and_then(|mut receipt| {
                            let told = Arc::clone(&told);
                            told.fetch_add(1, Ordering::SeqCst);
                            receipt.on_durable(move |_| _ = told.fetch_sub(1, Ordering::SeqCst))?;
                            match number % 4 {
                                0 => receipt.wait(),
                                1 => receipt.wait_timeout(LONG),
                                2 => {
                                    let (wakes, waker) = Wakes::new();
                                    while poll(&mut receipt, &waker).is_pending() {
                                        let seen = wakes.count();
                                        while wakes.count() == seen {
                                            sim::sleep(Duration::from_micros(50));
                                        }
                                    }
                                    receipt.wait()
                                }
                                _ => Ok(()),
                            }
                            .map(|()| receipt)
                        });
                        match committed {
                            Ok(receipt) if receipt.is_durable() => {
                                assert!(after_power_loss(&disk).contains(&key), "{key} was said to be durable");
                            }
                            Ok(receipt) => in_doubt.lock().unwrap().push(receipt.token()),
                            Err(error) if error.kind() == ErrorKind::Indeterminate => {
                                in_doubt.lock().unwrap().push(error.token().expect("names the commit"));
                            }
                            Err(error) => {
                                assert_eq!((error.kind(), error.token()), (ErrorKind::Poisoned, None), "{error}");
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(sim::Simulated::join);
        assert!(disk.fault_hits() > hits);
        let poison = engine.poisoned().expect("poisoned").clone();
        for token in in_doubt.lock().unwrap().iter() {
            let outcome = engine.outcome(token).unwrap();
            assert_eq!(outcome == Outcome::Indeterminate, token.lsn > poison.durable, "{outcome:?}");
            assert!(token.lsn <= poison.appended, "appended after the range was told");
        }
        assert_eq!(kind_of(engine.close()), ErrorKind::Poisoned);
        sim::sleep(Duration::from_millis(10));
        assert_eq!(told.load(Ordering::SeqCst), 0, "callbacks that were never called");
    });
}

/// Model `rotate_vs_inflight`: segments roll while a flush is in flight, and every byte is in the next one's list.
#[test]
fn a_segment_rolls_under_a_flush_in_flight() {
    let options = Options::new().segment_bytes(4096);
    let rolls = AtomicU32::new(0);
    simulate(&options, |disk, engine, keys| {
        let done = Arc::new(AtomicBool::new(false));
        let fillers: Vec<_> = [CommitMode::Async, CommitMode::Written]
            .into_iter()
            .enumerate()
            .map(|(client, mode)| {
                let (engine, keys, done) = (engine.clone(), keys.clone(), Arc::clone(&done));
                sim::start("filler", move || {
                    for number in 0..12 {
                        put(&engine, &keys, &format!("{client}-{number}"), &"x".repeat(700), mode).unwrap();
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                })
            })
            .collect();
        let before = engine.stats().segments_prepared;
        for number in 0..6 {
            let seen = engine.snapshot().unwrap();
            put(engine, keys, &format!("sync-{number}"), "x", CommitMode::Sync).unwrap();
            let visible: BTreeSet<_> = seen.iter(keys).unwrap().map(|entry| entry.unwrap().0.to_vec()).collect();
            let survived = after_power_loss(disk);
            let lost: Vec<_> =
                visible.iter().filter(|key| !survived.contains(std::str::from_utf8(key).unwrap())).collect();
            assert!(lost.is_empty(), "a Sync commit was acknowledged above a hole: {lost:?}");
        }
        done.store(true, Ordering::Relaxed);
        fillers.into_iter().for_each(sim::Simulated::join);
        rolls.fetch_add(u32::try_from(engine.stats().segments_prepared - before).unwrap(), Ordering::Relaxed);
    });
    assert!(rolls.into_inner() > 200, "the log rolled while it was flushed");
}

/// Model `drop_shutdown`: a close, or the drop of the last handle, while commits and a flush are in flight.
#[test]
fn a_close_meets_a_flush_in_flight() {
    for seed in 0..SEEDS {
        let disk = disk();
        let committed = sim::run(seed, || {
            let engine = open_on(&disk, small()).unwrap();
            let keys = engine.create_keyspace("k").unwrap();
            sim::sleep(Duration::from_millis(100));
            let committed = Arc::new(Mutex::new(Vec::new()));
            let clients: Vec<_> = [CommitMode::Sync, CommitMode::Written, CommitMode::Async]
                .into_iter()
                .enumerate()
                .map(|(client, mode)| {
                    // A batch keeps no engine open, so the drop below is the last one.
                    let batches: Vec<_> = (0..20)
                        .map(|number| {
                            let (key, mut batch) = (format!("{client}-{number}"), engine.batch().unwrap());
                            batch.put(&keys, &key, "x").unwrap();
                            (key, batch)
                        })
                        .collect();
                    let committed = Arc::clone(&committed);
                    sim::start("client", move || {
                        for (key, batch) in batches {
                            match batch.commit_with(mode) {
                                Ok(receipt) => committed.lock().unwrap().push((key, receipt)),
                                Err(error) => {
                                    assert_eq!((error.kind(), error.token()), (ErrorKind::Closed, None));
                                    break;
                                }
                            }
                        }
                    })
                })
                .collect();
            pause(&mut { seed }, 400);
            if seed % 2 == 0 {
                engine.close().unwrap();
                assert!(committed.lock().unwrap().iter().all(|(_, receipt)| receipt.is_durable()));
            }
            drop((engine, keys));
            clients.into_iter().for_each(sim::Simulated::join);
            let committed = committed.lock().unwrap();
            assert!(committed.iter().all(|(_, receipt)| receipt.is_durable() && receipt.wait().is_ok()));
            committed.iter().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>()
        });
        assert_eq!(after_power_loss(&disk), committed, "seed {seed}");
        assert!(open_on(&disk, small()).unwrap().recovery().crashed.is_none(), "seed {seed}: it was closed");
    }
}

/// The tasks of a hand-written executor that are to be polled.
#[derive(Clone, Default)]
struct Ready(Arc<Mutex<VecDeque<usize>>>);

/// Receipts as futures, on an executor inside the simulation: each is woken, by its newest waker, and exactly once.
#[test]
fn an_executor_polls_receipts() {
    let options = small().flush_interval(LONG).loss_budget(LossBudget::default().max_age(LONG));
    simulate(&options, |_, engine, keys| {
        let (other, others) = (engine.clone(), keys.clone());
        let committer = sim::start("committer", move || {
            for number in 0..4 {
                put(&other, &others, &format!("sync-{number}"), "x", CommitMode::Sync).unwrap();
            }
        });
        let modes = [CommitMode::Async, CommitMode::Written];
        let mut tasks: Vec<_> =
            (0..10).map(|task| Some(put(engine, keys, &task.to_string(), "x", modes[task % 2]).unwrap())).collect();
        let ready = Ready::default();
        ready.0.lock().unwrap().extend(0..tasks.len());
        let mut random = 1;
        while tasks.iter().any(Option::is_some) {
            let Some(task) = ready.0.lock().unwrap().pop_front() else {
                sim::sleep(Duration::from_micros(10));
                continue;
            };
            let Some(receipt) = &mut tasks[task] else { continue };
            // A waker that is replaced must not be woken.
            let replaced = waker(|| {});
            let again = task % 3 == 0 && poll(receipt, &replaced).is_pending();
            pause(&mut random, 5);
            let queue = ready.clone();
            let newest = waker(move || queue.0.lock().unwrap().push_back(task));
            match poll(receipt, &newest) {
                Poll::Ready(verdict) => {
                    verdict.unwrap();
                    assert!(receipt.is_durable());
                    tasks[task] = None;
                }
                Poll::Pending => assert!(!again || Arc::strong_count(&ready.0) > 1),
            }
        }
        committer.join();
    });
}

// ---- the stories
