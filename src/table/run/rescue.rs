//! Reading what is whole of a run that may be damaged anywhere (`format/TABLES.md`, section 4): each part by its parent if
//! that is whole, and otherwise by the checksum that it begins with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::IntoIter;

use crc32fast::Hasher;

use super::read::read;
use crate::base::error::{Error, ErrorKind, Result, is_rot};
use crate::base::types::Lsn;
use crate::disk::DiskFile;
use crate::format::Refusal;
use crate::format::table::block::{self, BLOCK_HEADER, BlockKind, BlockRef, Indexed};
use crate::format::table::data::DataBlock;
use crate::format::table::manifest::NamedRun;
use crate::format::table::partition::Partition;
use crate::format::table::range_tombstones::{self, RangeTombstone, Says};
use crate::format::table::root::{Range, Root};
use crate::format::table::run::{Footer, RunHeader, SECTOR, SECTOR_LEN};
use crate::format::table::{behind, ends_within, is_below};

mod cursor;

pub(crate) use cursor::RemainsCursor;

/// A run as far as it can be told what it is.
#[derive(Debug)]
pub(crate) struct Remains {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    length: u64,
    checksum: Hasher,
    pub(crate) header: RunHeader,
    root: Option<Root>,
    /// Where the last data block or partition ends, if that is known.
    end: Option<u64>,
    pub(crate) range_tombstones: Vec<RangeTombstone>,
    /// Why its range tombstones are not known.
    no_range_tombstones: Option<Error>,
    /// What is wrong with parts in whose place others were used.
    faults: Vec<Error>,
}

/// Keys for which a run cannot answer.
#[derive(Clone, Debug)]
pub(crate) struct Bad {
    pub(crate) range: Range,
    pub(crate) error: Error,
    /// The version in front of it: older ones of the same key may be bad as well. `None` if that one is bad itself.
    pub(crate) older: Option<(Vec<u8>, Lsn)>,
}

impl Bad {
    /// Whether whoever knows of this one knows of the other.
    fn covers(&self, other: &Bad) -> bool {
        let has_key = |key: &[u8]| self.range.low.as_slice() <= key && is_below(key, &self.range.high);
        let goes_on = |(key, lsn): &(Vec<u8>, Lsn)| {
            self.older.as_ref().is_some_and(|(own, own_lsn)| own == key && own_lsn >= lsn)
        };
        let knows = |older: &(Vec<u8>, Lsn)| has_key(&older.0) || goes_on(older);
        self.range.contains(&other.range) && other.older.as_ref().is_none_or(knows)
    }
}

/// What a run can answer for.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The keys of which it has everything of its interval, but for what is bad.
    pub(crate) reach: Range,
    /// In order.
    pub(crate) bad: Vec<Bad>,
    /// What of its entries cannot be read: `bad` is more if its range tombstones cannot, or if they say that keys were lost.
    pub(crate) unreadable: Vec<Bad>,
    /// The first that is wrong with it, if anything is.
    pub(crate) fault: Option<Error>,
    /// An error of the system that says nothing of the data: what could not be read then may be whole.
    pub(crate) passing: Option<Error>,
}

impl Remains {
    /// Opens the run in `file`. `named` is what a MANIFEST says of it.
    ///
    /// # Errors
    /// Nothing tells what it is, or it is not the one that is named; [`ErrorKind::Unsupported`].
    pub(crate) fn open(file: Arc<dyn DiskFile>, path: &Path, named: Option<&NamedRun>) -> Result<Self> {
        let length = file.len().map_err(|error| Error::io("read", path, error))?;
        let is_too_long = named.is_some_and(|named| named.file.length < length);
        let length = named.map_or(length, |named| named.file.length.min(length));
        let sector = |at| {
            let mut bytes = [0; SECTOR];
            read(&*file, path, &mut bytes, at).map(|()| bytes)
        };
        let refused = |at: u64| move |refusal: Refusal| refusal.error(path, || Error::bad_table(path, at));
        let at = named.map_or(length, |named| named.file.length).saturating_sub(SECTOR_LEN);
        let footer = sector(at).and_then(|bytes| Footer::decode(&bytes).map_err(refused(at)));
        let header = sector(0).and_then(|bytes| RunHeader::decode(&bytes).map_err(refused(0)));
        let is_it = |header: &RunHeader| {
            named.is_none_or(|named| {
                (header.identity.number, header.identity.nonce) == (named.file.number, named.file.nonce)
            })
        };
        let footer = footer.and_then(|footer| match is_it(&footer.header) && footer.length == at + SECTOR_LEN {
            true => Ok(footer),
            false => Err(Error::bad_table(path, at)),
        });
        let header = header.and_then(|header| if is_it(&header) { Ok(header) } else { Err(Error::bad_table(path, 0)) });
        let known = match (&header, &footer) {
            (_, Ok(footer)) => footer.header,
            (Ok(header), Err(_)) => *header,
            (Err(error), Err(_)) => return Err(error.clone()),
        };
        let header = header.and_then(|header| if header == known { Ok(()) } else { Err(Error::bad_table(path, 0)) });
        let mut remains = Remains {
            path: path.to_owned(),
            length,
            checksum: known.identity.checksum(),
            header: known,
            root: None,
            end: named.map(|named| named.file.length - u64::from(named.tail)),
            range_tombstones: Vec::new(),
            no_range_tombstones: None,
            faults: header.err().into_iter().collect(),
            file,
        };
        if is_too_long {
            remains.faults.push(Error::bad_table(path, length));
        }
        match footer {
            Ok(footer) => remains.read_tail(&footer),
            Err(error) => remains.search_tail(error, named),
        }
        remains.check_supported()?;
        Ok(remains)
    }

    fn check_supported(&self) -> Result<()> {
        let newer = self.faults.iter().chain(&self.no_range_tombstones).find(|error| is_newer(error));
        newer.map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Root and range tombstones, where the footer says that they are.
    fn read_tail(&mut self, footer: &Footer) {
        self.end = Some(footer.blocks_end());
        let root = self.read_block(footer.root).and_then(|bytes| self.root(footer.root, &bytes, footer.blocks_end()));
        self.root = root.map_err(|error| self.faults.push(error)).ok();
        if let Some(at) = footer.range_tombstones {
            let read = self.read_block(at).and_then(|bytes| self.tombstones(at, &bytes));
            self.take_tombstones(read);
        }
    }

    /// The same without a footer: the blocks follow one another from the header on, or from where MANIFEST says that these two begin.
    fn search_tail(&mut self, no_footer: Error, named: Option<&NamedRun>) {
        self.faults.push(no_footer.clone());
        let (mut at, mut end) = (self.end.unwrap_or(SECTOR_LEN), None);
        let mut may_have_tombstones = named.is_none_or(|named| named.range_tombstones > 0);
        while let Ok((kind, block)) = self.described(at, self.length) {
            let Ok(bytes) = self.read_block(block) else { break };
            if block::open(&bytes, &self.checksum, block, kind).is_err() {
                break;
            }
            match kind {
                BlockKind::Data | BlockKind::Partition => {}
                BlockKind::RangeTombstones => {
                    end = Some(at);
                    may_have_tombstones = false;
                    let read = self.tombstones(block, &bytes);
                    self.take_tombstones(read);
                }
                BlockKind::Root => {
                    let end = *end.get_or_insert(at);
                    may_have_tombstones = false;
                    self.end = Some(end);
                    self.root = self.root(block, &bytes, end).map_err(|error| self.faults.push(error)).ok();
                    break;
                }
            }
            at += u64::from(block.length);
        }
        if may_have_tombstones {
            self.no_range_tombstones = Some(no_footer);
        }
    }

    fn take_tombstones(&mut self, read: Result<Vec<RangeTombstone>>) {
        match read {
            Ok(tombstones) => self.range_tombstones = tombstones,
            Err(error) => self.no_range_tombstones = Some(error),
        }
    }

    fn root(&self, at: BlockRef, bytes: &[u8], end: u64) -> Result<Root> {
        block::open(bytes, &self.checksum, at, BlockKind::Root)
            .and_then(|block| Root::read(block, SECTOR_LEN, end))
            .map_err(|refusal| self.refused(refusal, at.position))
    }

    fn tombstones(&self, at: BlockRef, bytes: &[u8]) -> Result<Vec<RangeTombstone>> {
        block::open(bytes, &self.checksum, at, BlockKind::RangeTombstones)
            .and_then(|block| range_tombstones::read(block, self.header.interval, (&[], &[])))
            .map_err(|refusal| self.refused(refusal, at.position))
    }

    /// What stands at `at`, as far as it says so itself.
    fn described(&self, at: u64, end: u64) -> Result<(BlockKind, BlockRef)> {
        let mut header = [0; BLOCK_HEADER];
        read(&*self.file, &self.path, &mut header, at)?;
        block::described(&header, at, end).ok_or_else(|| self.bad(at))
    }

    fn read_block(&self, at: BlockRef) -> Result<Vec<u8>> {
        if at.end().is_none_or(|end| end > self.length) {
            return Err(self.bad(at.position));
        }
        let mut bytes = vec![0; at.length as usize];
        read(&*self.file, &self.path, &mut bytes, at.position).map(|()| bytes)
    }

    fn bad(&self, offset: u64) -> Error {
        Error::bad_table(&self.path, offset)
    }

    fn refused(&self, refusal: Refusal, offset: u64) -> Error {
        refusal.error(&self.path, || self.bad(offset))
    }

    /// The data block at `at`, all of which was checked: it goes on behind the key `last`.
    fn data(&self, at: BlockRef, last: Option<&[u8]>) -> Result<Data> {
        let bytes = self.read_block(at)?;
        let opened = block::open(&bytes, &self.checksum, at, BlockKind::Data);
        let block = opened.and_then(|block| DataBlock::new(block, self.header.interval));
        let block = block.map_err(|refusal| self.refused(refusal, at.position))?;
        let (mut cursor, mut first, mut oldest) = (block.cursor(), None::<Vec<u8>>, Lsn::ZERO);
        while cursor.advance().map_err(|refusal| self.refused(refusal, at.position))? {
            let key = cursor.key();
            let in_range = self
                .root
                .as_ref()
                .is_none_or(|Root { range, .. }| range.low.as_slice() <= key && is_below(key, &range.high));
            if !in_range || last.is_some_and(|last| key < last) {
                return Err(self.bad(at.position));
            }
            oldest = cursor.version().lsn;
            first.get_or_insert_with(|| key.to_vec());
        }
        let (first, last, count) = (first.unwrap_or_default(), cursor.key().to_vec(), block.count());
        Ok(Data { bytes, count, first, last, oldest })
    }

    /// The data blocks in front of a partition.
    fn blocks_of(&self, partition: &Indexed, begin: u64) -> Result<Vec<Indexed>> {
        let at = partition.block;
        let bytes = self.read_block(at)?;
        let blocks = block::open(&bytes, &self.checksum, at, BlockKind::Partition)
            .and_then(|block| Partition::new(block, at.position)?.blocks());
        let blocks = blocks.map_err(|refusal| self.refused(refusal, at.position))?;
        let joins = blocks.first().is_some_and(|first| first.block.position == begin)
            && blocks.last().is_some_and(|last| last.separator == partition.separator);
        if joins { Ok(blocks) } else { Err(self.bad(at.position)) }
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a newer version wrote a part of it.
    pub(crate) fn survey(self: &Arc<Self>) -> Result<Survey> {
        let (mut bad, mut faults, mut first, mut last) = (Vec::<Bad>::new(), self.faults.clone(), None, None);
        let mut blocks = Blocks::new(Arc::clone(self));
        while let Some(step) = blocks.next() {
            match step {
                Step::Data(data) => {
                    first.get_or_insert(data.first);
                    last = Some(data.last);
                }
                Step::Fault(error) => faults.push(error),
                Step::Bad(one) if is_newer(&one.error) => return Err(one.error),
                Step::Bad(one) => bad.push(one),
            }
        }
        let keys = || Some(Range { low: first?, high: behind(last?) });
        let reach = self.root.as_ref().map(|root| root.reach.clone()).or_else(keys);
        let reach = reach.unwrap_or_else(|| Range { low: behind(Vec::new()), high: behind(Vec::new()) });
        let all = faults.iter().chain(bad.iter().map(|bad| &bad.error)).chain(&self.no_range_tombstones);
        let passes = |error: &&Error| error.io_error().is_some() && !is_rot(error);
        let passing = all.into_iter().find(passes).cloned();
        let fault = faults.first().or_else(|| bad.first().map(|bad| &bad.error)).cloned();
        let unreadable = join(bad.clone());
        let lost = self.range_tombstones.iter().filter(|one| one.says != Says::Deleted);
        bad.extend(lost.map(|one| Bad {
            range: Range { low: one.start.clone(), high: one.end.clone() },
            error: Error::lost(&self.path, self.end.unwrap_or(0)),
            older: None,
        }));
        let fault = fault.or_else(|| self.no_range_tombstones.clone());
        if let Some(error) = &self.no_range_tombstones {
            bad = vec![Bad { range: Range::default(), error: error.clone(), older: None }];
        }
        Ok(Survey { reach, bad: join(bad), unreadable, fault, passing })
    }

    /// Otherwise it may have any.
    pub(in crate::table) fn knows_range_tombstones(&self) -> bool {
        self.no_range_tombstones.is_none()
    }
}

/// Makes those one that overlap or touch.
fn join(mut bad: Vec<Bad>) -> Vec<Bad> {
    bad.sort_by(|a, b| a.range.low.cmp(&b.range.low));
    let mut joined: Vec<Bad> = Vec::new();
    for one in bad {
        match joined.last_mut() {
            Some(last) if last.range.high.is_empty() || one.range.low <= last.range.high => {
                if !ends_within(&one.range.high, &last.range.high) {
                    last.range.high = one.range.high;
                }
            }
            _ => joined.push(one),
        }
    }
    joined
}

/// Whether a newer version wrote it: then a salvage would read as something else what it saves.
fn is_newer(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported
}

/// A data block that is whole.
#[derive(Debug)]
struct Data {
    bytes: Vec<u8>,
    count: u32,
    first: Vec<u8>,
    last: Vec<u8>,
    /// The LSN of the last version.
    oldest: Lsn,
}

enum Step {
    Data(Data),
    /// Keys are lost.
    Bad(Bad),
    /// A part is damaged without which its data blocks can be read.
    Fault(Error),
}

/// The data blocks of a run, and what is in the place of some.
#[derive(Debug)]
struct Blocks {
    run: Arc<Remains>,
    /// The number of the next partition.
    next: usize,
    /// What is left of the present one.
    indexed: IntoIter<Indexed>,
    /// Blocks that nothing but themselves tells of: where the next one is, and where they end.
    loose: Option<Loose>,
    /// The last full key that was passed, in a block that is whole or not.
    last: Option<Vec<u8>>,
    /// The LSN of its last version, if that is whole.
    oldest: Option<Lsn>,
    has_begun: bool,
}

#[derive(Clone, Debug)]
struct Loose {
    at: u64,
    end: u64,
    /// The last full key there is, if it is known.
    separator: Option<Vec<u8>>,
}

impl Blocks {
    fn new(run: Arc<Remains>) -> Self {
        let (indexed, loose, last, oldest) = (Vec::new().into_iter(), None, None, None);
        Blocks { run, next: 0, indexed, loose, last, oldest, has_begun: false }
    }

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(Indexed { separator, block }) = self.indexed.next() {
                let read = self.run.data(block, self.last.as_deref());
                let run = &self.run;
                let read = read.and_then(|data| match data.last == separator {
                    true => Ok(data),
                    false => Err(run.bad(block.position)),
                });
                return Some(match read {
                    Ok(data) => self.pass(data),
                    Err(error) => self.skip(Some(separator), error),
                });
            }
            if let Some(loose) = self.loose.take() {
                match self.next_loose(loose) {
                    Some(step) => return Some(step),
                    None => continue,
                }
            }
            match self.open_next() {
                Some(Ok(())) => {}
                Some(Err(error)) => return Some(Step::Fault(error)),
                None => return None,
            }
        }
    }

    fn pass(&mut self, data: Data) -> Step {
        (self.last, self.oldest) = (Some(data.last.clone()), Some(data.oldest));
        Step::Data(data)
    }

    /// Everything above the last key, up to `separator`, is lost.
    fn skip(&mut self, separator: Option<Vec<u8>>, error: Error) -> Step {
        let root = self.run.root.as_ref();
        let begin = root.map(|root| root.range.low.clone()).unwrap_or_default();
        let end = root.map(|root| root.range.high.clone()).unwrap_or_default();
        let last = self.last.take();
        let older = last.clone().zip(self.oldest.take());
        let low = last.map_or(begin, behind);
        let high = separator.clone().map_or(end, behind);
        self.last = separator;
        Step::Bad(Bad { range: Range { low, high }, error, older })
    }

    /// Goes to the next partition. An error says that it is damaged, and that its blocks are read without it.
    fn open_next(&mut self) -> Option<Result<()>> {
        let run = Arc::clone(&self.run);
        let Some(root) = &run.root else {
            if std::mem::replace(&mut self.has_begun, true) {
                return None;
            }
            self.loose = Some(Loose { at: SECTOR_LEN, end: run.end.unwrap_or(run.length), separator: None });
            return Some(Ok(()));
        };
        let partition = root.partitions.get(self.next)?;
        let before = self.next.checked_sub(1).and_then(|before| root.partitions[before].block.end());
        let begin = before.unwrap_or(SECTOR_LEN);
        self.next += 1;
        match run.blocks_of(partition, begin) {
            Ok(blocks) => self.indexed = blocks.into_iter(),
            Err(error) => {
                let separator = Some(partition.separator.clone());
                self.loose = Some(Loose { at: begin, end: partition.block.position, separator });
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    /// The next of the blocks that stand for themselves; `None` if there is none, or one without data.
    fn next_loose(&mut self, loose: Loose) -> Option<Step> {
        let Loose { at, end, separator } = loose;
        if at >= end {
            let is_complete =
                at == end && separator.as_ref().is_none_or(|separator| self.last.as_ref() == Some(separator));
            let error = self.run.bad(at);
            return (!is_complete).then(|| self.skip(separator, error));
        }
        let read = self.run.described(at, end).and_then(|(kind, block)| match kind {
            BlockKind::Data => self.run.data(block, self.last.as_deref()).map(|data| (block, Some(data))),
            _ => {
                let bytes = self.run.read_block(block)?;
                let opened = block::open(&bytes, &self.run.checksum, block, kind);
                opened.map(|_| (block, None)).map_err(|refusal| self.run.refused(refusal, at))
            }
        });
        match read {
            Ok((block, data)) => {
                self.loose = Some(Loose { at: at + u64::from(block.length), end, separator });
                data.map(|data| self.pass(data))
            }
            Err(error) => Some(self.skip(separator, error)),
        }
    }
}
