//! A process of one engine: it does its part of the phases, and tells of each.

use std::path::Path;
use std::time::{Duration, Instant};

use super::data::{Keys, Order, fill_value};
use super::event::{Data, Part, Phase, Request};
use super::meter::Meter;
use super::steady;
use super::usage::{Io, disk_bytes};
use crate::child::{die, die_with_parent};
use crate::common::KEY_BYTES;
use crate::peer::{Mode, Purpose, Put, Result, Setting, Store};
use crate::peers;

/// Puts or deletions of a transaction.
pub const BATCH: u64 = 100;

pub fn main(request: &str) -> Result<()> {
    die_with_parent();
    let request: Request = serde_json::from_str(request)?;
    if let Some(members) = &request.group {
        std::fs::write(members, std::process::id().to_string())
            .map_err(|error| format!("{} cannot be joined: {error}", members.display()))?;
    }
    let work = Work::new(&request);
    match request.part {
        Part::Load => {
            let store = work.store()?;
            work.load(&*store)?;
            work.close(store)
        }
        Part::OpenAndDie => {
            let store = work.open(Phase::OpenClosed)?;
            work.overwrite(&*store, Phase::BeforeKill)?;
            die()
        }
        // The process ends without a close, which nobody measures.
        Part::Open => {
            std::mem::forget(work.open(Phase::OpenKilled)?);
            Ok(())
        }
        Part::OpenAndGoOn => work.go_on(),
        Part::Steady => {
            let store = work.store()?;
            work.load(&*store)?;
            work.settle(Phase::SettleOverwritten)?;
            steady::measure(&work, &*store)?;
            work.close(store)
        }
    }
}

pub struct Work<'a> {
    request: &'a Request,
    data: Data,
    keys: Keys,
    /// In which the keys were written first.
    order: Order,
    /// How many different keys the load has written.
    present: u64,
}

impl<'a> Work<'a> {
    fn new(request: &'a Request) -> Work<'a> {
        let data = request.data;
        let order = Order::new(data.keys, data.seed);
        // A process that loads and goes on is not told how many there are.
        let loaded = if request.part == Part::Steady { data.keys } else { request.loaded };
        let present = loaded.min(data.keys);
        Work { request, data, keys: Keys::new(data.keys), order, present }
    }

    fn store(&self) -> Result<Box<dyn Store>> {
        let peer = peers::named(&self.request.peer).ok_or("no such peer in this build")?;
        (peer.open)(&Setting { dir: &self.request.dir, purpose: Purpose::Limited { memory: self.request.memory } })
    }

    pub fn begin(&self, phase: Phase, wanted: u64) -> Result<Meter> {
        Meter::begin(phase, wanted, self.request.seconds)
    }

    /// The ranks of the keys that are there, in another order for each phase.
    pub fn ranks(&self, phase: Phase) -> impl Iterator<Item = u64> + Clone + use<'_> {
        let order = Order::new(self.present.max(1), self.data.seed ^ (phase as u64 + 1) << 32);
        (0..self.present).map(move |place| self.order.at(order.at(place)))
    }

    fn load(&self, store: &dyn Store) -> Result<()> {
        let Data { keys, writes, .. } = self.data;
        let ranks = (0..writes).map(|write| self.order.at(write % keys));
        self.write(store, Phase::Load, writes, ranks, BATCH.min(keys))
    }

    fn overwrite(&self, store: &dyn Store, phase: Phase) -> Result<()> {
        let (ranks, batch) = (self.ranks(phase), BATCH.min(self.data.keys));
        if phase == Phase::BeforeKill {
            // It is killed while it writes, however few keys there are.
            return self.write(store, phase, self.present, ranks.cycle(), batch);
        }
        self.write(store, phase, self.present, ranks, batch)
    }

    fn write(
        &self,
        store: &dyn Store,
        phase: Phase,
        wanted: u64,
        mut ranks: impl Iterator<Item = u64>,
        batch: u64,
    ) -> Result<()> {
        let mut session = store.session()?;
        let mut meter = self.begin(phase, wanted)?;
        // Another one for each phase and transaction, from which the values follow.
        let mut writing = phase as u64;
        loop {
            let batch: Vec<u64> = ranks.by_ref().take(batch as usize).collect();
            if batch.is_empty() || meter.is_over() {
                break;
            }
            writing += 1 << 8;
            let values = self.values(&batch, writing);
            let puts: Vec<Put> = self.puts(&batch, &values);
            meter.time(puts.len() as u64, || session.commit(&puts, Mode::Written))?;
        }
        drop(session);
        // A process that is killed has not made anything ready for it.
        if phase != Phase::BeforeKill {
            store.flush()?;
        }
        meter.finish()
    }

    /// A value for each key, one after the other; other ones for each `writing`.
    pub fn values(&self, ranks: &[u64], writing: u64) -> Vec<u8> {
        let length = self.data.value_bytes;
        let mut values = vec![0; ranks.len() * length];
        for (rank, value) in ranks.iter().zip(values.chunks_exact_mut(length)) {
            fill_value(value, *rank, writing);
        }
        values
    }

    pub fn puts<'v>(&self, ranks: &[u64], values: &'v [u8]) -> Vec<Put<'v>> {
        let values = values.chunks_exact(self.data.value_bytes);
        ranks.iter().zip(values).map(|(rank, value)| (self.keys.key(*rank), value)).collect()
    }

    fn close(&self, store: Box<dyn Store>) -> Result<()> {
        let mut meter = self.begin(Phase::Close, 1)?;
        meter.time(1, || {
            drop(store);
            Ok(())
        })?;
        meter.finish()
    }

    /// Opens, until the first read is answered.
    fn open(&self, phase: Phase) -> Result<Box<dyn Store>> {
        let mut meter = self.begin(phase, 1)?;
        let key = self.keys.key(self.order.at(0));
        let (store, found) = meter.time(1, || {
            let store = self.store()?;
            let found = store.reader()?.get(&key)?;
            Ok((store, found))
        })?;
        meter.wrong = u64::from(found != Some(self.data.value_bytes));
        meter.finish()?;
        Ok(store)
    }

    fn go_on(&self) -> Result<()> {
        let store = self.open(Phase::OpenKilled)?;
        self.read(&*store, Phase::ReadPresent)?;
        self.read(&*store, Phase::ReadAbsent)?;
        self.scan(&*store)?;
        self.overwrite(&*store, Phase::Overwrite)?;
        self.settle(Phase::SettleOverwritten)?;
        self.delete(&*store)?;
        self.settle(Phase::SettleDeleted)
    }

    fn read(&self, store: &dyn Store, phase: Phase) -> Result<()> {
        let is_present = phase == Phase::ReadPresent;
        let expected = is_present.then_some(self.data.value_bytes);
        let mut reader = store.reader()?;
        let mut meter = self.begin(phase, self.present)?;
        for rank in self.ranks(phase) {
            if meter.is_over() {
                break;
            }
            let key = if is_present { self.keys.key(rank) } else { self.keys.absent(rank) };
            let found = meter.time(1, || reader.get(&key))?;
            meter.wrong += u64::from(found != expected);
        }
        meter.finish()
    }

    fn scan(&self, store: &dyn Store) -> Result<()> {
        let mut reader = store.reader()?;
        let mut meter = self.begin(Phase::Scan, self.present)?;
        let (mut counted, mut failed) = (0, Ok(()));
        let mut is_cut = false;
        let found = reader.scan_until(&mut |keys| {
            failed = meter.pass(Instant::now());
            meter.count(keys - counted);
            counted = keys;
            is_cut = meter.is_over();
            is_cut || failed.is_err()
        })?;
        failed?;
        meter.count(found - counted);
        if !is_cut {
            meter.wrong = found.abs_diff(self.present);
        }
        meter.finish()
    }

    /// Every second key, in the order of keys, is deleted.
    fn delete(&self, store: &dyn Store) -> Result<()> {
        let mut session = store.session()?;
        let mut ranks = self.ranks(Phase::Delete).filter(|rank| rank % 2 == 1);
        let mut meter = self.begin(Phase::Delete, self.present / 2)?;
        loop {
            let keys: Vec<[u8; KEY_BYTES]> =
                ranks.by_ref().take(BATCH as usize).map(|rank| self.keys.key(rank)).collect();
            if keys.is_empty() || meter.is_over() {
                break;
            }
            meter.time(keys.len() as u64, || session.delete(&keys, Mode::Written))?;
        }
        drop(session);
        store.flush()?;
        meter.finish()
    }

    /// Waits until nothing has been written and the directory has not changed for a while, or the share of time is over.
    fn settle(&self, phase: Phase) -> Result<()> {
        const REST: Duration = Duration::from_secs(3);
        const LOOK: Duration = Duration::from_millis(250);
        let mut meter = self.begin(phase, 1)?;
        let look = |dir: &Path| (disk_bytes(dir), Io::of("self").written);
        let (mut last, mut changed) = (look(&self.request.dir), meter.elapsed());
        while meter.elapsed() - changed < REST && !meter.is_over() {
            std::thread::sleep(LOOK);
            meter.pass(Instant::now())?;
            let now = look(&self.request.dir);
            if now != last {
                (last, changed) = (now, meter.elapsed());
            }
        }
        meter.finish()
    }
}
