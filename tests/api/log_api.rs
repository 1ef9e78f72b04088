//! `forelog::log::Log` on its own: append, flush, scan, tail, retire; and the answers to tokens, which are the log's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forelog::log::{Log, LogOptions, Record};
#[cfg(feature = "sim")]
use forelog::sim::{self, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
#[cfg(feature = "unstable")]
use forelog::unstable::inspect;
use forelog::{CommitMode, ErrorKind, Incarnation, LossBudget, Lsn, Outcome, Token};

#[cfg(feature = "sim")]
use crate::gate::Gate;
use crashkit::{DB, MODES, Place, TempDir, copy_dir, error_of, kind_of, wait_until};

const LONG: Duration = Duration::from_secs(3600);

fn open_log(disk: &impl Place, options: LogOptions) -> Log {
    disk.open_log(options).unwrap()
}

fn small_segments() -> LogOptions {
    LogOptions::new().segment_bytes(4096)
}

/// The payload of record `number`: many are larger than a small segment.
fn payload(number: usize) -> Vec<u8> {
    (0..number * 37 % 9_000).map(|index| ((index ^ number) % 251).to_le_bytes()[0]).collect()
}

/// Appends `count` records in all modes; returns their LSNs.
fn fill(log: &Log, count: usize) -> Vec<Lsn> {
    let append = |number: usize| log.append(&payload(number), MODES[number % 4]).unwrap().lsn();
    let lsns = (0..count).map(append).collect();
    log.flush().unwrap();
    lsns
}

fn scan(log: &Log, after: Lsn) -> Vec<Record> {
    log.scan(after).unwrap().map(Result::unwrap).collect()
}

/// Refuses records that are not those from number `from` on.
#[track_caller]
fn check(records: &[Record], lsns: &[Lsn], from: usize) {
    assert_eq!(records.iter().map(|record| record.lsn).collect::<Vec<_>>(), lsns[from..]);
    assert!(records.iter().enumerate().all(|(index, record)| record.payload == payload(from + index)));
}

fn segments(place: &impl Place) -> usize {
    let names = place.names();
    names.iter().filter(|name| Path::new(name).extension() == Some("log".as_ref())).count()
}

#[test]
fn what_was_appended_in_any_mode_is_scanned_now_and_after_a_reopen() {
    for mapped in [false, true] {
        let dir = TempDir::new("test");
        let options = || LogOptions::new().segment_bytes(8192).mapped_reads(mapped);
        let log = options().open(&dir).unwrap();
        let lsns = fill(&log, 500);
        check(&scan(&log, Lsn::ZERO), &lsns, 0);
        log.close().unwrap();
        assert_eq!(kind_of(log.append(b"x", CommitMode::Async)), ErrorKind::Closed);
        drop(log);
        let log = options().open(&dir).unwrap();
        assert!(log.recovery().crashed.is_none() && log.recovery().records == 500);
        for from in [0, 1, 2, 77, 250, 498, 499] {
            check(&scan(&log, lsns[from]), &lsns, from + 1);
        }
        for beyond in [lsns[499].get() + 8, u64::MAX] {
            assert_eq!(kind_of(log.scan(Lsn::new(beyond))), ErrorKind::InvalidInput);
        }
        assert_eq!((log.appended_lsn(), log.durable_lsn()), (lsns[499], lsns[499]));
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_scan_shows_what_was_durable_when_it_began() {
    let disk = SimDisk::new();
    let gate = Gate::on(&disk);
    let log = open_log(&disk, LogOptions::new());
    let first = log.append(b"durable", CommitMode::Sync).unwrap();
    wait_until(|| log.stats().segments_prepared > 0);
    gate.close();
    let second = log.append(b"written", CommitMode::Written).unwrap();
    let before = log.scan(Lsn::ZERO).unwrap();
    gate.open();
    second.wait().unwrap();
    assert_eq!(before.map(|record| record.unwrap().lsn).collect::<Vec<_>>(), [first.lsn()]);
    assert_eq!(scan(&log, first.lsn())[0].payload, b"written");
}

#[test]
fn flush_to_makes_durable_up_to_there_and_refuses_what_was_not_handed_out() {
    let lazy = LogOptions::new().flush_interval(LONG).loss_budget(LossBudget::default().max_age(LONG));
    let place = TempDir::new("log_api");
    let log = open_log(&place, lazy);
    assert_eq!(log.flush().unwrap(), Lsn::ZERO);
    let first = log.append(b"1", CommitMode::Async).unwrap();
    let second = log.append(b"2", CommitMode::Async).unwrap();
    assert_eq!((log.at_risk().commits, log.durable_lsn()), (2, Lsn::ZERO));
    log.flush_to(first.lsn()).unwrap();
    assert!(first.is_durable());
    log.flush_to(Lsn::ZERO).unwrap();
    assert_eq!(log.flush().unwrap(), second.lsn());
    assert!(second.is_durable() && log.at_risk().commits == 0);
    let error = error_of(log.flush_to(Lsn::new(second.lsn().get() + 1)));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("not handed out"), "{error}");
}

#[cfg(feature = "sim")]
#[test]
fn each_mode_moves_its_watermark() {
    let disk = SimDisk::new();
    let gate = Gate::on(&disk);
    let log = open_log(&disk, LogOptions::new());
    let durable = log.append(b"durable", CommitMode::Sync).unwrap().lsn();
    wait_until(|| log.stats().segments_prepared > 0);
    gate.close();
    let written = log.append(b"written", CommitMode::Written).unwrap().lsn();
    assert!(log.written_lsn() >= written);
    let appended = log.append(b"appended", CommitMode::Within(LONG)).unwrap().lsn();
    assert_eq!((log.durable_lsn(), log.appended_lsn()), (durable, appended));
    assert!(durable < written && written < appended && log.written_lsn() <= appended);
    gate.open();
}

#[test]
fn the_watermarks_keep_their_order_and_never_go_back() {
    let place = TempDir::new("log_api");
    let log = open_log(&place, small_segments());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut before = [Lsn::ZERO; 3];
            while !done.load(Ordering::SeqCst) {
                let now = [log.durable_lsn(), log.written_lsn(), log.appended_lsn()];
                assert!(now.is_sorted() && now.iter().zip(before).all(|(now, before)| *now >= before));
                before = now;
            }
        });
        let writers: Vec<_> = MODES
            .map(|mode| {
                let log = &log;
                scope.spawn(move || (0..300).for_each(|number| drop(log.append(&payload(number), mode).unwrap())))
            })
            .into();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        watcher.join().unwrap();
    });
    log.flush().unwrap();
    assert_eq!(scan(&log, Lsn::ZERO).len(), 1200);
}

#[test]
fn a_record_larger_than_many_segments_is_one_record() {
    let large: Vec<u8> = (0..1_000_000u32).map(|index| (index % 241).to_le_bytes()[0]).collect();
    for mode in MODES {
        let disk = TempDir::new("log_api");
        let log = open_log(&disk, small_segments());
        let mut tail = log.tail(Lsn::ZERO).unwrap();
        for bytes in [b"before".as_slice(), &large, b"after"] {
            log.append(bytes, mode).unwrap();
        }
        for bytes in [b"before".as_slice(), &large, b"after"] {
            assert!(tail.next_timeout(LONG).unwrap().unwrap().payload == bytes);
        }
        drop(log);
        let log = open_log(&disk, LogOptions::new());
        assert!(scan(&log, Lsn::ZERO).iter().map(|record| &*record.payload).eq([
            b"before".as_slice(),
            &large,
            b"after"
        ]));
    }
}

// ---- tail

#[test]
fn a_tail_follows_a_writer_across_segments_and_ends_when_the_log_is_closed() {
    let dir = TempDir::new("test");
    let log = small_segments().open(&dir).unwrap();
    let mut tail = log.tail(Lsn::ZERO).unwrap();
    assert!(tail.next_timeout(Duration::ZERO).unwrap().is_none());
    let writer = {
        let log = log.clone();
        std::thread::spawn(move || {
            let lsns = fill(&log, 100);
            log.close().unwrap();
            lsns
        })
    };
    let mut records = Vec::new();
    let error = loop {
        match tail.next_timeout(LONG) {
            Ok(Some(record)) => records.push(record),
            Ok(None) => panic!("an hour has not passed"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Closed);
    check(&records, &writer.join().unwrap(), 0);
}

#[cfg(feature = "sim")]
#[test]
fn a_tail_has_shown_everything_when_it_says_closed() {
    for seed in 0..40 {
        let (shown, ends) = sim::run(seed, || {
            let disk = SimDisk::new();
            disk.set_sync_latency(Duration::from_millis(1));
            let log = open_log(&disk, small_segments());
            let mut tail = log.tail(Lsn::ZERO).unwrap();
            let closer = log.clone();
            let writer = sim::start("writer", move || {
                for number in 0..5 {
                    closer.append(&payload(number), CommitMode::Async).unwrap();
                }
                closer.close().unwrap();
            });
            let mut shown = 0;
            let ends = loop {
                match tail.next_timeout(Duration::from_micros(300)) {
                    Ok(record) => shown += usize::from(record.is_some()),
                    Err(error) => break error.kind(),
                }
            };
            writer.join();
            (shown, ends)
        });
        assert_eq!((shown, ends), (5, ErrorKind::Closed), "seed {seed}");
    }
}

#[cfg(feature = "sim")]
#[test]
fn a_tail_that_waits_is_told_of_the_close() {
    sim::run(1, || {
        let log = open_log(&SimDisk::new(), LogOptions::new());
        log.append(b"x", CommitMode::Sync).unwrap();
        let mut tail = log.tail(log.durable_lsn()).unwrap();
        let waiting = sim::start("tail", move || {
            assert_eq!(kind_of(tail.next_timeout(LONG)), ErrorKind::Closed);
            assert!(sim::now().unwrap().since_start() < LONG);
            assert_eq!(kind_of(tail.next_timeout(LONG)), ErrorKind::Closed);
        });
        sim::sleep(Duration::from_secs(1));
        log.close().unwrap();
        waiting.join();
    });
}

// ---- retire

#[test]
fn retiring_removes_segments_and_what_lies_below_says_so() {
    let disk = TempDir::new("log_api");
    let log = open_log(&disk, small_segments());
    let lsns = fill(&log, 200);
    let before = segments(&disk);
    log.retire(Lsn::ZERO).unwrap();
    log.retire(lsns[100]).unwrap();
    log.retire(lsns[50]).unwrap();
    assert!(segments(&disk) < before, "{} of {before} are left", segments(&disk));
    let check_all = |log: &Log| {
        for below in [Lsn::new(1), lsns[0], lsns[99]] {
            let error = error_of(log.scan(below));
            assert_eq!(error.kind(), ErrorKind::Retired);
            assert!(error.to_string().contains(&lsns[100].to_string()), "{error}");
            assert_eq!(kind_of(log.tail(below)), ErrorKind::Retired);
        }
        check(&scan(log, lsns[100]), &lsns, 101);
        check(&scan(log, Lsn::ZERO), &lsns, 101);
        check(&scan(log, lsns[150]), &lsns, 151);
    };
    check_all(&log);
    drop(log);
    check_all(&open_log(&disk, small_segments()));
}

#[test]
fn everything_can_be_retired_and_the_log_goes_on() {
    let disk = TempDir::new("log_api");
    for round in 0..5 {
        let log = open_log(&disk, small_segments());
        assert_eq!(scan(&log, Lsn::ZERO), []);
        let lsns = fill(&log, 40);
        check(&scan(&log, Lsn::ZERO), &lsns, 0);
        log.retire(lsns[39]).unwrap();
        assert!(segments(&disk) <= 4, "round {round}: {}", segments(&disk));
        let next = log.append(b"next", CommitMode::Sync).unwrap();
        assert_eq!(scan(&log, Lsn::ZERO)[0].lsn, next.lsn());
        log.retire(next.lsn()).unwrap();
    }
}

#[test]
fn only_durable_records_can_be_retired() {
    let disk = TempDir::new("log_api");
    let log = open_log(&disk, LogOptions::new().flush_interval(LONG).loss_budget(LossBudget::default().max_age(LONG)));
    let durable = log.append(b"durable", CommitMode::Sync).unwrap().lsn();
    let pending = log.append(b"pending", CommitMode::Async).unwrap().lsn();
    assert_eq!(kind_of(log.retire(pending)), ErrorKind::InvalidInput);
    assert_eq!(kind_of(log.retire(Lsn::new(durable.get() - 8))), ErrorKind::InvalidInput, "no record ends there");
    log.retire(durable).unwrap();
    drop(log);
    assert_eq!(scan(&open_log(&disk, LogOptions::new()), Lsn::ZERO)[0].lsn, pending);
}

#[test]
fn a_reader_that_retiring_overtakes_is_told_and_never_skips() {
    for read_first in [0, 1, 30] {
        let disk = TempDir::new("log_api");
        let log = open_log(&disk, small_segments());
        let lsns = fill(&log, 200);
        let mut records = log.scan(Lsn::ZERO).unwrap();
        let mut seen: Vec<_> = records.by_ref().take(read_first).map(Result::unwrap).collect();
        log.retire(lsns[150]).unwrap();
        let error = loop {
            match records.next() {
                Some(Ok(record)) => seen.push(record),
                Some(Err(error)) => break error,
                None => panic!("records are missing from the middle, and nobody says so"),
            }
        };
        assert_eq!(error.kind(), ErrorKind::Retired, "{error}");
        assert!(records.next().is_none());
        check(&seen, &lsns[..seen.len()], 0);
    }
}

// ---- waiting no longer than allowed

#[cfg(feature = "sim")]
#[test]
fn try_append_and_append_timeout_give_up_without_a_trace_and_can_be_repeated() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let log = open_log(&disk, LogOptions::new().loss_budget(LossBudget::default().max_commits(1)));
        log.append(b"1", CommitMode::Sync).unwrap();
        sim::sleep(Duration::from_secs(1));
        let stall = FaultKind::Stall(Duration::from_secs(2));
        disk.inject(Fault::lasting(OpSelector::of(OpKind::Sync).on(".log.tmp"), stall));
        let last = log.try_append(b"2", CommitMode::Async).unwrap();
        let error = error_of(log.try_append(b"3", CommitMode::Written));
        assert_eq!((error.kind(), error.token()), (ErrorKind::WouldBlock, None));
        let error = error_of(log.append_timeout(b"3", CommitMode::Async, Duration::from_millis(5)));
        assert_eq!((error.kind(), error.token()), (ErrorKind::TimedOut, None));
        let error = error_of(log.append_timeout(b"3", CommitMode::Sync, Duration::from_millis(5)));
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let token = error.token().expect("Sync is not bound by the budget: it has its place");
        assert_eq!((log.appended_lsn(), log.outcome(&token).unwrap()), (token.lsn, Outcome::Pending));
        assert!(token.lsn > last.lsn());
        sim::sleep(Duration::from_secs(5));
        assert_eq!(log.outcome(&token).unwrap(), Outcome::Durable);
        assert_eq!(kind_of(log.try_append(b"4", CommitMode::Sync)), ErrorKind::InvalidInput);
        log.try_append(b"4", CommitMode::Async).unwrap().wait().unwrap();
        let records = scan(&log, Lsn::ZERO);
        assert!(records.iter().map(|record| &*record.payload).eq([b"1", b"2", b"3", b"4"]));
    });
}

// ---- verify

#[test]
fn verify_reads_a_closed_log_and_refuses_an_open_one() {
    let dir = TempDir::new("test");
    let log = small_segments().open(&dir).unwrap();
    let lsns = fill(&log, 100);
    assert_eq!(kind_of(Log::verify(&dir)), ErrorKind::Locked);
    log.close().unwrap();
    let found = Log::verify(&dir).unwrap();
    assert_eq!((found.records, found.recovered_to, found.crashed), (100, lsns[99], None));
    drop(log);
    let missing = dir.join("missing");
    assert_eq!(kind_of(Log::verify(&missing)), ErrorKind::NotADatabase);
    assert!(!missing.exists());
}

#[cfg(feature = "sim")]
#[test]
fn verify_says_what_an_open_after_a_crash_would_do_and_changes_nothing() {
    for seed in 0..30 {
        let disk = SimDisk::new();
        let log = open_log(&disk, small_segments());
        let lsns: Vec<_> = (0..20).map(|n| log.append(&payload(n), CommitMode::Async).unwrap().lsn()).collect();
        let crashed = disk.crash_point().power_loss(&Loss::Seeded(seed), Granularity::Sector);
        let before = crashed.files();
        let mut visited = Vec::new();
        let mut visit = |lsn, payload: &[u8]| {
            visited.push((lsn, payload.to_vec()));
            Ok(())
        };
        let found = inspect::verify_on(Arc::new(crashed.clone()), Path::new(DB), &mut visit).unwrap();
        let without_lock = |files: Vec<(_, Vec<u8>)>| -> Vec<_> {
            files.into_iter().filter(|(path, _): &(std::path::PathBuf, _)| !path.ends_with("LOCK")).collect()
        };
        assert!(without_lock(crashed.files()) == without_lock(before));
        assert!(visited.iter().enumerate().all(|(n, (lsn, bytes))| *lsn == lsns[n] && *bytes == payload(n)));
        let log = open_log(&crashed, small_segments());
        let opened = log.recovery();
        assert_eq!((found.recovered_to, found.records), (opened.recovered_to, opened.records));
        assert_eq!((found.crashed, found.proven_durable), (opened.crashed, opened.proven_durable));
        assert_eq!(scan(&log, Lsn::ZERO).len(), visited.len());
    }
}

// ---- tokens

#[test]
fn tokens_of_another_log_or_of_another_branch_are_foreign() {
    let dir = TempDir::new("test");
    let (original, copy) = (dir.join("original"), dir.join("copy"));
    let append = |log: &Log| log.append(b"x", CommitMode::Sync).unwrap().token();
    let log = Log::open(&original).unwrap();
    let shared = append(&log);
    drop(log);
    copy_dir(&original, &copy);
    let (log, branch) = (Log::open(&original).unwrap(), Log::open(&copy).unwrap());
    let (of_log, of_branch) = (append(&log), append(&branch));
    assert_eq!(
        (of_log.lsn, of_log.incarnation.number),
        (of_branch.lsn, of_branch.incarnation.number),
        "only the nonce differs"
    );
    let check = |log: &Log, branch: &Log| {
        let outcomes = |log: &Log| [shared, of_log, of_branch].map(|token| log.outcome(&token).unwrap());
        assert_eq!(outcomes(log), [Outcome::Durable, Outcome::Durable, Outcome::Foreign]);
        assert_eq!(outcomes(branch), [Outcome::Durable, Outcome::Foreign, Outcome::Durable]);
    };
    check(&log, &branch);
    drop((log, branch));
    check(&Log::open(&original).unwrap(), &Log::open(&copy).unwrap());
    let place = TempDir::new("log_api");
    let other = open_log(&place, LogOptions::new());
    assert_eq!(other.outcome(&shared).unwrap(), Outcome::Foreign);
    assert_eq!(other.outcome(&append(&other)).unwrap(), Outcome::Durable);
}

#[cfg(feature = "sim")]
#[test]
fn a_commit_is_pending_then_durable_or_lost_and_its_token_says_so_for_ever() {
    let disk = SimDisk::new();
    let gate = Gate::on(&disk);
    let log = open_log(&disk, LogOptions::new());
    let kept = log.append(b"kept", CommitMode::Sync).unwrap().token();
    wait_until(|| log.stats().segments_prepared > 0);
    gate.close();
    let unsettled = log.append(b"x", CommitMode::Written).unwrap().token();
    let outcomes = |log: &Log| [kept, unsettled].map(|token| log.outcome(&token).unwrap());
    assert_eq!(outcomes(&log), [Outcome::Durable, Outcome::Pending]);
    let crash = disk.crash_point();
    gate.open();
    log.flush().unwrap();
    assert_eq!(outcomes(&log), [Outcome::Durable, Outcome::Durable]);
    let killed = crash.process_kill();
    let lost = crash.power_loss(&Loss::Everything, Granularity::Sector);
    for (disk, outcome) in [(killed, Outcome::Durable), (lost, Outcome::Lost)] {
        for _ in 0..3 {
            let log = open_log(&disk, LogOptions::new());
            assert_eq!(outcomes(&log), [Outcome::Durable, outcome]);
            log.append(b"later", CommitMode::Sync).unwrap();
            assert_eq!(outcomes(&log), [Outcome::Durable, outcome]);
        }
    }
}

#[test]
fn a_position_that_was_never_handed_out_is_invalid() {
    let disk = TempDir::new("log_api");
    let log = open_log(&disk, LogOptions::new());
    let token = log.append(b"x", CommitMode::Sync).unwrap().token();
    let at = |lsn: u64| Token { lsn: Lsn::new(lsn), ..token };
    for lsn in [0, token.lsn.get() + 8, u64::MAX] {
        assert_eq!(log.outcome(&at(lsn)).unwrap(), Outcome::Invalid, "{lsn:#x}");
    }
    drop(log);
    let log = open_log(&disk, LogOptions::new());
    for lsn in [0, 1 << 40, u64::MAX] {
        assert_eq!(log.outcome(&at(lsn)).unwrap(), Outcome::Invalid, "{lsn:#x}");
    }
    let nobody = Incarnation { number: 0, nonce: 0 };
    assert_eq!(log.outcome(&Token { incarnation: nobody, ..token }).unwrap(), Outcome::Invalid);
    // The token of a transaction that read an empty log is durable, and was with every other nonce, too.
    let of_nothing = Token { incarnation: nobody, ..at(0) };
    assert_eq!(log.outcome(&of_nothing).unwrap(), Outcome::Durable);
    log.flush_to(of_nothing).unwrap();
    for nonce in [1, 9, u64::MAX] {
        let forged = Token { incarnation: Incarnation { number: 0, nonce }, ..of_nothing };
        assert_eq!(log.outcome(&forged).unwrap(), Outcome::Invalid);
        let refused = [log.flush_to(forged), log.retire(forged), log.scan(forged).map(drop), log.pin(forged).map(drop)];
        assert_eq!(refused.map(kind_of), [ErrorKind::InvalidInput; 4]);
    }
}

#[test]
fn tokens_are_pruned_by_an_explicit_call_only() {
    let disk = TempDir::new("log_api");
    let tokens = [0; 3].map(|_| open_log(&disk, LogOptions::new()).append(b"x", CommitMode::Sync).unwrap().token());
    let outcomes = |log: &Log| tokens.map(|token| log.outcome(&token).unwrap());
    let log = open_log(&disk, LogOptions::new());
    log.prune_history(3).unwrap();
    assert_eq!(outcomes(&log), [Outcome::Durable; 3], "their segments are still there");
    log.retire(tokens[2].lsn).unwrap();
    assert_eq!(outcomes(&log), [Outcome::Durable; 3]);
    log.prune_history(2).unwrap();
    assert_eq!(outcomes(&log), [Outcome::Pruned, Outcome::Durable, Outcome::Durable]);
    log.prune_history(u64::MAX).unwrap();
    let expected = [Outcome::Pruned, Outcome::Pruned, Outcome::Durable];
    assert_eq!(outcomes(&log), expected, "the last one is not retired as a whole");
    log.append(b"next", CommitMode::Sync).unwrap();
    drop(log);
    assert_eq!(outcomes(&open_log(&disk, LogOptions::new())), expected);
}

/// Raft reads what it has appended before that is durable.
#[test]
fn what_is_appended_can_be_read_before_it_is_durable() {
    let dir = TempDir::new("scan-appended");
    let options = small_segments().flush_interval(LONG).loss_budget(LossBudget::default().max_age(LONG));
    let log = open_log(&dir, options);
    let lsns: Vec<Lsn> = (0..20).map(|number| log.append(&payload(number), CommitMode::Async).unwrap().lsn()).collect();
    assert!(log.durable_lsn() < lsns[19]);
    let records: Vec<Record> = log.scan_appended(Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    check(&records, &lsns, 0);
    let records: Vec<Record> = log.scan_appended(lsns[9]).unwrap().map(Result::unwrap).collect();
    check(&records, &lsns, 10);
    assert!(log.durable_lsn() < lsns[19], "it makes no flush due");
    log.close().unwrap();
}
