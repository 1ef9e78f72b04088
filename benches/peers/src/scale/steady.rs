//! How long single commits take while nothing else goes on, and while another thread overwrites all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::child::{BATCH, Work};
use super::event::Phase;
use super::meter::Meter;
use crate::peer::{Mode, Result, Store};

/// Overwrites a second of the other thread, 100 a transaction: an engine that keeps up with them makes checkpoints, flushes of
/// memtables and merges all the time, and leaves the disk to others for most of it.
const BESIDE: f64 = 20_000.0;
/// `Async` commits a second. As many as they could be would be a load of their own.
const ASYNC: f64 = 2_000.0;

/// The phases, in their order: the mode of the commits that are timed, and whether another thread overwrites.
pub const STEADY: [(Phase, Mode, bool); 4] = [
    (Phase::SyncAlone, Mode::Sync, false),
    (Phase::AsyncAlone, Mode::Async, false),
    (Phase::SyncBeside, Mode::Sync, true),
    (Phase::AsyncBeside, Mode::Async, true),
];

/// Times the commits of each phase, over a store that has all keys.
pub fn measure(work: &Work<'_>, store: &dyn Store) -> Result<()> {
    for (phase, mode, beside) in STEADY {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = beside.then(|| scope.spawn(|| overwrite(work, store, &is_over)));
            let measured = commits(work, store, phase, mode);
            is_over.store(true, Ordering::Relaxed);
            let overwrote = other.map_or(Ok(()), |other| other.join().map_err(|_| "the other thread panicked")?);
            measured.and(overwrote)
        })?;
    }
    Ok(())
}

/// One put a transaction: `Sync` ones one after the other, `Async` ones in a fixed time each. One that begins late, because the one
/// before took too long, counts from when it was due.
fn commits(work: &Work<'_>, store: &dyn Store, phase: Phase, mode: Mode) -> Result<()> {
    let mut ranks = work.ranks(phase).cycle();
    let mut session = store.session()?;
    let mut meter: Meter = work.begin(phase, 0)?;
    let mut due = Instant::now();
    while !meter.is_over() {
        // To make keys and values is no time of the engine's.
        let rank = [ranks.next().ok_or("no keys")?];
        let values = work.values(&rank, phase as u64);
        let puts = work.puts(&rank, &values);
        let since = match mode {
            Mode::Async => {
                let ended = Instant::now();
                due += Duration::from_secs_f64(1.0 / ASYNC);
                // The sleep may be too long: that is no time of the engine's.
                std::thread::sleep(due.saturating_duration_since(ended));
                if due < ended { due } else { Instant::now() }
            }
            _ => Instant::now(),
        };
        meter.time_since(since, 1, || session.commit(&puts, mode))?;
    }
    meter.finish()
}

fn overwrite(work: &Work<'_>, store: &dyn Store, is_over: &AtomicBool) -> Result<()> {
    let mut ranks = work.ranks(Phase::Overwrite).cycle();
    let mut session = store.session()?;
    let mut due = Instant::now();
    for number in 1.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let batch: Vec<u64> = ranks.by_ref().take(BATCH as usize).collect();
        let values = work.values(&batch, number << 8);
        session.commit(&work.puts(&batch, &values), Mode::Written)?;
        due += Duration::from_secs_f64(BATCH as f64 / BESIDE);
        let now = Instant::now();
        std::thread::sleep(due.saturating_duration_since(now));
        // What could not be done in its time is not caught up with.
        due = due.max(now);
    }
    Ok(())
}
