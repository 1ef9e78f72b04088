//! Reading the installed layers, against a model of all versions.

mod answers;
#[cfg(feature = "sim")]
mod beside;
mod bounds;
#[cfg(feature = "sim")]
mod faults;
mod round;
mod speed;

use std::collections::BTreeMap;
use std::ops::Bound;

use super::*;
use crate::base::error::ErrorKind;
use crate::disk::{read_exact_at, write_all_at};
use crate::format::table::data::{Found, Interval};
use crate::format::table::manifest::{NamedFile, Role};
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::write_full_key;
use crate::index::{Beyond, Direction, Key, Layers};
use crate::rt::sync::OnceLock;
use crate::table::fragments::fragment;
use crate::table::job::StepFailed;
use crate::table::layer::{Sizes, Stretch};
use crate::table::merge::{Gone, Merge, Retain};
use crate::table::reading::{Limits, Reading};
use crate::table::store::Chosen;

/// One draw after the other.
struct Draws(u64);

impl Draws {
    fn of(seed: u64) -> Self {
        Draws(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

type Value = Option<Vec<u8>>;

/// All that was written.
#[derive(Default)]
struct Model {
    to: Lsn,
    versions: BTreeMap<Vec<u8>, BTreeMap<Lsn, Value>>,
    ranges: Vec<RangeTombstone>,
}

/// Something may be lost that the reader asks for.
#[derive(PartialEq, Eq, Debug)]
struct Lost;

impl Model {
    /// The newest deletion of those over the piece from `start` to `end`, and whether something of it is lost that nothing newer
    /// than `newest` answers.
    fn over(&self, (start, end): (&[u8], &[u8]), newest: Option<Lsn>, at: Lsn) -> (Option<Lsn>, bool) {
        let over = || self.ranges.iter().filter(|one| one.start.as_slice() <= start && end <= one.end.as_slice());
        let deletions = over().filter(|one| one.says == Says::Deleted && one.lsn <= at);
        let deleted = deletions.map(|one| one.lsn).max();
        let is_lost = over().any(|one| match one.says {
            Says::LostAbove(above) if above < at => {
                let lost_to = one.lsn.min(at);
                newest.is_none_or(|newest| newest < lost_to) && deleted.is_none_or(|deleted| deleted <= lost_to)
            }
            _ => false,
        });
        (deleted, is_lost)
    }

    fn get(&self, full_key: &[u8], at: Lsn) -> std::result::Result<Option<(Lsn, Vec<u8>)>, Lost> {
        let newest = self.versions.get(full_key).and_then(|versions| versions.range(..=at).next_back());
        let lsn = newest.map(|(lsn, _)| *lsn);
        let (deleted, is_lost) = self.over((full_key, &behind(full_key)), lsn, at);
        if is_lost {
            return Err(Lost);
        }
        Ok(newest.filter(|(lsn, _)| deleted <= Some(**lsn)).and_then(|(lsn, value)| Some((*lsn, value.clone()?))))
    }

    /// What a scan gives out, and whether it comes to something lost then.
    fn scan(&self, from: &[u8], end: &[u8], direction: Direction, at: Lsn) -> (Vec<Entry>, bool) {
        let mut bounds: Vec<&[u8]> = self.ranges.iter().flat_map(|one| [&*one.start, &*one.end]).collect();
        bounds.extend([from, end]);
        bounds.retain(|bound| from <= *bound && *bound <= end);
        bounds.sort_unstable();
        bounds.dedup();
        let mut pieces: Vec<_> = bounds.windows(2).map(|pair| (pair[0], pair[1])).collect();
        if direction == Direction::Backward {
            pieces.reverse();
        }
        let mut entries = Vec::new();
        for (start, end) in pieces {
            if self.over((start, end), None, at).1 {
                return (entries, true);
            }
            let keys = self.versions.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
            let found = keys.filter_map(|(key, _)| {
                let (lsn, value) = self.get(key, at).expect("nothing of the piece is lost")?;
                Some((key[4..].to_vec(), value, lsn))
            });
            let mut found: Vec<_> = found.collect();
            if direction == Direction::Backward {
                found.reverse();
            }
            entries.extend(found);
        }
        (entries, false)
    }
}

/// Key without its keyspace, value, LSN.
type Entry = (Vec<u8>, Vec<u8>, Lsn);

fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

fn full(id: u32, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::new();
    write_full_key(&mut full, id, key);
    full
}

/// Versions in the order of a run.
#[derive(Debug)]
struct List {
    versions: std::vec::IntoIter<(Vec<u8>, Lsn, Value)>,
    present: (Vec<u8>, Lsn, Value),
}

impl List {
    fn new(mut versions: Vec<(Vec<u8>, Lsn, Value)>) -> Self {
        versions.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        List { versions: versions.into_iter(), present: Default::default() }
    }
}

impl Source for List {
    fn advance(&mut self) -> Result<bool> {
        let next = self.versions.next();
        let is_there = next.is_some();
        self.present = next.unwrap_or_default();
        Ok(is_there)
    }

    fn key(&self) -> &[u8] {
        &self.present.0
    }

    fn version(&self) -> Found<'_> {
        Found { lsn: self.present.1, value: self.present.2.as_deref() }
    }
}

/// A store with its readers, and what was written to it.
struct Tables {
    store: Arc<OnceLock<Store>>,
    reading: Reading,
    model: Model,
    keyspaces: Arc<KeyspaceList>,
    file: Option<NamedFile>,
}

impl Tables {
    fn new(dir: &Arc<dyn Dir>, limits: Limits) -> Self {
        let store = Arc::new(OnceLock::new());
        let reading = Reading::new(Arc::clone(&store), limits);
        assert_eq!(reading.installed().to(), Lsn::ZERO);
        assert!(reading.installed().get(0, b"", Lsn::new(8)).unwrap().is_none());
        assert!(store.set(new_store(dir)).is_ok());
        assert_eq!(reading.installed().to(), Lsn::ZERO);
        Tables { store, reading, model: Model::default(), keyspaces: Arc::default(), file: None }
    }

    fn store(&self) -> &Store {
        self.store.get().unwrap()
    }

    /// The next checkpoint, of so many words of log: with each of these versions and range tombstones.
    fn checkpoint(
        &mut self,
        words: u64,
        versions: Vec<(Vec<u8>, Lsn, Value)>,
        ranges: Vec<RangeTombstone>,
        run_bytes: u64,
    ) {
        let interval = Interval { from: self.model.to, to: Lsn::new(self.model.to.get() + 8 * words) };
        for (key, lsn, value) in &versions {
            assert!(interval.contains(*lsn));
            self.model.versions.entry(key.clone()).or_default().insert(*lsn, value.clone());
        }
        self.model.ranges.extend(ranges.iter().cloned());
        self.model.to = interval.to;
        let store = self.store.get().unwrap();
        let mut attempt = store.begin();
        let merge = Merge::new(vec![List::new(versions)], Retain::default(), Vec::new(), Gone::default()).unwrap();
        let stretch = Stretch { interval, branch: BRANCH };
        let layer = attempt.write_layer(stretch, merge, fragment(ranges), run_bytes).unwrap();
        let keyspaces = Arc::clone(&self.keyspaces);
        let file = *self.file.get_or_insert_with(|| attempt.write_keyspaces(&keyspaces, interval.to, BRANCH).unwrap());
        attempt.sync_names().unwrap();
        let choose = |before: Option<&Stack>| {
            let before = before.map(Chosen::of);
            let (before, aside) = before.map_or_else(Default::default, |before| (before.layers, before.aside));
            let mut layers = vec![layer];
            layers.extend(before);
            let (oldest, written) = Default::default();
            Ok(Chosen { to: interval.to, branch: BRANCH, oldest, keyspaces, file, written, layers, aside })
        };
        attempt.install(choose, |_| ()).unwrap();
    }

    /// One step of a merge: of a job that is under way, or of neighbouring layers.
    fn merge(&mut self, draws: &mut Draws, horizon: &Retain, sizes: Sizes) {
        self.try_merge(draws, horizon, sizes).unwrap();
    }

    fn try_merge(&self, draws: &mut Draws, horizon: &Retain, sizes: Sizes) -> std::result::Result<(), StepFailed> {
        let stack = self.store().stack().unwrap();
        let (mut places, mut begin) = (Vec::new(), 0);
        let (mut job, mut whole) = (None, Vec::new());
        for group in stack.manifest.groups() {
            let place = begin..begin + group.len();
            begin = place.end;
            if group[0].role == Role::Whole {
                whole.push(place.start);
            } else {
                job = Some(place.clone());
            }
            places.push(place);
        }
        let neighbours = |first: usize, count: usize| {
            let all = first..first + count;
            all.clone().all(|layer| whole.contains(&layer)).then_some(all)
        };
        let layers = match job.filter(|_| draws.below(4) > 0) {
            Some(job) => Some(job),
            None => neighbours(draws.below(places.len()), 1 + draws.below(3)),
        };
        let Some(layers) = layers else { return Ok(()) };
        let store = self.store.get().unwrap();
        store.merge_step(&stack, layers, horizon, sizes)?.install(|_| ()).unwrap();
        store.remove_needless().unwrap();
        Ok(())
    }

    /// Whether the answer for a key is that of the model.
    fn check_get(&self, layers: &Arc<dyn Layers>, full_key: &[u8], at: Lsn) {
        let id = u32::from_be_bytes(*full_key.first_chunk().unwrap());
        let got = layers.get(id, &full_key[4..], at);
        match self.model.get(full_key, at) {
            Ok(found) => {
                let found = found.map(|(_, value)| value);
                assert_eq!(got.unwrap().map(|value| value.to_vec()), found, "{full_key:?} at {at}");
            }
            Err(Lost) => {
                let error = got.expect_err("it is lost");
                assert_eq!(error.kind(), ErrorKind::Damaged);
                assert!(error.damage().unwrap().file.extension().is_some_and(|run| run == "run"));
            }
        }
    }

    /// Whether a scan gives out what the model has.
    fn check_scan(
        &self,
        layers: &Arc<dyn Layers>,
        id: u32,
        range: (Bound<Key>, Bound<Key>),
        direction: Direction,
        at: Lsn,
    ) {
        let from = match &range.0 {
            Bound::Included(key) => full(id, key),
            Bound::Excluded(key) => behind(&full(id, key)),
            Bound::Unbounded => full(id, b""),
        };
        let end = match &range.1 {
            Bound::Included(key) => behind(&full(id, key)),
            Bound::Excluded(key) => full(id, key),
            Bound::Unbounded => full(id + 1, b""),
        };
        let (expected, is_lost) =
            if from < end { self.model.scan(&from, &end, direction, at) } else { (Vec::new(), false) };
        let (entries, ended) = scan(layers, id, range.clone(), direction, at);
        let what = || format!("{range:?} of {id}, {direction:?}, at {at}");
        assert_eq!(entries.len(), expected.len(), "{}", what());
        assert_eq!(entries, expected, "{}", what());
        match ended {
            Ok(()) => assert!(!is_lost, "{}", what()),
            Err(error) => assert!(is_lost && error.kind() == ErrorKind::Damaged, "{}: {error}", what()),
        }
    }
}

/// All that a scan gives out, and how it ends.
fn scan(
    layers: &Arc<dyn Layers>,
    id: u32,
    range: (Bound<Key>, Bound<Key>),
    direction: Direction,
    at: Lsn,
) -> (Vec<Entry>, Result<()>) {
    let mut scan = Arc::clone(layers).scan(id, range, direction, at);
    let mut entries = Vec::new();
    loop {
        match scan.advance() {
            Ok(true) => entries.push((scan.key().to_vec(), scan.value().to_vec(), scan.lsn())),
            Ok(false) => return (entries, Ok(())),
            Err(error) => return (entries, Err(error)),
        }
    }
}

/// Flips a bit of the byte at `at`. Once more, it is as it was.
fn flip(dir: &Arc<dyn Dir>, name: &str, at: u64, bit: u8) {
    let file = dir.open(OsStr::new(name), Access::Write).unwrap();
    let mut byte = [0];
    read_exact_at(&*file, &mut byte, at).unwrap();
    write_all_at(&*file, &[byte[0] ^ bit], at).unwrap();
}

const ALL: (Bound<Key>, Bound<Key>) = (Bound::Unbounded, Bound::Unbounded);
