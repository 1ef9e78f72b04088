//! The formulas of `benches/SCALE.md`. Each constant is one of the code, which the page names with its place.

/// `format/frame.rs`: the header of a frame. A batch has a byte of its own (`format/batch.rs`).
const FRAME: f64 = 32.0;
/// `format/table/data.rs`: a block ends before it would be longer, and has a restart for so many entries.
const BLOCK: f64 = 4096.0;
const RESTART: f64 = 16.0;
/// `format/table/block.rs`.
const BLOCK_HEADER: f64 = 16.0;
/// `format/table/partition.rs`: data blocks of a partition.
const BLOCKS: f64 = 64.0;
/// `format/table/filter.rs`: bits for a key in the lowest layer, and above it.
const IN_LOWEST: f64 = 10.0;
const ABOVE: f64 = 16.0;
const PROBES: f64 = 6.0;
/// The id of the keyspace, in front of each key (`format/table/mod.rs`).
const ID: f64 = 4.0;
/// `table/pick.rs`: so many layers of a class become one; below 4 MiB all are of one class.
const TIER: usize = 4;
const SMALLEST: f64 = (1 << 20) as f64;
/// `engine/install.rs`: how long a run is.
const RUNS: f64 = 128.0;
const LONGEST_RUN: f64 = (128 << 20) as f64;
/// `format/table/manifest.rs`: the header, and what is fixed of a run.
const MANIFEST: f64 = 256.0;
const NAMED: f64 = 68.0;
/// `engine/merging.rs`: a step writes so many times the length of a MANIFEST that is longer than 64 KiB.
const PER_MANIFEST: f64 = 64.0;
const SHORT: f64 = (64 << 10) as f64;
/// `index/map/`: a leaf, its room for records, its entries, the header of a record.
const LEAF: f64 = 16_064.0;
const ROOM: f64 = (14 << 10) as f64;
const FAN_OUT: f64 = 128.0;
const RECORD: f64 = 24.0;
/// `index/version.rs`: longer values lie outside of the leaf.
const MOST_IN_PLACE: f64 = 1024.0;
/// `index/fill.rs`: a fill, which becomes a leaf.
const FILL: (f64, f64) = (112.0, (9 << 10) as f64);

/// What is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) keys: f64,
    pub(crate) key: f64,
    pub(crate) value: f64,
    /// Puts of a commit.
    pub(crate) batch: f64,
    /// `checkpoint_bytes`.
    pub(crate) checkpoint: f64,
}

fn varint(number: f64) -> f64 {
    (number.max(1.0).log2().floor() / 7.0).floor() + 1.0
}

impl Data {
    /// Bytes of keys and values.
    pub(crate) fn bytes(self) -> f64 {
        self.keys * (self.key + self.value)
    }

    /// Bytes of a put in a batch: tag, id, lengths, key, value.
    fn put(self) -> f64 {
        2.0 + varint(self.key) + self.key + varint(self.value) + self.value
    }

    /// Bytes of log for a put. The medium gets each of them twice, once as fill.
    pub(crate) fn log(self) -> f64 {
        (FRAME + ((1.0 + self.batch * self.put()) / 8.0).ceil() * 8.0) / self.batch
    }

    /// Puts that a checkpoint takes in: by payload, or one for each 160 bytes (`txn/due.rs`).
    pub(crate) fn puts_of_a_checkpoint(self) -> f64 {
        (self.checkpoint / (self.put() + 1.0 / self.batch)).min(self.checkpoint / 160.0)
    }

    /// Bytes of a run for an entry of a layer with so many, whose keys are random, in a database whose layers span `span`
    /// bytes of log.
    pub(crate) fn entry(self, entries: f64, span: f64) -> f64 {
        // Neighbours among n random keys share the id and about log2(n) bits.
        let shared = (ID + (entries.max(2.0).log2() / 8.0).floor()).min(ID + self.key);
        // Half of the span is the usual age.
        let head = varint(shared) + varint(self.key) + varint(span / 16.0) + 1.0 + varint(self.value);
        let plain = head + ID + self.key - shared + self.value;
        let in_block = ((BLOCK - BLOCK_HEADER) / plain).floor().max(1.0);
        // Of a partition: separator, length, CRC and the block's part of its header.
        let separator = 2.0 + ID + self.key - shared + 2.0 + 4.0 + (BLOCK_HEADER + 16.0) / BLOCKS;
        let restart = ((in_block / RESTART).ceil() * 4.0) / in_block;
        // Padding to eight bytes is half of that on average.
        plain + restart + (BLOCK_HEADER + 4.0 + separator) / in_block + IN_LOWEST / 8.0
    }

    /// Bytes of partitions for a key: the filter, and what says where blocks are. Half of the keys stand once more in the layers
    /// above the lowest one, at most.
    pub(crate) fn partition(self) -> f64 {
        let in_block = (BLOCK / (self.key + self.value + 12.0)).max(1.0);
        let blocks = (self.key + 12.0) / in_block;
        IN_LOWEST / 8.0 + blocks + (ABOVE / 8.0 + blocks) / 2.0
    }

    /// Bytes of layers in which each key is once.
    pub(crate) fn layers(self) -> f64 {
        self.keys * self.entry(self.keys, self.keys * self.log())
    }

    pub(crate) fn run(self) -> f64 {
        (self.checkpoint / 2.0).max(self.layers() / RUNS).min(LONGEST_RUN)
    }

    pub(crate) fn runs(self) -> f64 {
        (self.layers() / self.run()).ceil()
    }

    /// Bytes of MANIFEST: two bounds a run, of which the id is shared.
    pub(crate) fn manifest(self) -> f64 {
        MANIFEST + self.runs() * (NAMED + 4.0 + 2.0 * self.key)
    }

    /// Bytes that a step of a merge writes, at least.
    pub(crate) fn step(self) -> f64 {
        if self.manifest() > SHORT { self.run().max(PER_MANIFEST * self.manifest()) } else { self.run() }
    }

    /// Bytes of memory for a key: in leaves that were filled in any order, and in those that a fill has made.
    pub(crate) fn memory(self) -> (f64, f64) {
        let (inside, outside) = if self.value <= MOST_IN_PLACE { (self.value, 0.0) } else { (0.0, self.value) };
        let most = (ROOM / (RECORD + self.key + inside)).floor().min(FAN_OUT);
        // Leaves that split in the middle are full by ln 2 on average.
        let filled = FILL.0.min((FILL.1 / (self.key + self.value)).floor().max(1.0)).min(most);
        (LEAF / (most * std::f64::consts::LN_2).max(1.0) + outside, LEAF / filled + outside)
    }

    /// The part of the filters that say "maybe" for a key that is not there, were the bits of a key anywhere in the filter, for
    /// the lowest layer and for one above. In lines it is more.
    pub(crate) fn false_positives() -> [f64; 2] {
        [IN_LOWEST, ABOVE].map(|bits| (1.0 - (-PROBES / bits).exp()).powf(PROBES))
    }
}

/// What merging comes to, step by step of `table/pick.rs`, as if each merge took no time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merging {
    /// Bytes that merges write for each that checkpoints do.
    pub(crate) written: f64,
    pub(crate) mean_layers: f64,
    pub(crate) most_layers: f64,
    /// Bytes of layers, at most, for each of the last one once there are all keys.
    pub(crate) space: f64,
}

/// How writes meet keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writes {
    /// Each is of a new key, until there are all.
    New,
    /// Each is of any of the keys, all of which are there.
    Any,
}

/// `of` checkpoints, each with `part` of the keys.
pub(crate) fn merging(of: usize, part: f64, bytes: f64, writes: Writes) -> Merging {
    // Layers by how much of all keys was written into them, the newest first.
    let mut layers: Vec<f64> = if writes == Writes::Any { vec![f64::INFINITY] } else { Vec::new() };
    let distinct = |written: f64| match writes {
        Writes::New => written,
        Writes::Any => 1.0 - (-written).exp(),
    };
    let class = |written: f64| (distinct(written) * bytes / SMALLEST).max(1.0).log2() as u32 / 2;
    let (mut result, mut merged) = (Merging::default(), 0.0);
    for _ in 0..of {
        layers.insert(0, part);
        loop {
            let last = layers.len() - 1;
            let mut highest = 0;
            let classes: Vec<u32> = layers[..last]
                .iter()
                .map(|written| {
                    highest = class(*written).max(highest);
                    highest
                })
                .collect();
            let mut end = 0;
            let tier = classes.chunk_by(|a, b| a == b).find_map(|same| {
                end += same.len();
                (same.len() >= TIER).then_some(end)
            });
            let upper: f64 = layers[..last].iter().map(|written| distinct(*written)).sum();
            let count = match tier {
                Some(count) => count,
                None if last > 0 && upper >= distinct(layers[last]) / 2.0 => layers.len(),
                None => break,
            };
            let written: f64 = layers.drain(..count).sum();
            layers.insert(0, written);
            merged += distinct(written);
        }
        result.mean_layers += layers.len() as f64 / of as f64;
        result.most_layers = result.most_layers.max(layers.len() as f64);
        let all: f64 = layers.iter().map(|written| distinct(*written)).sum();
        result.space = result.space.max(all / distinct(*layers.last().expect("one was added")));
    }
    Merging { written: merged / (of as f64 * distinct(part)), ..result }
}
