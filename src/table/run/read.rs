//! Reading a run, from its end: the footer leads to the root, the root to the partitions, a partition to its data blocks.
//! Each knows the checksums of the next ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;

use crate::base::error::{DamageCause, Error, Result, is_end_of_file};
use crate::base::types::{LogId, Lsn};
use crate::disk::{Dir, DiskFile, read_exact_at};
use crate::format::Refusal;
use crate::format::table::block::{self, Block, BlockKind, BlockRef, Indexed};
use crate::format::table::data::{DataBlock, Found, Interval};
use crate::format::table::manifest::NamedRun;
use crate::format::table::partition::Partition;
use crate::format::table::range_tombstones::{self, RangeTombstone, Says};
use crate::format::table::root::{Range, Root};
use crate::format::table::run::{Counts, Footer, LEAST_RUN, RunHeader, SECTOR, SECTOR_LEN};
use crate::format::table::{FileIdentity, FileKind, file_name, filter, is_below};
use crate::table::dir::open_to_read;
use crate::table::fences::Fences;

/// An open run. Its footer, root and range tombstones are in memory.
#[derive(Debug)]
pub(crate) struct Run {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    checksum: Hasher,
    pub(crate) footer: Footer,
    pub(crate) root: Root,
    /// The separators of the partitions.
    fences: Fences,
    pub(crate) range_tombstones: Vec<RangeTombstone>,
}

/// What a walk through a run comes to.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    Partition(&'a Indexed),
    /// A data block, before its entries.
    Block(&'a Indexed),
    #[cfg_attr(not(any(feature = "unstable", test)), expect(dead_code, reason = "the command shows them"))]
    Entry(&'a [u8], Found<'a>),
    /// Something could not be read, or is damaged. The walk goes on behind it, if `visit` lets it.
    Bad(Error),
}

/// How far a walk has come.
#[derive(Debug, Default)]
struct Walked {
    order: Order,
    counts: Counts,
    has_gap: bool,
}

/// Why a part of a walk ended early.
enum End<E> {
    /// What was read is bad: the walk goes on behind it.
    Bad(Error),
    /// `visit` said so.
    Visit(E),
}

impl<E> From<Error> for End<E> {
    fn from(error: Error) -> Self {
        End::Bad(error)
    }
}

impl Walked {
    /// Shows what is bad, and goes on.
    fn go_on<E>(
        &mut self,
        ended: Result<(), End<E>>,
        visit: &mut impl FnMut(&Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match ended {
            Ok(()) => Ok(()),
            Err(End::Bad(error)) => {
                self.has_gap = true;
                visit(&Part::Bad(error))
            }
            Err(End::Visit(error)) => Err(error),
        }
    }
}

impl Run {
    /// Opens a run by what the file says of itself.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged), [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a newer
    /// version wrote it, [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(crate) fn open(file: Arc<dyn DiskFile>, path: &Path) -> Result<Self> {
        let length = file.len().map_err(|error| Error::io("read", path, error))?;
        if length < LEAST_RUN {
            return Err(Error::bad_table(path, length));
        }
        let sector = |at| {
            let mut bytes = [0; SECTOR];
            read(&*file, path, &mut bytes, at).map(|()| bytes)
        };
        let end = length - SECTOR_LEN;
        let refused = |at: u64| move |refusal: Refusal| refusal.error(path, || Error::bad_table(path, at));
        let header = RunHeader::decode(&sector(0)?).map_err(refused(0))?;
        let footer = Footer::decode(&sector(end)?).map_err(refused(end))?;
        if footer.header != header || footer.length != length {
            return Err(Error::bad_table(path, end));
        }
        let checksum = header.identity.checksum();
        let (mut tail, begin) = (Vec::new(), footer.blocks_end());
        tail.resize(usize::try_from(end - begin).expect("two blocks"), 0);
        read(&*file, path, &mut tail, begin)?;
        let (front, back) = tail.split_at(usize::try_from(footer.root.position - begin).expect("a block"));
        let root = block::open(back, &checksum, footer.root, BlockKind::Root)
            .and_then(|block| Root::read(block, SECTOR_LEN, begin))
            .map_err(refused(footer.root.position))?;
        let bounds = (root.range.low.as_slice(), root.range.high.as_slice());
        let range_tombstones = match footer.range_tombstones {
            None => Vec::new(),
            Some(at) => block::open(front, &checksum, at, BlockKind::RangeTombstones)
                .and_then(|block| range_tombstones::read(block, header.interval, bounds))
                .map_err(refused(at.position))?,
        };
        if range_tombstones.len() as u64 != footer.counts.range_tombstones {
            return Err(Error::bad_table(path, end));
        }
        let fences = Fences::of(root.partitions.iter().map(|partition| partition.separator.as_slice()));
        Ok(Run { file, path: path.to_owned(), checksum, footer, root, fences, range_tombstones })
    }

    /// Opens the run that a layer with this interval names, and compares the two.
    ///
    /// # Errors
    /// As [`Run::open`], and [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) if it is missing or another one.
    pub(crate) fn open_named(
        dir: &dyn Dir,
        path: &Path,
        named: &NamedRun,
        (log_id, interval): (LogId, Interval),
    ) -> Result<Self> {
        let path = path.join(file_name(named.file.number, FileKind::Run));
        Run::open_as(dir, &path, named, (log_id, interval))
    }

    /// [`Run::open_named`] of the file at `path`, whatever its name.
    ///
    /// # Errors
    /// As [`Run::open_named`].
    pub(in crate::table) fn open_as(
        dir: &dyn Dir,
        path: &Path,
        named: &NamedRun,
        (log_id, interval): (LogId, Interval),
    ) -> Result<Self> {
        let file = open_to_read(dir, path)?.ok_or_else(|| Error::bad_file(path, DamageCause::MissingTable))?;
        let run = Run::open(file, path)?;
        let is_it = run.is(named, log_id, interval);
        if is_it { Ok(run) } else { Err(Error::bad_file(path, DamageCause::ForeignTable)) }
    }

    /// Whether this is the run that MANIFEST names in a layer with this interval.
    fn is(&self, named: &NamedRun, log_id: LogId, interval: Interval) -> bool {
        let Footer { header, counts, length, .. } = &self.footer;
        let identity = FileIdentity { log_id, number: named.file.number, nonce: named.file.nonce };
        let named_counts = (named.entries, named.tombstones, named.range_tombstones, named.newest);
        header.identity == identity
            && (*length, Footer::crc(&self.footer.to_bytes())) == (named.file.length, named.file.crc)
            && self.footer.tail() == u64::from(named.tail)
            && interval.from <= header.interval.from
            && header.interval.to <= interval.to
            && named_counts == (counts.entries, counts.tombstones, counts.range_tombstones, counts.newest)
            && self.root.range == named.range
    }

    /// Reads and checks all partitions, blocks and entries, in order, and shows each. Behind what is bad it goes on with
    /// the next block or partition.
    ///
    /// # Errors
    /// Those of `visit`, which end the walk.
    pub(crate) fn walk<E>(&self, mut visit: impl FnMut(&Part<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut walked = Walked::default();
        for tombstone in &self.range_tombstones {
            walked.counts.note(tombstone.lsn);
        }
        walked.counts.range_tombstones = self.range_tombstones.len() as u64;
        for (number, partition) in self.root.partitions.iter().enumerate() {
            visit(&Part::Partition(partition))?;
            let ended = self.walk_partition(number, &mut walked, &mut visit);
            walked.go_on(ended, &mut visit)?;
        }
        if !walked.has_gap && walked.counts != self.footer.counts {
            visit(&Part::Bad(self.bad(self.footer.length - SECTOR_LEN)))?;
        }
        Ok(())
    }

    fn walk_partition<E>(
        &self,
        number: usize,
        walked: &mut Walked,
        visit: &mut impl FnMut(&Part<'_>) -> Result<(), E>,
    ) -> Result<(), End<E>> {
        let bytes = self.read_block(self.root.partitions[number].block)?;
        let (index, blocks) = self.partition(number, &bytes)?;
        for block in &blocks {
            visit(&Part::Block(block)).map_err(End::Visit)?;
            let ended = self.walk_block(block, &index, walked, visit);
            walked.go_on(ended, visit).map_err(End::Visit)?;
        }
        Ok(())
    }

    fn walk_block<E>(
        &self,
        indexed: &Indexed,
        index: &Partition<'_>,
        walked: &mut Walked,
        visit: &mut impl FnMut(&Part<'_>) -> Result<(), E>,
    ) -> Result<(), End<E>> {
        let at = indexed.block;
        let bytes = self.read_block(at)?;
        let mut cursor = self.data(at, &bytes)?.cursor();
        while cursor.advance().map_err(|refusal| self.refused(refusal, at.position))? {
            let (key, version) = (cursor.key(), cursor.version());
            if !self.may_follow(&walked.order, key, version.lsn) || !index.may_contain(filter::hash(key)) {
                return Err(self.bad(at.position).into());
            }
            walked.order.take(key, version.lsn);
            walked.counts.add(key, version);
            visit(&Part::Entry(key, version)).map_err(End::Visit)?;
        }
        if walked.order.key == indexed.separator { Ok(()) } else { Err(self.bad(at.position).into()) }
    }

    /// The bytes of a block, unchecked.
    pub(in crate::table) fn read_block(&self, at: BlockRef) -> Result<Vec<u8>> {
        let mut bytes = vec![0; at.length as usize];
        self.read_into(&mut bytes, at.position).map(|()| bytes)
    }

    /// Fills `bytes` with what the file has at `position`, unchecked.
    pub(in crate::table) fn read_into(&self, bytes: &mut [u8], position: u64) -> Result<()> {
        read(&*self.file, &self.path, bytes, position)
    }

    /// The bytes that it takes in memory while it is open.
    pub(in crate::table) fn memory(&self) -> usize {
        let Root { range, reach, partitions, witnesses } = &self.root;
        let bound = |range: &Range| range.low.capacity() + range.high.capacity();
        let partitions = partitions.iter().map(Indexed::memory).sum::<usize>();
        let witnesses = witnesses.iter().map(|one| size_of_val(one) + bound(&one.range)).sum::<usize>();
        let ranges =
            self.range_tombstones.iter().map(|one| size_of_val(one) + one.start.capacity() + one.end.capacity());
        let bounds = bound(range) + bound(reach);
        let others = self.path.as_os_str().len() + self.fences.memory();
        size_of::<Self>() + others + bounds + partitions + witnesses + ranges.sum::<usize>()
    }

    /// The number of the first partition that may have something at or above `full_key`; how many there are if none has.
    pub(in crate::table) fn partition_at(&self, full_key: &[u8]) -> usize {
        self.fences.find(full_key, |number| self.root.partitions[number].separator.as_slice() < full_key)
    }

    /// The partition with this number, which has these bytes, and its data blocks.
    pub(in crate::table) fn partition<'b>(
        &self,
        number: usize,
        bytes: &'b [u8],
    ) -> Result<(Partition<'b>, Vec<Indexed>)> {
        let Indexed { separator, block: at } = &self.root.partitions[number];
        let before = number.checked_sub(1).map(|before| self.root.partitions[before].block);
        let begin = before.map_or(Some(SECTOR_LEN), |before| before.end());
        let opened = block::open(bytes, &self.checksum, *at, BlockKind::Partition)
            .and_then(|block| Partition::new(block, at.position))
            .and_then(|partition| Ok((partition, partition.blocks()?)));
        let (partition, blocks) = opened.map_err(|refusal| self.refused(refusal, at.position))?;
        let joins = blocks.first().map(|first| first.block.position) == begin
            && blocks.last().is_some_and(|last| last.separator == *separator);
        if joins { Ok((partition, blocks)) } else { Err(self.bad(at.position)) }
    }

    /// The data block at `at`, which has these bytes.
    pub(in crate::table) fn data<'b>(&self, at: BlockRef, bytes: &'b [u8]) -> Result<DataBlock<'b>> {
        block::open(bytes, &self.checksum, at, BlockKind::Data)
            .and_then(|block| self.checked_data(block))
            .map_err(|refusal| self.refused(refusal, at.position))
    }

    /// The data block with this content, which was checked before.
    pub(super) fn checked_data<'b>(&self, block: Block<'b>) -> Result<DataBlock<'b>, Refusal> {
        DataBlock::new(block, self.footer.header.interval)
    }

    /// Whether a full key lies in its range.
    pub(in crate::table) fn has_key(&self, full_key: &[u8]) -> bool {
        let Range { low, high } = &self.root.range;
        low.as_slice() <= full_key && is_below(full_key, high)
    }

    /// Whether an entry may stand behind the last one of `order`.
    pub(super) fn may_follow(&self, order: &Order, key: &[u8], lsn: Lsn) -> bool {
        order.goes_on_with(key, lsn) && self.has_key(key)
    }

    pub(in crate::table) fn bad(&self, offset: u64) -> Error {
        Error::bad_table(&self.path, offset)
    }

    /// For a reader who comes to a range that was lost.
    pub(in crate::table) fn lost_range(&self) -> Error {
        Error::lost(&self.path, self.footer.range_tombstones.map_or(0, |block| block.position))
    }

    /// The same for one who checks all of it, if it has such a range.
    pub(crate) fn first_lost(&self) -> Option<Error> {
        let has_lost = self.range_tombstones.iter().any(|one| one.says != Says::Deleted);
        has_lost.then(|| self.lost_range())
    }

    pub(in crate::table) fn refused(&self, refusal: Refusal, offset: u64) -> Error {
        refusal.error(&self.path, || self.bad(offset))
    }
}

/// The last entry of a run that was read: order goes on from block to block.
#[derive(Debug, Default)]
pub(super) struct Order {
    pub(super) key: Vec<u8>,
    lsn: Lsn,
}

impl Order {
    fn goes_on_with(&self, key: &[u8], lsn: Lsn) -> bool {
        self.key.as_slice() < key || (self.key == key && lsn < self.lsn)
    }

    pub(super) fn take(&mut self, key: &[u8], lsn: Lsn) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.lsn = lsn;
    }
}

/// Reads bytes of a file of the tables. That it ends too early is damage, and nothing else is.
pub(crate) fn read(file: &dyn DiskFile, path: &Path, bytes: &mut [u8], offset: u64) -> Result<()> {
    read_exact_at(file, bytes, offset).map_err(|error| match is_end_of_file(&error) {
        true => Error::bad_table(path, offset).with_source(error),
        false => Error::io("read", path, error),
    })
}
