//! What the model has: the log, the memory of one keyspace with two keys, the layers, and the jobs in progress.

/// A commit's position in the log, from 1 on. It is also the value that the commit puts.
pub(crate) type Lsn = u8;

/// Above every LSN.
pub(crate) const NEWEST: Lsn = Lsn::MAX;

pub(crate) const KEYS: usize = 2;

/// A set of keys, one bit a key. A range deletion names one, and a leaf holds one.
pub(crate) type Keys = u8;

pub(crate) const ALL: Keys = 0b11;

/// At most this number of held snapshots are told apart by a horizon. (64 in the engine.)
pub(crate) const MAX_HELD: usize = 1;

pub(crate) const fn one(key: usize) -> Keys {
    1 << key
}

pub(crate) fn has(keys: Keys, key: usize) -> bool {
    keys & one(key) != 0
}

pub(crate) fn each(keys: Keys) -> impl Iterator<Item = usize> {
    (0..KEYS).filter(move |&key| has(keys, key))
}

/// A batch, as its commit wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Commit {
    Put(usize),
    Delete(usize),
    PutThenDelete(usize),
    DeleteRange(Keys),
    /// A range deletion, then a put of a key in the range: the put stays.
    DeleteRangeThenPut(Keys, usize),
    /// A put, then a range deletion that covers it.
    PutThenDeleteRange(usize, Keys),
    /// Was not durable when the machine crashed. Its LSN is never given to another commit.
    Lost,
}

impl Commit {
    /// Batches that do less.
    pub(crate) fn simpler(self) -> Vec<Commit> {
        match self {
            Commit::DeleteRangeThenPut(keys, key) => vec![Commit::Put(key), Commit::DeleteRange(keys)],
            Commit::PutThenDeleteRange(key, keys) => vec![Commit::Delete(key), Commit::DeleteRange(keys)],
            Commit::PutThenDelete(key) => vec![Commit::Delete(key), Commit::Put(key)],
            Commit::DeleteRange(ALL) => (0..KEYS).map(|key| Commit::DeleteRange(one(key))).collect(),
            Commit::DeleteRange(keys) => each(keys).map(Commit::Delete).collect(),
            Commit::Put(_) | Commit::Delete(_) | Commit::Lost => Vec::new(),
        }
    }
}

/// One operation of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Write { key: usize, deleted: bool },
    DeleteRange(Keys),
}

/// A version of a key: its value, or the tombstone of a deletion.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Version {
    pub(crate) lsn: Lsn,
    pub(crate) deleted: bool,
}

impl Version {
    pub(crate) fn value(self) -> Option<Lsn> {
        (!self.deleted).then_some(self.lsn)
    }
}

/// A version that a newer one has superseded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Superseded {
    pub(crate) version: Version,
    /// The LSN that superseded it.
    pub(crate) by: Lsn,
    /// Whether a reader finds it from the key's record. It does not, once that record has left memory.
    pub(crate) linked: bool,
}

/// What memory has of one key.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Record {
    /// In the leaf.
    pub(crate) newest: Option<Version>,
    pub(crate) undo: Vec<Superseded>,
    /// For held snapshots, found by key and LSN.
    pub(crate) kept: Vec<Superseded>,
    /// The LSNs of buried deletions, in `kept` as well: nothing to read, but validation of older snapshots finds them.
    pub(crate) notes: Vec<Lsn>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leaf {
    /// For a reader from here on, a key without a version is absent; for nobody, if there is no such LSN.
    pub(crate) complete_from: Option<Lsn>,
    /// The newest LSN of a deletion that the leaf answers for without a trace of it.
    pub(crate) buried: Lsn,
    /// The newest LSN that left memory here.
    pub(crate) forgot: Lsn,
}

/// An entry of the list of range deletions beside the map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RangeTombstone {
    pub(crate) keys: Keys,
    pub(crate) lsn: Lsn,
    /// The keys whose leaves answer for the deletion without this entry.
    pub(crate) buried: Keys,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Memory {
    /// Everything up to here is applied to the leaves and the list.
    pub(crate) applied: Lsn,
    /// Everything up to here is published as well: readers may begin here.
    pub(crate) visible: Lsn,
    pub(crate) records: [Record; KEYS],
    /// One leaf for both keys: `leaves[0]`. Otherwise a leaf for each.
    pub(crate) joined: bool,
    pub(crate) leaves: [Leaf; KEYS],
    pub(crate) ranges: Vec<RangeTombstone>,
    /// The registry: the LSNs of snapshots in use, and the floor below which no new one begins.
    pub(crate) held: Vec<Lsn>,
    pub(crate) floor: Lsn,
}

impl Memory {
    pub(crate) fn leaf_of(&self, key: usize) -> usize {
        if self.joined { 0 } else { key }
    }

    pub(crate) fn leaf_keys(&self, leaf: usize) -> Keys {
        if self.joined { ALL } else { one(leaf) }
    }

    pub(crate) fn leaf_count(&self) -> usize {
        if self.joined { 1 } else { KEYS }
    }

    /// Whether a held snapshot reads a version written at `from` and superseded at `until`.
    pub(crate) fn is_held(&self, from: Lsn, until: Lsn) -> bool {
        self.held.iter().any(|&at| from <= at && at < until)
    }
}

/// Which superseded versions readers may still ask for, as the registry said at one moment.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Horizon {
    pub(crate) floor: Lsn,
    pub(crate) held: Vec<Lsn>,
}

impl Horizon {
    /// Whether one of the held snapshots that are told apart reads a version written at `from` and superseded at `until`.
    pub(crate) fn has(&self, from: Lsn, until: Lsn) -> bool {
        self.held.iter().any(|&at| from <= at && at < until)
    }
}

/// A sorted run: versions by key, newest first, and range deletions.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Layer {
    pub(crate) versions: [Vec<Version>; KEYS],
    pub(crate) ranges: Vec<(Keys, Lsn)>,
}

/// The installed stack: layers, newest first, which hold the effect of the log up to `to`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stack {
    pub(crate) layers: Vec<Layer>,
    pub(crate) to: Lsn,
}

/// A checkpoint that has begun and is not installed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) to: Lsn,
    pub(crate) horizon: Horizon,
    /// Whether a durable MANIFEST names its layer.
    pub(crate) named: bool,
}

/// A checkpoint from memory, leaf by leaf.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Heal {
    pub(crate) to: Lsn,
    /// The held LSNs above the stack's `to` and below its own.
    pub(crate) held: Vec<Lsn>,
    pub(crate) horizon: Horizon,
    /// Whether it holds its end itself. Otherwise a snapshot does, which stays as long.
    pub(crate) owns: bool,
    /// The keys that the layer has.
    pub(crate) done: Keys,
    pub(crate) layer: Layer,
}

/// A merge of `count` layers, the lowest of which has `below` layers under it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Merge {
    pub(crate) horizon: Horizon,
    pub(crate) below: usize,
    pub(crate) count: usize,
    /// The keys whose entries are in the first layer of the job, which is its output. None: there is no output yet.
    pub(crate) done: Keys,
}

/// A read of a key that memory did not answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Read {
    pub(crate) key: usize,
    pub(crate) at: Lsn,
    /// The newest range tombstone that the reader saw in the list.
    pub(crate) range: Option<Lsn>,
    /// Only without "memory first": the stack that it took before it looked there.
    pub(crate) stack: Option<Stack>,
}

/// What a background thread read from a stack to put it into leaves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Fill {
    pub(crate) keys: Keys,
    pub(crate) to: Lsn,
    pub(crate) found: [Option<Version>; KEYS],
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// The commit with LSN n is the n-th.
    pub(crate) log: Vec<Commit>,
    pub(crate) durable: Lsn,
    /// The log up to here is gone: its segments were removed.
    pub(crate) removed: Lsn,
    pub(crate) crashes: u8,
    pub(crate) memory: Memory,
    pub(crate) stack: Stack,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) heal: Option<Heal>,
    pub(crate) merge: Option<Merge>,
    pub(crate) read: Option<Read>,
    pub(crate) fill: Option<Fill>,
}

impl State {
    /// A new database: nothing was written, so its leaf is complete.
    pub(crate) fn new() -> State {
        let leaf = Leaf { complete_from: Some(0), ..Leaf::default() };
        let memory = Memory {
            applied: 0,
            visible: 0,
            records: Default::default(),
            joined: true,
            leaves: [leaf; KEYS],
            ranges: Vec::new(),
            held: Vec::new(),
            floor: 0,
        };
        State {
            log: Vec::new(),
            durable: 0,
            removed: 0,
            crashes: 0,
            memory,
            stack: Stack::default(),
            checkpoint: None,
            heal: None,
            merge: None,
            read: None,
            fill: None,
        }
    }

    pub(crate) fn end(&self) -> Lsn {
        Lsn::try_from(self.log.len()).expect("a short history")
    }
}
