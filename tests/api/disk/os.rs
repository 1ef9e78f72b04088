//! The operating system's disk.

use super::*;

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forelog-disk-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        OsDisk.create_dir(&path).unwrap();
        Scratch(path)
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
    create(&OsDisk, dir.path("file"));
    OsDisk.create_dir(&dir.path("a/b")).unwrap();
    OsDisk.create_dir(&dir.path("a/b")).unwrap();
    let _lock = OsDisk.lock(&dir.path("LOCK")).unwrap().unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.path("file")), mode(dir.path("LOCK"))), (0o600, 0o600));
    assert_eq!((mode(dir.0.clone()), mode(dir.path("a")), mode(dir.path("a/b"))), (0o700, 0o700, 0o700));
}

#[cfg(unix)]
#[test]
fn create_follows_no_link_and_cuts_no_file() {
    let dir = Scratch::new("create");
    write_all_at(&*create(&OsDisk, dir.path("file")), b"bytes", 0).unwrap();
    std::os::unix::fs::symlink(dir.path("target"), dir.path("link")).unwrap();
    for name in ["file", "link"] {
        let error = OsDisk.open(&dir.path(name), Access::Create).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    assert!(!dir.path("target").exists());
    assert_eq!(std::fs::read(dir.path("file")).unwrap(), b"bytes");
    assert_eq!(OsDisk.open(&dir.0, Access::Read).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn second_lock_is_refused_until_the_first_is_dropped() {
    let dir = Scratch::new("lock");
    let held = OsDisk.lock(&dir.path("LOCK")).unwrap().expect("free");
    assert!(OsDisk.lock(&dir.path("LOCK")).unwrap().is_none());
    drop(held);
    assert!(OsDisk.lock(&dir.path("LOCK")).unwrap().is_some());
    assert!(dir.path("LOCK").exists(), "the file stays");
}

#[test]
fn reads_stop_at_the_end_and_mappings_check_their_bounds() {
    let dir = Scratch::new("read");
    let file = create(&OsDisk, dir.path("file"));
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
    create(&OsDisk, dir.path("file"));
    assert!(OsDisk.open(&dir.path("file"), Access::Read).unwrap().write_at(b"x", 0).is_err());
    assert_eq!(OsDisk.open(&dir.path("none"), Access::Write).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn names_are_listed_renamed_and_removed() {
    let dir = Scratch::new("names");
    write_all_at(&*create(&OsDisk, dir.path("a")), b"a", 0).unwrap();
    create(&OsDisk, dir.path("b")).sync_all().unwrap();
    OsDisk.rename(&dir.path("a"), &dir.path("b")).unwrap();
    OsDisk.sync_dir(&dir.0).unwrap();
    assert_eq!(OsDisk.list(&dir.0).unwrap(), ["b"]);
    assert_eq!(std::fs::read(dir.path("b")).unwrap(), b"a");
    OsDisk.remove(&dir.path("b")).unwrap();
    assert!(OsDisk.list(&dir.0).unwrap().is_empty());
}

#[test]
fn relative_and_odd_paths_work() {
    OsDisk.sync_dir("".as_ref()).expect("the parent of a bare name");
    assert!(OsDisk.list("".as_ref()).unwrap().iter().any(|name| name == "Cargo.toml"));
    OsDisk.create_dir("".as_ref()).unwrap();
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let dir = Scratch::new("odd");
        let name = std::ffi::OsStr::from_bytes(b"not \xFF UTF-8");
        create(&OsDisk, dir.0.join(name));
        assert_eq!(OsDisk.list(&dir.0).unwrap(), [name]);
    }
}

#[test]
fn a_sync_can_be_started_before_it_is_asked_for() {
    let dir = Scratch::new("start");
    let file = create(&OsDisk, dir.path("file"));
    for offset in [0, 10_000] {
        write_all_at(&*file, b"bytes", offset).unwrap();
        file.start_sync().unwrap();
        file.start_sync().unwrap();
        file.sync_data().unwrap();
    }
    let mut bytes = [0; 5];
    read_exact_at(&*file, &mut bytes, 10_000).unwrap();
    assert_eq!(&bytes, b"bytes");
}
