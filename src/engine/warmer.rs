//! The warmer: a thread that brings into memory what an open has left in layers, while there is room (`table/RULES.md`, 7). It
//! only reads, so it may run before the first commit of a life. Until it has come to a key, reads of it ask the layers.
//!
//! Then it brings in what is read from layers again and again, in the place of what nobody reads.

use std::sync::Arc;
use std::time::Duration;

use super::keeper;
use super::tables::Tables;
use crate::base::error::Result;
use crate::index::{Filler, Tree};
use crate::rt::clock;
use crate::rt::sleeper::{Backoff, Sleeper, Woken};
use crate::rt::sync::yield_now;
use crate::txn::pipeline::Pipeline;

/// Fills between two looks whether commits come.
const FILLS: usize = 16;
/// Fills between two looks at how much there is: about a MiB.
const LOOK: usize = 64;
/// While commits come, it rests so long between two looks.
const REST: Duration = Duration::from_millis(1);
/// From the first try that could not read layers, or that held snapshots have kept from its end, to the next.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

const NAME: &str = "forelog-warm";

/// Ends it: the layers that it was reading are no longer held.
pub(super) fn end(pipeline: &Pipeline) {
    pipeline.log.background.end_named(NAME);
}

/// Starts it, unless it runs.
pub(super) fn start(pipeline: &Arc<Pipeline>, tables: &Arc<Tables>) {
    // The models have no thread to spare.
    if cfg!(any(loom, shuttle)) {
        return;
    }
    let (warms, reads, sleeper) = (Arc::clone(pipeline), Arc::clone(tables), Arc::new(Sleeper::new()));
    let task = Arc::clone(&sleeper);
    // Without a thread reads ask layers, for as long as the database is open.
    let _ = pipeline.log.start_once(NAME, task, move |_| run(&warms, &reads, &sleeper));
}

fn run(pipeline: &Pipeline, tables: &Tables, sleeper: &Arc<Sleeper>) {
    let (mut again, mut warmed, mut next) = (Backoff::new(AGAIN, LONGEST), Warmed::Part, clock::now());
    let (wanted, rings) = (tables.reading().wanted(), Arc::clone(sleeper));
    tables.reading().bell().set_told(move || rings.ring());
    loop {
        sleeper.forget();
        // Keys that are wanted come much more often than it is worth a try.
        if warmed == Warmed::Part && next <= clock::now() {
            warmed = warm(pipeline, sleeper, tables.shares().to_warm());
            next = clock::now().after(again.take());
        }
        // Reads alone let partitions grow: then no checkpoint comes that would make room for them.
        keeper::fit(pipeline, tables);
        for (id, key) in wanted.take() {
            if !sleeper.pause(Duration::ZERO) {
                return;
            }
            bring_in(pipeline, tables, id, &key);
        }
        let woken = match warmed {
            Warmed::All | Warmed::Full => sleeper.sleep(None),
            Warmed::Part => sleeper.sleep(Some(next.since(clock::now()))),
            Warmed::Stopped => return,
        };
        if woken == Woken::Stopped {
            return;
        }
    }
}

/// Brings in a range that begins with a key which is read again and again. What nobody has read lately makes room.
fn bring_in(pipeline: &Pipeline, tables: &Tables, id: u32, key: &[u8]) {
    let Some(tree) = pipeline.index().keyspace_by_id(id) else { return };
    let mut filler = Filler::from(tree, key);
    if filler.is_needed() && keeper::make_room(pipeline, tables) {
        // A read that fails tells its reader, and a range that has changed meanwhile is read again soon.
        if let Ok(Some(fill)) = filler.read() {
            pipeline.index().land(filler.tree(), &fill);
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
    let mut look = Look { pipeline, sleeper, room, steps: 0, seen: pipeline.log.positions().appended() };
    for tree in index.unsettled() {
        match warm_tree(&mut look, tree) {
            Ok(Warmed::All | Warmed::Part) | Err(_) => {}
            Ok(end) => return end,
        }
    }
    if index.unsettled().is_empty() { Warmed::All } else { Warmed::Part }
}

fn warm_tree(look: &mut Look<'_>, tree: Arc<Tree>) -> Result<Warmed> {
    let index = look.pipeline.index();
    let mut filler = Filler::new(tree);
    loop {
        if let Some(ended) = look.step() {
            return Ok(ended);
        }
        let Some(fill) = filler.read()? else { break };
        if !index.land(filler.tree(), &fill) {
            filler.renew();
        } else if !filler.pass(&fill) {
            break;
        }
    }
    Ok(if index.settle(filler.tree()) { Warmed::All } else { Warmed::Part })
}

/// Looks now and then whether there is room, whether commits come, and whether it is to end.
struct Look<'a> {
    pipeline: &'a Pipeline,
    sleeper: &'a Sleeper,
    room: u64,
    steps: usize,
    /// Where the log ended at the last look.
    seen: u64,
}

impl Look<'_> {
    /// Before each fill: why it is to end, if it is.
    fn step(&mut self) -> Option<Warmed> {
        self.steps += 1;
        if !self.steps.is_multiple_of(FILLS) {
            return None;
        }
        if self.steps.is_multiple_of(LOOK) && self.pipeline.index().bytes().all as u64 >= self.room {
            return Some(Warmed::Full);
        }
        yield_now();
        let appended = self.pipeline.log.positions().appended();
        let rest = if std::mem::replace(&mut self.seen, appended) == appended { Duration::ZERO } else { REST };
        if self.sleeper.pause(rest) { None } else { Some(Warmed::Stopped) }
    }
}
