//! Where the check of the keys keeps what it has no memory for: hashes of keys with their rows, in a temporary file, apart
//! by the first bits of the hash. Equal keys come to the same partition, and each partition is checked by itself.
//!
//! Each partition is a chain of chunks of one size. A chunk begins with the place of the next one, which is reserved when
//! the chunk is written. So the memory depends on the number of partitions, and not on that of chunks.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use super::keys::{Hash, Twice};

/// The bytes of a hash and its row.
pub(super) const RECORD: usize = 24;
/// The bytes of the place of the next chunk.
const LINK: usize = 8;

/// The number of partitions is a power of two, this one.
const PARTITION_BITS: u32 = 10;

/// Hashes and their rows, on disk.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    /// The bytes of a chunk.
    chunk: usize,
    /// Where the place of the next chunk to be reserved is.
    end: u64,
    partitions: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    /// The chunk that will be written next: room for the link, and records.
    buffer: Vec<u8>,
    /// The place where it will be written.
    place: u64,
    /// Chunks written.
    chunks: u64,
    records: u64,
}

impl Spill {
    /// Keeps in `file` what `memory` bytes of buffers do not hold.
    pub(super) fn new(file: File, memory: usize) -> Self {
        let count = 1_u64 << PARTITION_BITS;
        let records = (memory >> PARTITION_BITS).saturating_sub(LINK) / RECORD;
        let chunk = LINK + records.max(1) * RECORD;
        let partition = |index| Partition { buffer: vec![0; LINK], place: index * chunk as u64, chunks: 0, records: 0 };
        Spill { file, chunk, end: count * chunk as u64, partitions: (0..count).map(partition).collect() }
    }

    /// Adds a hash. The hashes of the first rows are all different and come in any order; those of later rows come in the
    /// order of the rows.
    pub(super) fn add(&mut self, hash: Hash, row: u64) -> io::Result<()> {
        let index = usize::try_from(hash.0 >> (u64::BITS - PARTITION_BITS)).unwrap_or_default();
        let partition = &mut self.partitions[index];
        if partition.buffer.capacity() < self.chunk {
            partition.buffer.reserve_exact(self.chunk - LINK);
        }
        for word in [hash.0, hash.1, row] {
            partition.buffer.extend_from_slice(&word.to_le_bytes());
        }
        partition.records += 1;
        if partition.buffer.len() == self.chunk {
            partition.buffer[..LINK].copy_from_slice(&self.end.to_le_bytes());
            self.file.write_all_at(&partition.buffer, partition.place)?;
            partition.place = self.end;
            partition.chunks += 1;
            partition.buffer.truncate(LINK);
            self.end += self.chunk as u64;
        }
        Ok(())
    }

    /// The first row of which an earlier one has the hash. Holds up to `most` hashes at a time.
    pub(super) fn first_twice(&self, most: usize) -> io::Result<Option<Twice>> {
        let mut found = None;
        for index in 0..self.partitions.len() {
            // Each pass looks for the hashes from this record on, as many as there is room for, in all that follows them.
            let mut from = 0;
            while let Some(next) = self.pass(index, from, most, &mut found)? {
                from = next;
            }
        }
        Ok(found)
    }

    /// Returns where the next pass begins, if one is needed: also behind a pair, since the next pass may find one whose second
    /// row comes earlier.
    fn pass(&self, index: usize, from: u64, most: usize, found: &mut Option<Twice>) -> io::Result<Option<u64>> {
        let left = usize::try_from(self.partitions[index].records - from).unwrap_or(most);
        let mut seen = HashMap::with_capacity(left.min(most));
        let (mut at, mut next) = (0, None);
        self.each(index, |hash, row| {
            at += 1;
            if found.is_some_and(|found| row >= found.second) {
                return ControlFlow::Break(());
            }
            if at <= from {
                return ControlFlow::Continue(());
            }
            if let Some(&first) = seen.get(&hash) {
                *found = Some(Twice { first, second: row });
                return ControlFlow::Break(());
            }
            if seen.len() < most {
                seen.insert(hash, row);
            } else {
                next.get_or_insert(at - 1);
            }
            ControlFlow::Continue(())
        })?;
        Ok(next)
    }

    /// Gives each record of a partition to `take`, in the order in which they were added, until it breaks.
    fn each(&self, index: usize, mut take: impl FnMut(Hash, u64) -> ControlFlow<()>) -> io::Result<()> {
        let partition = &self.partitions[index];
        let mut read = vec![0; self.chunk];
        let mut place = (index * self.chunk) as u64;
        for _ in 0..partition.chunks {
            self.file.read_exact_at(&mut read, place)?;
            place = word(&read);
            if give(&read[LINK..], &mut take).is_break() {
                return Ok(());
            }
        }
        let _ = give(&partition.buffer[LINK..], &mut take);
        Ok(())
    }
}

fn give(records: &[u8], take: &mut impl FnMut(Hash, u64) -> ControlFlow<()>) -> ControlFlow<()> {
    records
        .chunks_exact(RECORD)
        .try_for_each(|record| take(Hash(word(record), word(&record[8..])), word(&record[16..])))
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "spill_tests.rs"]
mod tests;
