//! The newest version of one key, layer by layer (`RULES.md`, 6).

use std::cell::Cell;

use super::installed::Installed;
use super::over::over;
use crate::base::error::Result;
use crate::base::types::Lsn;
use crate::format::table::filter;
use crate::format::table::manifest::{Layer, NamedRun};
use crate::format::table::{is_below, write_full_key};
use crate::index::Value;
use crate::rt::sync;
use crate::table::fences::Fences;
use crate::table::run::read::Run;

/// A longer buffer is not kept: one large value must not stay in the memory of each thread.
const MOST_KEPT: usize = 64 << 10;

sync::thread_local! {
    /// What the last read of this thread left: memory for a full key and for a block.
    static SPARE: Cell<(Vec<u8>, Vec<u8>)> = Cell::default();
}

/// What is asked for.
struct Question<'a> {
    full_key: &'a [u8],
    /// Computed once for all layers.
    hash: u64,
    at: Lsn,
}

impl Installed {
    /// The value of `key` at `at`.
    pub(super) fn newest(&self, keyspace: u32, key: &[u8], at: Lsn) -> Result<Option<Value>> {
        let (mut full_key, mut block) = SPARE.try_with(Cell::take).unwrap_or_default();
        write_full_key(&mut full_key, keyspace, key);
        let answer = self.ask(&Question { full_key: &full_key, hash: filter::hash(&full_key), at }, &mut block);
        if full_key.capacity() <= MOST_KEPT && block.capacity() <= MOST_KEPT {
            // A thread that ends has nothing left to keep it in.
            let _ = SPARE.try_with(|spare| spare.set((full_key, block)));
        }
        answer
    }

    fn ask(&self, question: &Question<'_>, block: &mut Vec<u8>) -> Result<Option<Value>> {
        for ((layer, begin), ends) in self.held.stack.manifest.begins().zip(&self.ends) {
            // What lies above the reader, and what the output of a merge stands for.
            if layer.interval.from >= question.at || question.full_key < begin {
                continue;
            }
            let Some(named) = run_of(layer, ends, question.full_key) else { continue };
            let run = self.run(named, layer.interval)?;
            if let Some(answer) = self.ask_run(named.file.number, &run, question, block)? {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    /// What a run answers, if it does. No layer below has anything newer.
    fn ask_run(
        &self,
        file: u64,
        run: &Run,
        question: &Question<'_>,
        block: &mut Vec<u8>,
    ) -> Result<Option<Option<Value>>> {
        let found = self.find(file, run, question, block)?;
        let lsn = found.as_ref().map(|(lsn, _)| *lsn);
        let over = over(&run.range_tombstones, question.full_key, question.at);
        if over.has_lost(lsn) {
            return Err(run.lost_range());
        }
        Ok(match found {
            Some((lsn, value)) => Some(if over.deletes(lsn) { None } else { value }),
            None => over.deleted.map(|_| None),
        })
    }

    /// The newest version in the data blocks of a run.
    fn find(
        &self,
        file: u64,
        run: &Run,
        question: &Question<'_>,
        block: &mut Vec<u8>,
    ) -> Result<Option<(Lsn, Option<Value>)>> {
        let partitions = &run.root.partitions;
        for (number, indexed) in partitions.iter().enumerate().skip(run.partition_at(question.full_key)) {
            let partition = self.caches.partitions.get(file, run, number, true)?;
            if !partition.may_contain(question.hash) {
                return Ok(None);
            }
            for candidate in partition.blocks.candidates(question.full_key) {
                let at = partition.blocks.block(candidate);
                block.resize(at.length as usize, 0);
                run.read_into(block, at.position)?;
                let newest = run.data(at, block)?.newest(question.full_key, question.at);
                if let Some(found) = newest.map_err(|refusal| run.refused(refusal, at.position))? {
                    return Ok(Some((found.lsn, found.value.map(Value::from))));
                }
            }
            // Its versions may go on in the next one.
            if indexed.separator != question.full_key {
                break;
            }
        }
        Ok(None)
    }
}

/// The run of the layer whose range has the key: all that the layer has of it is there.
fn run_of<'l>(layer: &'l Layer, ends: &Fences, full_key: &[u8]) -> Option<&'l NamedRun> {
    let number = ends.find(full_key, |number| !is_below(full_key, &layer.runs[number].range.high));
    layer.runs.get(number).filter(|run| run.range.low.as_slice() <= full_key)
}
