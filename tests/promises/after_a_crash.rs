//! Promises 1 to 5, 8 and 11 to 13: what holds after a crash.

use std::sync::Arc;

use forelog::sim;
use forelog::{Checkpoints, CommitMode, ErrorKind, Outcome};

use super::{DIR, count, open, options, power_loss, put, random_power_loss, simulate};

#[test]
fn promise_1_the_recovered_state_is_a_prefix_of_the_commit_order() {
    simulate(|disk, engine, keys| {
        for number in 0..12 {
            // All but the first are at risk at the end.
            let mode = match number {
                0 => CommitMode::Sync,
                odd if odd % 2 == 1 => CommitMode::Written,
                _ => CommitMode::Async,
            };
            put(engine, keys, number, mode).unwrap();
        }
        for seed in 0..20 {
            // `count` fails on a hole.
            assert!((1..=12).contains(&count(&open(&random_power_loss(disk, seed)))));
        }
    });
}

#[test]
fn promise_2_a_sync_commit_survives_power_loss_from_the_moment_it_returns() {
    simulate(|disk, engine, keys| {
        let others: Vec<_> = (0..3)
            .map(|client: u32| {
                let (disk, engine, keys) = (disk.clone(), engine.clone(), keys.clone());
                sim::start("client", move || {
                    for number in 0..5u32 {
                        let key = [client, number].map(u32::to_be_bytes).concat();
                        let mut batch = engine.batch().unwrap();
                        batch.put(&keys, &key, b"1").unwrap();
                        batch.commit_with(CommitMode::Sync).unwrap();
                        let after = options().open_on(Arc::new(power_loss(&disk)), DIR).unwrap();
                        let keys = after.open_keyspace("keys").unwrap();
                        assert!(after.snapshot().unwrap().get(&keys, &key).unwrap().is_some(), "lost a Sync commit");
                    }
                })
            })
            .collect();
        for other in others {
            other.join();
        }
    });
}

#[test]
fn promise_3_a_receipt_that_said_durable_is_kept() {
    simulate(|disk, engine, keys| {
        let receipts: Vec<_> = (0..6).map(|n| put(engine, keys, n, CommitMode::Async).unwrap()).collect();
        receipts[2].wait().unwrap();
        for (number, receipt) in receipts.iter().enumerate() {
            if receipt.is_durable() {
                assert!(count(&open(&power_loss(disk))) as usize > number, "a durable receipt was lost");
            }
        }
        assert!(receipts[2].is_durable(), "it said so");
    });
}

#[test]
fn promise_4_receipts_outlive_the_crash() {
    simulate(|disk, engine, keys| {
        let mut tokens = Vec::new();
        for number in 0..10 {
            let mode = [CommitMode::Async, CommitMode::Written, CommitMode::Sync][number as usize % 5 % 3];
            tokens.push(put(engine, keys, number, mode).unwrap().token());
        }
        let mut disk = random_power_loss(disk, 5);
        let mut answers: Option<Vec<Outcome>> = None;
        for _ in 0..4 {
            let engine = open(&disk);
            let now: Vec<_> = tokens.iter().map(|token| engine.outcome(token).unwrap()).collect();
            if answers.is_none() {
                let kept = count(&engine) as usize;
                for (number, answer) in now.iter().enumerate() {
                    assert_eq!(*answer, if number < kept { Outcome::Durable } else { Outcome::Lost });
                }
            }
            assert_eq!(*answers.get_or_insert_with(|| now.clone()), now, "an answer changed");
            // New commits, and another crash: no old token may be taken for one of them.
            let keys = engine.create_keyspace("others").unwrap();
            for number in 0..5 {
                put(&engine, &keys, number, CommitMode::Async).unwrap();
            }
            disk = random_power_loss(&disk, 9);
        }
    });
}

#[test]
fn promise_5_what_opening_reports_is_durable_first() {
    simulate(|disk, engine, keys| {
        for number in 0..8 {
            put(engine, keys, number, CommitMode::Written).unwrap();
        }
        // The process dies; the kernel has everything, the medium perhaps nothing of it.
        let killed = disk.crash_point().process_kill();
        let first = count(&open(&killed));
        assert_eq!(first, 8);
        assert_eq!(count(&open(&power_loss(&killed))), first, "reported, and then gone");
    });
}

#[test]
fn promise_8_a_transaction_is_all_there_or_not_at_all() {
    simulate(|disk, engine, keys| {
        let other = engine.create_keyspace("other").unwrap();
        for number in 0..6u32 {
            let mut batch = engine.batch().unwrap();
            for part in 0..8u32 {
                batch.put(keys, [number, part].map(u32::to_be_bytes).concat(), vec![1; 500]).unwrap();
                batch.put(&other, [number, part].map(u32::to_be_bytes).concat(), vec![2; 500]).unwrap();
            }
            batch.commit_with(CommitMode::Written).unwrap();
        }
        for seed in 0..10 {
            let engine = open(&random_power_loss(disk, seed));
            let count = |name: &str| {
                let keys = engine.open_keyspace(name).ok()?;
                Some(engine.snapshot().unwrap().iter(&keys).unwrap().count())
            };
            let (keys, other) = (count("keys").unwrap_or(0), count("other").unwrap_or(0));
            assert_eq!(keys % 8, 0);
            assert_eq!(keys, other);
        }
    });
}

#[test]
fn promise_11_no_silent_loss() {
    simulate(|disk, engine, keys| {
        for number in 0..6 {
            put(engine, keys, number, CommitMode::Sync).unwrap();
        }
        let last = engine.durable_lsn();
        let image = power_loss(disk);
        let (segment, bytes) =
            image.files().into_iter().find(|(path, _)| path.extension().is_some_and(|e| e == "log")).unwrap();
        let base = u64::from_str_radix(segment.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        let end = last.get() - base;
        assert!(end < bytes.len() as u64, "all in the first segment");
        for bit in (512 * 8..end * 8).step_by(13) {
            let copy = image.crash_point().process_kill();
            copy.flip_bit(&segment, bit).unwrap();
            let error = options().open_on(Arc::new(copy), DIR).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "bit {bit}");
            assert!(error.damage().is_some_and(|damage| damage.file == segment && damage.lsn <= last));
        }
    });
}

#[test]
fn promise_12_the_account_of_a_crash() {
    simulate(|disk, engine, keys| {
        for number in 0..4 {
            put(engine, keys, number, CommitMode::Sync).unwrap();
        }
        let durable = engine.durable_lsn();
        let lost: Vec<_> = (4..9).map(|n| put(engine, keys, n, CommitMode::Async).unwrap().token()).collect();
        let after = open(&power_loss(disk));
        let account = after.recovery();
        assert_eq!(account.crashed, Some(lost[0].incarnation));
        assert_eq!(account.recovered_to, durable);
        assert!(account.proven_durable <= durable);
        assert!(lost.iter().all(|token| token.lsn > account.recovered_to));
        after.close().unwrap();
    });
}

/// However much there is, an open replays what lies behind the last checkpoint, and reads nothing of what tables hold: it does
/// not even notice that all of that is rotten.
#[test]
fn promise_17_an_open_reads_what_lies_behind_the_last_checkpoint() {
    for checkpoints in [1, 24] {
        let options = options().checkpoints(Checkpoints::OnRequest);
        super::simulate_with(&options, |disk, engine, keys| {
            for number in 0..checkpoints {
                for key in 0..40 {
                    put(engine, keys, number * 40 + key, CommitMode::Written).unwrap();
                }
                engine.flush().unwrap();
                engine.checkpoint().unwrap();
            }
            for key in 0..10 {
                put(engine, keys, checkpoints * 40 + key, CommitMode::Sync).unwrap();
            }
            let crashed = power_loss(disk);
            for (path, bytes) in crashed.files() {
                if path.extension().is_some_and(|end| end == "run") {
                    crashed.flip_bit(&path, bytes.len() as u64 / 3 * 8).unwrap();
                }
            }
            let again = options.clone().open_on(Arc::new(crashed), DIR).unwrap();
            let stats = again.table_stats();
            assert_eq!((stats.pending_ops, stats.all_in_memory), (10, false), "of {checkpoints}: {stats:?}");
        });
    }
}
