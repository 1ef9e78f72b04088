//! Restore, progress and close, and what is refused.

use std::sync::{Arc, Mutex};

use crashkit::DB;
use forelog::salvage::Completeness;
use forelog::sim::{self, SimDisk};
use forelog::{BackupOptions, Checkpoints, Engine, ErrorKind, Outcome, ReadOnlyOptions};

use super::{NEXT, State, TO, all, backup, check_at, contents, files, open_at, options, prepared, write};

#[test]
fn a_restored_backup_is_the_state_and_answers_for_its_tokens() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, mut ledger) = prepared(&disk);
        let made = backup(&engine, &disk, TO).unwrap();
        let (expected, token) = (all(&ledger), ledger.last().unwrap().0);
        write(&engine, &mut ledger, 1, Some(99));
        engine.close().unwrap();
        let restore = |to: &str| Engine::restore_on(Arc::new(disk.clone()), TO, to, BackupOptions::new());
        let before = files(&disk, TO);
        assert_eq!(restore(DB).unwrap_err().kind(), ErrorKind::InvalidInput);
        check_at(&disk, DB, &all(&ledger), "refused");
        let restored = restore(NEXT).unwrap();
        assert_eq!((restored.lsn, restored.files), (made.lsn, made.files));
        assert!(files(&disk, TO) == before);
        let engine = open_at(&disk, NEXT).unwrap();
        assert!(contents(&engine) == expected);
        assert_eq!(engine.outcome(&token).unwrap(), Outcome::Durable);
        assert!(engine.recovery().crashed.is_none());
        // It is verified and salvaged as any database.
        let seen = ReadOnlyOptions::new().verify_on(Arc::new(disk.clone()), TO).unwrap();
        assert!(seen.obstacle.is_none() && seen.commit_obstacle.is_none() && seen.recovered_to == made.lsn, "{seen:?}");
        let salvaged = Engine::salvage_on(Arc::new(disk.clone()), TO, "saved").unwrap();
        assert!(salvaged.is_complete() && salvaged.completeness == Completeness::Prefix, "{salvaged:?}");
        check_at(&disk, "saved", &expected, "salvaged");
        // One that has a log of its own is no backup any more.
        let copy = open_at(&disk, TO).unwrap();
        assert_eq!(restore("backups/three").unwrap_err().kind(), ErrorKind::Locked);
        write(&copy, &mut ledger, 2, Some(1));
        copy.close().unwrap();
        let refused = restore("backups/three").unwrap_err();
        assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("written to"), "{refused}");
        assert!(files(&disk, "backups/three").is_empty());
    });
}

#[test]
fn a_backup_ends_when_its_engine_is_closed() {
    sim::run(1, || {
        let disk = SimDisk::new();
        let (engine, ledger) = prepared(&disk);
        let closed = engine.clone();
        let with = BackupOptions::new().on_progress(move |_| closed.close().unwrap());
        let error = engine.backup_on(Arc::new(disk.clone()), TO, with).unwrap_err();
        assert!(error.kind() == ErrorKind::Closed && error.to_string().contains("unfinished"), "{error}");
        let engine = open_at(&disk, DB).unwrap();
        let told: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
        let note = Arc::clone(&told);
        let with = BackupOptions::new()
            .on_progress(move |progress| note.lock().unwrap().push((progress.bytes, progress.total_bytes)));
        let report = engine.backup_on(Arc::new(disk.clone()), TO, with).unwrap();
        let told = told.lock().unwrap().clone();
        assert!(told.is_sorted() && told.len() as u64 >= report.files, "{told:?}");
        let total = report.bytes_copied + report.bytes_reused;
        assert_eq!(*told.last().unwrap(), (total, total));
        check_at(&disk, TO, &all(&ledger), "gone on with");
    });
}

#[test]
fn what_cannot_be_backed_up_or_where_is_refused() {
    let disk = SimDisk::new();
    let refused = |engine: &Engine, to: &str| backup(engine, &disk, to).unwrap_err();
    let engine = Engine::in_memory().unwrap();
    assert_eq!(refused(&engine, TO).kind(), ErrorKind::Unsupported);
    let engine = options().checkpoints(Checkpoints::Never).open_on(Arc::new(disk.clone()), "never").unwrap();
    engine.create_keyspace("k").unwrap();
    let error = refused(&engine, TO);
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("save_to"), "{error}");
    let (engine, ledger) = prepared(&disk);
    for to in [DB.to_owned(), format!("{DB}/below"), "never".to_owned()] {
        let error = refused(&engine, &to);
        assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Locked), "{to}: {error}");
    }
    assert!(files(&disk, "backups").is_empty());
    // A copy that salvage or save_to has left is not gone on with.
    disk.write_file("backups/one/UNFINISHED", b"").unwrap();
    disk.write_file("backups/one/HISTORY.unfinished", b"").unwrap();
    disk.write_file("backups/one/0000000000000000.log", b"").unwrap();
    assert_eq!(refused(&engine, TO).kind(), ErrorKind::InvalidInput);
    disk.remove_tree("backups/one").unwrap();
    // There is nothing in it.
    let empty = options().open_on(Arc::new(disk.clone()), "empty").unwrap();
    assert_eq!(backup(&empty, &disk, NEXT).unwrap().files, 0);
    check_at(&disk, NEXT, &State::new(), "empty");
    // The commits of one life are those of the next one.
    engine.close().unwrap();
    let engine = open_at(&disk, DB).unwrap();
    backup(&engine, &disk, TO).unwrap();
    check_at(&disk, TO, &all(&ledger), "of an engine that has written nothing");
}
