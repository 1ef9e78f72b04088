use std::path::PathBuf;

use crate::scale::cgroup::{Controller, Version};
use crate::scale::cli::bytes;

#[test]
fn the_memory_controller_is_found_in_either_version() {
    let one =
        "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n";
    let two = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n";
    let found = |mounts: &str, has_memory| Controller::in_mounts(mounts, |_| has_memory);
    let first = Controller { version: Version::One, root: PathBuf::from("/sys/fs/cgroup/memory") };
    let second = Controller { version: Version::Two, root: PathBuf::from("/sys/fs/cgroup/unified") };
    assert_eq!(found(one, false), Some(first.clone()));
    assert_eq!(found(two, true), Some(second));
    assert_eq!(found(two, false), None);
    assert_eq!(found(&format!("{two}{one}"), false), Some(first));
    assert_eq!(found("tmpfs /memory tmpfs rw,memory 0 0\n", true), None);
}

#[test]
fn sizes_have_units() {
    assert_eq!(bytes("1GiB"), Ok(1 << 30));
    assert_eq!(bytes("64 MiB"), Ok(64 << 20));
    assert_eq!(bytes("33554432"), Ok(32 << 20));
    for wrong in ["", "1", "MiB", "1MB", "-1GiB", "99999999999GiB"] {
        assert!(bytes(wrong).is_err(), "{wrong}");
    }
}
