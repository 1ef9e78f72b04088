//! Makes a failing run small: first the operations of its clients, then what the crash took.

use std::panic::{AssertUnwindSafe, catch_unwind};

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

struct Shrinker<'a> {
    run: Run<'a>,
    attempts: usize,
}

/// The smallest case found that fails, with its error and how many operations are left.
pub fn shrink(case: &Case, error: String, failure: Option<Focus>, run: Run<'_>) -> (Case, String) {
    let mut shrinker = Shrinker { run, attempts: 0 };
    let mut best = (case.clone(), error, failure);
    let mut steps: Vec<StepId> = (0..LIVES)
        .flat_map(|life| (0..CLIENTS).flat_map(move |client| (0..STEPS).map(move |step| (life, client, step))))
        .filter(|step| case.keep.has(*step))
        .collect();
    let mut parts = 2;
    while parts <= steps.len() && shrinker.attempts < ATTEMPTS {
        let size = steps.len().div_ceil(parts);
        let without = |start: usize| -> Vec<StepId> {
            steps[..start].iter().chain(&steps[(start + size).min(steps.len())..]).copied().collect()
        };
        let smaller = (0..steps.len()).step_by(size).map(without).find_map(|kept| {
            let case = Case { keep: Keep::only(kept.iter().copied()), focus: None, ..case.clone() };
            shrinker.fails(&case).map(|(error, failure)| (kept, case, error, failure))
        });
        match smaller {
            Some((kept, case, error, failure)) => {
                (steps, best) = (kept, (case, error, failure));
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(steps.len()),
        }
    }
    let (case, error, failure) = best;
    let Some(focus) = failure else { return (case, error) };
    shrinker.shrink_loss(Case { focus: Some(focus), ..case.clone() }).unwrap_or((case, error))
}

impl Shrinker<'_> {
    fn fails(&mut self, case: &Case) -> Option<(String, Option<Focus>)> {
        if self.attempts >= ATTEMPTS {
            return None;
        }
        self.attempts += 1;
        let mut tally = Tally::default();
        match catch_unwind(AssertUnwindSafe(|| (self.run)(case, &mut tally))) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((error, tally.failure)),
            Err(_) => Some(("panicked".to_owned(), None)),
        }
    }

    /// Lets as many of the lost atoms land as may without the failure going away. `None` if the one crash alone does
    /// not fail.
    fn shrink_loss(&mut self, mut case: Case) -> Option<(Case, String)> {
        let (mut error, _) = self.fails(&case)?;
        let Some(Focus { crash: Crash::Power(power), .. }) = case.focus.clone() else { return Some((case, error)) };
        let Loss::AllBut(mut landed) = power.loss.clone() else { return Some((case, error)) };
        let mut size = landed.len().div_ceil(2).max(1);
        loop {
            for start in (0..landed.len()).step_by(size) {
                let mut more = landed.clone();
                more[start..(start + size).min(landed.len())].fill(true);
                if more == landed {
                    continue;
                }
                let mut smaller = case.clone();
                if let Some(focus) = &mut smaller.focus {
                    focus.crash = Crash::Power(Power { loss: Loss::AllBut(more.clone()), ..power.clone() });
                }
                if let Some((why, _)) = self.fails(&smaller) {
                    (case, landed, error) = (smaller, more, why);
                }
            }
            if size == 1 {
                return Some((case, error));
            }
            size = size.div_ceil(2);
        }
    }
}
