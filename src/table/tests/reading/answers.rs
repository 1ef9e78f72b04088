//! Random histories: checkpoints, merges that stop half-way, versions that span blocks, range tombstones.

use super::*;

pub(super) const KEYSPACES: [u32; 4] = [0, 1, 5, u32::MAX - 1];

/// Keys that are prefixes of one another and of the bounds of keyspaces, and those at the ends of what a key may be.
fn a_key(draws: &mut Draws) -> Vec<u8> {
    let mut key: Vec<u8> = (0..draws.below(5)).map(|_| *draws.one(&[0, b'a', b'b', 0xFF])).collect();
    if draws.below(200) == 0 {
        key.resize(65_535, *draws.one(&[b'a', 0xFF]));
    }
    key
}

fn a_value(draws: &mut Draws) -> Value {
    let length = *draws.one(&[0, 1, 7, 40, 40, 40, 300, 300, 3000, 9000]);
    (draws.below(5) > 0).then(|| vec![u8::try_from(draws.below(256)).unwrap(); length])
}

pub(super) struct Plan {
    pub(super) ranges: bool,
    pub(super) keys: Vec<Vec<u8>>,
    /// Readers ask from the floor on, and at what is held below it.
    pub(super) horizon: Retain,
}

impl Plan {
    pub(super) fn new(ranges: bool, draws: &mut Draws) -> Self {
        let mut keys: Vec<_> = (0..100).map(|_| full(*draws.one(&KEYSPACES), &a_key(draws))).collect();
        keys.sort_unstable();
        keys.dedup();
        Plan { ranges, keys, horizon: Retain::default() }
    }

    /// The LSNs at which readers ask, up to a little above the end of the layers.
    pub(super) fn asked(&self, to: Lsn) -> Vec<Lsn> {
        let from_floor = (self.horizon.floor.get()..=to.get() + 16).step_by(8).map(Lsn::new);
        self.horizon.held.iter().copied().chain(from_floor).collect()
    }

    /// Snapshots end, but for a few, and no new one begins so low.
    pub(super) fn raise_floor(&mut self, to: Lsn, draws: &mut Draws) {
        let Retain { floor, held, .. } = &mut self.horizon;
        let before = *floor;
        *floor = Lsn::new(before.get() + (to.get() - before.get()) / 16 * 8);
        held.retain(|_| draws.below(3) > 0);
        let passed = (before.get()..floor.get()).step_by(8).map(Lsn::new);
        held.extend(passed.filter(|_| draws.below(8) == 0));
    }
}

pub(super) fn a_checkpoint(tables: &mut Tables, draws: &mut Draws, plan: &Plan) {
    let words = 4 + draws.below(30) as u64;
    let from = tables.model.to.get();
    let lsn = |draws: &mut Draws| Lsn::new(from + 8 * (1 + draws.below(usize::try_from(words).unwrap()) as u64));
    let mut versions = BTreeMap::new();
    for _ in 0..draws.below(120) {
        let key = draws.one(&plan.keys).clone();
        // Some have many versions.
        for _ in 0..if draws.below(30) == 0 { 40 } else { 1 } {
            versions.insert((key.clone(), lsn(draws)), a_value(draws));
        }
    }
    let versions = versions.into_iter().map(|((key, lsn), value)| (key, lsn, value)).collect();
    let mut ranges = Vec::new();
    for _ in 0..if plan.ranges { draws.below(4) } else { 0 } {
        let (a, b) = (draws.one(&plan.keys).clone(), draws.one(&plan.keys).clone());
        let (start, mut end) = (a.clone().min(b.clone()), a.max(b));
        if start[..4] != end[..4] {
            let id = u32::from_be_bytes(*start.first_chunk().unwrap());
            end = (id + 1).to_be_bytes().to_vec();
        }
        let lsn = lsn(draws);
        let says = match draws.below(4) {
            0 => Says::LostAbove(Lsn::new(
                from + 8 * draws.below(usize::try_from((lsn.get() - from) / 8).unwrap()) as u64,
            )),
            _ => Says::Deleted,
        };
        if start < end {
            ranges.push(RangeTombstone { start, end, lsn, says });
        }
    }
    let run_bytes = *draws.one(&[1, 5000, 20_000, u64::MAX]);
    tables.checkpoint(words, versions, ranges, run_bytes);
}

fn a_bound(draws: &mut Draws) -> Bound<Key> {
    let key = a_key(draws);
    match draws.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(Key::from(key.as_slice())),
        _ => Bound::Excluded(Key::from(key.as_slice())),
    }
}

fn check(tables: &Tables, draws: &mut Draws, plan: &Plan, count: usize) {
    let layers = tables.reading.installed();
    assert_eq!(layers.to(), tables.model.to);
    let asked = plan.asked(tables.model.to);
    for _ in 0..count {
        let at = *draws.one(&asked);
        let key = if draws.below(8) == 0 {
            full(*draws.one(&KEYSPACES), &a_key(draws))
        } else {
            draws.one(&plan.keys).clone()
        };
        tables.check_get(&layers, &key, at);
    }
    for _ in 0..count / 20 {
        let (id, at) = (*draws.one(&KEYSPACES), *draws.one(&asked));
        let direction = *draws.one(&[Direction::Forward, Direction::Backward]);
        tables.check_scan(&layers, id, (a_bound(draws), a_bound(draws)), direction, at);
    }
}

fn run(seed: u64, ranges: bool) {
    let mut draws = Draws::of(seed);
    let limits = Limits {
        open_runs: *draws.one(&[0, 1, 3, 256]),
        open_run_bytes: *draws.one(&[0, 3_000, 1 << 20]),
        partition_bytes: *draws.one(&[0, 20_000, 1 << 20]),
    };
    let mut tables = Tables::new(&memory_dir(), limits);
    let mut plan = Plan::new(ranges, &mut draws);
    a_checkpoint(&mut tables, &mut draws, &plan);
    for _ in 0..14 {
        match draws.below(3) {
            0 => a_checkpoint(&mut tables, &mut draws, &plan),
            _ => {
                // Without range tombstones, so that what merges leave out is tried as well: a merge keeps what was lost, and
                // nothing that it may have superseded.
                if !ranges && draws.below(3) == 0 {
                    plan.raise_floor(tables.model.to, &mut draws);
                }
                let sizes = Sizes { run: *draws.one(&[1, 6000]), part: *draws.one(&[1, 20_000, u64::MAX]) };
                tables.merge(&mut draws, &plan.horizon, sizes);
            }
        }
        check(&tables, &mut draws, &plan, 100);
    }
    check_all(&tables, &plan);
    assert!(tables.reading.open_runs() <= limits.open_runs);
    assert!(tables.reading.partition_bytes() <= limits.partition_bytes);
}

/// Each key at each LSN, and each keyspace in both directions.
fn check_all(tables: &Tables, plan: &Plan) {
    let layers = tables.reading.installed();
    for at in plan.asked(tables.model.to) {
        plan.keys.iter().for_each(|key| tables.check_get(&layers, key, at));
        for direction in [Direction::Forward, Direction::Backward] {
            KEYSPACES.iter().for_each(|id| tables.check_scan(&layers, *id, ALL, direction, at));
        }
    }
}

pub(super) fn seeds(count: u64) -> std::ops::Range<u64> {
    std::env::var("FORELOG_SEED").ok().and_then(|seed| seed.parse().ok()).map_or(0..count, |seed| seed..seed + 1)
}

#[test]
fn each_key_and_each_range_at_each_lsn() {
    for seed in seeds(30) {
        println!("FORELOG_SEED={seed}");
        run(seed, false);
    }
}

#[test]
fn the_same_with_range_tombstones_and_with_what_was_lost() {
    for seed in seeds(30) {
        println!("FORELOG_SEED={seed}");
        run(seed, true);
    }
}

/// A partition has 64 blocks: here the versions of one key take more than two, between keys that have few.
#[test]
fn the_versions_of_a_key_go_on_in_the_next_partition() {
    let mut tables = Tables::new(&memory_dir(), Limits::default());
    let mut versions = Vec::new();
    for number in 1..=200_u8 {
        let lsn = Lsn::new(8 * u64::from(number));
        versions.push((full(1, b"k"), lsn, (number % 9 != 0).then(|| vec![number; 3000])));
        if number % 50 == 0 {
            versions.extend([b"a", b"j", b"l", b"z"].map(|key| (full(1, key), lsn, Some(vec![number; 700]))));
        }
    }
    tables.checkpoint(200, versions, Vec::new(), u64::MAX);
    let layers = tables.reading.installed();
    for at in (0..=201).map(|number| Lsn::new(8 * number)) {
        for key in [&b"a"[..], b"j", b"k", b"l", b"k\0"] {
            tables.check_get(&layers, &full(1, key), at);
        }
        for direction in [Direction::Forward, Direction::Backward] {
            tables.check_scan(&layers, 1, ALL, direction, at);
            let from_k = (Bound::Included(Key::from(b"k")), Bound::Unbounded);
            tables.check_scan(&layers, 1, from_k, direction, at);
            let up_to_k = (Bound::Unbounded, Bound::Included(Key::from(b"k")));
            tables.check_scan(&layers, 1, up_to_k, direction, at);
        }
    }
}
