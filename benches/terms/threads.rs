//! What threads cost each other: locks, lines of the cache, wake-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::common::stats::Spread;

/// Nanoseconds for each of `times` calls.
pub(crate) fn each(times: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..times).for_each(&mut call);
    start.elapsed().as_nanos() as f64 / times as f64
}

/// Nanoseconds for each of `times` calls by two threads together: those of the clock on the wall.
pub(crate) fn each_of_two(times: usize, call: impl Fn(usize) + Sync) -> f64 {
    let ready = AtomicUsize::new(0);
    let run = |from: usize| {
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < 2 {
            std::thread::yield_now();
        }
        let start = Instant::now();
        (from..times).step_by(2).for_each(&call);
        start.elapsed().as_nanos() as f64
    };
    let wall = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        run(0).max(other.join().expect("no panic"))
    });
    wall / times as f64
}

/// Nanoseconds that a cache line takes from one core to another: of the median burst, since both threads may be on one
/// core for a while.
pub(crate) fn line() -> f64 {
    const BURSTS: u64 = 200;
    const HOPS: u64 = 100;
    let turn = AtomicU64::new(0);
    let play = |from: u64, to: u64, mine: u64| {
        for hop in (from + mine..to).step_by(2) {
            let mut looks = 0;
            while turn.load(Ordering::Acquire) != hop {
                std::hint::spin_loop();
                looks += 1;
                if looks % 4096 == 0 {
                    std::thread::yield_now();
                }
            }
            turn.store(hop + 1, Ordering::Release);
        }
    };
    let bursts = std::thread::scope(|scope| {
        scope.spawn(|| play(0, BURSTS * HOPS, 1));
        let burst = |number: u64| each(1, |_| play(number * HOPS, (number + 1) * HOPS, 0)) / HOPS as f64;
        (0..BURSTS).map(burst).collect::<Vec<f64>>()
    });
    Spread::of(bursts).map_or(0.0, |spread| spread.median)
}

/// Where one thread waits, as the log's own waiters do.
#[derive(Default)]
struct Slot {
    signal: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Slot {
    fn signal(&self, goes_on: bool) {
        *self.signal.lock() = Some(goes_on);
        self.changed.notify_one();
    }

    fn wait(&self) -> bool {
        let mut signal = self.signal.lock();
        loop {
            match signal.take() {
                Some(goes_on) => return goes_on,
                None => self.changed.wait(&mut signal),
            }
        }
    }
}

/// Nanoseconds from a signal to a sleeping thread until it runs.
pub(crate) fn wake_up() -> f64 {
    const ROUND_TRIPS: usize = 200;
    let (there, back) = (Slot::default(), Slot::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while there.wait() {
                back.signal(true);
            }
        });
        let round_trip = each(ROUND_TRIPS, |_| {
            there.signal(true);
            back.wait();
        });
        there.signal(false);
        round_trip / 2.0
    })
}

/// Nanoseconds for each of `threads` sleeping threads that one thread wakes: until it has signalled the last, and until
/// the last has run.
pub(crate) fn crowd(threads: usize) -> (f64, f64) {
    const ROUNDS: usize = 20;
    let slots: Vec<Slot> = (0..threads).map(|_| Slot::default()).collect();
    let (arrived, all) = (AtomicUsize::new(0), Slot::default());
    let (mut signalled, mut back) = (Duration::ZERO, Duration::ZERO);
    std::thread::scope(|scope| {
        for slot in &slots {
            let (arrived, all) = (&arrived, &all);
            scope.spawn(move || {
                while slot.wait() {
                    if arrived.fetch_add(1, Ordering::AcqRel) + 1 == threads {
                        all.signal(true);
                    }
                }
            });
        }
        for _ in 0..ROUNDS {
            arrived.store(0, Ordering::Release);
            // Until they sleep.
            std::thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            slots.iter().for_each(|slot| slot.signal(true));
            signalled += start.elapsed();
            all.wait();
            back += start.elapsed();
        }
        slots.iter().for_each(|slot| slot.signal(false));
    });
    let per_thread = |time: Duration| time.as_nanos() as f64 / (ROUNDS * threads) as f64;
    (per_thread(signalled), per_thread(back))
}

/// Counts wake-ups, and wakes the thread that waits for the last of them.
#[derive(Default)]
pub(crate) struct Counter {
    count: AtomicUsize,
    enough: AtomicUsize,
    slot: Slot,
}

impl Counter {
    pub(crate) fn to(enough: usize) -> Arc<Counter> {
        Arc::new(Counter { enough: enough.into(), ..Counter::default() })
    }

    pub(crate) fn count(&self) {
        if self.count.fetch_add(1, Ordering::AcqRel) + 1 == self.enough.load(Ordering::Relaxed) {
            self.slot.signal(true);
        }
    }

    pub(crate) fn wait(&self) {
        self.slot.wait();
    }
}

impl std::task::Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.count();
    }
}
