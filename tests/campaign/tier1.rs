//! The simulated disk: crash states by the million, each opened through the engine's own front door and compared with
//! what its clients were told. See `tests/crash/main.rs` for what a state is and what is checked.

use std::time::Duration;

use crate::Request;
use forelog_sim::crash::campaign::{Explored, Until, explore};
use forelog_sim::crash::report::{Kind, Tally};
use forelog_sim::crash::shrink::Run;
use forelog_sim::crash::{cycles, explore, faults, paranoid, retired, sequences, table_faults};
use forelog_sim::figures::{Figure, Wanted};

const PART: &str = "simulated disk";
/// The crowded share that is wanted: a third.
const CROWDED: u64 = 3;

/// One kind of run, and its share of the states.
struct Family {
    /// The test that replays a run of it.
    test: &'static str,
    run: Run<'static>,
    /// Of a hundred.
    share: u64,
    /// No more runs than this.
    runs: u64,
    full: Option<u64>,
}

fn families() -> [Family; 7] {
    [
        Family {
            test: "every_short_sequence_of_operations_recovers_from_every_crash",
            run: &sequences::run_sequence,
            share: 10,
            runs: sequences::count(3),
            full: None,
        },
        Family {
            test: "a_failed_fsync_is_final_and_reopening_settles_what_was_in_doubt",
            run: &faults::run_with_failure,
            share: 8,
            runs: u64::MAX,
            full: None,
        },
        Family {
            test: "a_failing_checkpoint_costs_nothing_and_leaves_nothing",
            run: &table_faults::run_with_failing_tables,
            share: 8,
            runs: u64::MAX,
            full: None,
        },
        Family {
            test: "what_forgets_and_is_backed_up_recovers_from_every_crash",
            run: &explore::explore_forgetful_run,
            share: 12,
            runs: u64::MAX,
            full: Some(64),
        },
        Family {
            test: "a_medium_that_breaks_its_promises_never_makes_wrong_data",
            run: &paranoid::run_on_a_bad_medium,
            share: 6,
            runs: u64::MAX,
            full: None,
        },
        Family {
            test: "a_log_that_is_retired_while_it_is_written_recovers_what_is_left",
            run: &retired::run_retired,
            share: 5,
            runs: u64::MAX,
            full: None,
        },
        Family {
            test: "every_crash_state_recovers_to_what_was_promised",
            run: &explore::explore_run,
            share: 100,
            runs: u64::MAX,
            full: Some(64),
        },
    ]
}

/// Runs until `request.states` distinct states were explored, or one fails.
pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let wanted = usize::try_from(request.states).expect("64 bits");
    let mut total = Tally::default();
    let started = processor_time().unwrap_or_default();
    let mut failed = None;
    for family in families() {
        if failed.is_some() {
            break;
        }
        let images = total.images() + usize::try_from(request.states * family.share / 100).expect("64 bits");
        let crowded = family.share == 100;
        let until = Until { runs: family.runs, images: images.min(wanted), crowded, full: family.full };
        let command = format!("cargo test --release -p forelog-sim --test crash {} -- --nocapture", family.test);
        let Explored { tally, failure, time: spent } = explore(&command, until, &total, family.run);
        println!("-- {}: {} states, {spent:.1?}", family.test, tally.total());
        total.merge(&tally);
        failed = failure;
    }
    let time = processor_time().unwrap_or_default().saturating_sub(started);
    if failed.is_none() {
        failed = cycles::crash_and_reopen(forelog_sim::crash::campaign::seed(), 1_000).err();
    }
    print!("{total}");
    if let Some(failure) = &failed {
        println!("VIOLATION after {} states, the smallest case that fails:\n{failure}", total.total());
    }
    figures(&total, request.states, failed.as_deref(), time)
}

/// The processor time that this process has used, its threads that have ended included; `None` where the system does
/// not say.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which is in parentheses, the 12th and 13th field: user and system time in 1/100 s.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}

fn count(number: usize) -> u64 {
    number as u64
}

fn figures(tally: &Tally, states: u64, failed: Option<&str>, time: Duration) -> Vec<Figure> {
    let figure = |name: String, value, wanted| Figure::new(PART, name, value, wanted);
    let told = |name: String, value| figure(name, value, Wanted::Any);
    let total = count(tally.total());
    let refused = failed.is_some_and(|failure| failure.contains("REFUSED"));
    let mut figures = vec![
        figure("distinct crash states, opened and compared".into(), total, Wanted::AtLeast(states)),
        figure(
            "with 3+ threads committing in mixed modes and a flush in flight".into(),
            count(tally.crowded),
            Wanted::AtLeast(total / CROWDED),
        ),
        figure("legal states refused".into(), u64::from(refused), Wanted::Zero),
        figure("violations".into(), u64::from(failed.is_some() && !refused), Wanted::Zero),
        figure(
            "operation boundaries that were crash points".into(),
            count(tally.cuts),
            Wanted::All(count(tally.boundaries)),
        ),
    ];
    for depth in [2, 3] {
        let name = format!("operation boundaries of recoveries that were crash points, depth {depth}");
        figures.push(figure(name, count(tally.in_recovery[depth - 2]), Wanted::AtLeast(1)));
    }
    let opened = count(tally.opened - tally.detected);
    figures.push(told("opened".into(), opened));
    figures.push(told("refused, the medium having broken its assumptions".into(), count(tally.detected)));
    for (kind, number) in &tally.states {
        figures.push(told(format!("states: {kind}"), count(*number)));
    }
    for (mode, number) in &tally.modes {
        figures.push(told(format!("states with a commit in {mode} mode that was not durable yet"), count(*number)));
    }
    for (name, number) in &tally.personas {
        figures.push(told(format!("choices on {name}, repeated images included"), count(*number)));
    }
    figures.push(told("states at a call in table/".into(), count(tally.in_table)));
    figures.push(told("states at a call in a backup".into(), count(tally.in_backup)));
    figures.push(told("states of a life in which memory was forgotten".into(), count(tally.forgetful)));
    figures.push(told("backups opened and compared".into(), count(tally.backups)));
    figures.push(told("closed right after the open, and opened again".into(), count(tally.closed)));
    figures.push(told("tokens asked".into(), count(tally.tokens)));
    figures.push(told("snapshots compared".into(), count(tally.snapshots)));
    for (name, seen, limit) in tally.window.shares() {
        figures.push(figure(format!("fullest loss window, {name} of {limit}"), seen, Wanted::AtMost(limit)));
    }
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    figures.push(told("states per second of processor time".into(), total * 1_000 / millis));
    let paranoid = tally.states.get(&Kind::Paranoid).copied().unwrap_or_default();
    figures.push(told(
        "of the states on a medium that broke its assumptions, refused, in 1/1000".into(),
        count(tally.detected) * 1_000 / count(paranoid.max(1)),
    ));
    figures
}
