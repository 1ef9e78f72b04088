//! Flushes in one submission to io_uring, and what becomes of them where the kernel refuses.

use crashkit::TempDir;
use forelog::{CommitMode, Engine, IoBackend, Keyspace, Options};

fn open(dir: &TempDir) -> Engine {
    Options::new().segment_bytes(4096).io_uring(true).open(dir).unwrap()
}

fn put(engine: &Engine, keys: &Keyspace, key: u32, mode: CommitMode) {
    let mut batch = engine.batch().unwrap();
    batch.put(keys, key.to_be_bytes(), [7; 300]).unwrap();
    assert!(batch.commit_with(mode).unwrap().is_durable() || mode != CommitMode::Sync);
}

/// Commits `count` times in every mode, over many segments, and finds all of it after a reopen.
fn commit_and_reopen(dir: &TempDir, engine: &Engine, count: u32) {
    let keys = engine.create_keyspace("keys").unwrap();
    let modes = [CommitMode::Sync, CommitMode::Written, CommitMode::Async];
    (0..count).for_each(|key| put(engine, &keys, key, modes[key as usize % modes.len()]));
    engine.close().unwrap();
    let engine = Engine::open(dir).unwrap();
    let keys = engine.open_keyspace("keys").unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&keys).unwrap().count(), count as usize);
}

fn why(engine: &Engine) -> String {
    match engine.io() {
        IoBackend::Calls { why: Some(why) } => why,
        other => panic!("{other:?}"),
    }
}

/// Has one system call fail with `code` from now on, in this thread and those that it starts.
fn deny(call: libc::c_long, code: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k };
    let call = u32::try_from(call).unwrap();
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | u32::try_from(code).unwrap()),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program within the call. It concerns this thread and those that it starts.
    #[expect(unsafe_code, reason = "a filter of system calls has no safe binding")]
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(set, "no filter: {}", std::io::Error::last_os_error());
}

/// Whether this machine has io_uring, and a word if it has not.
fn is_there(engine: &Engine) -> bool {
    match engine.io() {
        IoBackend::IoUring => true,
        other => {
            eprintln!("skipped: {other:?}");
            false
        }
    }
}

#[test]
fn commits_are_there_after_a_reopen() {
    let dir = TempDir::new("test");
    let engine = open(&dir);
    if is_there(&engine) {
        commit_and_reopen(&dir, &engine, 300);
    }
}

#[test]
fn threads_share_one_ring() {
    let dir = TempDir::new("test");
    let engine = open(&dir);
    let keys = engine.create_keyspace("keys").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, keys) = (&engine, &keys);
            scope.spawn(move || {
                let mode = if thread == 3 { CommitMode::Written } else { CommitMode::Sync };
                (0..60).for_each(|number| put(engine, keys, thread * 1000 + number, mode));
            });
        }
    });
    engine.close().unwrap();
    let engine = Engine::open(&dir).unwrap();
    let keys = engine.open_keyspace("keys").unwrap();
    assert_eq!(engine.snapshot().unwrap().iter(&keys).unwrap().count(), 240);
}

#[test]
fn it_is_not_used_unasked_and_a_disk_of_ones_own_does_without() {
    let dir = TempDir::new("test");
    assert_eq!(Engine::open(&dir).unwrap().io(), IoBackend::Calls { why: None });
    let engine = Options::new().io_uring(true).in_memory().unwrap();
    assert!(!why(&engine).is_empty());
}

#[test]
fn where_the_kernel_gives_no_ring_ordinary_calls_are_made_and_it_is_said_why() {
    let refusals = [
        (libc::SYS_io_uring_setup, libc::ENOSYS, "no io_uring"),
        (libc::SYS_io_uring_setup, libc::EPERM, "forbidden"),
        (libc::SYS_io_uring_setup, libc::ENOMEM, "memory"),
        (libc::SYS_io_uring_register, libc::EACCES, "forbidden"),
    ];
    for (call, code, word) in refusals {
        // The filter goes with its thread.
        let refused = std::thread::spawn(move || {
            deny(call, code);
            let dir = TempDir::new("test");
            let engine = open(&dir);
            let why = why(&engine);
            assert!(why.contains(word), "{why}");
            commit_and_reopen(&dir, &engine, 30);
        });
        refused.join().unwrap();
    }
}

#[test]
fn a_ring_that_takes_no_request_any_more_is_given_up_and_the_commit_is_durable_all_the_same() {
    for code in [libc::EAGAIN, libc::EPERM, libc::EINTR] {
        let refused = std::thread::spawn(move || {
            let dir = TempDir::new("test");
            let engine = open(&dir);
            if !is_there(&engine) {
                return;
            }
            let keys = engine.create_keyspace("keys").unwrap();
            put(&engine, &keys, 1000, CommitMode::Sync);
            assert_eq!(engine.io(), IoBackend::IoUring);
            deny(libc::SYS_io_uring_enter, code);
            put(&engine, &keys, 1001, CommitMode::Sync);
            assert!(why(&engine).contains("took no request"));
            engine.close().unwrap();
            let engine = Engine::open(&dir).unwrap();
            let keys = engine.open_keyspace("keys").unwrap();
            assert_eq!(engine.snapshot().unwrap().iter(&keys).unwrap().count(), 2);
        });
        refused.join().unwrap();
    }
}
