//! The map against a `BTreeMap`. The nodes are small, so that a few hundred keys make a high tree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::map::{BTree, Builder, Known};
use super::super::version::{Content, MOST_IN_PLACE, Seq, Version};
use super::*;

type Small = BTree<4>;

/// The content of the version of a tag, by turns: none, a value of any small size, or a shared value.
fn bytes(tag: u64) -> Option<Vec<u8>> {
    let length = [3, 100, 0, 3, 40, 200, MOST_IN_PLACE, MOST_IN_PLACE + 1, 5000][usize::try_from(tag % 9).unwrap()];
    (tag % 11 != 5).then(|| tag.to_le_bytes().into_iter().cycle().take(length).collect())
}

/// Hands `with` a version that no other tag has.
pub(super) fn with_version<R>(tag: u64, with: impl FnOnce(Version<'_>) -> R) -> R {
    let bytes = bytes(tag);
    let shared = bytes.as_deref().filter(|bytes| bytes.len() > MOST_IN_PLACE).map(Value::from);
    let content = match (&shared, &bytes) {
        (Some(value), _) => Content::Shared(value),
        (None, Some(bytes)) => Content::InPlace(bytes),
        (None, None) => Content::Deleted,
    };
    with(Version { lsn: Lsn::new(tag), older: Seq(tag * 3), content })
}

/// Puts as the index does. Returns the former version.
fn put<const N: usize>(map: &mut BTree<N>, key: &[u8], tag: u64) -> Option<u64> {
    let place = map.find(key);
    if !place.is_taken {
        with_version(tag, |version| map.fill(place, key, version));
        return None;
    }
    let before = tag_of(&map.version(place));
    with_version(tag, |version| map.set(place, version));
    Some(before)
}

/// The tag of a version, whose content must be complete.
pub(super) fn tag_of(version: &Version<'_>) -> u64 {
    let tag = version.lsn.get();
    assert_eq!(version.older, Seq(tag * 3));
    assert_eq!(version.content.value().as_deref(), bytes(tag).as_deref());
    tag
}

/// Keys that are hard to tell apart by a prefix and eight bytes.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![3 => Just(0_u8), 2 => Just(0xff), 2 => Just(b'a'), 1 => any::<u8>()];
    let length = prop_oneof![Just(0), Just(7), Just(8), Just(9), Just(22), Just(23), Just(300), 0..12_usize];
    let fill = prop_oneof![Just(0_u8), Just(0xff), Just(b'a')];
    let shared =
        prop_oneof![4 => Just(0_usize), 3 => Just(6), 2 => Just(30), 2 => Just(119), 1 => Just(121), 1 => Just(140)];
    prop_oneof![
        // Each is a prefix of the next.
        2 => (length, fill).prop_map(|(length, fill)| vec![fill; length]),
        3 => proptest::collection::vec(byte(), 0..4),
        5 => (shared, proptest::collection::vec(byte(), 0..11)).prop_map(|(shared, tail)| {
            let mut key = vec![b'k'; shared];
            key.extend(tail);
            key
        }),
        3 => (0..400_u64).prop_map(|number| [b"kkkkkkkk".as_slice(), &number.to_be_bytes()].concat()),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![1 => Just(Bound::Unbounded), 2 => key().prop_map(Bound::Included), 2 => key().prop_map(Bound::Excluded)]
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    /// Neighbours, rising or falling.
    PutRun {
        first: u64,
        count: u64,
        falls: bool,
    },
    Remove(Vec<u8>),
    /// Removes this number of keys, from the one at this fraction of all on.
    RemoveRun {
        part: usize,
        count: usize,
    },
    Get(Vec<u8>),
    Range {
        low: Bound<Vec<u8>>,
        high: Bound<Vec<u8>>,
        turns: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => key().prop_map(Step::Put),
        2 => (0..400_u64, 1..60_u64, any::<bool>()).prop_map(|(first, count, falls)| Step::PutRun { first, count, falls }),
        3 => key().prop_map(Step::Remove),
        2 => (any::<usize>(), 1..50_usize).prop_map(|(part, count)| Step::RemoveRun { part, count }),
        3 => key().prop_map(Step::Get),
        4 => (bound(), bound(), any::<u64>()).prop_map(|(low, high, turns)| Step::Range { low, high, turns }),
    ]
}

#[derive(Default)]
struct Pair<const N: usize> {
    map: BTree<N>,
    model: BTreeMap<Vec<u8>, u64>,
    tag: u64,
}

impl<const N: usize> Pair<N> {
    fn run(&mut self, step: Step) {
        match step {
            Step::Put(key) => self.put(key),
            Step::PutRun { first, count, falls } => {
                for number in 0..count {
                    let number = if falls { first + count - number } else { first + number };
                    self.put([b"kkkkkkkk".as_slice(), &number.to_be_bytes()].concat());
                }
            }
            Step::Remove(key) => self.remove(&key),
            Step::RemoveRun { part, count } => {
                let skipped = part % (self.model.len() + 1);
                let keys: Vec<_> = self.model.keys().skip(skipped).take(count).cloned().collect();
                for key in keys {
                    self.remove(&key);
                }
            }
            Step::Get(key) => self.get(&key),
            Step::Range { low, high, turns } => self.range(&low, &high, turns),
        }
        self.map.check();
    }

    fn put(&mut self, key: Vec<u8>) {
        self.tag += 1;
        assert_eq!(put(&mut self.map, &key, self.tag), self.model.insert(key, self.tag));
    }

    fn remove(&mut self, key: &[u8]) {
        assert_eq!(self.map.remove(key), self.model.remove(key).is_some());
    }

    fn get(&self, key: &[u8]) {
        assert_eq!(self.map.get(key).0.map(|version| tag_of(&version)), self.model.get(key).copied());
    }

    /// Takes from the two ends in the order of the bits of `turns`.
    fn range(&self, low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>, turns: u64) {
        let range = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
        let expected: Vec<_> =
            self.model.iter().filter(|(key, _)| RangeBounds::<[u8]>::contains(&range, key.as_slice())).collect();
        let mut expected = expected.into_iter();
        let mut found = self.map.range(range);
        for turn in 0.. {
            let forward = turns >> (turn % 64) & 1 == 0;
            let (found, expected) =
                if forward { (found.next(), expected.next()) } else { (found.next_back(), expected.next_back()) };
            let Some((key, tag)) = expected else {
                assert!(found.is_none());
                break;
            };
            assert_eq!(found.map(|(key, version)| (key, tag_of(&version))), Some((&key[..], *tag)));
        }
        assert!(found.next().is_none() && found.next_back().is_none());
    }

    /// Every key is found, and so are the ranges that begin or end at it.
    fn check_all(&self) {
        for turns in [0, u64::MAX, 0x5555_5555_5555_5555] {
            self.range(&Bound::Unbounded, &Bound::Unbounded, turns);
        }
        for key in self.model.keys() {
            self.get(key);
            for other in [[key, &b"\0"[..]].concat(), key[..key.len().saturating_sub(1)].to_vec()] {
                self.get(&other);
            }
            let next = |low: Bound<&[u8]>| self.map.range((low, Bound::Unbounded)).next().map(|(key, _)| key.to_vec());
            let last =
                |high: Bound<&[u8]>| self.map.range((Bound::Unbounded, high)).next_back().map(|(key, _)| key.to_vec());
            let above = self.model.range::<[u8], _>((Bound::Excluded(&key[..]), Bound::Unbounded)).next();
            let below = self.model.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&key[..]))).next_back();
            assert_eq!(next(Bound::Included(key)).as_ref(), Some(key));
            assert_eq!(last(Bound::Included(key)).as_ref(), Some(key));
            assert_eq!(next(Bound::Excluded(key)), above.map(|(key, _)| key.clone()));
            assert_eq!(last(Bound::Excluded(key)), below.map(|(key, _)| key.clone()));
        }
    }
}

fn run<const N: usize>(steps: Vec<Step>) -> usize {
    let mut pair = Pair::<N>::default();
    let mut height = 0;
    for step in steps {
        pair.run(step);
        height = height.max(pair.map.shape().height);
    }
    pair.check_all();
    while let Some(key) = pair.model.keys().nth(pair.model.len() / 2).cloned() {
        pair.remove(&key);
        pair.map.check();
    }
    assert_eq!((pair.map.shape().height, pair.map.shape().nodes), (1, 1));
    height
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), ..ProptestConfig::default() })]

    #[test]
    fn the_map_is_a_sorted_map(steps in proptest::collection::vec(step(), 1..250)) {
        run::<4>(steps.clone());
        run::<8>(steps.clone());
        run::<19>(steps);
    }
}

/// A small generator with the same output in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn a_high_tree_grows_and_shrinks() {
    let mut pair = Pair::<4>::default();
    let mut state = 1;
    for _ in 0..3000 {
        pair.put((random(&mut state) % 5000).to_be_bytes().to_vec());
    }
    pair.map.check();
    pair.check_all();
    assert!(pair.map.shape().height >= 5, "{:?}", pair.map.shape());
    let mut keys: Vec<_> = pair.model.keys().cloned().collect();
    while !keys.is_empty() {
        let key = keys.swap_remove(usize::try_from(random(&mut state)).unwrap() % keys.len());
        pair.remove(&key);
        if keys.len() % 100 == 0 {
            pair.map.check();
            pair.check_all();
        }
    }
    assert_eq!(pair.map.shape().nodes, 1);
}

#[test]
fn nodes_as_wide_as_in_use_split_and_merge() {
    for prefix in [&b""[..], b"a prefix that all of the keys have, longer than a key in place"] {
        let mut pair = Pair::<128>::default();
        let mut state = 2;
        let key = |number: u64| [prefix, &number.to_be_bytes()[..]].concat();
        for _ in 0..40_000 {
            pair.put(key(random(&mut state) % 60_000));
        }
        pair.map.check();
        pair.check_all();
        assert_eq!(pair.map.shape().height, 3);
        let keys: Vec<_> = pair.model.keys().cloned().collect();
        for key in keys.iter().filter(|key| key[key.len() - 1] & 15 != 0) {
            pair.remove(key);
        }
        pair.map.check();
        pair.check_all();
        let shape = pair.map.shape();
        assert!(shape.nodes < pair.model.len() / 20, "{shape:?} for {}", pair.model.len());
    }
}

#[test]
fn keys_that_come_in_order_fill_nodes() {
    let mut map = BTree::<128>::default();
    for number in 0..10_000_u64 {
        // Values of three bytes, all of them.
        put(&mut map, &number.to_be_bytes(), number * 99);
    }
    map.check();
    assert!(map.shape().nodes <= 10_000_usize.div_ceil(128) + 2, "{:?}", map.shape());
}

/// Builds a map of the entries of `model`, in `pieces` pieces.
fn built<const N: usize>(model: &BTreeMap<Vec<u8>, u64>, pieces: usize) -> BTree<N> {
    let entries: Vec<_> = model.iter().collect();
    let build = |piece: &[(&Vec<u8>, &u64)]| {
        let mut builder = Builder::<N>::new(piece.len(), 0);
        for (key, tag) in piece {
            with_version(**tag, |version| builder.push(key, version));
        }
        builder.finish()
    };
    BTree::of(entries.chunks(entries.len().div_ceil(pieces).max(1)).map(build), Known::COMPLETE)
}

fn build_and_go_on<const N: usize>(count: u64, pieces: usize) {
    let mut state = count;
    let key = |number: u64| [b"kkkkkkkk".as_slice(), &number.to_be_bytes()].concat();
    let model: BTreeMap<_, _> = (1..=count).map(|tag| (key(tag * 7), tag)).collect();
    let mut pair = Pair { map: built::<N>(&model, pieces), model, tag: count };
    pair.map.check();
    pair.check_all();
    for _ in 0..500 {
        pair.put(key(random(&mut state) % (count * 7 + 10)));
        pair.remove(&key(random(&mut state) % (count + 1) * 7));
    }
    pair.map.check();
    pair.check_all();
    // A map of leaves that inserts have filled, taken apart, has all entries.
    let leaves = std::mem::take(&mut pair.map).into_shared_leaves();
    let all = leaves.iter().flat_map(|leaf| leaf.entries((Bound::Unbounded, Bound::Unbounded)));
    assert!(all.map(|(key, version)| (key.to_vec(), tag_of(&version))).eq(pair.model));
}

#[test]
fn a_map_that_was_built_is_a_sorted_map() {
    for (count, pieces) in [(0, 1), (1, 1), (5, 1), (5, 5), (29, 2), (300, 7), (3000, 3)] {
        build_and_go_on::<4>(count, pieces);
        build_and_go_on::<8>(count, pieces);
        build_and_go_on::<128>(count, pieces);
    }
}

#[test]
fn a_map_that_was_built_has_full_leaves() {
    let model = (0..10_000_u64).map(|number| (number.to_be_bytes().to_vec(), number * 99)).collect();
    let map = built::<128>(&model, 1);
    map.check();
    assert!(map.shape().nodes <= 10_000_usize.div_ceil(112) + 2, "{:?}", map.shape());
    assert_eq!(map.leaf_count(), 10_000_usize.div_ceil(112));
}

#[test]
fn a_moving_window_of_keys_leaves_no_nodes_behind() {
    for falls in [false, true] {
        let mut map = Small::default();
        let key = |number: u64| if falls { u64::MAX - number } else { number }.to_be_bytes();
        for number in 0..20_000 {
            put(&mut map, &key(number), number);
            if let Some(old) = number.checked_sub(100) {
                map.remove(&key(old));
            }
            if number % 1000 == 0 {
                map.check();
            }
        }
        let shape = map.shape();
        assert!(shape.nodes < 150 && shape.height < 9, "{shape:?}");
    }
}

#[test]
fn a_map_that_nobody_reads_goes_leaf_by_leaf() {
    let mut map = Small::default();
    for number in 0..5000_u64 {
        put(&mut map, &(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes(), number);
    }
    let leaves = map.leaf_count();
    assert!(leaves > 1250);
    let steps = 1 + (0..).take_while(|_| map.free_leaf()).count();
    assert_eq!(steps, leaves - 1);
    assert_eq!(map.leaf_count(), 1);
    assert!(!map.free_leaf());
}

#[test]
fn the_longest_keys_differ_in_their_last_byte() {
    let mut pair = Pair::<4>::default();
    for last in (0..=255_u8).rev().step_by(3) {
        let mut key = vec![b'x'; usize::from(u16::MAX)];
        key[usize::from(u16::MAX) - 1] = last;
        pair.put(key);
    }
    pair.put(vec![b'x'; usize::from(u16::MAX) - 1]);
    pair.put(Vec::new());
    pair.map.check();
    pair.check_all();
}

#[derive(Clone, Debug)]
enum Stay {
    Put(u16),
    Bury(u16),
    /// Forgets this number of ranges from a key on, up to an LSN.
    Forget(u16, usize, u64),
    /// Makes the keys from one to another complete.
    Complete(u16, u16),
    Tidy(usize),
}

fn stay() -> impl Strategy<Value = Stay> {
    const KEYS: u16 = 600;
    prop_oneof![
        20 => (0..KEYS).prop_map(Stay::Put),
        3 => (0..KEYS).prop_map(Stay::Bury),
        4 => (0..KEYS, 1..200_usize, 0..2000_u64).prop_map(|(key, count, to)| Stay::Forget(key, count, to)),
        2 => (0..KEYS, 0..KEYS).prop_map(|(low, high)| Stay::Complete(low, high)),
        2 => (1..40_usize).prop_map(Stay::Tidy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]

    /// What is in the map is what was put and neither buried nor forgotten, whatever was joined, cut and moved.
    #[test]
    fn ranges_that_come_and_go_leave_the_map_in_order(steps in proptest::collection::vec(stay(), 0..1500)) {
        let mut map = BTree::<4>::bare(Known::AWAY);
        let mut model: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for (lsn, step) in (1..).zip(steps) {
            match step {
                Stay::Put(key) => {
                    put(&mut map, &key.to_be_bytes(), lsn);
                    model.insert(key.to_be_bytes().to_vec(), lsn);
                }
                Stay::Bury(key) => {
                    let key = key.to_be_bytes();
                    if let Some(of) = model.get(key.as_slice()).copied()
                        && map.bury(&key, Lsn::new(of), Lsn::new(lsn))
                    {
                        model.remove(key.as_slice());
                    }
                }
                Stay::Forget(key, count, to) => {
                    let mut gone = Vec::new();
                    map.forget(&key.to_be_bytes(), count, Lsn::new(to), |_, version| gone.push(version.lsn.get()));
                    assert!(gone.iter().all(|lsn| *lsn <= to));
                    model.retain(|_, lsn| !gone.contains(lsn));
                }
                Stay::Complete(low, high) if low < high => {
                    let (low, high) = (low.to_be_bytes(), high.to_be_bytes());
                    map.cut_out((&low, Some(&high)));
                    map.complete((&low, Some(&high)), Lsn::new(lsn), Lsn::new(lsn / 2));
                }
                Stay::Complete(..) => {}
                Stay::Tidy(budget) => drop(map.tidy(budget)),
            }
            map.check();
        }
        let found = map.range(ALL).map(|(key, version)| (key.to_vec(), version.lsn.get()));
        assert!(found.eq(model));
    }
}

/// A pool with several chunks: leaves come and go until chunks are mostly free, and move.
#[test]
fn a_large_map_forgets_and_gives_back_memory() {
    let mut map = BTree::<4>::default();
    let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    for round in 1..=4_u64 {
        for number in 1..=10_000 {
            put(&mut map, &key(round * 10_000 + number), round * 10_000 + number);
        }
        map.check();
        let full = map.leaf_count();
        let mut low = Some(Key::from(&[]));
        while let Some(from) = low {
            low = map.forget(&from, 4, Lsn::new(round * 10_000 + 9000), |_, _| ());
        }
        while map.tidy(8) == 8 {}
        map.check();
        assert!(map.leaf_count() < full / 2, "{} of {full}", map.leaf_count());
        assert_eq!(map.range(ALL).count(), 1000);
    }
}
