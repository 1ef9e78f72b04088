//! Time enters here: monotonic only, virtual inside a simulation and under a model checker.

#[cfg(not(any(loom, shuttle)))]
use std::sync::OnceLock;
#[cfg(not(any(loom, shuttle)))]
use std::time::Instant;

pub(crate) use super::moment::Moment;

#[cfg(not(any(loom, shuttle)))]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

pub(crate) fn now() -> Moment {
    #[cfg(any(loom, shuttle))]
    return super::sync::time();
    #[cfg(not(any(loom, shuttle)))]
    now_outside_models()
}

#[cfg(not(any(loom, shuttle)))]
fn now_outside_models() -> Moment {
    #[cfg(feature = "sim")]
    if let Some(now) = super::schedule::now() {
        return now;
    }
    Moment::at(start().elapsed())
}

/// `moment` on the operating system's clock, for waits; `None` if it is beyond that clock's end.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn instant(moment: Moment) -> Option<Instant> {
    start().checked_add(moment.since_start())
}
