//! What is seen in a trace.

use crate::check::{Checked, Seen};

const BEGIN: &str = "10 openat(AT_FDCWD, \"/forelog-peers-begin\", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file)\n";
const END: &str = "10 openat(AT_FDCWD, \"/forelog-peers-end\", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file)\n";

fn seen(before: &str, between: &str, after: &str) -> Seen {
    Seen::of(&[before, BEGIN, between, END, after].concat())
}

#[test]
fn syncs_between_the_marks_count_and_no_others() {
    let sync = "10 fdatasync(5) = 0\n11 fsync(5) = 0\n";
    let seen = seen(sync, "10 fdatasync(5) = 0\n12 msync(0x7f, 4096, MS_SYNC) = 0\n", sync);
    assert_eq!((seen.syncs, seen.over), (2, true));
}

#[test]
fn an_interrupted_call_counts_once() {
    let calls = "11 fdatasync(5 <unfinished ...>\n12 fdatasync(5 <unfinished ...>\n11 <... fdatasync resumed>) = 0\n\
                 12 <... fdatasync resumed>) = 0\n";
    assert_eq!(seen("", calls, "").syncs, 2);
}

#[test]
fn what_only_begins_a_write_back_is_no_sync() {
    let calls = "10 sync_file_range(5, 0, 4096, SYNC_FILE_RANGE_WRITE) = 0\n10 msync(0x7f, 4096, MS_ASYNC) = 0\n\
                 10 pwrite64(5, \"\"..., 160, 0) = 160\n";
    let seen = seen("10 openat(AT_FDCWD, \"log\", O_RDWR) = 5\n", calls, "");
    assert_eq!((seen.syncs, seen.writes_sync), (0, false));
}

#[test]
fn writes_to_a_file_opened_with_o_dsync_are_syncs() {
    let open = "10 openat(AT_FDCWD, \"log\", O_RDWR|O_DSYNC <unfinished ...>\n11 openat(AT_FDCWD, \"x\", O_RDONLY) = 6\n\
                10 <... openat resumed>) = 5\n";
    let seen = seen(open, "11 pwrite64(5, \"\"..., 160, 0) = 160\n11 pwrite64(6, \"\"..., 160, 0) = 160\n", "");
    assert_eq!((seen.syncs, seen.writes_sync), (1, true));
}

#[test]
fn a_number_that_names_another_file_by_then_is_none() {
    let open = "10 openat(AT_FDCWD, \"log\", O_RDWR|O_SYNC) = 5\n10 openat(AT_FDCWD, \"x\", O_RDWR) = 5\n";
    assert_eq!(seen(open, "11 write(5, \"\"..., 160) = 160\n", "").syncs, 0);
}

#[test]
fn single_writes_may_sync() {
    let calls =
        "10 pwritev2(5, [{iov_base=\"\"}], 1, 0, RWF_DSYNC) = 160\n10 pwritev2(5, [{iov_base=\"\"}], 1, 0, 0) = 160\n";
    assert_eq!(seen("", calls, "").syncs, 1);
}

#[test]
fn rings_are_told_apart() {
    let seen = seen("", "10 io_uring_enter(7, 1, 1, IORING_ENTER_GETEVENTS, NULL, 8) = 1\n", "");
    assert_eq!((seen.syncs, seen.rings), (0, 1));
}

#[test]
fn a_trace_that_breaks_off_is_noticed() {
    assert!(!Seen::of(&[BEGIN, "10 fdatasync(5) = 0\n"].concat()).over);
}

#[test]
fn a_mode_without_a_sync_a_commit_is_none() {
    let checked = |alone| Checked { alone, ..Checked::default() };
    assert_eq!(checked(Some(1.0)).really_syncs(), Some(true));
    assert_eq!(checked(Some(0.02)).really_syncs(), Some(false));
    assert_eq!(checked(None).really_syncs(), None);
}
