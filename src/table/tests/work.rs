//! What an open engine does in `table/`, as tests do it, and what must be there after a crash.

use std::collections::BTreeSet;

use super::*;
use crate::disk::sim::{Granularity, Loss, SimDisk};
use crate::format::batch::BatchBuilder;
use crate::format::table::data::Interval;
use crate::rt::sync::Mutex;
use crate::table::checkpoint::{NewLayer, Piece};
use crate::table::job::{Step, StepFailed};
use crate::table::layer::Sizes;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;
use crate::table::store::NotInstalled;

pub(super) const DIR: &str = "db/table";

/// Up to where the layers may reach after a crash.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Told {
    /// A checkpoint up to here has succeeded.
    pub(super) durable: Lsn,
    pub(super) tried: BTreeSet<Lsn>,
}

/// What an open engine does in `table/`.
pub(super) struct Work<'s> {
    store: &'s Store,
    told: &'s Mutex<Told>,
    layer: Option<NewLayer<'s>>,
    step: Option<Step<'s>>,
}

impl<'s> Work<'s> {
    pub(super) fn new(store: &'s Store, told: &'s Mutex<Told>) -> Self {
        Work { store, told, layer: None, step: None }
    }

    /// The n-th checkpoint puts key n and overwrites key 0.
    pub(super) fn checkpoint(&mut self) -> Result<()> {
        let mut layer = match self.layer.take() {
            Some(layer) => layer,
            None => {
                let stack = self.store.stack();
                let from = stack.as_ref().map_or(Lsn::ZERO, |stack| stack.manifest.to);
                let to = Lsn::new(from.get() + 8);
                let number = u8::try_from(to.get() / 8).unwrap();
                let mut batch = BatchBuilder::new();
                let mut keyspaces = stack.map_or_else(KeyspaceList::default, |stack| (*stack.keyspaces).clone());
                if number % 2 == 1 {
                    batch.create_keyspace(u32::from(number / 2), &format!("k{number}")).unwrap();
                }
                batch.put(0, &[number], &[number; 40]).unwrap();
                batch.put(0, &[0], &[number]).unwrap();
                keyspaces.add(to, &batch.batch());
                let mut sorter = Sorter::default();
                sorter.add(to, &batch.batch());
                let horizon = Retain { floor: to, held: Vec::new(), is_last: false };
                let (interval, writes) = (Interval { from, to }, sorter.finish());
                let piece =
                    Piece { interval, branch: BRANCH, writes, ranges: Vec::new(), keyspaces, horizon, log_bytes: 8 };
                self.store.write_layer(piece, u64::MAX)?
            }
        };
        let to = layer.to();
        let choose = |oldest| {
            self.told.lock().tried.insert(to);
            oldest
        };
        match layer.install(choose, |_| self.told.lock().durable = to) {
            Ok(_) => Ok(()),
            Err(NotInstalled::Failed(error)) => Err(error),
            Err(NotInstalled::InDoubt(error)) => {
                self.layer = Some(layer);
                Err(error)
            }
        }
    }

    /// Merges the two newest layers.
    pub(super) fn merge(&mut self) -> Result<()> {
        self.merge_from(0)
    }

    /// Merges two layers, but for so many newer ones.
    pub(super) fn merge_from(&mut self, newer: usize) -> Result<()> {
        let mut step = match self.step.take() {
            Some(step) => step,
            None => {
                let Some(stack) = self.store.stack().filter(|stack| stack.manifest.layers.len() > newer + 1) else {
                    return Ok(());
                };
                let horizon = Retain { floor: stack.manifest.to, held: Vec::new(), is_last: false };
                self.store
                    .merge_step(&stack, newer..newer + 2, &horizon, Sizes::whole(1))
                    .map_err(StepFailed::into_error)?
            }
        };
        match step.install(|_| ()) {
            Ok(_) => Ok(()),
            Err(NotInstalled::Failed(error)) => Err(error),
            Err(NotInstalled::InDoubt(error)) => {
                self.step = Some(step);
                Err(error)
            }
        }
    }

    pub(super) fn all(&mut self) -> Vec<Result<()>> {
        let mut results = vec![self.checkpoint(), self.checkpoint(), self.merge(), self.checkpoint(), self.merge()];
        results.push(self.store.remove_needless().map(|_| ()));
        results
    }
}

/// What the layers hold: key 0 as the newest checkpoint left it, and a key of each.
pub(super) fn check_content(store: &Store) -> std::result::Result<Lsn, String> {
    store.stack().map_or(Ok(Lsn::ZERO), |stack| check_stack(store, &stack))
}

pub(super) fn check_stack(store: &Store, stack: &Stack) -> std::result::Result<Lsn, String> {
    let to = stack.manifest.to;
    let mut newest = BTreeMap::new();
    for (layer, from) in stack.manifest.begins() {
        let all = versions_from(store, layer, from).map_err(|error| format!("a layer cannot be read: {error:?}"))?;
        for ((key, lsn), value) in all {
            let known = newest.entry(key).or_insert((lsn, value.clone()));
            if known.0 < lsn {
                *known = (lsn, value);
            }
        }
    }
    let number = u8::try_from(to.get() / 8).unwrap();
    let found: Vec<(u8, Vec<u8>)> = newest.into_iter().map(|(key, (_, value))| (key[4], value.unwrap())).collect();
    let expected: Vec<_> =
        (0..=number).map(|key| if key == 0 { (0, vec![number]) } else { (key, vec![key; 40]) }).collect();
    let created = stack.keyspaces.iter().count();
    match found == expected && created == usize::from(number).div_ceil(2) {
        true => Ok(to),
        false => Err(format!("up to {to} the layers hold {found:?}, and {created} keyspaces")),
    }
}

fn open_dir(dir: &Arc<dyn Dir>) -> std::result::Result<Store, String> {
    let found = read_stack(dir).map_err(|error| format!("the open is refused: {error:?}"))?;
    Ok(Store::new(table_dir(dir).0, Pacers::default(), LOG_ID, found).unwrap())
}

/// What a crash left opens, has what was told, and takes more; which survives another crash.
pub(super) fn check_image(disk: &SimDisk, told: &Told) -> std::result::Result<(), String> {
    let dir = disk.open_dir(Path::new(DIR)).unwrap();
    let store = open_dir(&dir)?;
    let to = check_content(&store)?;
    if to < told.durable || (to > told.durable && !told.tried.contains(&to)) {
        return Err(format!("the layers reach up to {to}, and {told:?} was told"));
    }
    store.settle(false, false).map_err(|error| format!("the open cannot write: {error:?}"))?;
    let known = Mutex::new(told.clone());
    let mut work = Work::new(&store, &known);
    for result in work.all() {
        result.map_err(|error| format!("an attempt after the crash: {error:?}"))?;
    }
    let after = known.lock().durable;
    let names = dir.list().unwrap().len();
    let named = store.stack().unwrap().manifest.numbers().count();
    if names != named + 1 {
        return Err(format!("{names} names, where MANIFEST and {named} files should be"));
    }
    let lost = disk.crash_point().power_loss(&Loss::Everything, Granularity::default());
    let store = open_dir(&lost.open_dir(Path::new(DIR)).unwrap())?;
    match check_content(&store)? {
        to if to == after => Ok(()),
        to => Err(format!("after a second crash the layers reach up to {to}, and {after} was durable")),
    }
}
