//! What a refusal and a reader leave behind: nothing. And reading needs nothing but reading.

use std::io;
use std::sync::Arc;

use forelog::unstable::disk::{Access, DirCall, Disk};
use forelog::{Engine, ErrorKind, LockHeld, Lsn, Options};

use super::ground::{Ground, is_lock, keys, put, verify, watched};

/// Refused opens left a LOCK in directories of others, and a verify by root one that its owner could not open (B12).
#[test]
fn a_refused_open_leaves_no_trace() {
    for ground in Ground::both("refused") {
        ground.write("foreign/notes.txt", b"not ours");
        let kind = |name: &str, create| {
            ground.options().create(create).open_on(ground.disk(), ground.path(name)).unwrap_err().kind()
        };
        for create in [true, false] {
            assert_eq!(kind("foreign", create), ErrorKind::NotADatabase);
            assert_eq!(kind("foreign/notes.txt", create), ErrorKind::NotADatabase);
        }
        assert_eq!(ground.names("foreign").unwrap(), ["notes.txt"]);
        assert_eq!(kind("missing/below", false), ErrorKind::NotADatabase);
        assert_eq!(ground.names("missing"), None);
        ground.write("empty/x", b"");
        ground.remove("empty/x");
        assert_eq!(kind("empty", false), ErrorKind::NotADatabase);
        assert_eq!(ground.names("empty").unwrap(), [""; 0]);

        // A database that came without its LOCK, and is refused.
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        engine.close().unwrap();
        ground.remove("db/LOCK");
        let history = ground.read("db/HISTORY");
        let damaged = |bytes: &[u8], expected| {
            ground.write("db/HISTORY", bytes);
            let before = ground.names("db").unwrap();
            assert_eq!(kind("db", true), expected);
            assert_eq!(ground.names("db").unwrap(), before);
        };
        damaged(&history[..20], ErrorKind::Damaged);
        ground.write("db/HISTORY", &history);
        let segment = ground.names("db").unwrap().into_iter().find(|name| name.ends_with(".log")).unwrap();
        let bytes = ground.read(&format!("db/{segment}"));
        let mut rotten = bytes.clone();
        rotten[600] ^= 1;
        ground.write(&format!("db/{segment}"), &rotten);
        damaged(&history, ErrorKind::Damaged);
        ground.write(&format!("db/{segment}"), &bytes);
        assert_eq!(keys(&ground.open("db").unwrap()), ["a"]);
    }
}

/// The keys that a reader without a right to write finds, and how it was kept from writers.
fn read(disk: Arc<dyn Disk>, path: std::path::PathBuf) -> (Vec<String>, LockHeld) {
    let database = Engine::read_only_on(disk, path).unwrap();
    assert_eq!(database.keyspace_names().unwrap(), ["rows"]);
    assert!(database.lsn() > Lsn::ZERO);
    let key = |entry: forelog::Result<(forelog::Key, forelog::Value)>| String::from_utf8(entry.unwrap().0.to_vec());
    let all: Vec<_> = database.range("rows", ..).unwrap().map(|entry| key(entry).unwrap()).collect();
    assert_eq!(database.prefix("rows", "a").unwrap().count(), 1);
    assert_eq!(database.range("row", ..).unwrap_err().kind(), ErrorKind::NoSuchKeyspace);
    (all, database.recovery().lock.clone())
}

/// "there is no forelog database in L", of an open that was to make one.
#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_told_by_name() {
    let [_, ground] = Ground::both("dangling");
    ground.link("link", "nowhere");
    for name in ["link", "link/below"] {
        let error = ground.open(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADatabase);
        let told = error.to_string();
        assert!(told.contains("link is a symbolic link that leads nowhere"), "{told}");
    }
    assert_eq!(ground.names("nowhere"), None);
    let error = ground.options().create(false).open_on(ground.disk(), ground.path("link")).unwrap_err();
    assert!(error.to_string().contains("there is no forelog database"), "{error}");
}

#[test]
fn a_reader_creates_nothing() {
    for ground in Ground::both("reader") {
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        assert_eq!(verify(ground.disk(), ground.path("db")).unwrap_err().kind(), ErrorKind::Locked);
        let error = Engine::read_only_on(ground.disk(), ground.path("db")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        engine.close().unwrap();
        ground.remove("db/LOCK");
        let before = ground.names("db").unwrap();
        assert_eq!(verify(ground.disk(), ground.path("db")).unwrap().lock, LockHeld::Both);
        assert_eq!(read(ground.disk(), ground.path("db")), (vec!["a".to_owned()], LockHeld::Both));
        let saved = Engine::salvage_on(ground.disk(), ground.path("db"), ground.path("copy")).unwrap();
        assert!(saved.is_complete() && saved.lock == LockHeld::Both);
        assert_eq!(ground.names("db").unwrap(), before);
        ground.write("foreign/notes.txt", b"not ours");
        assert!(verify(ground.disk(), ground.path("foreign")).is_err());
        assert!(Engine::read_only_on(ground.disk(), ground.path("foreign")).is_err());
        assert!(Engine::salvage_on(ground.disk(), ground.path("foreign"), ground.path("copy2")).is_err());
        assert_eq!((ground.names("foreign").unwrap(), ground.names("copy2")), (vec!["notes.txt".to_owned()], None));
    }
}

/// Two readers do not exclude each other, a reader and a writer do.
#[test]
fn readers_share_the_lock() {
    for ground in Ground::both("readers") {
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        engine.close().unwrap();
        let (disk, path) = (ground.disk(), ground.path("db"));
        let mut once = true;
        let inner = ground.disk();
        let watch = move |call: DirCall<'_>| {
            // As soon as the first reader has both locks.
            if matches!(call, DirCall::List) && std::mem::take(&mut once) {
                verify(Arc::clone(&inner), &path).expect("a second reader");
                let writer = Options::new().open_on(Arc::clone(&inner), &path);
                assert_eq!(writer.unwrap_err().kind(), ErrorKind::Locked);
            }
            Ok(())
        };
        verify(watched(disk, watch), ground.path("db")).unwrap();
    }
}

/// Salvage of a read-only mount, or of what others own, was refused because it could not be locked (B5).
#[test]
fn what_cannot_be_written_or_locked_can_be_read() {
    for ground in Ground::both("read-only") {
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        engine.close().unwrap();
        let read_only = watched(ground.disk(), |call| match call {
            DirCall::Open(_, Access::Write | Access::Create)
            | DirCall::Rename(..)
            | DirCall::Remove(_)
            | DirCall::Sync => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(()),
        });
        assert_eq!(verify(Arc::clone(&read_only), ground.path("db")).unwrap().lock, LockHeld::Both);
        assert_eq!(read(read_only, ground.path("db")), (vec!["a".to_owned()], LockHeld::Both));
        let others = watched(ground.disk(), |call| match call {
            DirCall::Open(name, Access::Read) if is_lock(name) => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        });
        let report = verify(Arc::clone(&others), ground.path("db")).unwrap();
        assert!(matches!(&report.lock, LockHeld::Not { why } if why.contains("LOCK")), "{:?}", report.lock);
        let (there, lock) = read(Arc::clone(&others), ground.path("db"));
        assert!(there == ["a"] && matches!(lock, LockHeld::Not { .. }), "{lock:?}");
        let saved = Engine::salvage_on(Arc::clone(&others), ground.path("db"), ground.path("copy")).unwrap();
        assert!(saved.is_complete() && matches!(saved.lock, LockHeld::Not { .. }));
        assert_eq!(keys(&ground.open("copy").unwrap()), ["a"]);

        // What looks like damage may be a writer's doing, if nothing kept one away.
        let history = ground.read("db/HISTORY");
        ground.write("db/HISTORY", &history[..history.len() - 1]);
        let told = |disk| Engine::read_only_on(disk, ground.path("db")).unwrap_err();
        let (alone, shared) = (told(ground.disk()), told(others));
        assert_eq!((alone.kind(), shared.kind()), (ErrorKind::Damaged, ErrorKind::Damaged));
        assert!(!alone.to_string().contains("not locked"), "{alone}");
        assert!(shared.to_string().contains("not locked: read while it may be written"), "{shared}");
    }
}

/// A real read-only mount of a real directory, where that can be had.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_mount_can_be_verified_and_salvaged() {
    let [_, ground] = Ground::both("mount");
    let engine = ground.open("db").unwrap();
    put(&engine, "a").unwrap();
    engine.close().unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new("mount").args(arguments).arg(ground.path("db")).output();
        done.is_ok_and(|output| output.status.success())
    };
    let db = ground.path("db").to_string_lossy().into_owned();
    if !mount(&["--bind", &db]) || !mount(&["-o", "remount,bind,ro"]) {
        let _ = std::process::Command::new("umount").arg(&db).output();
        return eprintln!("skipped: nothing can be mounted here");
    }
    let verified = verify(ground.disk(), ground.path("db"));
    let saved = Engine::salvage_on(ground.disk(), ground.path("db"), ground.path("copy"));
    let opened = ground.open("db");
    assert!(std::process::Command::new("umount").arg(&db).status().unwrap().success());
    assert_eq!(verified.unwrap().lock, LockHeld::Both);
    assert!(saved.unwrap().is_complete());
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(keys(&ground.open("copy").unwrap()), ["a"]);
}

/// A fresh volume with `lost+found` was refused (C11).
#[test]
fn names_that_systems_put_into_any_directory_do_not_make_it_foreign() {
    let names =
        ["lost+found/x", ".Trash-1000/x", ".snapshot/x", ".nfs00000001", ".DS_Store", "System Volume Information/x"];
    for ground in Ground::both("nobodys") {
        names.iter().for_each(|name| ground.write(&format!("db/{name}"), b""));
        let engine = ground.open("db").unwrap();
        put(&engine, "a").unwrap();
        engine.close().unwrap();
        assert_eq!(keys(&ground.open("db").unwrap()), ["a"]);
        ground.write("other/lost+found/x", b"");
        ground.write("other/mine", b"");
        let error = ground.open("other").unwrap_err();
        assert!(error.to_string().contains("(mine)"), "{error}");
    }
}

/// "cannot sync directory .: Invalid argument" (C12).
#[test]
fn a_file_system_that_syncs_no_directory_is_told_by_name() {
    for errno in [22, 95] {
        for ground in Ground::both("no-fsync") {
            let refusing = watched(ground.disk(), move |call| match call {
                DirCall::Sync | DirCall::SyncName => Err(io::Error::from_raw_os_error(errno)),
                _ => Ok(()),
            });
            let error = ground.options().open_on(refusing, ground.path("above/db")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let told = error.to_string();
            assert!(told.contains("refuses an fsync of a directory") && told.contains("ext4"), "{told}");
            if let Ground::Os(root) = &ground {
                let above = format!("cannot sync directory {}:", root.parent().unwrap().display());
                assert!(told.starts_with(&above), "{told}");
            }
            assert_eq!(ground.names("above"), None, "what was made is taken back");
        }
    }
}
