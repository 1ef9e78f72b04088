//! Merging: sorted bundles, and what a keyspace had before, become its new leaves.

use std::ops::{Bound, Range};
use std::sync::Arc;

use super::super::key::Key;
use super::super::map::{Builder, Built, KeyRange, Map, SharedLeaf};
use super::super::tree::{Tree, content, share};
use super::super::version::{MOST_IN_PLACE, Seq, Version};
use super::Panicked;
use super::bundle::{Bundle, Write, keep_newest, low_half};
use crate::words::sync::{self, Mutex};
use crate::words::types::Lsn;

/// A part of a keyspace that one thread builds: writes, and entries from before.
#[derive(Debug)]
struct Part {
    tree: usize,
    bundles: Arc<[Bundle]>,
    /// Which writes of each bundle.
    writes: Vec<Range<usize>>,
    old: Vec<SharedLeaf>,
    low: Bound<Key>,
    high: Bound<Key>,
}

/// What became of a part.
#[derive(Debug)]
struct Done {
    tree: usize,
    built: Built,
    keys: usize,
    newest: Lsn,
}

/// Bytes of records for which a part is large enough; with fewer for each thread, so many that a thread is worth its while.
/// In tests a few writes are enough.
const PART: usize = if cfg!(test) { 4 << 10 } else { 24 << 20 };
const SMALL_PART: usize = if cfg!(test) { 256 } else { 1 << 20 };
/// A keyspace with more than so many keys for each write is not built anew.
const FEW: usize = 4;
/// Of so many writes one is looked at to cut a keyspace into parts.
const SAMPLED: usize = if cfg!(test) { 4 } else { 256 };

/// Puts the writes of `bundles`, which are sorted and in the order of the log, into their keyspaces.
pub(super) fn merge(trees: &[Arc<Tree>], bundles: Vec<Bundle>) -> Result<(), Panicked> {
    let bundles: Arc<[Bundle]> = bundles.into();
    let mut parts = Vec::new();
    for (place, tree) in (0..).zip(trees) {
        let writes: Vec<_> = bundles.iter().map(|bundle| bundle.of_tree(place)).collect();
        let count: usize = writes.iter().map(Range::len).sum();
        if count < tree.version_count() / FEW {
            // It costs less to search a place for each than to build all of it anew.
            let newest = newest(&bundles, &writes);
            tree.load(in_order(&bundles, &newest).map(|(key, write, value)| (key, write.lsn, value)));
        } else if count > 0 {
            cut(place as usize, &bundles, &writes, &tree.take_all(), &mut parts);
        }
    }
    drop(bundles);
    let mut done = run(parts)?.into_iter().peekable();
    while let Some(first) = done.next() {
        let Done { tree, mut keys, mut newest, built } = first;
        let mut all = vec![built];
        while let Some(next) = done.next_if(|next| next.tree == tree) {
            keys += next.keys;
            newest = newest.max(next.newest);
            all.push(next.built);
        }
        trees[tree].put_all(Map::of(all), keys, newest);
    }
    Ok(())
}

/// Cuts a keyspace into parts of about the same size, in the order of their keys.
fn cut(tree: usize, bundles: &Arc<[Bundle]>, writes: &[Range<usize>], old: &[SharedLeaf], parts: &mut Vec<Part>) {
    let sampled = |(bundle, range): (&'_ Bundle, &Range<usize>)| {
        let writes = &bundle.writes()[range.clone()];
        writes
            .iter()
            .skip(SAMPLED / 2)
            .step_by(SAMPLED)
            .map(|write| (Key::from(bundle.key(write)), SAMPLED * write.record_len()))
            .collect::<Vec<_>>()
    };
    let mut samples: Vec<(Key, usize)> = bundles.iter().zip(writes).flat_map(sampled).collect();
    samples.extend(old.iter().map(|leaf| (leaf.first_key().into(), leaf.size().1)));
    samples.sort_unstable();
    let total: usize = samples.iter().map(|(_, bytes)| bytes).sum();
    let count = (total / PART).max(sync::parallelism().min(total / SMALL_PART)).max(1);
    let mut bounds = Vec::new();
    let mut before = 0;
    for (key, bytes) in samples {
        if before * count / total > bounds.len() && bounds.last() != Some(&key) {
            bounds.push(key);
        }
        before += bytes;
    }
    let mut starts: Vec<usize> = writes.iter().map(|range| range.start).collect();
    let mut first = 0;
    let mut low = Bound::Unbounded;
    for bound in bounds.into_iter().map(Some).chain([None]) {
        let is_below = |key: &[u8]| bound.as_ref().is_none_or(|bound| key < bound.as_slice());
        let mut of_part = Vec::new();
        for ((bundle, range), start) in bundles.iter().zip(writes).zip(&mut starts) {
            let rest = &bundle.writes()[*start..range.end];
            let end = *start + rest.partition_point(|write| is_below(bundle.key(write)));
            of_part.push(std::mem::replace(start, end)..end);
        }
        let end = first + old[first..].partition_point(|leaf| is_below(leaf.first_key()));
        let high = bound.clone().map_or(Bound::Unbounded, Bound::Excluded);
        // The last leaf that begins below the bound may go on behind it.
        let leaves = old[first..end].to_vec();
        first = end.saturating_sub(1);
        let next = bound.map_or(Bound::Unbounded, Bound::Included);
        let low = std::mem::replace(&mut low, next);
        parts.push(Part { tree, bundles: Arc::clone(bundles), writes: of_part, old: leaves, low, high });
    }
}

/// Runs all parts on as many threads as there are cores; returns what became of them, in the same order.
fn run(parts: Vec<Part>) -> Result<Vec<Done>, Panicked> {
    let count = parts.len();
    let helpers = sync::parallelism().min(count).saturating_sub(1);
    let queue = Arc::new(Mutex::new(parts.into_iter().enumerate()));
    let mut threads = Vec::new();
    for _ in 0..helpers {
        let (done, results) = sync::channel();
        let queue = Arc::clone(&queue);
        let work = move || {
            while let Some((number, part)) = next(&queue) {
                done.send((number, part.build()));
            }
            done.close();
        };
        threads.extend(sync::spawn("forelog-load", work).ok().map(|thread| (thread, results)));
    }
    let mut done: Vec<_> = std::iter::from_fn(|| next(&queue)).map(|(number, part)| (number, part.build())).collect();
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
    /// Builds its leaves from writes and old entries, both of which come in the order of their keys.
    fn build(self) -> Done {
        let Part { tree, bundles, writes, old, low, high } = self;
        let range: KeyRange<'_> = (low.as_ref().map(Key::as_slice), high.as_ref().map(Key::as_slice));
        let newest = newest(&bundles, &writes);
        let of_bundle = |(bundle, range): (&Bundle, &Range<usize>)| {
            bundle.writes()[range.clone()].iter().map(|write| write.lsn).max()
        };
        let last = bundles.iter().zip(&writes).filter_map(of_bundle).max().unwrap_or_default();
        let new: usize = newest.iter().map(|entry| of(&bundles, *entry).1.record_len()).sum();
        let (entries, bytes) =
            old.iter().map(SharedLeaf::size).fold((newest.len(), new), |all, leaf| (all.0 + leaf.0, all.1 + leaf.1));
        let mut builder = Builder::new(entries, bytes);
        let mut keys = 0;
        let mut put = |key: &[u8], version: Version<'_>| {
            builder.push(key, version);
            keys += 1;
        };
        let mut old = old.iter().flat_map(|leaf| leaf.entries(range)).peekable();
        for (key, write, value) in in_order(&bundles, &newest) {
            while let Some((key, version)) = old.next_if(|(old, _)| *old < key) {
                put(key, version);
            }
            old.next_if(|(old, _)| *old == key);
            if value.is_some() {
                let shared = share(value);
                put(key, Version { lsn: write.lsn, older: Seq::NONE, content: content(value, shared.as_ref()) });
            }
        }
        old.for_each(|(key, version)| put(key, version));
        Done { tree, built: builder.finish(), keys, newest: last }
    }
}

/// The last write to each key, in the order of the keys: bundle and number in the low bits.
fn newest(bundles: &[Bundle], writes: &[Range<usize>]) -> Vec<u128> {
    let mut entries = Vec::with_capacity(writes.iter().map(Range::len).sum());
    for (number, (bundle, range)) in (0..).zip(bundles.iter().zip(writes)) {
        let first = range.start as u128;
        let of_bundle = (first..).zip(&bundle.writes()[range.clone()]);
        entries.extend(of_bundle.map(|(at, write)| u128::from(write.head) << 64 | number << 32 | at));
    }
    // Stable sorting merges what is sorted already.
    entries.sort();
    keep_newest(&mut entries, 64, |a, b| {
        let ((bundle, write), (of_other, other)) = (of(bundles, a), of(bundles, b));
        bundle.compare_tails(write, of_other, other)
    });
    entries
}

/// The write that an entry of [`newest`] stands for.
fn of(bundles: &[Bundle], entry: u128) -> (&Bundle, &Write) {
    let bundle = &bundles[low_half(entry >> 32)];
    (bundle, &bundle.writes()[low_half(entry)])
}

/// Keys and values of `entries`. They lie anywhere in the memory of the bundles, so those of a block are fetched at once:
/// a core waits for many lines of memory in the time of one, if nothing else is between.
fn in_order<'a>(
    bundles: &'a [Bundle],
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
    /// About the bytes that it takes in a leaf.
    fn record_len(&self) -> usize {
        let (key, value) = self.lens();
        key + if value > MOST_IN_PLACE { 0 } else { value }
    }
}
