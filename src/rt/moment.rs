//! A point in monotonic time.

use std::time::Duration;

/// A moment, as the time since this process first asked for one (or since the simulation began).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "only a simulation shows it to users"))]
pub struct Moment(Duration);

#[cfg_attr(not(feature = "sim"), expect(unreachable_pub, reason = "only a simulation shows it to users"))]
impl Moment {
    /// The moment `since_start` after the beginning.
    pub const fn at(since_start: Duration) -> Self {
        Moment(since_start)
    }

    /// The time from the beginning to this moment.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// This moment moved by `by`, at most to the end of time.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Moment(self.0.saturating_add(by))
    }

    /// The time from `earlier` to this moment, zero if it is later.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
