//! Faults: every fault at every operation, every bit of a reference log in every mix of modes, damage to the medium,
//! and two of them at once.

use std::collections::BTreeMap;

use crate::Request;
use crashkit::{Random, seed};
use forelog_sim::faults::matrix::{self, Matrix};
use forelog_sim::faults::reference::{ENDINGS, Reference, mixes};
use forelog_sim::faults::{MODES, cases, double, flips, in_parallel, log_plans, media, plans};
use forelog_sim::figures::{Figure, Wanted};

const PLANS: &str = "fault plans";
const BITS: &str = "bit flips";
const MEDIA: &str = "media faults";
const DOUBLE: &str = "double faults";
const CASES: &str = "bugs of other engines";

/// What the parts come to in full; a request for fewer states takes a sample of those that come to more.
const ALL_BITS: u64 = 4_300_000;
const ALL_CRASHES: u64 = 1_000_000;

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let seed = seed(0xFA17);
    let stride = |all: u64| all.div_ceil(request.states.max(1));
    let mut figures = every_fault();
    figures.extend(every_bit(stride(ALL_BITS)));
    figures.extend(damage(seed));
    figures.extend(two_at_once(seed, stride(ALL_CRASHES)));
    figures.extend(bugs_of_others());
    figures
}

/// The table as figures: every row by its outcomes, and what must be zero.
fn figures_of(part: &'static str, matrix: &Matrix) -> Vec<Figure> {
    println!("{part}\n{matrix}");
    matrix.violations.iter().for_each(|violation| println!("{violation}"));
    let mut figures = vec![Figure::new(part, "cases", matrix.cases(), Wanted::AtLeast(1))];
    let allowed = matrix.outcomes().into_iter().filter(|outcome| !matrix::is_violation(outcome));
    figures.extend(allowed.map(|outcome| Figure::new(part, outcome.clone(), matrix.total(&outcome), Wanted::Any)));
    let zeros = [
        ("silent loss", matrix.silent),
        ("wrong contents, answer or error", matrix.wrong),
        ("panic", matrix.panic),
        ("hang", matrix.hang),
    ];
    figures.extend(zeros.map(|(name, count)| Figure::new(part, name, count, Wanted::Zero)));
    figures
}

/// Every fault at every operation: the table by kind of operation.
fn every_fault() -> Vec<Figure> {
    let matrix = plans::sweep_all(1, |_| 0);
    let mut figures = figures_of(PLANS, &matrix);
    let mut by_operation: BTreeMap<String, u64> = BTreeMap::new();
    for row in matrix.rows() {
        let operation = row.split(':').next().unwrap_or_default();
        for outcome in matrix.outcomes() {
            let count = matrix.count_of(&row, &outcome);
            if count > 0 {
                *by_operation.entry(format!("{operation}: {outcome}")).or_default() += count;
            }
        }
    }
    figures.push(Figure::new(PLANS, "kinds of faults", matrix.rows().len() as u64, Wanted::Any));
    figures.extend(by_operation.into_iter().map(|(name, count)| Figure::new(PLANS, name, count, Wanted::Any)));
    figures
}

/// All bits of a log in every mix of modes and after every ending, and of one with two lives.
fn every_bit(stride: u64) -> Vec<Figure> {
    let stride = usize::try_from(stride).expect("small");
    let mixes = mixes();
    let mut logs: Vec<_> = mixes.iter().flat_map(|mix| ENDINGS.map(|ending| (mix.clone(), ending, 1))).collect();
    logs.extend(ENDINGS.map(|ending| (MODES.to_vec(), ending, 2)));
    let parts = in_parallel(logs.len(), |index| {
        let (modes, ending, lives) = &logs[index];
        let mut random = Random::new(index as u64);
        let reference = Reference::new(modes, *ending, *lives, index as u64);
        flips::sweep(&reference, || random.between(1, 2 * stride - 1))
    });
    let mut matrix = Matrix::default();
    let mut memory = 0;
    for (part, most) in parts {
        memory = memory.max(most);
        matrix.merge(part);
    }
    let mut figures = vec![Figure::new(BITS, "reference logs", logs.len() as u64, Wanted::Any)];
    figures.extend(figures_of(BITS, &matrix));
    for region in matrix.rows() {
        let outside = [flips::ABOVE_THE_END, flips::NEVER_READ].contains(&region.as_str());
        let harmless = matrix.count_of(&region, "harmless");
        let wanted = if outside { Wanted::Any } else { Wanted::Zero };
        figures.push(Figure::new(BITS, format!("harmless in: {region}"), harmless, wanted));
    }
    figures.push(Figure::new(BITS, "most bytes of memory beyond the size of the files", memory, Wanted::Any));
    figures
}

/// Damage to sectors and files of logs in all modes at once, in each mode alone, and with two lives.
fn damage(seed: u64) -> Vec<Figure> {
    let mut logs: Vec<_> =
        ENDINGS.iter().flat_map(|ending| [1, 2].map(|lives| (MODES.to_vec(), *ending, lives))).collect();
    logs.extend(MODES.iter().flat_map(|mode| ENDINGS.map(|ending| (vec![*mode], ending, 1))));
    let parts = in_parallel(logs.len(), |index| {
        let (modes, ending, lives) = &logs[index];
        let other = Reference::new(modes, *ending, *lives, seed + 1);
        media::sweep(&Reference::new(modes, *ending, *lives, seed), &other).0
    });
    let mut matrix = Matrix::default();
    parts.into_iter().for_each(|part| matrix.merge(part));
    let mut figures = figures_of(MEDIA, &matrix);
    for row in matrix.rows() {
        let told = matrix.row_total(&row);
        figures.push(Figure::new(MEDIA, row, told, Wanted::AtLeast(1)));
    }
    figures
}

/// Crashes and faults in recovery, and rot beside a torn tail.
fn two_at_once(seed: u64, stride: u64) -> Vec<Figure> {
    let states = double::torn_states(24);
    let parts = in_parallel(states.len(), |index| {
        let mut matrix = Matrix::default();
        let torn = &states[index];
        double::crash_in_recovery(torn, 3, 11 * stride, &mut matrix);
        double::full_in_recovery(torn, &mut matrix);
        double::failed_sync_in_recovery(torn, &mut matrix);
        double::failed_read_in_recovery(torn, &mut matrix);
        let mut random = Random::new(seed + index as u64);
        let every = index < 4 && stride == 1;
        double::rot_beside_a_tear(torn, || if every { 1 } else { 1 + random.below(16) }, &mut matrix);
        matrix
    });
    let mut matrix = Matrix::default();
    parts.into_iter().for_each(|part| matrix.merge(part));
    let mut figures = figures_of(DOUBLE, &matrix);
    figures.extend(matrix.rows().into_iter().map(|row| {
        let cases = matrix.row_total(&row);
        Figure::new(DOUBLE, row, cases, Wanted::AtLeast(1))
    }));
    figures
}

/// The bugs of other engines as cases.
fn bugs_of_others() -> Vec<Figure> {
    let checked = cases::check_all();
    checked.violations.iter().for_each(|violation| println!("{violation}"));
    let scan = log_plans::check_scan_is_sticky();
    vec![
        Figure::new(CASES, "checked here", checked.here, Wanted::Any),
        Figure::new(CASES, "checked by other tests", checked.elsewhere, Wanted::Any),
        Figure::new(CASES, "do not apply yet", checked.not_yet, Wanted::Any),
        Figure::new(CASES, "found here", checked.violations.len() as u64 + u64::from(scan.is_err()), Wanted::Zero),
    ]
}
