//! Makes a failing run small: first the operations of its clients, then what the crash took.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crashkit::shrink::leave_out;
use forelog::sim::Loss;

use super::case::{Case, Focus, Keep, StepId};
use super::check::{Crash, Power};
use super::report::Tally;

/// One run of one kind; the error names the invariant first or after the place.
pub type Run<'a> = &'a (dyn Fn(&Case, &mut Tally) -> Result<(), String> + Sync);

/// No more runs than this are spent on making one smaller.
const ATTEMPTS: usize = 300;

/// Steps that any run could have.
const LIVES: u64 = 4;
const CLIENTS: usize = 5;
const STEPS: usize = 8;

/// The smallest case found that fails, with its error.
pub fn shrink(case: &Case, error: String, failure: Option<Focus>, run: Run<'_>) -> (Case, String) {
    let mut attempts = ATTEMPTS;
    let steps: Vec<StepId> = (0..LIVES)
        .flat_map(|life| (0..CLIENTS).flat_map(move |client| (0..STEPS).map(move |step| (life, client, step))))
        .filter(|step| case.keep.has(*step))
        .collect();
    let keeping = |kept: &[StepId]| Case { keep: Keep::only(kept.iter().copied()), focus: None, ..case.clone() };
    let smaller = leave_out(&steps, &mut attempts, |kept| fails(&keeping(kept), run));
    let (case, error, failure) = match smaller {
        Some((kept, (error, failure))) => (keeping(&kept), error, failure),
        None => (case.clone(), error, failure),
    };
    let Some(focus) = failure else { return (case, error) };
    shrink_loss(&Case { focus: Some(focus), ..case.clone() }, &mut attempts, run).unwrap_or((case, error))
}

/// How a case fails, if it does.
fn fails(case: &Case, run: Run<'_>) -> Option<(String, Option<Focus>)> {
    let mut tally = Tally::default();
    match catch_unwind(AssertUnwindSafe(|| run(case, &mut tally))) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some((error, tally.failure)),
        Err(_) => Some(("panicked".to_owned(), None)),
    }
}

/// Lets as many of the lost atoms land as may without the failure going away. `None` if the one crash alone does not
/// fail.
fn shrink_loss(case: &Case, attempts: &mut usize, run: Run<'_>) -> Option<(Case, String)> {
    let (error, _) = fails(case, run)?;
    let Some(Focus { life, cut, crash: Crash::Power(power) }) = &case.focus else { return Some((case.clone(), error)) };
    let Loss::AllBut(landed) = &power.loss else { return Some((case.clone(), error)) };
    let losing = |lost: &[usize]| {
        let loss = Loss::AllBut((0..landed.len()).map(|atom| !lost.contains(&atom)).collect());
        let crash = Crash::Power(Power { loss, ..power.clone() });
        Case { focus: Some(Focus { life: *life, cut: *cut, crash }), ..case.clone() }
    };
    let lost: Vec<usize> = (0..landed.len()).filter(|atom| !landed[*atom]).collect();
    match leave_out(&lost, attempts, |lost| fails(&losing(lost), run)) {
        Some((lost, (error, _))) => Some((losing(&lost), error)),
        None => Some((case.clone(), error)),
    }
}
