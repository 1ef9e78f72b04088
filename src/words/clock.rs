//! Time enters here: monotonic only, virtual inside a simulation and under a model checker.

#[cfg(not(any(loom, shuttle)))]
use std::sync::OnceLock;
use std::time::Duration;
#[cfg(not(any(loom, shuttle)))]
use std::time::Instant;

/// A moment, as the time since this process first asked (or since the simulation began).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "only a simulation shows it to users"))]
pub struct Moment(Duration);

#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, dead_code, reason = "only a simulation shows it to users"))]
impl Moment {
    /// The moment `since_start` after the beginning.
    pub const fn at(since_start: Duration) -> Self {
        Moment(since_start)
    }

    /// How long after the beginning this is.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// This moment moved by `by`; the end of time at most.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Moment(self.0.saturating_add(by))
    }

    /// The time from `earlier` to this moment, zero if it is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(not(any(loom, shuttle)))]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// The present moment.
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
    Moment(start().elapsed())
}

/// `moment` on the operating system's clock, for waits; `None` if it is beyond that clock's end.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn instant(moment: Moment) -> Option<Instant> {
    start().checked_add(moment.0)
}
