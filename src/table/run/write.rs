//! Writing a run: entries come in the order of their full keys, and nothing is kept of those that are in the file.

use std::sync::Arc;

use crc32fast::Hasher;

use crate::base::error::{Error, ErrorKind, Result};
use crate::format::table::block::{self, BLOCK_HEADER, BlockKind, BlockRef, Indexed, MAX_BLOCK};
use crate::format::table::data::{DataBuilder, Found};
use crate::format::table::is_below;
use crate::format::table::manifest::{NamedFile, NamedRun};
use crate::format::table::partition::PartitionBuilder;
use crate::format::table::range_tombstones::{self, RangeTombstone};
use crate::format::table::root::{Range, Root, Witness};
use crate::format::table::run::{Counts, Footer, RunHeader};
use crate::table::dir::TableFile;
use crate::table::pace::Pacer;

/// Blocks are gathered and written together from this number of bytes on.
const TOGETHER: usize = 1 << 20;

/// A run that is being written. Dropped before it is finished, it leaves a file that no MANIFEST names.
#[derive(Debug)]
pub(crate) struct RunWriter {
    file: TableFile,
    pacer: Arc<Pacer>,
    header: RunHeader,
    checksum: Hasher,
    /// What is not written yet, and where in the file it begins.
    pending: Vec<u8>,
    written: u64,
    data: DataBuilder,
    partition: PartitionBuilder,
    /// The last full key that the filter of the present partition has.
    noted: Option<Vec<u8>>,
    root: Root,
    range_tombstones: Vec<RangeTombstone>,
    counts: Counts,
}

impl RunWriter {
    /// Of a run that is written to `file`, which is empty.
    pub(crate) fn new(file: TableFile, pacer: Arc<Pacer>, header: RunHeader) -> Self {
        RunWriter {
            file,
            pacer,
            header,
            checksum: header.identity.checksum(),
            pending: header.to_bytes().to_vec(),
            written: 0,
            data: DataBuilder::new(header.interval),
            partition: PartitionBuilder::new(header.interval),
            noted: None,
            root: Root::default(),
            range_tombstones: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The bytes of the file so far, but for what the last blocks will take.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Adds a version. Full keys ascend, and the versions of one follow one another from the newest on.
    ///
    /// # Errors
    /// As [`RunWriter::finish`].
    pub(crate) fn push(&mut self, full_key: &[u8], version: Found<'_>) -> Result<()> {
        if !self.data.push(full_key, version) {
            self.end_block()?;
            let fits = self.data.push(full_key, version);
            debug_assert!(fits, "an empty block takes any entry");
        }
        // Once for all its versions, and again in the next partition, where they may go on.
        if self.noted.as_deref() != Some(full_key) {
            self.partition.add_key(full_key);
            let noted = self.noted.get_or_insert_default();
            noted.clear();
            noted.extend_from_slice(full_key);
        }
        self.counts.add(full_key, version);
        Ok(())
    }

    /// Adds range tombstones, which are in order and fragmented among themselves and with those before.
    pub(crate) fn push_ranges(&mut self, tombstones: impl IntoIterator<Item = RangeTombstone>) {
        for tombstone in tombstones {
            self.counts.note(tombstone.lsn);
            self.counts.range_tombstones += 1;
            self.range_tombstones.push(tombstone);
        }
    }

    /// Writes the rest, and makes the file durable. Its name is not: the caller syncs the directory, once for all files.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), [`ErrorKind::DiskFull`](crate::ErrorKind::DiskFull). After any error the file is of no use.
    pub(crate) fn finish(mut self, range: Range, reach: Range, witnesses: Vec<Witness>) -> Result<NamedRun> {
        self.end_block()?;
        self.end_partition()?;
        let last = self.root.partitions.last();
        debug_assert!(last.is_none_or(|last| is_below(&last.separator, &range.high)));
        let range_tombstones = (!self.range_tombstones.is_empty())
            .then(|| range_tombstones::build(&self.range_tombstones, self.header.interval))
            .map(|(kind, content)| self.seal(kind, &content))
            .transpose()?;
        (self.root.range, self.root.reach, self.root.witnesses) = (range, reach, witnesses);
        let (kind, content) = self.root.to_content();
        let root = self.seal(kind, &content)?;
        let mut footer = Footer { header: self.header, length: 0, root, range_tombstones, counts: self.counts };
        footer.length = self.bytes() + footer.to_bytes().len() as u64;
        let bytes = footer.to_bytes();
        self.pending.extend_from_slice(&bytes);
        self.write()?;
        self.file.sync_all()?;
        let Counts { entries, tombstones, range_tombstones, newest, .. } = self.counts;
        let identity = self.header.identity;
        let file = NamedFile {
            number: identity.number,
            nonce: identity.nonce,
            length: footer.length,
            crc: Footer::crc(&bytes),
        };
        let tail = u32::try_from(footer.tail()).expect("two blocks and a sector");
        Ok(NamedRun { file, tail, entries, tombstones, range_tombstones, newest, range: self.root.range })
    }

    fn end_block(&mut self) -> Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        let separator = self.data.last_key().to_vec();
        let (kind, content) = self.data.finish();
        let block = self.seal(kind, &content)?;
        self.partition.add_block(&separator, block);
        if self.partition.is_full() {
            self.end_partition()?;
        }
        if self.pending.len() >= TOGETHER { self.write() } else { Ok(()) }
    }

    fn end_partition(&mut self) -> Result<()> {
        if self.partition.is_empty() {
            return Ok(());
        }
        let separator = self.partition.last_separator().to_vec();
        let (kind, content) = self.partition.finish();
        let block = self.seal(kind, &content)?;
        self.root.partitions.push(Indexed { separator, block });
        self.noted = None;
        Ok(())
    }

    fn seal(&mut self, kind: (BlockKind, u32), content: &[u8]) -> Result<BlockRef> {
        if BLOCK_HEADER + content.len() > MAX_BLOCK {
            let message =
                format!("a block of {} bytes is more than a run may have: it has too much in one", content.len());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let position = self.bytes();
        Ok(block::seal(&mut self.pending, &self.checksum, position, kind, content))
    }

    fn write(&mut self) -> Result<()> {
        let is_paced = self.pacer.wait(self.pending.len() as u64);
        self.file.write_all_at(&self.pending, self.written)?;
        if is_paced {
            // So that the last sync of the file finds little: the commits behind it would wait for all of it.
            self.file.start_writeback()?;
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }
}
