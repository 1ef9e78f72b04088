//! What is forced every few steps: checkpoints, merges, forgetting, filling, closes and crashes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crashkit::open_on;
use forelog::sim::{self, CrashPoint, Granularity, Loss, SimDisk};
use forelog::{Checkpoints, CommitMode, Lsn, Outcome as TokenOutcome};

use super::reads::Outcome;
use super::system::{BALLAST, System, failed};
use crate::segments;

/// Takes a crash point after so many more operations that change the disk.
#[derive(Clone, Default)]
pub(super) struct Armed(Arc<Mutex<Trap>>);

#[derive(Default)]
struct Trap {
    left: Option<u64>,
    point: Option<CrashPoint>,
}

impl Armed {
    pub(super) fn watch(&self, disk: &SimDisk) {
        let armed = self.clone();
        disk.on_op(move |disk, _| {
            let mut trap = armed.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut trap.left {
                Some(0) => {
                    trap.left = None;
                    trap.point = Some(disk.crash_point());
                }
                Some(left) => *left -= 1,
                None => {}
            }
        });
    }

    fn set(&self, operations: usize) {
        *self.0.lock().unwrap() = Trap { left: Some(operations as u64), point: None };
    }

    /// The crash point, if it has come to it. It is not armed any more.
    fn take(&self) -> Option<CrashPoint> {
        std::mem::take(&mut *self.0.lock().unwrap()).point
    }

    fn has_struck(&self) -> bool {
        self.0.lock().unwrap().point.is_some()
    }
}

/// What no crash may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Safe {
    /// An end of the process.
    process: Lsn,
    /// A power cut.
    power: Lsn,
    /// The last commit before: no token of a later one was handed out.
    last: Lsn,
}

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Close,
    Process,
    Power,
}

impl System {
    pub(super) fn safe(&self) -> Safe {
        let durable = self.engine.durable_lsn();
        Safe { process: durable.max(self.written), power: durable, last: self.history.last() }
    }

    pub(super) fn event(&mut self) -> Outcome {
        self.join()?;
        match self.random.below(42) {
            0..6 => self.checkpoint(),
            6..11 => self.checkpoint_beside(),
            11..15 => self.merge(),
            15..22 => self.forget(),
            22..25 => self.press(),
            25..28 => {
                sim::sleep(Duration::from_millis(self.random.between(1, 1_200) as u64));
                Ok(())
            }
            28..31 => self.crowd(),
            31..33 => self.reopen_at_rest(Ending::Close),
            33 => self.reopen_at_rest(Ending::Process),
            34 | 35 => self.reopen_at_rest(Ending::Power),
            36 | 37 => self.rot(),
            _ => self.arm(),
        }
    }

    /// Waits for the checkpoint that was asked for beside the client.
    pub(super) fn join(&mut self) -> Outcome {
        if let Some(beside) = self.beside.take() {
            beside.join();
            self.look();
        }
        Ok(())
    }

    /// Looks what the engine did of its own accord.
    fn look(&mut self) {
        let stats = self.engine.table_stats();
        self.seen_checkpoints = stats.checkpoints;
        self.up_to = stats.up_to;
        self.counts.in_layers += u64::from(!stats.all_in_memory);
    }

    fn look_for_automatic(&mut self) {
        let stats = self.engine.table_stats();
        if self.plan.checkpoints == Checkpoints::Automatic && self.beside.is_none() {
            self.counts.automatic += stats.checkpoints - self.seen_checkpoints;
        }
        self.look();
    }

    fn checkpoint(&mut self) -> Outcome {
        self.look_for_automatic();
        self.counts.checkpoints += 1;
        // It takes in what is durable.
        if self.random.one_in(2) {
            self.engine.flush().map_err(failed("a flush"))?;
        }
        self.engine.checkpoint().map_err(failed("a checkpoint"))?;
        self.look();
        Ok(())
    }

    /// The client goes on meanwhile.
    fn checkpoint_beside(&mut self) -> Outcome {
        self.look_for_automatic();
        if self.random.one_in(2) {
            self.write_ballast(CommitMode::Sync)?;
        }
        self.counts.beside += 1;
        let engine = self.engine.clone();
        self.beside = Some(sim::start("checkpoint", move || engine.checkpoint().expect("a checkpoint beside")));
        Ok(())
    }

    /// A bit rots of what no layer has, and a checkpoint is awaited: it writes from memory what it cannot read.
    fn rot(&mut self) -> Outcome {
        self.look_for_automatic();
        // What a crash would leave before that, no open accepts.
        self.armed.take();
        let length = self.random.between(1, 40);
        self.batch(length)?;
        let durable = self.engine.flush().map_err(failed("a flush"))?;
        let (before, mut rotten) = (self.engine.table_stats(), Vec::new());
        for (path, bytes) in self.disk.files() {
            let Some(base) = segments::base_of(&path) else { continue };
            let frames = segments::frames(base, &bytes).into_iter();
            let frames = frames.filter(|frame| before.up_to < frame.lsn && frame.lsn <= durable);
            rotten.extend(frames.map(|frame| (path.clone(), frame)));
        }
        if rotten.is_empty() {
            return Ok(());
        }
        let (path, frame) = self.random.pick(&rotten);
        let bit = self.random.between(8 * frame.at, 8 * frame.end - 1);
        self.disk.flip_bit(path, bit as u64).map_err(|error| format!("no bit rots: {error}"))?;
        self.disk.drop_caches();
        self.engine.checkpoint().map_err(failed("a checkpoint of what rotted"))?;
        let after = self.engine.table_stats();
        if after.up_to < frame.lsn {
            return Err(format!("layers end at {}, and what rotted at {}", after.up_to, frame.lsn));
        }
        self.counts.healed += after.healed - before.healed;
        self.counts.healed_above += u64::from(after.healed > before.healed && !before.all_in_memory);
        self.look();
        Ok(())
    }

    /// Checkpoints until layers are merged.
    fn merge(&mut self) -> Outcome {
        let before = self.engine.table_stats().merge_steps;
        for _ in 0..6 {
            let length = self.random.between(1, 10);
            self.batch(length)?;
            self.checkpoint()?;
            if self.plan.checkpoints == Checkpoints::Automatic {
                sim::sleep(Duration::from_millis(1));
            }
            if self.engine.table_stats().merge_steps > before || self.armed.has_struck() {
                break;
            }
        }
        Ok(())
    }

    /// Fills memory beyond its limit, and has a checkpoint made: then ranges are forgotten. Open transactions may hold that
    /// off.
    fn forget(&mut self) -> Outcome {
        if !self.random.one_in(3) {
            self.roll_back();
        }
        self.write_ballast(CommitMode::Sync)?;
        let before = self.engine.memory_stats();
        self.checkpoint()?;
        let after = self.engine.memory_stats();
        if after.records < before.records {
            self.counts.forgets += 1;
        }
        Ok(())
    }

    /// The same without asking: the engine finds out by itself, sooner or later, while the client goes on.
    fn press(&mut self) -> Outcome {
        self.look_for_automatic();
        self.write_ballast(CommitMode::Written)
    }

    /// Holds more snapshots than a horizon tells apart, or lets them go.
    fn crowd(&mut self) -> Outcome {
        if !self.crowd.is_empty() {
            self.crowd.clear();
            return Ok(());
        }
        self.counts.crowds += 1;
        for _ in 0..self.random.between(66, 80) {
            self.batch(1)?;
            let snapshot = self.newest()?;
            self.crowd.push(snapshot);
        }
        Ok(())
    }

    pub(super) fn create_ballast(&mut self) -> Outcome {
        for number in 0..self.plan.ballast {
            let keyspace = self.engine.create_keyspace(&format!("{BALLAST}{number:03}"));
            keyspace.map_err(failed("a keyspace of ballast"))?;
            self.history.commits.push(self.engine.visible_lsn());
        }
        self.written = self.written.max(self.engine.durable_lsn());
        Ok(())
    }

    /// So much in each keyspace of the ballast that it takes a wide leaf.
    fn write_ballast(&mut self, mode: CommitMode) -> Outcome {
        /// Keyspaces in a commit: no more than what may be lost.
        const TOGETHER: usize = 9;
        for first in (0..self.plan.ballast).step_by(TOGETHER) {
            let mut batch = self.engine.batch().map_err(failed("a batch"))?;
            for number in first..(first + TOGETHER).min(self.plan.ballast) {
                let keyspace = self.engine.open_keyspace(&format!("{BALLAST}{number:03}"));
                let keyspace = keyspace.map_err(failed("ballast"))?;
                for key in [b"a", b"b", b"c"] {
                    batch.put(&keyspace, key, [b'v'; 1010]).map_err(failed("ballast"))?;
                }
            }
            let receipt = batch.commit_with(mode).map_err(failed("ballast"))?;
            self.committed(&receipt, mode, &[])?;
        }
        self.counts.ballast += self.plan.ballast as u64;
        Ok(())
    }

    /// Sets a trap, and runs into it with an event, or with what comes.
    fn arm(&mut self) -> Outcome {
        self.armed.set(self.random.below(120));
        match self.random.below(7) {
            0 | 1 => self.checkpoint(),
            2 | 3 => self.merge(),
            4 => self.forget(),
            5 => self.checkpoint_beside(),
            _ => Ok(()),
        }
    }

    /// If the trap was run into, what was there then is what the crash leaves. `safe` was so before.
    pub(super) fn crash_if_struck(&mut self, safe: Safe) -> Outcome {
        if !self.armed.has_struck() {
            return Ok(());
        }
        self.join()?;
        let Some(point) = self.armed.take() else { return Ok(()) };
        self.counts.inside_table += 1;
        self.crash(&point, safe)
    }

    fn crash(&mut self, point: &CrashPoint, safe: Safe) -> Outcome {
        if self.random.one_in(3) {
            self.counts.kills += 1;
            return self.reopen(point.process_kill(), safe, Ending::Process);
        }
        self.counts.power_cuts += 1;
        let disk = self.power_loss(point);
        self.reopen(disk, safe, Ending::Power)
    }

    fn power_loss(&mut self, point: &CrashPoint) -> SimDisk {
        let loss = match self.random.below(6) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Seeded(self.random.next()),
        };
        point.power_loss(&loss, self.random.pick(&[Granularity::Word, Granularity::Sector, Granularity::Page]))
    }

    pub(super) fn close_and_check(&mut self) -> Outcome {
        self.join()?;
        self.armed.take();
        self.reopen_at_rest(Ending::Close)
    }

    fn reopen_at_rest(&mut self, ending: Ending) -> Outcome {
        let safe = self.safe();
        match ending {
            Ending::Close => {
                self.look_for_automatic();
                self.counts.closes += 1;
                self.engine.close().map_err(failed("a close"))?;
                let (disk, last) = (self.disk.clone(), self.history.last());
                self.reopen(disk, Safe { process: last, power: last, last }, ending)
            }
            Ending::Process => {
                self.counts.kills += 1;
                let disk = self.disk.crash_point().process_kill();
                self.reopen(disk, safe, ending)
            }
            Ending::Power => {
                self.counts.power_cuts += 1;
                let disk = self.power_loss(&self.disk.crash_point());
                self.reopen(disk, safe, ending)
            }
        }
    }

    /// Opens what is on `disk`: a prefix of the commits that has what was safe.
    fn reopen(&mut self, disk: SimDisk, safe: Safe, ending: Ending) -> Outcome {
        let stats = self.engine.table_stats();
        self.counts.merges += stats.merges;
        self.counts.merge_steps += stats.merge_steps;
        self.let_go();
        // What the old life still does is on another disk, but for a close.
        let closed = self.engine.close();
        closed.map_err(failed("a close"))?;
        self.armed.take();
        let was_cut = self.open(disk)?;
        let (last, safe) = (safe.last, if was_cut || ending == Ending::Power { safe.power } else { safe.process });
        let end = self.engine.visible_lsn();
        if end < safe {
            return Err(format!("{ending:?}: recovered up to {end}, and {safe} was safe"));
        }
        if self.engine.durable_lsn() != end {
            return Err(format!("{ending:?}: {end} was recovered, and {} is durable", self.engine.durable_lsn()));
        }
        self.counts.lost_commits += self.history.cut(end) as u64;
        if self.history.last() != end {
            return Err(format!("{ending:?}: {end} was recovered, where no commit ended"));
        }
        for token in std::mem::take(&mut self.tokens).into_iter().filter(|token| token.lsn <= last) {
            let expected = if token.lsn <= end { TokenOutcome::Durable } else { TokenOutcome::Lost };
            let found = self.engine.outcome(&token).map_err(failed("a token"))?;
            if found != expected {
                return Err(format!("{ending:?}: token {token} is {found:?}, and not {expected:?}"));
            }
        }
        self.written = end;
        self.seen_checkpoints = 0;
        self.up_to = self.engine.table_stats().up_to;
        if self.random.one_in(3) {
            self.fill();
        }
        self.check_all()
    }

    /// Opens, now and then with power cuts within the open: whether one came.
    fn open(&mut self, mut disk: SimDisk) -> Outcome<bool> {
        let (may_strike, mut was_cut) = (self.random.one_in(3), false);
        loop {
            disk.set_sync_latency(self.plan.sync_latency);
            if may_strike && self.disk_is_new(&disk) {
                self.armed.watch(&disk);
                self.armed.set(self.random.below(8));
            }
            self.engine = open_on(&disk, self.plan.options()).map_err(failed("an open"))?;
            let struck = self.armed.take();
            self.disk = disk;
            let Some(point) = struck else { break };
            self.counts.inside_open += 1;
            was_cut = true;
            let closed = self.engine.close();
            closed.map_err(failed("a close after an open"))?;
            disk = self.power_loss(&point);
            if self.random.one_in(2) {
                self.engine = open_on(&disk, self.plan.options()).map_err(failed("an open"))?;
                self.disk = disk;
                break;
            }
        }
        self.disk.set_sync_latency(self.plan.sync_latency);
        self.armed.watch(&self.disk);
        Ok(was_cut)
    }

    fn disk_is_new(&self, disk: &SimDisk) -> bool {
        disk.ops() == 0
    }

    /// Waits until all is in memory, or as much as there is room for.
    fn fill(&mut self) {
        let before = self.engine.memory_stats().records;
        let mut last = before;
        for _ in 0..200 {
            sim::sleep(Duration::from_millis(1));
            let now = self.engine.memory_stats().records;
            if self.engine.table_stats().all_in_memory || now == last {
                break;
            }
            last = now;
        }
        if last > before || self.engine.memory_stats().records > before {
            self.counts.fills += 1;
            self.counts.complete_fills += u64::from(self.engine.table_stats().all_in_memory);
        }
    }
}
