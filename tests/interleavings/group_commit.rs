//! How commits share fsyncs: who waits for whom, and who for nobody.

use super::*;

/// A leader waits for those whom the last flush released, so all of them share the next one.
#[test]
fn a_leader_gathers_those_whom_the_last_flush_released() {
    const CLIENTS: u64 = 4;
    const COMMITS: u64 = 8;
    simulate(&small(), |disk, engine, keys| {
        disk.inject(Fault::lasting(OpSelector::of(OpKind::StartWriteback), FaultKind::Stall(Duration::ZERO)));
        let before = engine.stats().flushes;
        let committers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (engine, keys) = (engine.clone(), keys.clone());
                sim::start("committer", move || {
                    for number in 0..COMMITS {
                        put(&engine, &keys, &format!("{client}-{number}"), "x", CommitMode::Sync).unwrap();
                    }
                })
            })
            .collect();
        committers.into_iter().for_each(sim::Simulated::join);
        let flushes = engine.stats().flushes - before;
        // Those who commit first do not know of each other yet, nor does the last know that nobody comes any more.
        assert!(flushes <= COMMITS + 3, "{flushes} flushes for {COMMITS} commits of each of {CLIENTS} clients");
        // Nor does whoever finds nobody at the start.
        let alone = disk.fault_hits();
        assert!(alone <= 2, "{alone} of them began without the others");
    });
}

/// Nobody else is there: it flushes at once, and has the device begin before it goes to the index.
#[test]
fn a_lone_committer_waits_for_nobody() {
    simulate(&small(), |disk, engine, keys| {
        disk.inject(Fault::lasting(OpSelector::of(OpKind::StartWriteback), FaultKind::Stall(Duration::ZERO)));
        for number in 0..3 {
            let begun = now();
            put(engine, keys, &format!("alone-{number}"), "x", CommitMode::Sync).unwrap();
            // Each step of a thread takes some virtual time, too; gathering takes up to 50 us.
            assert!(now().since(begun) < DEVICE + Duration::from_micros(40), "it waited for more than its fsync");
            assert_eq!(disk.fault_hits(), number + 1, "it did not start its sync early");
        }
    });
}

/// A device that is full of requests lets even the start of a sync wait. It was made with the right to write in hand, for
/// which `Written` commits wait.
#[test]
fn a_written_commit_does_not_wait_for_the_start_of_a_sync() {
    simulate(&small(), |disk, engine, keys| {
        disk.inject(Fault::once(OpSelector::of(OpKind::StartWriteback), FaultKind::Stall(STALL)));
        let (other, others) = (engine.clone(), keys.clone());
        let lone = sim::start("lone", move || drop(put(&other, &others, "lone", "x", CommitMode::Sync).unwrap()));
        while disk.fault_hits() == 0 {
            sim::yield_point();
        }
        let begun = now();
        put(engine, keys, "written", "x", CommitMode::Written).unwrap();
        assert!(now().since(begun) < STALL / 2);
        lone.join();
    });
}

/// A flush that is one submission gives the right to write up as soon as its write is over.
#[test]
fn a_written_commit_does_not_wait_for_the_sync_of_a_submission() {
    simulate(&small().io_uring(true), |disk, engine, keys| {
        // Its syncs are none that a commit waits for.
        while engine.stats().segments_prepared == 0 {
            sim::sleep(DEVICE);
        }
        let (hits, durable) = (disk.fault_hits(), engine.durable_lsn());
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on(".log.tmp"), FaultKind::Stall(STALL)));
        let (other, others) = (engine.clone(), keys.clone());
        let lone = sim::start("lone", move || drop(put(&other, &others, "lone", "x", CommitMode::Sync).unwrap()));
        while disk.fault_hits() == hits {
            sim::yield_point();
        }
        let begun = now();
        let written = put(engine, keys, "written", "x", CommitMode::Written).unwrap();
        assert!(now().since(begun) < STALL / 2 && !written.is_durable());
        assert_eq!(engine.durable_lsn(), durable, "durable before the sync is over");
        lone.join();
    });
}
