//! A merge against all that readers may ask.

use proptest::prelude::*;

use super::*;
use crate::format::table::write_full_key;

/// Key, LSN, value.
type Version = (u8, u64, Option<u8>);

struct Listed {
    versions: Vec<(Vec<u8>, Lsn, Option<[u8; 1]>)>,
    next: usize,
}

impl Source for Listed {
    fn advance(&mut self) -> Result<bool> {
        self.next += 1;
        Ok(self.next <= self.versions.len())
    }

    fn key(&self) -> &[u8] {
        &self.versions[self.next - 1].0
    }

    fn version(&self) -> Found<'_> {
        let (_, lsn, value) = &self.versions[self.next - 1];
        Found { lsn: *lsn, value: value.as_ref().map(|value| &value[..]) }
    }
}

fn full(key: u8) -> Vec<u8> {
    let mut full = Vec::new();
    write_full_key(&mut full, 1, &[key]);
    full
}

/// What a reader at `at` finds; `None` if nothing was ever there.
fn read(versions: &[Version], ranges: &[(u8, u8, u64)], key: u8, at: u64) -> Option<Option<u8>> {
    let newest = versions.iter().filter(|(other, lsn, _)| *other == key && *lsn <= at).max_by_key(|version| version.1);
    let covers = |range: &&(u8, u8, u64)| (range.0..range.1).contains(&key) && range.2 <= at;
    let deleted = ranges.iter().filter(covers).map(|range| range.2).max();
    match (newest, deleted) {
        (Some((_, lsn, value)), deleted) if deleted.is_none_or(|deleted| deleted <= *lsn) => Some(*value),
        (_, Some(_)) => Some(None),
        (None, None) => None,
        (Some(_), None) => unreachable!("the first arm"),
    }
}

fn merged(versions: &[Version], sources: u64, ranges: &[(u8, u8, u64)], retain: &Retain) -> Vec<Version> {
    let listed = (0..sources).map(|source| {
        let mut versions: Vec<_> = versions
            .iter()
            .filter(|version| version.1 / 8 % sources == source)
            .map(|(key, lsn, value)| (full(*key), Lsn::new(*lsn), value.map(|value| [value])))
            .collect();
        versions.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        Listed { versions, next: 0 }
    });
    let mut tombstones: Vec<_> = ranges
        .iter()
        .map(|(start, end, lsn)| RangeTombstone {
            start: full(*start),
            end: full(*end),
            lsn: Lsn::new(*lsn),
            says: Says::Deleted,
        })
        .collect();
    tombstones.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut merge = Merge::new(listed.collect(), retain.clone(), tombstones, Gone::default()).unwrap();
    let mut out = Vec::new();
    let mut take = |key: &[u8], version: Found<'_>| {
        out.push((key[4], version.lsn.get(), version.value.map(|value| value[0])));
        Ok(())
    };
    while merge.next_key(&mut take).unwrap() {}
    out
}

fn history() -> impl Strategy<Value = (Vec<Version>, Vec<(u8, u8, u64)>)> {
    let op = prop_oneof![
        4 => (0..4_u8, prop::option::weighted(0.6, any::<u8>())).prop_map(|(key, value)| Ok((key, value))),
        // Fragmented: equal or disjoint.
        1 => (0..2_u8).prop_map(|half| Err(if half == 0 { (0, 2) } else { (2, 4) })),
    ];
    prop::collection::vec((op, any::<bool>()), 0..40).prop_map(|ops| {
        let (mut versions, mut ranges, mut lsn) = (Vec::new(), Vec::new(), 8);
        for (op, of_one_commit) in ops {
            match op {
                Ok((key, value)) => {
                    versions.retain(|version: &Version| (version.0, version.1) != (key, lsn));
                    // No two are alike.
                    versions.push((key, lsn, value.map(|_: u8| u8::try_from(lsn / 8).expect("at most 41"))));
                }
                // Puts before it in one commit are written as tombstones; here they are left out.
                Err((start, end)) => {
                    versions.retain(|version: &Version| version.1 != lsn || !(start..end).contains(&version.0));
                    if !ranges.contains(&(start, end, lsn)) {
                        ranges.push((start, end, lsn));
                    }
                }
            }
            lsn += if of_one_commit { 0 } else { 8 };
        }
        (versions, ranges)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn no_reader_sees_a_difference(
        (versions, ranges) in history(),
        sources in 1..5_u64,
        floor in 0..45_u64,
        held in prop::collection::btree_set(0..45_u64, 0..4),
        is_last in any::<bool>(),
    ) {
        let floor = floor * 8;
        let held: Vec<u64> = held.into_iter().map(|held| held * 8).filter(|held| *held < floor).collect();
        let retain = Retain {
            floor: Lsn::new(floor),
            held: held.iter().map(|held| Lsn::new(*held)).collect(),
            is_last,
        };
        let out = merged(&versions, sources, &ranges, &retain);
        let in_order = out.is_sorted_by(|a, b| a.0 < b.0 || (a.0 == b.0 && a.1 > b.1));
        prop_assert!(in_order, "{:?}", out);
        prop_assert!(out.iter().all(|version| versions.contains(version)));
        for at in held.iter().copied().chain((floor..45 * 8).step_by(8)) {
            for key in 0..4 {
                let (before, after) = (read(&versions, &ranges, key, at), read(&out, &ranges, key, at));
                // In the last layer, what is not there is deleted.
                let (before, after) = if is_last { (before.or(Some(None)), after.or(Some(None))) } else { (before, after) };
                prop_assert_eq!(before, after, "key {} at {}", key, at);
            }
        }
        // Nothing stays that could go. Without a put that stayed, a reader misses it.
        for (number, version) in out.iter().enumerate() {
            let mut less = out.clone();
            less.remove(number);
            let differs = held.iter().copied().chain((floor..45 * 8).step_by(8)).any(|at| {
                read(&out, &ranges, version.0, at) != read(&less, &ranges, version.0, at)
            });
            // A tombstone stays in the last layer only above a put. Elsewhere it may hide what lies below.
            let hides = out.iter().any(|older| older.0 == version.0 && older.1 < version.1 && older.2.is_some());
            let is_needed = if version.2.is_some() { differs } else { hides || !is_last };
            prop_assert!(is_needed, "{:?} of {:?}", version, out);
        }
    }
}

fn listed(versions: &[(u32, u8, u64, Option<u8>)]) -> Listed {
    let full = |id, key| {
        let mut full = Vec::new();
        write_full_key(&mut full, id, &[key]);
        full
    };
    let versions =
        versions.iter().map(|(id, key, lsn, value)| (full(*id, *key), Lsn::new(*lsn), value.map(|value| [value])));
    Listed { versions: versions.collect(), next: 0 }
}

fn all(mut merge: Merge<Listed>) -> Vec<u64> {
    let mut lsns = Vec::new();
    while merge
        .next_key(&mut |_, version| {
            lsns.push(version.lsn.get());
            Ok(())
        })
        .unwrap()
    {}
    lsns
}

/// What could not be read is older than the tombstone, and stays: without the tombstone a read would say "damaged" of a key
/// that was deleted.
#[test]
fn a_tombstone_above_what_was_lost_stays() {
    let lost = |lsn, above| RangeTombstone {
        start: full(3),
        end: full(5),
        lsn: Lsn::new(lsn),
        says: Says::LostAbove(Lsn::new(above)),
    };
    let retain = Retain { floor: Lsn::new(80), held: Vec::new(), is_last: true };
    let merged = |ranges| {
        let versions = listed(&[(1, 3, 40, None), (1, 4, 16, None), (1, 6, 40, None)]);
        all(Merge::new(vec![versions], retain.clone(), ranges, Gone::default()).unwrap())
    };
    assert_eq!(merged(Vec::new()), [0; 0]);
    assert_eq!(merged(vec![lost(24, 8)]), [40, 16], "something older of either key may be lost");
    assert_eq!(merged(vec![lost(24, 16)]), [40], "nothing older of key 4 is");
}

/// A dropped keyspace that nobody can ask for goes, whoever is held: also one that began after the drop.
#[test]
fn a_keyspace_that_is_gone_goes_whole() {
    let versions = || listed(&[(1, 1, 24, Some(1)), (2, 1, 32, Some(2)), (2, 1, 16, None), (3, 1, 24, Some(3))]);
    let retain = Retain { floor: Lsn::new(40), held: vec![Lsn::new(28), Lsn::new(36)], is_last: false };
    let gone = |listed: &[u32], next_id| Gone { next_id, listed: listed.iter().copied().collect() };
    let merged = |gone| all(Merge::new(vec![versions()], retain.clone(), Vec::new(), gone).unwrap());
    assert_eq!(merged(gone(&[1, 2, 3], 4)), [24, 32, 16, 24]);
    assert_eq!(merged(gone(&[1, 3], 4)), [24, 24]);
    assert_eq!(merged(gone(&[1], 3)), [24, 24], "the third came later");
}
