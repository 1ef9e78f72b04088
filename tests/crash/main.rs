//! The simulated disk: crash states of the engine, opened through its front door and compared with what its clients were
//! told.
//!
//! A *run* is a database on a [`SimDisk`](forelog::sim::SimDisk) that lives one to four times, each life on the disk
//! that a crash of the one before left. In a life one to five clients commit in all modes, wait for receipts in all the
//! ways there are, flush, make checkpoints, read snapshots, clear, create and drop keyspaces, while the scheduler hands the
//! turn around.
//! There are also runs of every short sequence of operations by one client, runs with a failed fsync, runs in which calls
//! in `table/` fail, runs with little memory and with backups, runs on a medium that breaks its assumptions, and runs of the log by itself that is retired while it is written.
//!
//! Every operation that changes the disk is a *crash point*, and every sync in flight. A *crash state* is what a process
//! kill or a power loss there can leave on one of the file systems of [`Persona`](forelog::sim::Persona), by word,
//! sector or page: every subset of few changes, otherwise those that `sim/src/crash/choices.rs` lists. It counts when its image
//! (by hash) was not seen before, `Engine` was opened on it with [`Options::open_on`](forelog::Options::open_on), and
//! all its contents, all tokens handed out before the crash and the account were what they must be (`sim/src/crash/check.rs`).
//! For some of them the power fails again right after open returned, or the machine or process dies again at each
//! operation of the recovery, and in the recovery from that (`sim/src/crash/recovery.rs`).
//!
//! *Three or more threads committing in mixed modes, a flush in flight* means: at the crash point the fsync of a flush
//! of the log had begun and not ended, and at least three clients were, in at least two different modes, inside a call
//! to commit or had an acknowledged commit that a power loss would have taken.
//!
//! What is checked, by the names that a failure prints, where R is the LSN that was recovered:
//!
//! | name | invariant |
//! |---|---|
//! | I1 | the state is exactly that of the commits up to R in LSN order; what was acknowledged before another was submitted comes before it |
//! | I2-I4 | R covers every `Sync` commit acknowledged, everything said to be durable in any way, and after a process kill every `Written` commit acknowledged |
//! | I5 | a power loss takes no more of what was acknowledged than the loss budget allows |
//! | I6 | transactions are whole: accounts always sum to the same |
//! | I7 | nothing is there that nobody had submitted, or that was refused, or dropped by an earlier recovery |
//! | I8 | no incarnation is begun twice, by number or nonce |
//! | I10 | a second or third crash, in the recovery, changes nothing of the verdict |
//! | I11 | after a failed fsync nothing more is acknowledged as durable, and reads go on |
//! | I12 | nothing panics; a simulation that deadlocks or goes on and on aborts the process |
//! | I13 | a clean close leaves no file that is not needed, and retired segments go |
//! | I14 | an open after a clean close changes nothing on the disk |
//! | I15 | a snapshot shows the commits up to its LSN and no others; what was acknowledged can be read |
//! | I16 | tokens are answered `Durable` if their commit is in the state, `Lost` if not, and the same for ever |
//! | I17 | the account says R, and names the incarnation that the crash ended |
//! | I18 | every waiter and every callback gets its answer |
//! | I20 | what open reported is there after a power loss right after it returned |
//! | P3-P5 | what fails in `table/` stops no log, is told with the file, and once it is gone an attempt succeeds |
//! | P7 | no generation of MANIFEST and no number of a file in `table/` is used twice in a life |
//! | REFUSED | a legal state does not open |
//!
//! I9 and I19, damage and rot, are the subject of `no_silent_loss.rs`.
//!
//! Everything follows from the seed. Of a run that fails, operations of the clients are left out as long as it still
//! fails, then of what the crash took as much as may (`sim/src/crash/shrink.rs`); the last line printed begins with what
//! reproduces the smallest case found:
//!
//! ```text
//! FORELOG_SEED=0x666f7265 FORELOG_RUN=57 FORELOG_KEEP=0.1.2 FORELOG_CRASH=0:35:0:Sector:-1/11 cargo test -p forelog-sim --test crash …
//! FORELOG_STATES=1000000 cargo test --release -p forelog-sim --test crash every_crash -- --nocapture
//! cargo test --release -p forelog-sim --test campaign -- tier1 --states 10000000
//! ```
//!
//! `FORELOG_KEEP` lists the operations that are done (life.client.place), `FORELOG_CRASH` the one crash that is looked
//! at: life, crash point, persona, unit, and of so many atoms those that landed (`+`) or did not (`-`).
//! `FORELOG_STATES` (16,000) is how many states the first test must explore at least; the others follow from it. A
//! deadlock prints the seed of its simulation, which is `FORELOG_SEED + 16 * run + life`.

mod fixtures;
mod fuzz;
mod results;
mod retirements;

use forelog_sim::crash::campaign::{self, Until, explore_or_replay};
use forelog_sim::crash::{cycles, explore, faults, paranoid, retired, sequences, table_faults};

fn states() -> usize {
    usize::try_from(crashkit::number("FORELOG_STATES").unwrap_or(16_000)).expect("64 bits")
}

fn until(images: usize) -> Until {
    Until { runs: u64::MAX, images, crowded: false, full: None }
}

/// Promises 1 to 8, 12 and 13, and that no legal state is refused.
#[test]
fn every_crash_state_recovers_to_what_was_promised() {
    let tally = explore_or_replay(
        "every_crash_state_recovers_to_what_was_promised",
        Until { full: Some(100), crowded: true, ..until(states()) },
        &explore::explore_run,
    );
    if campaign::only_run().is_none() {
        let (total, crowded) = (tally.total(), tally.crowded);
        assert!(total >= states(), "only {total} states");
        assert!(
            crowded * 3 >= total,
            "only {crowded} of {total} states with 3+ threads committing and a flush in flight"
        );
        assert_eq!(tally.cuts, tally.boundaries, "every operation is a crash point");
    }
}

/// The same with memory that forgets at every checkpoint, and with backups.
#[test]
fn what_forgets_and_is_backed_up_recovers_from_every_crash() {
    let tally = explore_or_replay(
        "what_forgets_and_is_backed_up_recovers_from_every_crash",
        until(states() / 8),
        &explore::explore_forgetful_run,
    );
    if campaign::only_run().is_none() {
        let (total, backups) = (tally.total(), tally.backups);
        assert!(tally.forgetful * 3 > total && tally.in_backup * 8 > total && backups * 16 > total, "{tally}");
    }
}

/// The same for every sequence of up to two operations of one client.
#[test]
fn every_short_sequence_of_operations_recovers_from_every_crash() {
    let runs = sequences::count(2);
    let tally = explore_or_replay(
        "every_short_sequence_of_operations_recovers_from_every_crash",
        Until { runs, ..until(usize::MAX) },
        &sequences::run_sequence,
    );
    assert!(campaign::only_run().is_some() || tally.runs as u64 == runs);
}

/// The log by itself, with `retire`.
#[test]
fn a_log_that_is_retired_while_it_is_written_recovers_what_is_left() {
    explore_or_replay(
        "a_log_that_is_retired_while_it_is_written_recovers_what_is_left",
        until(states() / 10),
        &retired::run_retired,
    );
}

/// A disk that lies or tears words: the log is refused, or what is recovered is a prefix.
#[test]
fn a_medium_that_breaks_its_promises_never_makes_wrong_data() {
    let tally = explore_or_replay(
        "a_medium_that_breaks_its_promises_never_makes_wrong_data",
        until(states() / 10),
        &paranoid::run_on_a_bad_medium,
    );
    assert!(campaign::only_run().is_some() || tally.detected > 0 && tally.detected * 2 < tally.opened);
}

/// Promises 5 and 14.
#[test]
fn a_failed_fsync_is_final_and_reopening_settles_what_was_in_doubt() {
    let tally = explore_or_replay(
        "a_failed_fsync_is_final_and_reopening_settles_what_was_in_doubt",
        Until { runs: states() as u64 / 1_500 + 1, ..until(usize::MAX) },
        &faults::run_with_failure,
    );
    if campaign::only_run().is_none() {
        let struck = tally.struck;
        assert!(struck.poisoned * 4 > tally.runs, "too few failures: {struck:?}");
        assert!(struck.settled_durable > 0 && struck.settled_lost > 0, "{struck:?}");
    }
}

/// P1 to P7 of `src/table/FAULTS.md`: what fails in `table/` alone.
#[test]
fn a_failing_checkpoint_costs_nothing_and_leaves_nothing() {
    let tally = explore_or_replay(
        "a_failing_checkpoint_costs_nothing_and_leaves_nothing",
        Until { runs: states() as u64 / 650, ..until(usize::MAX) },
        &table_faults::run_with_failing_tables,
    );
    if campaign::only_run().is_none() {
        assert!(tally.struck.failures * 2 > tally.runs, "too few failures: {:?}", tally.struck);
    }
}

/// Promise 4: an answer once given never changes.
#[test]
fn tokens_get_the_same_answer_through_a_thousand_crashes() {
    let seed = campaign::seed();
    println!("tokens_get_the_same_answer_through_a_thousand_crashes: FORELOG_SEED={seed:#x}");
    let journey =
        cycles::crash_and_reopen(seed, 1_000).unwrap_or_else(|error| panic!("FORELOG_SEED={seed:#x}: {error}"));
    println!("{journey:?}");
    assert!(journey.durable > 0 && journey.lost > 0, "{journey:?}");
}
