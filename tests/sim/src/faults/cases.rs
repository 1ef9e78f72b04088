//! The bugs of other engines as cases: each that applies to this engine is checked, or named with the test that does.

use super::case_checks as here;
use super::verdict::guarded;

/// Where a case is checked.
enum Check {
    Here(fn()),
    /// In another test: file and name.
    At(&'static str, &'static str),
    /// It needs a part that does not exist yet.
    NotYet(&'static str),
}
use Check::{At, Here, NotYet};

const DOUBLE: &str = "tests/faults/double_tests.rs";
const PLANS: &str = "tests/faults/plan_tests.rs";
const CRASH: &str = "tests/crash/main.rs";
const CHECKPOINTS: &str = "src/engine/tests/checkpoints.rs";

/// The number is that of the list in the crash suite's specification.
const CASES: [(u32, &str, Check); 48] = [
    (
        1,
        "Postgres fsyncgate: a second fsync answers 0 after the first one failed",
        Here(here::second_fsync_answers_zero),
    ),
    (2, "RocksDB #10560: the log rolls between an fsync and its bookkeeping", Here(here::roll_inside_the_sync_window)),
    (
        3,
        "RocksDB #10185: more is recorded as synced than was",
        At("tests/promises/corners/first_half.rs", "promise_3_a_fsync_proves_only_what_was_written_before_it"),
    ),
    (4, "RocksDB #10573: a rename whose directory was not fsynced", Here(here::names_are_lost_at_every_operation)),
    (
        5,
        "RocksDB 7.4: no directory fsync after a keyspace was dropped",
        Here(here::crash_after_every_operation_on_keyspaces),
    ),
    (6, "RocksDB #7701: log k ends inside a record, log k+1 is replayed", Here(here::segment_cut_inside_a_record)),
    (
        7,
        "RocksDB #12488: a log cut at a record's end, to nothing, or to zeros",
        Here(here::segment_cut_at_a_record_or_zeroed),
    ),
    (8, "RocksDB #6963: an I/O error while reading the log is not its end", Here(here::read_error_is_not_the_end)),
    (
        9,
        "RocksDB #6351: old records behind the new tail of a recycled log",
        NotYet("segments are removed, not recycled"),
    ),
    (10, "RocksDB 9.2: the option to recycle changes between opens", NotYet("segments are removed, not recycled")),
    (
        11,
        "RocksDB 9.6: the first write after a resume is in the log twice",
        Here(here::nothing_is_there_twice_after_a_failure),
    ),
    (
        12,
        "RocksDB #12995: keyspaces differ after a failed log write",
        Here(here::failed_write_is_final_for_every_keyspace),
    ),
    (
        13,
        "RocksDB 6.x: unopenable after two crashes in recovery",
        At(DOUBLE, "recovery_may_be_cut_off_at_every_operation_and_again"),
    ),
    (14, "RocksDB 7.3: recovery deletes logs that are still needed", Here(here::power_cut_right_after_recovery)),
    (15, "RocksDB #12528: the test's own disk syncs on close", Here(here::closing_a_file_syncs_nothing)),
    (
        16,
        "RocksDB 6.25: modes mixed on one log corrupt it",
        At(CRASH, "every_crash_state_recovers_to_what_was_promised"),
    ),
    (17, "LevelDB #251: what was not synced holds garbage", Here(here::garbage_where_nothing_was_synced)),
    (18, "LevelDB #1285: a short read is taken for the end", Here(here::short_read_is_not_the_end)),
    (19, "LevelDB #1287: an append behind an incomplete record", Here(here::commit_after_a_torn_tail)),
    (20, "LevelDB #75: the pointer file is empty or cut", Here(here::history_cut_anywhere)),
    (
        21,
        "LevelDB #203: racing writers are interleaved in the log",
        At(CRASH, "every_crash_state_recovers_to_what_was_promised"),
    ),
    (
        22,
        "etcd #13766: half of a transaction is recovered",
        At("tests/promises/corners/second_half.rs", "promise_8_both_keyspaces_or_none_at_every_moment"),
    ),
    (23, "etcd #14370: acknowledged before the log was synced", Here(here::acknowledged_is_synced_at_every_operation)),
    (
        24,
        "etcd #14685: a crash in maintenance applies entries twice",
        At(PLANS, "a_sample_of_faults_is_survived_or_told"),
    ),
    (25, "etcd #6378: the second of two unsynced writes lands alone", Here(here::each_unsynced_write_missing_in_turn)),
    (26, "bbolt #562: pages of zeros after a hard reset", Here(here::page_of_zeros)),
    (27, "bbolt #567: a power cut while the database is created", Here(here::power_cut_while_it_is_created)),
    (28, "LMDB 0018eeb: fdatasync does not keep the length", Here(here::no_length_is_needed_that_was_not_synced)),
    (
        29,
        "SQLite WAL-reset: a checkpoint races with a reset",
        At(CHECKPOINTS, "a_crash_at_every_call_of_commits_and_checkpoints"),
    ),
    (30, "Turso 3b59d4c: an empty main file beside a good log", Here(here::log_without_history_is_not_a_new_database)),
    (
        31,
        "Turso cc26d08: pages are checkpointed before their log is synced",
        At(CHECKPOINTS, "a_crash_at_every_call_of_commits_and_checkpoints"),
    ),
    (32, "Turso #6065: errors of background writes are swallowed", Here(here::error_in_the_background_surfaces)),
    (
        33,
        "Turso #6517: checksums are not verified on read",
        At("tests/promises/while_it_runs.rs", "promise_15_what_is_read_from_a_file_is_checked"),
    ),
    (
        34,
        "Turso #9237: a leader without sync leads a follower who asked for it",
        At("tests/promises/while_it_runs.rs", "promise_9_a_durable_commit_proves_every_earlier_one_durable"),
    ),
    (35, "Pebble #453: damage in the middle of the log is its end", Here(here::damage_in_the_middle_in_every_mode)),
    (
        36,
        "Pebble #5142: a backup copies a log that is being written",
        At("tests/faults/backup.rs", "a_backup_is_the_state_at_its_lsn_whatever_goes_on_beside_it"),
    ),
    (37, "redb 8e04e95: recovery gives torn bytes a good checksum", Here(here::recovery_writes_no_rotten_bytes_again)),
    (38, "redb 76aec0a: repair hands out an id again", Here(here::no_position_is_handed_out_again)),
    (39, "redb fd82ced: the header landed and the growth did not", Here(here::no_length_is_needed_that_was_not_synced)),
    (
        40,
        "redb 83129c5: an iterator skips what it cannot read",
        At(PLANS, "a_scan_that_meets_a_read_error_stays_ended"),
    ),
    (41, "sled d64c36a: stale segments are replayed", Here(here::stale_segments_come_back)),
    (
        42,
        "sled #851: a crash in the recovery of a batch",
        At(DOUBLE, "recovery_may_be_cut_off_at_every_operation_and_again"),
    ),
    (43, "sled 64e14df: missing directory fsyncs", Here(here::names_are_lost_at_every_operation)),
    (44, "raft-engine #288: a rewrite is cut off", NotYet("nothing rewrites the log: checkpoints write tables")),
    (
        45,
        "raft-engine #131: I/O errors at each step of an append and a roll",
        At(PLANS, "a_sample_of_faults_is_survived_or_told"),
    ),
    (46, "okaywal #14: the first entry fails", Here(here::first_commit_fails)),
    (47, "fjall #317: a journal is missing", Here(here::each_file_missing_in_turn)),
    (48, "Typhon #712, memgraph #4528, Prometheus #13152 and others", Here(here::refusal_repairs_nothing)),
];

/// How many are checked here, in other tests, and not at all yet; and what those checked here found.
#[derive(Default)]
pub struct Checked {
    pub here: u64,
    pub elsewhere: u64,
    pub not_yet: u64,
    pub violations: Vec<String>,
}

pub fn check_all() -> Checked {
    let mut checked = Checked::default();
    for (number, story, check) in &CASES {
        let how = match check {
            Here(check) => {
                let result = guarded(|| {
                    check();
                    Ok(())
                });
                let failed = result.err().map(|violation| format!("case {number}, {story}: {violation}"));
                checked.violations.extend(failed);
                checked.here += 1;
                "checked here".to_owned()
            }
            At(file, test) => {
                let text = std::fs::read_to_string(crate::root().join(file)).unwrap_or_default();
                if !text.contains(&format!("fn {test}()")) {
                    checked.violations.push(format!("case {number}: there is no {test} in {file}"));
                }
                checked.elsewhere += 1;
                format!("{file}, {test}")
            }
            NotYet(why) => {
                checked.not_yet += 1;
                format!("does not apply yet: {why}")
            }
        };
        println!("{number:2} {story}: {how}");
    }
    checked
}
