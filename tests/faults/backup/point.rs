//! Restores of a backup to a commit, by the log of its database.

use std::sync::{Arc, Mutex};

use crashkit::{DB, open_on};
use forelog::sim::{self, CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use forelog::{BackupOptions, BackupProgress, BackupReport, Engine, ErrorKind, Options, Outcome, RestorePoint, Token};

use super::{Ledger, NEXT, TO, backup, check_at, checkpoint, contents, files, open_at, options, read_at, state, write};

fn retaining() -> Options {
    options().retain_log_bytes(1 << 30)
}

fn restore(disk: &SimDisk, to: &str, token: Token) -> forelog::Result<BackupReport> {
    let point = RestorePoint::new(token).with_log_of(DB);
    let told: Arc<Mutex<Vec<BackupProgress>>> = Arc::default();
    let note = Arc::clone(&told);
    let with = BackupOptions::new().on_progress(move |progress| note.lock().unwrap().push(progress));
    let report = Engine::restore_to_on(Arc::new(disk.clone()), TO, to, &point, with)?;
    let told = told.lock().unwrap();
    let last = told.last().expect("there are files");
    assert!(told.is_sorted_by_key(|progress| progress.bytes) && last.bytes == last.total_bytes, "{told:?}");
    // It ended before the log was gone over.
    assert!(last.total_bytes > report.bytes_copied + report.bytes_reused, "{told:?}");
    Ok(report)
}

/// A backup, and behind it commits, checkpoints, merges, a keyspace that comes and one that goes, closes and a crash.
fn prepared(disk: &SimDisk) -> (Ledger, usize) {
    let mut ledger = Ledger::new();
    let engine = open_on(disk, retaining()).unwrap();
    for key in 0..60 {
        write(&engine, &mut ledger, key, Some(1));
    }
    engine.create_keyspace("gone").unwrap();
    let made = backup(&engine, disk, TO).unwrap();
    let at = ledger.len();
    assert!(made.lsn >= ledger[at - 1].0.lsn);
    for round in 2..6 {
        for key in (0..90).step_by(usize::from(round)) {
            write(&engine, &mut ledger, key, (key % 7 > 0).then_some(round));
        }
        checkpoint(&engine);
    }
    engine.drop_keyspace("gone").unwrap();
    engine.close().unwrap();
    let engine = open_on(disk, retaining()).unwrap();
    for key in 0..50 {
        write(&engine, &mut ledger, key, Some(20));
    }
    checkpoint(&engine);
    for key in 30..60 {
        write(&engine, &mut ledger, key, (key % 3 > 0).then_some(21));
    }
    engine.flush().unwrap();
    engine.close().unwrap();
    (ledger, at)
}

#[test]
fn a_restore_to_a_commit_is_the_state_behind_it() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (mut ledger, at) = prepared(&disk);
        let before = (files(&disk, DB), files(&disk, TO));
        for index in at..ledger.len() {
            let (token, to) = (ledger[index].0, format!("restored/{index}"));
            let report = restore(&disk, &to, token).unwrap();
            assert_eq!(report.lsn, token.lsn);
            let expected = state(&ledger, token.lsn.get());
            assert!(read_at(&disk, &to) == expected, "{token}");
            if (index - at) % 9 > 0 {
                continue;
            }
            let engine = open_at(&disk, &to).unwrap();
            assert!(contents(&engine) == expected, "{token}");
            for (other, ..) in &ledger {
                let outcome = engine.outcome(other).unwrap();
                if other.lsn <= token.lsn {
                    assert_eq!(outcome, Outcome::Durable, "{other}");
                } else if other.incarnation == token.incarnation {
                    assert_eq!(outcome, Outcome::Lost, "{other}");
                } else {
                    assert!(matches!(outcome, Outcome::Foreign | Outcome::Invalid), "{other}: {outcome}");
                }
            }
            // A history of its own: what is committed now is not what was, and stays.
            let mut own = Ledger::new();
            write(&engine, &mut own, 1000, Some(1));
            assert!(own[0].0.incarnation != token.incarnation && own[0].0.lsn > token.lsn);
            checkpoint(&engine);
            engine.close().unwrap();
            let engine = open_at(&disk, &to).unwrap();
            assert_eq!(contents(&engine).len(), expected.len() + 1);
            assert_eq!(engine.outcome(&own[0].0).unwrap(), Outcome::Durable);
            engine.close().unwrap();
        }
        assert!(before == (files(&disk, DB), files(&disk, TO)), "neither of the two has changed");
        // HISTORY knows that there are tables.
        restore(&disk, "restored/less", ledger[at + 5].0).unwrap();
        disk.delete("restored/less/table/MANIFEST").unwrap();
        assert_eq!(open_at(&disk, "restored/less").unwrap_err().kind(), ErrorKind::Damaged);
        // The database goes on, and a restore to what it has done since as well.
        let engine = open_at(&disk, DB).unwrap();
        write(&engine, &mut ledger, 5, Some(77));
        engine.flush().unwrap();
        assert_eq!(restore(&disk, NEXT, ledger.last().unwrap().0).unwrap_err().kind(), ErrorKind::Locked);
        engine.close().unwrap();
    });
}

/// A killed database is read as it is, and a commit that was dropped is none.
#[test]
fn the_log_of_a_killed_database_leads_up_to_what_was_whole() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (mut ledger, _) = prepared(&disk);
        let engine = open_on(&disk, retaining()).unwrap();
        for key in 0..40 {
            write(&engine, &mut ledger, key, Some(30));
        }
        engine.flush().unwrap();
        let killed = disk.crash_point().process_kill();
        let token = ledger[ledger.len() - 5].0;
        restore(&killed, NEXT, token).unwrap();
        check_at(&killed, NEXT, &state(&ledger, token.lsn.get()), "killed");
        // One that a power loss has taken does not come back.
        write(&engine, &mut ledger, 99, Some(31));
        let lost = ledger.pop().unwrap().0;
        let after = disk.crash_point().power_loss(&Loss::Everything, Granularity::default());
        let again = open_on(&after, retaining()).unwrap();
        assert_eq!(again.outcome(&lost).unwrap(), Outcome::Lost);
        write(&again, &mut ledger, 98, Some(32));
        again.close().unwrap();
        let refused = restore(&after, NEXT, lost).unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("no commit that is left"));
        restore(&after, NEXT, ledger.last().unwrap().0).unwrap();
        check_at(&after, NEXT, &state(&ledger, u64::MAX), "beside the lost one");
    });
}

#[test]
fn what_does_not_lead_to_the_commit_is_refused() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (ledger, at) = prepared(&disk);
        let last = ledger.last().unwrap().0;
        let alone = |token| {
            let point = RestorePoint::new(token);
            Engine::restore_to_on(Arc::new(disk.clone()), TO, NEXT, &point, BackupOptions::new())
        };
        let refused = |result: forelog::Result<BackupReport>, says: &str| {
            let error = result.unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(files(&disk, NEXT).is_empty(), "{says}");
            error.kind()
        };
        assert_eq!(refused(alone(last), "give the database that has the log"), ErrorKind::InvalidInput);
        assert_eq!(refused(alone(ledger[at - 3].0), "Take an earlier one"), ErrorKind::InvalidInput);
        assert_eq!(refused(restore(&disk, NEXT, ledger[at - 3].0), "Take an earlier one"), ErrorKind::InvalidInput);
        let other = SimDisk::new();
        let engine = open_on(&other, retaining()).unwrap();
        let mut foreign = Ledger::new();
        write(&engine, &mut foreign, 1, Some(1));
        assert_eq!(refused(alone(foreign[0].0), "another database"), ErrorKind::InvalidInput);
        // The backup's own token needs no log.
        let made = Engine::restore_on(Arc::new(disk.clone()), TO, "plain", BackupOptions::new()).unwrap();
        let engine = open_at(&disk, "plain").unwrap();
        drop(engine);
        assert!(made.lsn > ledger[at - 1].0.lsn);
        // Between two commits there is none: what was written is an unfinished copy.
        let between = Token { lsn: forelog::Lsn::new(last.lsn.get() - 8), ..last };
        let error = restore(&disk, "between", between).unwrap_err();
        assert!(error.to_string().contains("no commit ends at"), "{error}");
        assert!(open_at(&disk, "between").unwrap_err().to_string().contains("unfinished copy"));
        // Log that is gone.
        let engine = open_on(&disk, options()).unwrap();
        checkpoint(&engine);
        engine.close().unwrap();
        let error = restore(&disk, "gone", last).unwrap_err();
        assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("missing"), "{error}");
    });
}

/// Damage above the commit, and in tables, is not asked for; damage below is named, and copied nowhere.
#[test]
fn only_what_is_needed_of_the_log_has_to_be_whole() {
    let base = SimDisk::new();
    let mut prepared_ledger = None;
    sim::run(1, || prepared_ledger = Some(prepared(&base)));
    let (ledger, at) = prepared_ledger.unwrap();
    let token = ledger[at + 70].0;
    let from = ledger[at - 1].0.lsn.get();
    let (mut refused, mut restored) = (0, 0);
    for (path, bytes) in files(&base, DB) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "HISTORY" || name == "LOCK" {
            continue;
        }
        for damage in 0..if bytes.len() < 64 { 1 } else { 3 } {
            let disk = base.crash_point().power_loss(&Loss::Nothing, Granularity::default());
            sim::run(1, || {
                match damage {
                    0 => disk.delete(&path).unwrap(),
                    1 => disk.overwrite(&path, 0, &[0; 32]).unwrap(),
                    _ => disk.overwrite(&path, bytes.len() as u64 / 2 - 32, &[7; 64]).unwrap(),
                }
                match restore(&disk, NEXT, token) {
                    Ok(_) => {
                        check_at(&disk, NEXT, &state(&ledger, token.lsn.get()), &name);
                        restored += 1;
                    }
                    Err(error) => {
                        let base = u64::from_str_radix(name.strip_suffix(".log").expect("a segment"), 16).unwrap();
                        assert!(base < token.lsn.get() && base + bytes.len() as u64 > from, "{name}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
                        refused += 1;
                    }
                }
            });
        }
    }
    assert!(refused > 3 && restored > 20, "{refused}, {restored}");
}

/// A crash or a failure at each call leaves an unfinished copy, or nothing, or the whole, and the same call goes on.
#[test]
fn a_restore_that_is_cut_off_anywhere_is_unfinished_and_gone_on_with() {
    let disk = SimDisk::new();
    let mut kept = None;
    sim::run(1, || kept = Some(prepared(&disk)));
    let (ledger, at) = kept.unwrap();
    let token = ledger[at + 70].0;
    let expected = state(&ledger, token.lsn.get());
    let points: Arc<std::sync::Mutex<Vec<CrashPoint>>> = Arc::default();
    sim::run(1, || {
        let taken = Arc::clone(&points);
        disk.on_op(move |disk, op| {
            if op.kind.mutates() {
                taken.lock().unwrap().push(disk.crash_point());
            }
        });
        restore(&disk, NEXT, token).unwrap();
        disk.clear_on_op();
    });
    let points = points.lock().unwrap();
    assert!(points.len() > 30, "{}", points.len());
    for (number, point) in points.iter().enumerate() {
        for loss in [Loss::Nothing, Loss::Everything, Loss::Seeded(number as u64)] {
            let crashed = point.power_loss(&loss, Granularity::default());
            sim::run(1, || {
                match open_at(&crashed, NEXT) {
                    Ok(engine) => assert!(contents(&engine) == expected, "{number}"),
                    Err(error) => {
                        let is_none = matches!(error.kind(), ErrorKind::NotADatabase | ErrorKind::Io);
                        assert!(is_none || error.to_string().contains("unfinished"), "{number}: {error}");
                        // Also when it is another commit that is wanted now.
                        let token = if number % 2 == 0 { token } else { ledger[at + 40].0 };
                        restore(&crashed, NEXT, token).unwrap();
                        check_at(&crashed, NEXT, &state(&ledger, token.lsn.get()), "gone on with");
                    }
                }
            });
        }
    }
    for kind in [OpKind::Sync, OpKind::Write, OpKind::Rename, OpKind::SyncDir] {
        for skip in 0.. {
            let failing = disk.crash_point().power_loss(&Loss::Nothing, Granularity::default());
            let to = "restored/again";
            let mut was_hit = false;
            sim::run(1, || {
                failing.inject(Fault::once(OpSelector::of(kind).on(to).skip(skip), FaultKind::Errno(5)));
                let restored = restore(&failing, to, token);
                was_hit = failing.fault_hits() > 0;
                failing.clear_faults();
                if restored.is_err() && open_at(&failing, to).is_err() {
                    restore(&failing, to, token).unwrap();
                }
                check_at(&failing, to, &expected, "after a failure");
            });
            if !was_hit {
                break;
            }
        }
    }
}
