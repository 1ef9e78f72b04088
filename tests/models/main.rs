//! Models of the commit path: the real code, its threads scheduled by a model checker.
//!
//! ```text
//! RUSTFLAGS='--cfg shuttle' cargo test --release -p forelog-sim --test models     the whole engine, schedules drawn from a seed
//! RUSTFLAGS='--cfg loom'    cargo test --release -p forelog-sim --test models     the core, every schedule within a bound
//! ```
//!
//! | model | threads | property | shuttle | loom |
//! |---|---|---|---|---|
//! | `reserve_publish` | 3 appenders, 1 flusher | Places in the log are disjoint and dense, and a file holds whole frames only. (The log buffer that is swapped for the writer's stands for the ring.) | yes | yes |
//! | `ring_wrap` | 3 appenders, 1 flusher | At most as many commits as the loss budget admits are at risk, nothing is overwritten, and whoever waits for room gets it. (The budget stands for the ring being full.) | yes | yes |
//! | `leader_handoff` | 3 Sync committers | One fsync at a time; each commit is acknowledged by one that covers it; nobody sleeps for ever. | yes | yes |
//! | `receipt_after_sync` | 2 committers, 2 watchers | Whatever way a receipt says durable, a successful fsync that began after its write proves it. | yes | yes |
//! | `strictest_mode_wins` | Async, Written, Sync | Whoever leads, and for whatever mode, a follower gets what its own mode promises. | yes | yes |
//! | `poison_broadcast` | 3 committers, callbacks | A failed fsync reaches everybody who waits and everybody who comes; the durable LSN stays where it was. | yes | yes |
//! | `poison_under_a_flush` | 1 writer, 1 flush | A write fails while a flush is in flight: the durable LSN does not move after the failure was told. | (above) | yes |
//! | `rotate_vs_inflight` | 2 fillers, 1 Sync committer | A segment that rolls under a flush in flight stays in the list of files to sync. | yes | |
//! | `visible_watermark` | 2 writers, 1 transaction, 1 reader | A snapshot at an LSN sees exactly the commits up to it. | yes | |
//! | `drop_shutdown` | 3 committers, 1 closer | After a close or the last drop every receipt has its verdict and nothing touches the disk. | yes | yes |
//! | `recycle_vs_reader` | 1 scan, 1 tail, 2 retirers | A retirement is told as such, skips nothing, and lets a reader finish the segment that it is inside. | yes | |
//! | `load_with_a_worker` | the one that opens, its loader | Whatever order they run in, an engine that is opened has what was committed, and nothing else. | yes | |
//! | `load_worker_dies` | the same | A panic of the loader's thread is an error of the open, never a hang; the next open finds everything. | yes | |
//! | `flush_in_one_submission` | Sync, Written, 1 watcher | Nobody is told that a commit is durable before a sync that began after its write has succeeded; `Written` waits for no sync; after a failed one nobody is told any more. (Always with `io_uring`, on a disk that syncs as a ring does.) | yes | yes |
//! | `submission_and_written` | Sync, Written | A submission whose sync does not end holds up no `Written` commit. | (above) | yes |
//! | `submission_that_fails` | 2 Sync, 1 Written | After a submission whose sync failed nobody is told that anything is durable. | (above) | yes |
//! | `tasks_that_commit_and_give_up` | 2 tasks, 1 that drops its future, 1 closer, the helper | Each task is woken and gets its result, a close included; what was dropped takes no place afterwards. | yes | |
//! | `descriptor_and_flush` | 1 Sync committer, 1 event loop, 1 closer | What an event loop has not seen makes its descriptor readable; so does the end. | yes | |
//! | `tail_and_commits` | 1 committer, 1 tail, 1 closer | A tail that waits is told of each commit, and of the end. | yes | |
//! | `marks_in_order` | 1 committer, 1 reader | Whoever sees a position durable sees it written, and appended. Fails if one store of a watermark is not a release. | | yes |
//! | `asked_for_a_flush` | 1 committer, 2 who wait, the background flusher | A flush that was asked for comes. | | yes |
//!
//! **What this shows.** Shuttle proves nothing: it draws schedules, half of them at random and half by PCT, and shows
//! the program a memory that is sequentially consistent. Loom tries every schedule up to a number of preemptions, and
//! every value that a load may give; it knows no load buffering, and takes a `SeqCst` access for an acquire or a
//! release. Time is as `rt/sync/checked.rs` says. Miri needs a nightly toolchain and has not been run.
//!
//! **A failure** prints the seed and, under shuttle, the schedule: `FORELOG_SCHEDULE=<text>` with the model's name
//! replays exactly that. `FORELOG_SEED` draws others, `FORELOG_EXECUTIONS` more of them (per model, 2,000 unless
//! told); `LOOM_MAX_PREEMPTIONS` moves loom's bound.

#[cfg(any(loom, shuttle))]
mod run;

#[cfg(shuttle)]
mod commits;
#[cfg(shuttle)]
mod descriptors;
#[cfg(shuttle)]
mod flushes;
#[cfg(shuttle)]
mod lives;
#[cfg(shuttle)]
mod opening;
#[cfg(shuttle)]
mod tasks;
#[cfg(shuttle)]
mod witness;

#[cfg(loom)]
mod core;
#[cfg(loom)]
mod stub;

#[cfg(not(any(loom, shuttle)))]
#[test]
fn models_need_a_build_of_their_own() {
    println!("RUSTFLAGS='--cfg shuttle' cargo test --release -p forelog-sim --test models");
    println!("RUSTFLAGS='--cfg loom' cargo test --release -p forelog-sim --test models");
}
