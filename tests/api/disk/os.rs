//! The operating system's disk.

use super::*;

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forelog-disk-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        OsDisk.open_dir(path.parent().unwrap()).unwrap().child(path.file_name().unwrap(), Access::Create).unwrap();
        Scratch(path)
    }

    fn dir(&self) -> Arc<dyn Dir> {
        OsDisk.open_dir(&self.0).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new("modes");
    create(&*dir.dir(), "file");
    create(&*dir.dir(), "LOCK");
    dir.dir().child("a".as_ref(), Access::Create).unwrap().child("b".as_ref(), Access::Create).unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.path("file")), mode(dir.path("LOCK"))), (0o600, 0o600));
    assert_eq!((mode(dir.0.clone()), mode(dir.path("a")), mode(dir.path("a/b"))), (0o700, 0o700, 0o700));
}

#[cfg(unix)]
#[test]
fn create_follows_no_link_and_cuts_no_file() {
    let dir = Scratch::new("create");
    write_all_at(&*create(&*dir.dir(), "file"), b"bytes", 0).unwrap();
    std::os::unix::fs::symlink(dir.path("target"), dir.path("link")).unwrap();
    for name in ["file", "link"] {
        let error = dir.dir().open(name.as_ref(), Access::Create).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    assert!(!dir.path("target").exists());
    assert_eq!(std::fs::read(dir.path("file")).unwrap(), b"bytes");
    dir.dir().child("below".as_ref(), Access::Create).unwrap();
    for name in ["below", ".", "..", "", "below/file", "/etc/hostname"] {
        assert_eq!(
            dir.dir().open(name.as_ref(), Access::Read).unwrap_err().kind(),
            io::ErrorKind::InvalidInput,
            "{name}"
        );
    }
}

#[test]
fn second_lock_is_refused_until_the_first_is_dropped() {
    let dir = Scratch::new("lock");
    create(&*dir.dir(), "LOCK");
    let file = |mode| dir.dir().open("LOCK".as_ref(), Access::Write).unwrap().lock(mode).unwrap();
    let itself = |mode| dir.dir().lock(mode).unwrap();
    for lock in [&file as &dyn Fn(LockMode) -> Option<Box<dyn forelog::unstable::disk::DiskLock>>, &itself] {
        let held = lock(LockMode::Exclusive).expect("free");
        assert!(lock(LockMode::Exclusive).is_none() && lock(LockMode::Shared).is_none());
        drop(held);
        let readers = [lock(LockMode::Shared), lock(LockMode::Shared)];
        assert!(readers.iter().all(Option::is_some) && lock(LockMode::Exclusive).is_none());
        drop(readers);
        assert!(lock(LockMode::Exclusive).is_some());
    }
    let shared = dir.dir();
    let _held = shared.lock(LockMode::Exclusive).unwrap().expect("free");
    assert!(shared.lock(LockMode::Exclusive).unwrap().is_none(), "through the same handle, too");
    assert!(dir.path("LOCK").exists(), "the file stays");
}

#[test]
fn reads_stop_at_the_end_and_mappings_check_their_bounds() {
    let dir = Scratch::new("read");
    let file = create(&*dir.dir(), "file");
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 0);
    write_all_at(&*file, b"bytes", 3).unwrap();
    assert_eq!(file.len().unwrap(), 8);
    assert_eq!(file.read_at(&mut buffer, 6).unwrap(), 2);
    assert_eq!(file.read_at(&mut buffer, 8).unwrap(), 0);
    read_exact_at(&*file, &mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"\0\0\0bytes");

    let map = file.map().unwrap().expect("the operating system maps files");
    buffer = [0; 8];
    assert!(map.copy_to(&mut buffer[..5], 3));
    assert_eq!(&buffer[..5], b"bytes");
    for offset in [4, 9, u64::MAX] {
        assert!(!map.copy_to(&mut buffer[..5], offset));
    }
    file.set_len(0).unwrap();
    assert!(!file.map().unwrap().unwrap().copy_to(&mut buffer, 0), "an empty file maps too");
}

#[test]
fn read_access_does_not_write() {
    let dir = Scratch::new("access");
    create(&*dir.dir(), "file");
    assert!(dir.dir().open("file".as_ref(), Access::Read).unwrap().write_at(b"x", 0).is_err());
    assert_eq!(dir.dir().open("none".as_ref(), Access::Write).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn names_are_listed_renamed_and_removed() {
    let dir = Scratch::new("names");
    write_all_at(&*create(&*dir.dir(), "a"), b"a", 0).unwrap();
    create(&*dir.dir(), "b").sync_all().unwrap();
    dir.dir().rename("a".as_ref(), "b".as_ref()).unwrap();
    dir.dir().sync().unwrap();
    dir.dir().sync_name().unwrap();
    assert_eq!(dir.dir().list().unwrap(), ["b"]);
    assert_eq!(std::fs::read(dir.path("b")).unwrap(), b"a");
    dir.dir().remove("b".as_ref()).unwrap();
    assert!(dir.dir().list().unwrap().is_empty());
}

#[test]
fn a_rename_to_a_free_name_replaces_nothing() {
    let dir = Scratch::new("free");
    write_all_at(&*create(&*dir.dir(), "a"), b"a", 0).unwrap();
    create(&*dir.dir(), "file");
    dir.dir().child("below".as_ref(), Access::Create).unwrap();
    let mut taken = vec!["file", "below"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path("nowhere"), dir.path("link")).unwrap();
        taken.push("link");
    }
    for name in taken {
        let error = dir.dir().rename_new("a".as_ref(), name.as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
    }
    assert_eq!(std::fs::read(dir.path("file")).unwrap(), b"");
    dir.dir().rename_new("a".as_ref(), "b".as_ref()).unwrap();
    assert_eq!((std::fs::read(dir.path("b")).unwrap(), dir.path("a").exists()), (b"a".to_vec(), false));
    assert_eq!(dir.dir().rename_new("a".as_ref(), "c".as_ref()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn relative_and_odd_paths_work() {
    let here = OsDisk.open_dir("".as_ref()).expect("the parent of a bare name");
    here.sync().unwrap();
    assert!(here.list().unwrap().iter().any(|name| name == "Cargo.toml"));
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let dir = Scratch::new("odd");
        let name = std::ffi::OsStr::from_bytes(b"not \xFF UTF-8");
        create(&*dir.dir(), name);
        assert_eq!(dir.dir().list().unwrap(), [name]);
    }
}

#[test]
fn a_sync_can_be_started_before_it_is_asked_for() {
    let dir = Scratch::new("start");
    let file = create(&*dir.dir(), "file");
    for offset in [0, 10_000] {
        write_all_at(&*file, b"bytes", offset).unwrap();
        file.start_writeback().unwrap();
        file.start_writeback().unwrap();
        file.sync_data().unwrap();
    }
    let mut bytes = [0; 5];
    read_exact_at(&*file, &mut bytes, 10_000).unwrap();
    assert_eq!(&bytes, b"bytes");
}
