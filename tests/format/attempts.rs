//! Checkpoints and merges beside each other, with everything that may fail (`src/table/FAULTS.md`): every state that their
//! steps, kills, power losses, failed fsyncs and failed renames reach. No open may be refused or find less than all data,
//! and no reader may miss a run. Without any one of the rules one of them is.

mod model;

use crate::names::must_be_caught;
use model::explore;

/// The rules of the page that are tried, each of which can be left out.
#[derive(Clone, Copy)]
struct Rules {
    /// Step 11 of a merge.
    merge_installs: bool,
    /// The content of MANIFEST is that of the moment, under the right to write it.
    content_of_the_moment: bool,
    /// A failed sync counts for the names of every attempt.
    failed_sync_counts_for_all: bool,
    /// Step 13 spares the runs of attempts under way.
    spares_attempts: bool,
    /// Step 13 judges by what is installed at that moment.
    judges_by_installed: bool,
    /// What a MANIFEST in doubt names stays.
    doubt_stays: bool,
    /// An attempt that fails, resumed or not, removes nothing that a MANIFEST in doubt names.
    failure_spares_doubt: bool,
    /// No generation is tried twice.
    fresh_generation: bool,
    /// Installed only after step 10.
    installs_after_sync: bool,
    /// Step 7.
    runs_first: bool,
    /// An open writes MANIFEST again before it removes anything.
    open_writes_first: bool,
    /// If that fails, and HISTORY names what was found, it removes nothing.
    open_leaves_removals: bool,
    /// Then nothing else removes anything, either, before a step 10 has succeeded.
    removals_wait: bool,
    /// HISTORY names what is known durable.
    history_names_known: bool,
    /// How many checkpoints and merges are begun: by the first open all of them, by a later one the last of each.
    attempts: [u8; 2],
    /// How much may go wrong.
    failures: u8,
}

const ALL: Rules = Rules {
    merge_installs: true,
    content_of_the_moment: true,
    failed_sync_counts_for_all: true,
    spares_attempts: true,
    judges_by_installed: true,
    doubt_stays: true,
    failure_spares_doubt: true,
    fresh_generation: true,
    installs_after_sync: true,
    runs_first: true,
    open_writes_first: true,
    open_leaves_removals: true,
    removals_wait: true,
    history_names_known: true,
    attempts: [2, 1],
    failures: 2,
};
/// Fewer attempts, and more that goes wrong.
const PAIR: Rules = Rules { attempts: [1, 1], failures: 3, ..ALL };
const LONE: Rules = Rules { attempts: [1, 0], failures: 4, ..ALL };

#[test]
fn attempts_beside_each_other_lose_nothing() {
    for rules in [ALL, PAIR, LONE] {
        let states = explore(rules).unwrap_or_else(|wrong| panic!("{wrong}")).len();
        println!("{states} states with {:?} attempts and {} failures", rules.attempts, rules.failures);
        assert!(states > 5_000);
    }
}

#[test]
fn each_rule_of_the_fault_plan_is_necessary() {
    let without = [
        ("step 11 of a merge", Rules { merge_installs: false, ..ALL }),
        ("content of the moment", Rules { content_of_the_moment: false, ..ALL }),
        ("a failed sync counts for all", Rules { failed_sync_counts_for_all: false, ..ALL }),
        ("step 13 spares attempts", Rules { spares_attempts: false, ..ALL }),
        ("step 13 judges by what is installed", Rules { judges_by_installed: false, ..ALL }),
        ("doubt stays", Rules { doubt_stays: false, ..PAIR }),
        ("a failure spares doubt", Rules { failure_spares_doubt: false, ..LONE }),
        ("no generation twice", Rules { fresh_generation: false, ..ALL }),
        ("installed after step 10", Rules { installs_after_sync: false, ..ALL }),
        ("step 7", Rules { runs_first: false, ..ALL }),
        ("an open writes first", Rules { open_writes_first: false, ..LONE }),
        ("an open leaves removals", Rules { open_leaves_removals: false, ..LONE }),
        ("removals wait", Rules { removals_wait: false, ..LONE }),
        ("HISTORY names what is known", Rules { history_names_known: false, ..ALL }),
    ];
    for (rule, rules) in without {
        must_be_caught(rule, explore(rules));
    }
}
