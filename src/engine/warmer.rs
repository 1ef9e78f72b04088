//! The warmer: a thread that brings into memory what an open has left in layers, while there is room (`table/RULES.md`, 7). It
//! only reads, so it may run before the first commit of a life. Until it has come to a key, reads of it ask the layers.

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Result;
use crate::index::{Filler, Index, Tree};
use crate::rt::sleeper::{Backoff, Sleeper, Woken};
use crate::rt::sync::yield_now;
use crate::txn::pipeline::Pipeline;

/// Fills between two looks whether commits come.
const FILLS: usize = 16;
/// While commits come, it rests so long between two looks.
const REST: Duration = Duration::from_millis(1);
/// From the first try that could not read layers, or that held snapshots have kept from its end, to the next.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Starts it if something is to be brought in. `room` is for the leaves of all keyspaces, in bytes.
pub(super) fn start(pipeline: &Arc<Pipeline>, room: u64) {
    // The models have no thread to spare.
    if cfg!(any(loom, shuttle)) || pipeline.index().unsettled().is_empty() {
        return;
    }
    let (warms, sleeper) = (Arc::clone(pipeline), Arc::new(Sleeper::new()));
    let task = Arc::clone(&sleeper);
    // Without a thread reads ask layers, for as long as the database is open.
    let _ = pipeline.log.start_once("forelog-warm", task, move |_| run(&warms, &sleeper, room));
}

fn run(pipeline: &Pipeline, sleeper: &Sleeper, room: u64) {
    let mut again = Backoff::new(AGAIN, LONGEST);
    loop {
        match warm(pipeline, sleeper, room) {
            Warmed::All | Warmed::Full | Warmed::Stopped => return,
            Warmed::Part => {}
        }
        if sleeper.sleep(Some(again.take())) == Woken::Stopped {
            return;
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Warmed {
    All,
    /// Something could not be read, or held snapshots still need layers.
    Part,
    /// There is no room.
    Full,
    Stopped,
}

/// Brings in all keyspaces, one after the other.
fn warm(pipeline: &Pipeline, sleeper: &Sleeper, room: u64) -> Warmed {
    let index = pipeline.index();
    for tree in index.unsettled() {
        match warm_tree(pipeline, sleeper, room, tree) {
            Ok(Warmed::All | Warmed::Part) | Err(_) => {}
            Ok(end) => return end,
        }
    }
    if index.unsettled().is_empty() { Warmed::All } else { Warmed::Part }
}

fn warm_tree(pipeline: &Pipeline, sleeper: &Sleeper, room: u64, tree: Arc<Tree>) -> Result<Warmed> {
    let index = pipeline.index();
    let mut filler = Filler::new(tree);
    let mut seen = pipeline.log.positions().appended();
    for number in 1_usize.. {
        let Some(fill) = filler.read()? else { break };
        if !index.land(filler.tree(), &fill) {
            filler.renew();
            continue;
        }
        if !filler.pass(&fill) {
            break;
        }
        if number.is_multiple_of(FILLS) {
            if is_full(index, room) {
                return Ok(Warmed::Full);
            }
            yield_now();
            let appended = pipeline.log.positions().appended();
            let rest = if std::mem::replace(&mut seen, appended) == appended { Duration::ZERO } else { REST };
            if !sleeper.pause(rest) {
                return Ok(Warmed::Stopped);
            }
        }
    }
    Ok(if index.settle(filler.tree()) { Warmed::All } else { Warmed::Part })
}

fn is_full(index: &Index, room: u64) -> bool {
    index.bytes_of_records() as u64 >= room
}
