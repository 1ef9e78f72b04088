//! Time enters here: monotonic only, virtual inside a simulation and under a model checker.

#[cfg(not(any(loom, shuttle)))]
use std::sync::OnceLock;
use std::time::Duration;
#[cfg(not(any(loom, shuttle)))]
use std::time::Instant;

pub(crate) use super::moment::Moment;

#[cfg(not(any(loom, shuttle)))]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// So many nanoseconds, at most 584 years.
pub(crate) fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

/// How long so many bytes take.
pub(crate) fn time_for(bytes: u64, bytes_per_second: u64) -> Duration {
    nanos(u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1)))
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
