//! A point in monotonic time.

use std::time::Duration;

/// A moment, as the time since this process first asked (or since the simulation began).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "only a simulation shows it to users"))]
pub struct Moment(Duration);

#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "only a simulation shows it to users"))]
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
