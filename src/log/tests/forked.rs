//! A log in a child process, however that was made.
#![cfg(target_os = "linux")]

use std::sync::Arc;

use crate::base::types::CommitMode::Sync;
use crate::disk::sim::SimDisk;
use crate::log::LogOptions;
use crate::rt::process::generation;

/// Runs `body` in a process that a bare clone(2) makes: libc knows nothing of it, and runs no handler.
fn cloned(body: impl FnOnce() -> i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: without CLONE_VM the child has its own copy of the memory. Its only thread runs `body`, which takes no lock
    // that another thread may have held, and leaves by _exit, so that no destructor of the parent's runs there.
    #[expect(unsafe_code, reason = "clone has no safe binding")]
    unsafe {
        let child = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if child == 0 {
            libc::_exit(body());
        }
        let child = libc::pid_t::try_from(child).unwrap();
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
    }
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

/// The generation was counted by a handler that libc runs, so commits of a child of a bare clone were acknowledged, into
/// files that the parent wrote over.
#[test]
fn a_child_of_a_bare_clone_has_a_generation_of_its_own_and_so_has_its_child() {
    let log = LogOptions::new().open_on(Arc::new(SimDisk::new()), "log").unwrap();
    let parents = log.inner().generation;
    let status = cloned(|| {
        // Nothing that takes memory: another thread of the parent may have held the allocator's lock.
        let own = generation();
        let its_child = cloned(|| i32::from(generation() > own)) == Some(1);
        i32::from(own > parents) + 2 * i32::from(generation() == own) + 4 * i32::from(its_child)
    });
    assert_eq!(status, Some(7));
    assert_eq!(generation(), parents);
    log.append(b"parent", Sync).unwrap();
    log.close().unwrap();
}
