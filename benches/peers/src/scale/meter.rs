//! Times the operations of a phase, and tells of each second.

use std::time::{Duration, Instant, SystemTime};

use super::event::{EVENT, Event, Outcome, Phase, Second};
use super::histogram::Histogram;
use super::shares::limit;
use super::usage::{Io, Resident};
use crate::common::stats::nanoseconds;
use crate::peer::Result;

/// Prints an event. The parent stamps nothing: a pipe may hold lines for a while.
pub fn tell(event: &Event) -> Result<()> {
    println!("{EVENT}{}", serde_json::to_string(event)?);
    Ok(())
}

pub struct Meter {
    phase: Phase,
    wanted: u64,
    begin: Instant,
    end: Instant,
    io: Io,
    all: Histogram,
    operations: u64,
    is_cut: bool,
    pub wrong: u64,
    second: Histogram,
    second_end: Instant,
    in_second: u64,
}

impl Meter {
    const SECOND: Duration = Duration::from_secs(1);

    /// `seconds` are those of all phases.
    pub fn begin(phase: Phase, wanted: u64, seconds: f64) -> Result<Meter> {
        tell(&Event::Begun(phase))?;
        let begin = Instant::now();
        Ok(Meter {
            phase,
            wanted,
            begin,
            end: begin + limit(phase, seconds),
            io: Io::of("self"),
            all: Histogram::new(),
            operations: 0,
            is_cut: false,
            wrong: 0,
            second: Histogram::new(),
            second_end: begin + Self::SECOND,
            in_second: 0,
        })
    }

    /// Times one transaction or read, of so many keys.
    pub fn time<T>(&mut self, keys: u64, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        self.time_since(Instant::now(), keys, operation)
    }

    /// The same, from a moment on that may be earlier.
    pub fn time_since<T>(&mut self, before: Instant, keys: u64, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = operation()?;
        let after = Instant::now();
        self.pass(after)?;
        let time = nanoseconds(after - before);
        self.all.add(time);
        self.second.add(time);
        self.count(keys);
        Ok(result)
    }

    /// Counts what is not timed one by one. Call [`Meter::pass`] before, with the time.
    pub fn count(&mut self, keys: u64) {
        self.operations += keys;
        self.in_second += keys;
    }

    /// Tells of the seconds that are over. In those that a single operation took, none ended.
    pub fn pass(&mut self, now: Instant) -> Result<()> {
        while now >= self.second_end {
            let end = self.second_end;
            self.tell_second(now, end, Self::SECOND)?;
            self.second_end += Self::SECOND;
        }
        Ok(())
    }

    fn tell_second(&mut self, now: Instant, end: Instant, length: Duration) -> Result<()> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let at = (since_1970 - (now - end)).as_secs_f64();
        let (phase, length, operations) = (self.phase, length.as_secs_f64(), self.in_second);
        tell(&Event::Second(Second { phase, at, length, operations, times: self.second.times() }))?;
        self.second.clear();
        self.in_second = 0;
        Ok(())
    }

    /// Whether the share of time is over; the phase is cut then.
    pub fn is_over(&mut self) -> bool {
        self.is_cut = Instant::now() >= self.end;
        self.is_cut
    }

    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Tells what the phase gave.
    pub fn finish(mut self) -> Result<()> {
        let now = Instant::now();
        let seconds = (now - self.begin).as_secs_f64();
        self.pass(now)?;
        if self.in_second > 0 {
            self.tell_second(now, now, now - (self.second_end - Self::SECOND))?;
        }
        let io = Io::of("self").since(self.io);
        tell(&Event::Ended(Outcome {
            phase: self.phase,
            operations: self.operations,
            wanted: self.wanted,
            is_cut: self.is_cut,
            seconds,
            times: self.all.times(),
            wrong: self.wrong,
            resident: Resident::of("self").all,
            read: io.read,
            written: io.written,
        }))
    }
}
