//! Durable commits a second, and what they do to everything else on the executor: the longest time between two heartbeats of 1 ms.
//!
//! `cargo run --release -p forelog-programs --bin executors -- [DIR] [SECONDS]`
//!
//! Three ways to commit with `Sync` from many tasks: `commit_async`; the blocking call on a pool of threads; the blocking call right in the
//! task, as one writes it first. On tokio and smol with two threads each, and on a bare executor of one thread, in this file, which has no
//! pool and no timer.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use forelog::{CommitMode, Transaction};
use forelog_programs::Database;

type Failure = Box<dyn std::error::Error>;

const THREADS: usize = 2;
const HEARTBEAT: Duration = Duration::from_millis(1);
const IN_FLIGHT: [usize; 4] = [1, 64, 1_024, 16_384];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Async,
    Pool,
    InTheTask,
}

/// What all tasks of a run share.
struct Shared {
    database: Database,
    way: Way,
    end: Instant,
    commits: AtomicU64,
    serial: AtomicU64,
}

impl Shared {
    fn transaction(&self) -> forelog::Result<Transaction> {
        let mut tx = self.database.engine.begin()?;
        tx.put(&self.database.events, self.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes(), [0; 100])?;
        Ok(tx)
    }

    /// One client: the next commit when the one before is durable.
    async fn client<P: Future<Output = forelog::Result<()>>>(self: Arc<Self>, pool: impl Fn(Transaction) -> P) {
        while Instant::now() < self.end {
            let tx = self.transaction().expect("a transaction");
            let committed = match self.way {
                Way::Async => tx.commit_async(CommitMode::Sync).await.map(drop),
                Way::Pool => pool(tx).await,
                Way::InTheTask => tx.commit_with(CommitMode::Sync).map(drop),
            };
            committed.expect("a commit");
            self.commits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The longest time between two heartbeats.
struct Gap {
    before: Instant,
    worst: Duration,
}

impl Gap {
    fn new() -> Self {
        Gap { before: Instant::now(), worst: Duration::ZERO }
    }

    fn beat(&mut self) {
        self.worst = self.worst.max(self.before.elapsed());
        self.before = Instant::now();
    }
}

fn on_tokio(shared: &Arc<Shared>, clients: usize) -> Result<Duration, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_time().build()?;
    let end = shared.end;
    let worst = runtime.block_on(async {
        let heart = tokio::spawn(async move {
            let mut gap = Gap::new();
            while Instant::now() < end {
                tokio::time::sleep(HEARTBEAT).await;
                gap.beat();
            }
            gap.worst
        });
        let pool = |tx: Transaction| async {
            tokio::task::spawn_blocking(|| tx.commit_with(CommitMode::Sync).map(drop)).await.expect("no panic")
        };
        let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(Arc::clone(shared).client(pool))).collect();
        for client in clients {
            client.await?;
        }
        heart.await
    })?;
    Ok(worst)
}

fn on_smol(shared: &Arc<Shared>, clients: usize) -> Result<Duration, Failure> {
    let executor = Arc::new(smol::Executor::new());
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (executor, stopped) = (Arc::clone(&executor), stopped.clone());
            std::thread::spawn(move || smol::block_on(executor.run(stopped.recv())).is_ok())
        })
        .collect();
    let end = shared.end;
    let heart = executor.spawn(async move {
        let mut gap = Gap::new();
        while Instant::now() < end {
            smol::Timer::after(HEARTBEAT).await;
            gap.beat();
        }
        gap.worst
    });
    let pool = |tx: Transaction| smol::unblock(|| tx.commit_with(CommitMode::Sync).map(drop));
    let clients: Vec<_> = (0..clients).map(|_| executor.spawn(Arc::clone(shared).client(pool))).collect();
    let worst = smol::block_on(async {
        for client in clients {
            client.await;
        }
        heart.await
    });
    drop(stop);
    threads.into_iter().for_each(|thread| _ = thread.join().expect("no panic"));
    Ok(worst)
}

/// Tasks that were woken, on their way to the one thread that polls them.
#[derive(Default)]
struct Ready {
    queue: Mutex<VecDeque<Arc<Task>>>,
    changed: Condvar,
}

struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    ready: Arc<Ready>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let ready = Arc::clone(&self.ready);
        ready.queue.lock().expect("no panic").push_back(self);
        ready.changed.notify_one();
    }
}

/// Here a heartbeat is a turn of the loop: with nothing to poll it waits for at most 1 ms.
fn on_bare(shared: &Arc<Shared>, clients: usize) -> Result<Duration, Failure> {
    let ready = Arc::<Ready>::default();
    for _ in 0..clients {
        let never = |_: Transaction| std::future::pending();
        let future: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(Arc::clone(shared).client(never));
        Arc::new(Task { future: Mutex::new(Some(future)), ready: Arc::clone(&ready) }).wake();
    }
    let (mut left, mut gap) = (clients, Gap::new());
    while left > 0 || Instant::now() < shared.end {
        let next = {
            let mut queue = ready.queue.lock().expect("no panic");
            if queue.is_empty() {
                queue = ready.changed.wait_timeout(queue, HEARTBEAT).expect("no panic").0;
            }
            queue.pop_front()
        };
        if let Some(task) = next {
            let waker = Waker::from(Arc::clone(&task));
            let mut future = task.future.lock().expect("no panic");
            if let Some(running) = future.as_mut()
                && running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
            {
                *future = None;
                left -= 1;
            }
        }
        gap.beat();
    }
    Ok(gap.worst)
}

type Executor = fn(&Arc<Shared>, usize) -> Result<Duration, Failure>;

fn measure(run: Executor, way: Way, clients: usize, time: Duration) -> Result<(f64, Duration), Failure> {
    let database = Database::make("executors")?;
    let start = Instant::now();
    let (commits, serial) = Default::default();
    let shared = Arc::new(Shared { database, way, end: start + time, commits, serial });
    let worst = run(&shared, clients)?;
    let rate = shared.commits.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    Ok((rate, worst))
}

fn main() -> Result<(), Failure> {
    let seconds: f64 = std::env::args().nth(2).map_or(Ok(2.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    println!("durable commits a second, and the longest time between two heartbeats of 1 ms; {seconds} s each");
    println!("| executor | in flight | commit_async | on a pool of threads | right in the task |");
    println!("|---|---:|---:|---:|---:|");
    for (name, run) in [("tokio", on_tokio as Executor), ("smol", on_smol), ("bare, 1 thread", on_bare)] {
        let (_, idle) = measure(run, Way::Async, 0, time)?;
        println!("| {name} | 0 | {idle:.1?} | | |");
        for clients in IN_FLIGHT {
            let cell = |way| -> Result<String, Failure> {
                if way == Way::Pool && name.starts_with("bare") {
                    return Ok(String::from("-"));
                }
                let (rate, worst) = measure(run, way, clients, time)?;
                Ok(format!("{rate:.0}, {worst:.1?}"))
            };
            println!(
                "| {name} | {clients} | {} | {} | {} |",
                cell(Way::Async)?,
                cell(Way::Pool)?,
                cell(Way::InTheTask)?
            );
        }
    }
    Ok(())
}
