//! Models of commits that a task waits for (`src/txn/ASYNC.md`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use forelog::sim::SimDisk;
use forelog::{CommitFuture, CommitMode, Engine, ErrorKind, Keyspace, LossBudget, Options, Receipt, Result};
use shuttle::rand::Rng;
use shuttle::sync::{Condvar, Mutex};

use crate::run::check;
use crate::witness::start;
use crashkit::{get, open_on};

/// A task that sleeps until it is woken: if it never is, the checker finds a deadlock.
#[derive(Default)]
struct Sleeper(Mutex<bool>, Condvar);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
}

impl Sleeper {
    fn wait(&self) {
        let mut woken = self.0.lock().unwrap();
        while !*woken {
            woken = self.1.wait(woken).unwrap();
        }
        *woken = false;
    }
}

fn poll(future: &mut CommitFuture, waker: &Waker) -> Poll<Result<Receipt>> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

fn wait_for(mut future: CommitFuture) -> Result<Receipt> {
    let sleeper = Arc::new(Sleeper::default());
    let waker = Waker::from(Arc::clone(&sleeper));
    loop {
        match poll(&mut future, &waker) {
            Poll::Ready(result) => return result,
            Poll::Pending => sleeper.wait(),
        }
    }
}

fn write(engine: &Engine, keys: &Keyspace, key: &str, mode: CommitMode) -> Result<CommitFuture> {
    let mut tx = engine.begin()?;
    tx.put(keys, key, "x")?;
    Ok(tx.commit_async(mode))
}

/// Whatever comes first, a close included: each task is woken and gets its result; what was acknowledged is there; and what was dropped
/// takes no place afterwards.
#[test]
fn tasks_that_commit_and_give_up() {
    check("tasks_that_commit_and_give_up", || {
        let disk = SimDisk::new();
        // One commit at risk fills it: others are queued.
        let options = || Options::new().segment_bytes(8192).loss_budget(LossBudget::default().max_commits(1));
        let engine = open_on(&disk, options()).unwrap();
        let keys = engine.create_keyspace("k").unwrap();
        let mut threads = Vec::new();
        for (name, modes) in
            [("a", [CommitMode::Async, CommitMode::Written]), ("b", [CommitMode::Sync, CommitMode::Async])]
        {
            let (engine, keys) = (engine.clone(), keys.clone());
            threads.push(start("task", move || {
                for (number, mode) in modes.into_iter().enumerate() {
                    let key = format!("{name}{number}");
                    match write(&engine, &keys, &key, mode).and_then(wait_for) {
                        Ok(receipt) => {
                            assert!(receipt.is_durable() || mode != CommitMode::Sync);
                            assert!(engine.snapshot().map_or(true, |snapshot| snapshot.lsn() >= receipt.lsn()));
                        }
                        Err(error) => assert!(error.kind() == ErrorKind::Closed && error.token().is_none(), "{error}"),
                    }
                }
            }));
        }
        let (other, others) = (engine.clone(), keys.clone());
        threads.push(start("gives up", move || {
            // The helper replaces HISTORY for the first deletion of a range, and so has the second one in its queue.
            let Ok(mut tx) = other.begin() else { return };
            tx.delete_range(&others, "x"..).unwrap();
            let mut first = tx.commit_async(CommitMode::Sync);
            let _ = poll(&mut first, &Waker::from(Arc::new(Sleeper::default())));
            // Not at risk, so that it needs no room.
            let Ok(mut future) = write(&other, &others, "given up", CommitMode::Sync) else { return };
            let _ = poll(&mut future, &Waker::from(Arc::new(Sleeper::default())));
            // The helper may be anywhere by then.
            (0..shuttle::rand::thread_rng().gen_range(0..200)).for_each(|_| shuttle::thread::yield_now());
            drop(future);
            // Whatever took its place before is behind this.
            if let Ok(mut batch) = other.batch() {
                batch.delete(&others, "given up").unwrap();
                let _ = batch.commit_with(CommitMode::Sync);
            }
        }));
        let closes_early = shuttle::rand::thread_rng().gen_bool(0.3);
        if closes_early {
            engine.close().unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        if !closes_early {
            assert!(get(&engine, &keys, "given up").is_none(), "it took its place after it was dropped");
            for key in ["a0", "a1", "b0", "b1"] {
                assert!(get(&engine, &keys, key).is_some(), "{key}");
            }
        }
        engine.close().unwrap();
    });
}
