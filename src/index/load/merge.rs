//! Merging: sorted bundles and the old leaves of a keyspace become its new leaves.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
#[cfg(test)]
use std::panic::resume_unwind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::super::key::Key;
use super::super::map::{Builder, SharedLeaf, between};
use super::super::tree::{Loaded, Tree};
use super::super::version::{LONGEST_KEY, MOST_IN_PLACE, Seq, Version, content, outside_len, share};
use super::Panicked;
use super::bundle::{Bundle, Write, keep_newest, low_half};
use crate::rt::sync::{self, Mutex};

/// A part of a keyspace that one thread builds: writes, and old entries.
#[derive(Debug)]
struct Part {
    tree: usize,
    /// The bundles that have writes of this part, in the order of the log.
    bundles: Vec<Arc<Bundle>>,
    writes: Vec<WriteRun>,
    old: Vec<SharedLeaf>,
    low: Bound<Key>,
    high: Bound<Key>,
    /// Layers may have the keyspace's keys, so tombstones stay.
    is_away: bool,
    #[cfg(test)]
    dies: bool,
}

/// Consecutive writes of one bundle.
#[derive(Clone, Debug)]
struct WriteRun {
    bundle: usize,
    range: Range<usize>,
}

impl WriteRun {
    fn of<'a>(&self, bundles: &'a [Arc<Bundle>]) -> (&'a Bundle, &'a [Write]) {
        let bundle = &bundles[self.bundle];
        (bundle, &bundle.writes()[self.range.clone()])
    }
}

/// What happens to the memory of a piece when the parts that need it are built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pieces {
    /// The allocator reuses it for the next pieces: fresh pages from the operating system cost a fifth of the time of
    /// an open.
    Reused,
    /// There are no next pieces, and leaves are still being built while the memory goes.
    GivenBack,
}

/// The result of a part.
#[derive(Debug)]
struct Done {
    tree: usize,
    loaded: Loaded,
}

/// A part is large enough with this number of bytes of records. If each thread would get fewer, there are more parts,
/// but none below [`SMALL_PART`], which is worth a thread. In tests a few writes are enough.
const PART: usize = if cfg!(test) { 4 << 10 } else { 24 << 20 };
/// The input of a part is freed when the part is built. With at least this number of parts, only a small share of the
/// data is in memory twice. No part is smaller than [`LEAST_PART`] for that reason, because its leaves lie in large
/// pages.
const PARTS: usize = 16;
const LEAST_PART: usize = if cfg!(test) { 1 << 10 } else { 4 << 20 };
const SMALL_PART: usize = if cfg!(test) { 256 } else { 1 << 20 };
/// A keyspace with more than this number of keys for each write is not rebuilt.
const FEW: usize = 4;
/// Nor is a keyspace with fewer writes than this: an engine may have thousands of small ones.
const SEARCHED: usize = if cfg!(test) { 4 } else { 64 };
/// The cut of a keyspace into parts looks at one write for this number of bytes of sorted writes.
const SAMPLED: usize = if cfg!(test) { 256 } else { 32 << 10 };

/// Merges the writes of `bundles`, which are sorted and in the order of the log, into their keyspaces. A bundle is
/// freed with the last part that has writes of it.
pub(super) fn merge(trees: &[Arc<Tree>], bundles: Vec<Bundle>, after: Pieces) -> Result<(), Panicked> {
    let bundles: Vec<_> = bundles.into_iter().map(Arc::new).collect();
    let mut parts = Vec::new();
    let mut of_trees: BTreeMap<u32, Vec<WriteRun>> = BTreeMap::new();
    for (number, bundle) in bundles.iter().enumerate() {
        for (tree, range) in bundle.of_trees() {
            of_trees.entry(tree).or_default().push(WriteRun { bundle: number, range });
        }
    }
    for (place, writes) in of_trees {
        let tree = &trees[place as usize];
        let count: usize = writes.iter().map(|run| run.range.len()).sum();
        if count < SEARCHED || count < tree.version_count() / FEW {
            // A search for each key costs less than building everything anew.
            let newest = newest(&bundles, &writes);
            tree.load(in_order(&bundles, &newest).map(|(key, write, value)| (key, write.lsn, value)));
        } else {
            let is_away = !tree.is_complete();
            cut((place as usize, is_away), &bundles, &writes, &tree.take_all(), &mut parts);
        }
    }
    drop(bundles);
    #[cfg(test)]
    if let Some(part) = super::fault::part_that_dies().and_then(|number| parts.get_mut(number)) {
        part.dies = true;
    }
    let mut done = run(parts, after)?.into_iter().peekable();
    while let Some(Done { tree, mut loaded }) = done.next() {
        while let Some(next) = done.next_if(|next| next.tree == tree) {
            loaded.append(next.loaded);
        }
        trees[tree].put_all(loaded);
    }
    Ok(())
}

/// Cuts a keyspace into parts of about the same size, in the order of their keys.
fn cut(
    (tree, is_away): (usize, bool),
    bundles: &[Arc<Bundle>],
    writes: &[WriteRun],
    old: &[SharedLeaf],
    parts: &mut Vec<Part>,
) {
    let mut samples = samples(bundles, writes);
    samples.extend(old.iter().map(|leaf| (leaf.first_key().into(), leaf.size().1)));
    samples.sort_unstable();
    let total: usize = samples.iter().map(|(_, bytes)| bytes).sum();
    let size = (total / PARTS).clamp(LEAST_PART, PART);
    let count = (total / size).max(sync::parallelism().min(total / SMALL_PART)).max(1);
    let mut bounds = Vec::new();
    let mut before = 0;
    for (key, bytes) in samples {
        if before * count / total > bounds.len() && bounds.last() != Some(&key) {
            bounds.push(key);
        }
        before += bytes;
    }
    let mut rest = writes.to_vec();
    let mut first = 0;
    let mut low = Bound::Unbounded;
    for bound in bounds.into_iter().map(Some).chain([None]) {
        let is_below = |key: &[u8]| bound.as_ref().is_none_or(|bound| key < bound.as_slice());
        let (mut of_part, mut with_writes) = (Vec::new(), Vec::new());
        for run in &mut rest {
            let (bundle, writes) = run.of(bundles);
            let end = run.range.start + writes.partition_point(|write| is_below(bundle.key(write)));
            let range = std::mem::replace(&mut run.range.start, end)..end;
            if !range.is_empty() {
                of_part.push(WriteRun { bundle: with_writes.len(), range });
                with_writes.push(Arc::clone(&bundles[run.bundle]));
            }
        }
        let end = first + old[first..].partition_point(|leaf| is_below(leaf.first_key()));
        let high = bound.clone().map_or(Bound::Unbounded, Bound::Excluded);
        // The last leaf that begins below the bound may reach beyond it.
        let leaves = old[first..end].to_vec();
        first = end.saturating_sub(1);
        let next = bound.map_or(Bound::Unbounded, Bound::Included);
        let low = std::mem::replace(&mut low, next);
        parts.push(Part {
            tree,
            bundles: with_writes,
            writes: of_part,
            old: leaves,
            low,
            high,
            is_away,
            #[cfg(test)]
            dies: false,
        });
    }
}

/// One write for each [`SAMPLED`] bytes of `runs`, and the bytes that it stands for. A longer write stands for itself.
fn samples(bundles: &[Arc<Bundle>], runs: &[WriteRun]) -> Vec<(Key, usize)> {
    let mut samples = Vec::new();
    // A run may be shorter than the bytes between two samples.
    let mut bytes_to_next = SAMPLED / 2;
    for run in runs {
        let (bundle, writes) = run.of(bundles);
        let len = bundle.memory() / bundle.writes().len();
        let step = (SAMPLED / len).max(1);
        let mut next = bytes_to_next / len;
        while let Some(write) = writes.get(next) {
            samples.push((Key::from(bundle.key(write)), step * len));
            next += step;
        }
        bytes_to_next = (next - writes.len()) * len;
    }
    samples
}

/// Builds all parts on as many threads as there are cores. Returns their results in the same order.
fn run(parts: Vec<Part>, after: Pieces) -> Result<Vec<Done>, Panicked> {
    let count = parts.len();
    // The operating system reads files to tell its parallelism: a log may have a million small merges.
    let helpers = if count > 1 { sync::parallelism().min(count) - 1 } else { 0 };
    let queue = Arc::new(Mutex::new(parts.into_iter().enumerate()));
    let build = move |number: usize, mut part: Part| {
        let bundles = std::mem::take(&mut part.bundles);
        let done = part.build(&bundles);
        let last_of = bundles.into_iter().filter_map(Arc::into_inner);
        match after {
            Pieces::Reused => last_of.for_each(drop),
            Pieces::GivenBack => last_of.for_each(Bundle::give_back),
        }
        (number, done)
    };
    let mut threads = Vec::new();
    for _ in 0..helpers {
        let (done, results) = sync::channel();
        let queue = Arc::clone(&queue);
        let work = move || {
            while let Some((number, part)) = next(&queue) {
                done.send(build(number, part));
            }
            done.close();
        };
        threads.extend(sync::spawn("forelog-load", work).ok().map(|thread| (thread, results)));
    }
    // A panic on this thread must not unwind past the join of the others.
    let work = || std::iter::from_fn(|| next(&queue)).map(|(number, part)| build(number, part)).collect();
    let mut done: Vec<_> = catch_unwind(AssertUnwindSafe(work)).unwrap_or_default();
    for (thread, results) in threads {
        done.extend(std::iter::from_fn(|| results.recv()));
        thread.join();
    }
    done.sort_unstable_by_key(|(number, _)| *number);
    if done.len() == count { Ok(done.into_iter().map(|(_, done)| done).collect()) } else { Err(Panicked) }
}

fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().next()
}

impl Part {
    /// Builds the leaves of the part from writes of `bundles` and old entries, both in key order.
    fn build(self, bundles: &[Arc<Bundle>]) -> Done {
        #[cfg(test)]
        if self.dies {
            // Without the panic hook, whose message would fill the output.
            resume_unwind(Box::new("on purpose"));
        }
        let Part { tree, writes, old, low, high, is_away, .. } = self;
        let range = between(&low, &high);
        let newest = newest(bundles, &writes);
        let last = writes.iter().flat_map(|run| run.of(bundles).1).map(|write| write.lsn).max().unwrap_or_default();
        let stays = |value: Option<&[u8]>| is_away || value.is_some();
        let kept = newest.iter().map(|entry| of(bundles, *entry)).filter(|(bundle, write)| stays(bundle.value(write)));
        let sizes = kept.map(|(_, write)| (1, write.record_len())).chain(old.iter().map(SharedLeaf::size));
        let (entries, bytes) = sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let mut builder = Builder::new(entries, bytes);
        let mut loaded = Loaded { is_away, newest: last, ..Loaded::default() };
        let mut put = |loaded: &mut Loaded, key: &[u8], version: Version<'_>| {
            builder.push(key, version);
            loaded.keys += 1;
            loaded.live += usize::from(!version.content.is_deleted());
            loaded.large += outside_len(key, version.content);
            if version.content.is_deleted() {
                loaded.tombstones.push((version.lsn, Key::from(key)));
            }
        };
        let mut old = old.iter().flat_map(|leaf| leaf.entries(range)).peekable();
        for (key, write, value) in in_order(bundles, &newest) {
            while let Some((key, version)) = old.next_if(|(old, _)| *old < key) {
                put(&mut loaded, key, version);
            }
            old.next_if(|(old, _)| *old == key);
            if stays(value) {
                let shared = share(value);
                let content = content(value, shared.as_ref());
                put(&mut loaded, key, Version { lsn: write.lsn, older: Seq::NONE, content });
            } else {
                loaded.buried = write.lsn.max(loaded.buried);
            }
        }
        old.for_each(|(key, version)| put(&mut loaded, key, version));
        loaded.built.push(builder.finish());
        Done { tree, loaded }
    }
}

/// The last write to each key, in key order. The low 64 bits of an entry are bundle and number.
fn newest(bundles: &[Arc<Bundle>], writes: &[WriteRun]) -> Vec<u128> {
    let mut entries = Vec::with_capacity(writes.iter().map(|run| run.range.len()).sum());
    for run in writes {
        let (number, first) = (run.bundle as u128, run.range.start as u128);
        let of_run = (first..).zip(run.of(bundles).1);
        entries.extend(of_run.map(|(at, write)| u128::from(write.head) << 64 | number << 32 | at));
    }
    // A stable sort merges the runs that are sorted already.
    entries.sort();
    let look = |entry| {
        let (bundle, write) = of(bundles, entry);
        (write.tail, bundle.key(write))
    };
    keep_newest(&mut entries, 64, look, |a, b| {
        let ((bundle, write), (of_other, other)) = (of(bundles, a), of(bundles, b));
        bundle.compare_tails(write, of_other, other)
    });
    entries
}

fn of(bundles: &[Arc<Bundle>], entry: u128) -> (&Bundle, &Write) {
    let bundle = &bundles[low_half(entry >> 32)];
    (bundle, &bundle.writes()[low_half(entry)])
}

/// Keys and values of `entries`. They lie anywhere in the memory of the bundles, so those of a block are fetched at
/// once: a core waits for many cache lines in the time of one, if no other work is between.
fn in_order<'a>(
    bundles: &'a [Arc<Bundle>],
    entries: &'a [u128],
) -> impl Iterator<Item = (&'a [u8], &'a Write, Option<&'a [u8]>)> {
    const BLOCK: usize = 64;
    entries.chunks(BLOCK).flat_map(move |block| {
        let writes = block.iter().map(move |entry| of(bundles, *entry));
        std::hint::black_box(writes.clone().fold(0, |all, (bundle, write)| all | bundle.fetch(write)));
        writes.map(|(bundle, write)| (bundle.key(write), write, bundle.value(write)))
    })
}

impl Write {
    /// Estimates the bytes that it takes in a leaf: a long key and a large value lie elsewhere.
    pub(super) fn record_len(&self) -> usize {
        let (key, value) = self.lens();
        let in_leaf = |len: usize, most: usize| if len > most { 0 } else { len };
        in_leaf(key, LONGEST_KEY) + in_leaf(value, MOST_IN_PLACE)
    }
}
