//! What the log of one life held, with what checkpoints have taken out of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crashkit::event::Name;
use crashkit::model::{History, Placed, Write};
use forelog::Lsn;
use forelog::sim::SimDisk;
use forelog::unstable::format::{Batch, Op};

use super::backups::is_in_backup;
use super::life::Past;
use super::notes::Event;
use crate::segments::{base_of, records};

/// Segments by where they begin.
pub type Segments = BTreeMap<u64, Vec<u8>>;
/// Keyspaces by their number in the log.
pub type Names = BTreeMap<u32, Arc<str>>;

/// The segments that are there, and those that were removed.
pub fn held(disk: &SimDisk, removed: Segments) -> Segments {
    let files = disk.files().into_iter().filter(|(path, _)| !is_in_backup(path));
    let there = files.filter_map(|(path, bytes)| Some((base_of(&path)?, bytes)));
    removed.into_iter().chain(there).collect()
}

/// The records, oldest first. Those of earlier lives may be gone, up to what these recovered.
pub fn read_log(log: &Segments, names: &mut Names) -> Result<Vec<Placed>, String> {
    let read = |(lsn, payload): (Lsn, Vec<u8>)| {
        let batch = Batch::parse(&payload).map_err(|error| error.to_string())?;
        let writes: Vec<Write> = batch.iter().map(|op| decode(&op, names)).collect();
        Ok(Placed { lsn, writes: writes.into() })
    };
    records(log).into_iter().map(read).collect()
}

/// Tells where the creations of keyspaces lie, which come in their order.
pub fn place_creations(records: &[Placed], past: &Past, events: &mut [(Duration, Event)]) {
    for record in records.iter().filter(|record| record.lsn > past.readable()) {
        if matches!(record.writes[..], [Write::Create(_)]) {
            place_creation(events, &record.writes, record.lsn);
        }
    }
}

/// Tells the first acknowledged creation of this keyspace that has no LSN yet where the log has it.
fn place_creation(events: &mut [(Duration, Event)], writes: &[Write], place: Lsn) {
    let submitted = |event: &Event| match event {
        Event::Submit(name, _, work) if **work == *writes => Some(*name),
        _ => None,
    };
    let creations: HashSet<Name> = events.iter().filter_map(|(_, event)| submitted(event)).collect();
    let unplaced = events.iter_mut().find_map(|(_, event)| match event {
        Event::Ack(name, lsn @ None, _) if creations.contains(name) => Some(lsn),
        _ => None,
    });
    if let Some(lsn) = unplaced {
        *lsn = Some(place);
    }
}

/// The log held what the clients were told, no more and no less.
pub fn check_log(records: &[Placed], past: &Past, known: &History) -> Result<(), String> {
    let records: Vec<_> = records.iter().filter(|record| record.lsn > past.base_lsn).collect();
    let first = records.first().map_or(Lsn::new(u64::MAX), |record| record.lsn);
    // What an earlier life recovered may lie in layers alone.
    let is_held = |commit: &&Placed| commit.lsn >= first || commit.lsn > past.readable();
    let known: Vec<_> = known.commits.iter().filter(is_held).collect();
    match records.iter().zip(&known).find(|(record, commit)| !same(record, commit)) {
        Some((record, commit)) => Err(format!("the log holds {record:?} where {commit:?} should be")),
        None if records.len() == known.len() => Ok(()),
        None => Err(format!("the log holds {} commits instead of {}", records.len(), known.len())),
    }
}

/// A batch keeps the last write to each key, in the order of keys.
fn same(record: &Placed, commit: &Placed) -> bool {
    record.lsn == commit.lsn && commit.writes.iter().all(|write| record.writes.contains(write))
}

fn decode(op: &Op<'_>, names: &mut Names) -> Write {
    let id = op.keyspace();
    if let Op::CreateKeyspace { name, .. } = op {
        names.insert(id, Arc::from(*name));
    }
    let name = names.get(&id).cloned().unwrap_or_else(|| "?".into());
    match op {
        Op::Put { key, value, .. } => Write::Put(name, Arc::from(*key), Arc::from(*value)),
        Op::Delete { key, .. } => Write::Delete(name, Arc::from(*key)),
        Op::DeleteRange { from, to, .. } => Write::DeleteRange(name, Arc::from(*from), to.map(Arc::from)),
        Op::CreateKeyspace { .. } => Write::Create(name),
        Op::DropKeyspace { .. } => Write::Drop(name),
    }
}
