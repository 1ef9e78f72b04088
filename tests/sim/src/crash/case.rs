//! One run, and what of it is looked at: all of it, or what a failure was reduced to. Read from the environment, and
//! printed as the line that reproduces a failure.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::sync::Arc;

use super::campaign::seed;
use super::check::Crash;
use crashkit::number;

/// A client's operation: life, client, place among its steps.
pub type StepId = (u64, usize, usize);

/// The operations that are done; all of them if nothing is said.
#[derive(Clone, Default, Debug)]
pub struct Keep(Option<Arc<BTreeSet<StepId>>>);

impl Keep {
    pub fn only(steps: impl IntoIterator<Item = StepId>) -> Self {
        Keep(Some(Arc::new(steps.into_iter().collect())))
    }

    pub fn has(&self, step: StepId) -> bool {
        self.0.as_ref().is_none_or(|kept| kept.contains(&step))
    }
}

/// The one crash that is looked at.
#[derive(Clone, Debug)]
pub struct Focus {
    pub life: u64,
    /// The crash point's number in its life.
    pub cut: usize,
    pub crash: Crash,
}

/// How many of the choices at each crash point are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Few, for many schedules.
    Sampled,
    /// All that `choices` knows.
    Full,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub run: u64,
    pub depth: Depth,
    pub keep: Keep,
    pub focus: Option<Focus>,
}

impl Case {
    pub fn new(seed: u64, run: u64) -> Self {
        Case { seed, run, depth: Depth::Sampled, keep: Keep::default(), focus: None }
    }

    /// What the environment asks for: `FORELOG_RUN`, and if it was reduced, `FORELOG_KEEP` and `FORELOG_CRASH`.
    pub fn asked_for() -> Option<Case> {
        let run = number("FORELOG_RUN")?;
        let keep = env::var("FORELOG_KEEP").map_or(Keep::default(), |text| parse_keep(&text));
        let focus = env::var("FORELOG_CRASH").ok().map(|text| parse_focus(&text));
        let depth =
            if env::var("FORELOG_DEPTH").is_ok_and(|depth| depth == "full") { Depth::Full } else { Depth::Sampled };
        Some(Case { depth, keep, focus, ..Case::new(seed(), run) })
    }

    /// The seed of the first life; the others follow it.
    pub fn first_life(&self) -> u64 {
        self.seed.wrapping_add(self.run << 4)
    }

    pub fn looks_at(&self, life: u64, cut: usize) -> bool {
        self.focus.as_ref().is_none_or(|focus| (focus.life, focus.cut) == (life, cut))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FORELOG_SEED={:#x} FORELOG_RUN={}", self.seed, self.run)?;
        if self.depth == Depth::Full {
            write!(f, " FORELOG_DEPTH=full")?;
        }
        if let Some(kept) = &self.keep.0 {
            let steps: Vec<_> = kept.iter().map(|(life, client, step)| format!("{life}.{client}.{step}")).collect();
            write!(f, " FORELOG_KEEP={}", steps.join(","))?;
        }
        match &self.focus {
            Some(Focus { life, cut, crash }) => write!(f, " FORELOG_CRASH={life}:{cut}:{}", crash.to_code()),
            None => Ok(()),
        }
    }
}

fn parse_keep(text: &str) -> Keep {
    let step = |step: &str| {
        let parts: Vec<u64> = step.split('.').filter_map(|part| part.parse().ok()).collect();
        let [life, client, step] = parts[..] else { panic!("FORELOG_KEEP: not life.client.step: {step}") };
        (life, usize::try_from(client).expect("small"), usize::try_from(step).expect("small"))
    };
    Keep::only(text.split(',').filter(|step| !step.is_empty()).map(step))
}

fn parse_focus(text: &str) -> Focus {
    let parts: Vec<&str> = text.splitn(3, ':').collect();
    let parsed = match parts[..] {
        [life, cut, crash] => life.parse().ok().zip(cut.parse().ok()).zip(Crash::from_code(crash)),
        _ => None,
    };
    let ((life, cut), crash) = parsed.unwrap_or_else(|| panic!("FORELOG_CRASH: not life:cut:crash: {text}"));
    Focus { life, cut, crash }
}
