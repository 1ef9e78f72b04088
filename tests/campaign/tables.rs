//! Rot in tables: every bit of a database with every kind of table, block and entry, and random bits of a full run, each of
//! them opened and read through in every way.

use crashkit::{Random, seed};
use forelog_sim::faults::matrix::{self, Matrix};
use forelog_sim::faults::tables::flips::{OUTCOMES, REFUSED, anywhere, stepping, sweep};
use forelog_sim::faults::tables::reference::{REGIONS, Reference};
use forelog_sim::figures::{Figure, Wanted};

use crate::Request;

const BITS: &str = "bits of tables";
const RUN: &str = "bits of a run";

/// What the bits of all tables come to, about; a request for fewer states takes a sample.
const ALL: u64 = 250_000;
const OF_A_RUN: u64 = 10_000;

pub(crate) fn run(request: &Request) -> Vec<Figure> {
    let mut random = Random::new(seed(0x7AB1E));
    let states = request.states.max(1);
    let mut figures = every_bit(ALL.div_ceil(states), &mut random);
    figures.extend(bits_of_a_run(OF_A_RUN.min(states.div_ceil(4)), &mut random));
    figures
}

fn every_bit(stride: u64, random: &mut Random) -> Vec<Figure> {
    let stride = usize::try_from(stride).expect("small");
    let reference = Reference::of_every_kind();
    let bits = stepping(&reference, || random.between(1, 2 * stride - 1));
    let matrix = sweep(&reference, &bits);
    let all = reference.bits();
    let flipped = if stride == 1 { Wanted::All(all) } else { Wanted::AtLeast(1) };
    let mut figures = vec![
        Figure::new(BITS, "bytes of tables", all / 8, Wanted::AtMost(64 << 10)),
        Figure::new(BITS, "bits flipped", matrix.cases(), flipped),
    ];
    figures.extend(figures_of(BITS, &matrix));
    figures.extend(REGIONS.map(|region| Figure::new(BITS, region, matrix.row_total(region), Wanted::AtLeast(1))));
    figures
}

fn bits_of_a_run(count: u64, random: &mut Random) -> Vec<Figure> {
    let reference = Reference::full_run();
    let bits = anywhere(&reference, usize::try_from(count).expect("not as many"), random);
    let matrix = sweep(&reference, &bits);
    let mut figures = vec![
        Figure::new(RUN, "bytes of tables", reference.bits() / 8, Wanted::AtLeast(4 << 20)),
        Figure::new(RUN, "bits flipped", matrix.cases(), Wanted::All(count)),
    ];
    figures.extend(figures_of(RUN, &matrix));
    figures
}

fn figures_of(part: &'static str, matrix: &Matrix) -> Vec<Figure> {
    println!("{part}\n{matrix}");
    matrix.violations.iter().for_each(|violation| println!("{violation}"));
    let sum = |outcomes: &[&str]| outcomes.iter().map(|outcome| matrix.total(outcome)).sum::<u64>();
    let [damaged, right] = OUTCOMES;
    let (refused, silent) = (matrix.total(REFUSED), matrix.silent);
    let (damaged, right) = (sum(&damaged), sum(&right));
    println!(
        "{} bits flipped: refused at open {refused}, damaged on reading {damaged}, right answers {right}, silent {silent}\n",
        matrix.cases()
    );
    let mut figures = vec![
        Figure::new(part, "refused at open", refused, Wanted::Any),
        Figure::new(part, "damaged on reading", damaged, Wanted::AtLeast(1)),
        Figure::new(part, "right answers", right, Wanted::Any),
    ];
    let outcomes = matrix.outcomes().into_iter().filter(|outcome| !matrix::is_violation(outcome) && outcome != REFUSED);
    figures.extend(outcomes.map(|outcome| Figure::new(part, outcome.clone(), matrix.total(&outcome), Wanted::Any)));
    figures.extend([
        Figure::new(part, "silent", silent, Wanted::Zero),
        Figure::new(part, "wrong error", matrix.wrong, Wanted::Zero),
        Figure::new(part, "panic", matrix.panic, Wanted::Zero),
        Figure::new(part, "hang", matrix.hang, Wanted::Zero),
    ]);
    figures
}
