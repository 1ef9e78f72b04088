//! What is done where a system or a file system does not know the call that replaces nothing.

use std::path::PathBuf;

use super::*;

#[test]
fn without_the_call_a_link_does_it_and_replaces_nothing_either() {
    let path = std::env::temp_dir().join(format!("forelog-rename-new-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    let dir = OsDir::open_path(&path, None).unwrap().dir;
    let at = |name: &str| -> PathBuf { path.join(name) };
    for refusal in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM] {
        let rename = |from: &str, to: &str| rename_new(&dir, from.as_ref(), to.as_ref(), |_, _, _| Err(refusal));
        std::fs::write(at("a"), b"a").unwrap();
        std::fs::write(at("taken"), b"taken").unwrap();
        assert_eq!(rename("a", "taken"), Err(Errno::EXIST));
        assert_eq!(
            (std::fs::read(at("taken")).unwrap(), std::fs::read(at("a")).unwrap()),
            (b"taken".into(), b"a".into())
        );
        rename("a", "b").unwrap();
        assert_eq!((std::fs::read(at("b")).unwrap(), at("a").exists()), (b"a".to_vec(), false));
        assert_eq!(rename("a", "c"), Err(Errno::NOENT));
        std::fs::remove_file(at("b")).unwrap();
    }
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn without_the_call_a_directory_is_renamed_to_a_name_that_is_looked_up_first() {
    let path = std::env::temp_dir().join(format!("forelog-rename-child-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).unwrap();
    let dir = OsDir::open_path(&path, None).unwrap().dir;
    let at = |name: &str| -> PathBuf { path.join(name) };
    for name in ["a", "taken"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("file"), b"file").unwrap();
    for refusal in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM] {
        let rename = |from: &str, to: &str| rename_child(&dir, from.as_ref(), to.as_ref(), |_, _, _| Err(refusal));
        for taken in ["taken", "file"] {
            assert_eq!(rename("a", taken), Err(Errno::EXIST));
        }
        assert_eq!(rename("file", "b"), Err(Errno::NOTDIR));
        assert_eq!(rename("none", "b"), Err(Errno::NOENT));
        rename("a", "b").unwrap();
        assert!(at("b").is_dir() && !at("a").exists());
        rename("b", "a").unwrap();
    }
    std::fs::remove_dir_all(&path).unwrap();
}
