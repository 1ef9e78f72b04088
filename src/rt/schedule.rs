//! A deterministic scheduler for simulations. It runs real threads, exactly one at a time, in an order drawn from a
//! seed, on virtual time.
//!
//! Every lock, wait, queue and disk operation of the engine passes through here if its thread takes part in a
//! simulation ([`run`]). When all threads wait, time jumps to the earliest deadline. If there is no deadline, the
//! simulation is deadlocked: it prints the waiting threads and aborts the process, because nothing can be unwound
//! safely.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::moment::Moment;

/// Names a simulated thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ThreadId(usize);

/// The time of one step between two yield points, so that loops that watch the clock end.
const STEP: Duration = Duration::from_micros(1);

/// A simulation of more steps than this does not end: its threads run in circles.
const LONGEST: u64 = 5_000_000;

#[derive(Debug)]
enum Status {
    Runnable,
    /// Waits at a place (an address) until it is woken there, or for a deadline.
    Blocked {
        place: usize,
        deadline: Option<Moment>,
    },
    Ended,
}

#[derive(Debug)]
struct Thread {
    name: String,
    status: Status,
    timed_out: bool,
    baton: Arc<Condvar>,
}

#[derive(Debug)]
struct ScheduleState {
    seed: u64,
    random: u64,
    now: Moment,
    steps: u64,
    current: usize,
    threads: Vec<Thread>,
}

/// One simulation.
#[derive(Debug)]
struct Schedule(Mutex<ScheduleState>);

thread_local! {
    static CURRENT: RefCell<Option<(Arc<Schedule>, usize)>> = const { RefCell::new(None) };
}

/// Places for the ends of threads. Addresses are never this small.
const FIRST_END_PLACE: usize = 1 << 4;

impl ScheduleState {
    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn expire(&mut self) {
        let now = self.now;
        for thread in &mut self.threads {
            if let Status::Blocked { deadline: Some(deadline), .. } = thread.status
                && deadline <= now
            {
                thread.status = Status::Runnable;
                thread.timed_out = true;
            }
        }
    }

    /// The thread that runs next. Moves time forward if every thread waits.
    fn choose(&mut self) -> usize {
        loop {
            self.expire();
            let runnable: Vec<usize> =
                (0..self.threads.len()).filter(|&i| matches!(self.threads[i].status, Status::Runnable)).collect();
            if !runnable.is_empty() {
                let draw = usize::try_from(self.draw() >> 33).expect("31 bits");
                return runnable[draw % runnable.len()];
            }
            let deadlines = self.threads.iter().filter_map(|thread| match thread.status {
                Status::Blocked { deadline, .. } => deadline,
                _ => None,
            });
            match deadlines.min() {
                Some(deadline) => self.now = deadline,
                None => give_up(self, "deadlock: every thread waits and no deadline is set"),
            }
        }
    }
}

fn give_up(state: &ScheduleState, why: &str) -> ! {
    let mut text = format!("\nsimulation with seed {} at {:?}: {why}\n", state.seed, state.now.since_start());
    for thread in &state.threads {
        text += &format!("  {}: {:?}\n", thread.name, thread.status);
    }
    // The test harness captures eprintln, and would lose it in the abort.
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::abort();
}

impl Schedule {
    fn lock(&self) -> MutexGuard<'_, ScheduleState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the turn to the next thread and waits until it is back.
    fn pass(&self, mut state: MutexGuard<'_, ScheduleState>, me: usize) {
        state.now = state.now.after(STEP);
        state.steps += 1;
        if state.steps > LONGEST {
            give_up(&state, "it does not end");
        }
        let next = state.choose();
        state.current = next;
        if next != me {
            state.threads[next].baton.notify_one();
            let baton = Arc::clone(&state.threads[me].baton);
            while state.current != me {
                state = baton.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn end(&self, me: usize) {
        let mut state = self.lock();
        state.threads[me].status = Status::Ended;
        wake(&mut state, FIRST_END_PLACE + me, usize::MAX);
        if state.threads.iter().all(|thread| matches!(thread.status, Status::Ended)) {
            return;
        }
        let next = state.choose();
        state.current = next;
        state.threads[next].baton.notify_one();
    }
}

/// Whether any simulation has begun in this process: before that, [`current`] looks no further.
static IN_USE: AtomicBool = AtomicBool::new(false);

/// The simulation of this thread. `None` in a destructor that runs while the thread ends, after it left the simulation.
fn current() -> Option<(Arc<Schedule>, usize)> {
    if !IN_USE.load(Ordering::Relaxed) {
        return None;
    }
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn wake(state: &mut ScheduleState, at: usize, most: usize) {
    let waiting = state.threads.iter_mut().filter(|t| matches!(t.status, Status::Blocked { place, .. } if place == at));
    for thread in waiting.take(most) {
        thread.status = Status::Runnable;
    }
}

pub(crate) fn is_simulated() -> bool {
    IN_USE.load(Ordering::Relaxed) && CURRENT.try_with(|current| current.borrow().is_some()).unwrap_or_default()
}

/// The simulation's time, if this thread takes part in one.
pub fn now() -> Option<Moment> {
    current().map(|(schedule, _)| schedule.lock().now)
}

/// Fills `bytes` from the simulation's seed; `false` outside a simulation.
pub(crate) fn fill_random(bytes: &mut [u8]) -> bool {
    let Some((schedule, _)) = current() else { return false };
    let mut state = schedule.lock();
    for chunk in bytes.chunks_mut(8) {
        let word = state.draw().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    true
}

/// A point at which another thread may get the turn. Does nothing outside a simulation.
pub fn yield_point() {
    #[cfg(any(loom, shuttle))]
    super::sync::point();
    if let Some((schedule, me)) = current() {
        let state = schedule.lock();
        schedule.pass(state, me);
    }
}

/// Waits for `duration` of simulated time. Does nothing outside a simulation.
pub fn sleep(duration: Duration) {
    #[cfg(any(loom, shuttle))]
    super::sync::point();
    if let Some(now) = now() {
        block_on(0, Some(now.after(duration)));
    }
}

/// Waits until it is woken at `place`, or for `deadline`. Returns whether the deadline passed first.
pub(crate) fn block_on(place: usize, deadline: Option<Moment>) -> bool {
    let Some((schedule, me)) = current() else { return false };
    let mut state = schedule.lock();
    if std::thread::panicking() {
        give_up(&state, "a thread that is panicking has to wait");
    }
    state.threads[me].status = Status::Blocked { place, deadline };
    state.threads[me].timed_out = false;
    schedule.pass(state, me);
    schedule.lock().threads[me].timed_out
}

/// Makes every thread that waits at `place` runnable.
pub(crate) fn wake_all(place: usize) {
    if let Some((schedule, _)) = current() {
        wake(&mut schedule.lock(), place, usize::MAX);
    }
}

/// Makes one thread that waits at `place` runnable.
pub(crate) fn wake_one(place: usize) {
    if let Some((schedule, _)) = current() {
        wake(&mut schedule.lock(), place, 1);
    }
}

/// Waits for the end of a simulated thread.
pub(crate) fn wait_for_end(id: ThreadId) {
    let Some((schedule, _)) = current() else { return };
    while !matches!(schedule.lock().threads[id.0].status, Status::Ended) {
        block_on(FIRST_END_PLACE + id.0, None);
    }
}

#[cfg(test)]
thread_local! {
    /// The number of threads that the calling thread may still start before one is refused.
    static THREADS_LEFT: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// Refuses one thread to the calling thread, after `count` others.
#[cfg(test)]
pub(crate) fn refuse_a_thread_after(count: usize) {
    THREADS_LEFT.set(Some(count));
}

#[cfg(test)]
fn is_refused() -> bool {
    let left = THREADS_LEFT.get();
    THREADS_LEFT.set(left.and_then(|left| left.checked_sub(1)));
    left == Some(0)
}

/// Starts a thread in the simulation of the calling thread.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<(std::thread::JoinHandle<()>, ThreadId)> {
    let (schedule, _) = current().expect("called by a simulated thread");
    #[cfg(test)]
    if is_refused() {
        return Err(std::io::ErrorKind::WouldBlock.into());
    }
    let baton = Arc::new(Condvar::new());
    let id = {
        let mut state = schedule.lock();
        let thread =
            Thread { name: name.to_owned(), status: Status::Runnable, timed_out: false, baton: Arc::clone(&baton) };
        state.threads.push(thread);
        state.threads.len() - 1
    };
    let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut state = schedule.lock();
        while state.current != id {
            state = baton.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let _taking_part = Part::begin(&schedule, id);
        body();
    })?;
    Ok((handle, ThreadId(id)))
}

/// The part of a thread in a simulation. It ends with the scope, also by a panic.
struct Part(Arc<Schedule>, usize);

impl Part {
    fn begin(schedule: &Arc<Schedule>, id: usize) -> Self {
        CURRENT.set(Some((Arc::clone(schedule), id)));
        Part(Arc::clone(schedule), id)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        CURRENT.set(None);
        self.0.end(self.1);
    }
}

/// A thread of a simulation, started with [`start`].
#[derive(Debug)]
pub struct Simulated(std::thread::JoinHandle<()>, ThreadId);

impl Simulated {
    /// Waits for the thread to end.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn join(self) {
        wait_for_end(self.1);
        self.0.join().expect("a simulated thread panicked");
    }
}

/// Starts a client thread in the simulation of the calling thread.
///
/// # Panics
/// Outside a simulation, or if the operating system cannot start a thread.
pub fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Simulated {
    let (handle, id) = spawn(name, body).expect("a thread can be started");
    Simulated(handle, id)
}

/// Runs `body` as the first thread of a simulation whose every choice follows from `seed`.
///
/// Threads that the engine or [`start`] begins inside it take part. Returns when `body` has returned and all threads
/// have ended.
///
/// # Panics
/// If `body` panics. A deadlock prints the waiting threads and aborts the process.
pub fn run<R>(seed: u64, body: impl FnOnce() -> R) -> R {
    IN_USE.store(true, Ordering::Relaxed);
    let baton = Arc::new(Condvar::new());
    let main = Thread { name: "main".to_owned(), status: Status::Runnable, timed_out: false, baton };
    let state = ScheduleState { seed, random: seed, now: Moment::default(), steps: 0, current: 0, threads: vec![main] };
    let schedule = Arc::new(Schedule(Mutex::new(state)));
    let taking_part = Part::begin(&schedule, 0);
    let result = body();
    let others = schedule.lock().threads.len();
    for id in 1..others {
        wait_for_end(ThreadId(id));
    }
    drop(taking_part);
    result
}
