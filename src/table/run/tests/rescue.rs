//! What is read of a damaged run is true, what is not read is told, and it is as little as can be.

use super::*;
use crate::table::run::rescue::{Remains, RemainsCursor, Survey};

/// Three partitions; some keys have several versions, which go on from block to block.
fn entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..900_u64 {
        let versions = if number % 90 == 7 { 12 } else { 1 };
        for version in 0..versions {
            let value = (number % 11 != 3).then(|| vec![u8::try_from(version).unwrap(); 700]);
            entries.push((full(1, &number.to_be_bytes()), (1 << 20) - 8 * (version + number % 50), value));
        }
    }
    entries
}

struct Sample {
    dir: Arc<dyn Dir>,
    entries: Vec<Entry>,
    named: NamedRun,
    whole: Vec<u8>,
}

impl Sample {
    fn new(ranges: Vec<RangeTombstone>) -> Self {
        let (dir, entries) = (dir(), entries());
        let named = write(&*dir, 1, &entries, ranges);
        let whole = bytes(&*dir, 1);
        assert!(open(&*dir, 1).unwrap().root.partitions.len() >= 3);
        Sample { dir, entries, named, whole }
    }

    /// What is left of the run with these bytes; returns how many entries are not.
    fn check(&self, damaged: &[u8], is_named: bool, what: &str) -> Option<(usize, Survey)> {
        replace(&*self.dir, 1, damaged);
        let file = self.dir.open(OsStr::new(&name(1)), Access::Read).unwrap();
        let named = is_named.then_some(&self.named);
        let remains = Arc::new(Remains::open(file, Path::new(&name(1)), named).ok()?);
        let survey = remains.survey().unwrap();
        let (mut cursor, mut read) = (RemainsCursor::new(Arc::clone(&remains), survey.bad.clone()), Vec::new());
        while cursor.advance().unwrap() {
            let version = cursor.version();
            read.push((cursor.key().to_vec(), version.lsn.get(), version.value.map(<[u8]>::to_vec)));
        }
        let mut left = read.into_iter().peekable();
        let mut lost = 0;
        for (number, entry) in self.entries.iter().enumerate() {
            if left.next_if(|read| read == entry).is_some() {
                continue;
            }
            lost += 1;
            let is_newest = number == 0 || self.entries[number - 1].0 != entry.0;
            let answers = survey.reach.low <= entry.0
                && is_below(&entry.0, &survey.reach.high)
                && survey.bad.iter().all(|bad| entry.0 < bad.range.low || !is_below(&entry.0, &bad.range.high));
            assert!(!(is_newest && answers), "{what}: entry {number} is not there, and not told: {:?}", survey.bad);
        }
        assert_eq!(left.next(), None, "{what}: made up");
        Some((lost, survey))
    }
}

#[test]
fn a_flipped_bit_costs_one_block() {
    for ranges in [vec![], vec![deleted(full(2, b"a"), full(2, b"b"), 1 << 19)]] {
        let sample = Sample::new(ranges);
        let length = sample.whole.len();
        for at in (0..length).step_by(2039).chain((length - 900..length).step_by(2)).chain(0..100) {
            let mut damaged = sample.whole.clone();
            damaged[at] ^= 1 << (at % 8);
            for is_named in [true, false] {
                let what = format!("{at} of {length}, named {is_named}");
                let (lost, survey) =
                    sample.check(&damaged, is_named, &what).unwrap_or_else(|| panic!("{what}: all lost"));
                assert!(survey.fault.is_some() && lost <= 20, "{what}: {lost} lost, {:?}", survey.fault);
            }
        }
    }
}

#[test]
fn several_places_and_cuts_are_told() {
    let sample = Sample::new(vec![]);
    let length = sample.whole.len();
    for number in 0..150 {
        let mut damaged = sample.whole.clone();
        for place in 0..5_usize {
            let at = (number * 7919 + place * place * 104_729) % length;
            let end = (at + 8 * place).min(length);
            damaged[at..end].fill(0xA5);
        }
        for is_named in [true, false] {
            sample.check(&damaged, is_named, &format!("{number}, named {is_named}"));
        }
        let cut = number * length / 150;
        for is_named in [true, false] {
            let what = format!("cut to {cut}, named {is_named}");
            let Some((lost, survey)) = sample.check(&sample.whole[..cut], is_named, &what) else { continue };
            assert!(
                survey.fault.is_some() && lost * length <= sample.entries.len() * (length - cut) + 40 * length,
                "{what}"
            );
        }
    }
}

#[test]
fn a_run_that_is_whole_answers_for_all_of_its_reach() {
    let sample = Sample::new(vec![]);
    for is_named in [true, false] {
        let (lost, survey) = sample.check(&sample.whole, is_named, "whole").unwrap();
        assert!(lost == 0 && survey.bad.is_empty() && survey.fault.is_none());
        assert_eq!(survey.reach, Range::default());
    }
    let mut longer = sample.whole.clone();
    longer.resize(longer.len() + 8192, 0);
    let (lost, survey) = sample.check(&longer, true, "longer").unwrap();
    assert!(lost == 0 && survey.bad.is_empty() && survey.fault.is_some());
}
