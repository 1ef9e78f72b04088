//! A map that grows from one small leaf into a tree, and back once it is empty.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::map::{Known, Map, Slot};
use super::map::{tag_of, with_version};
use super::*;

const KEYS: u64 = 60;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u64),
    /// Keys that follow one another.
    PutRun(u64, u64),
    Remove(u64),
    Forget(u64),
    /// Everything, or the keys between two.
    Complete(Option<(u64, u64)>),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..KEYS).prop_map(Step::Put),
        1 => (0..KEYS, 1..40_u64).prop_map(|(first, count)| Step::PutRun(first, count)),
        8 => (0..KEYS).prop_map(Step::Remove),
        1 => (0..200_u64).prop_map(Step::Forget),
        1 => proptest::option::of((0..KEYS, 0..KEYS)).prop_map(Step::Complete),
        2 => Just(Step::Tidy),
    ]
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

struct Pair {
    map: Map,
    model: BTreeMap<u64, u64>,
    tag: u64,
}

impl Pair {
    fn put(&mut self, number: u64) {
        self.tag += 1;
        let before = match self.map.slot(&key(number)) {
            Slot::Taken(slot) => {
                let before = tag_of(&slot.version());
                with_version(self.tag, |version| slot.set(version));
                Some(before)
            }
            Slot::Free(slot) => {
                with_version(self.tag, |version| slot.fill(version));
                None
            }
        };
        assert_eq!(before, self.model.insert(number, self.tag));
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Put(number) => self.put(number),
            Step::PutRun(first, count) => (first..first + count).for_each(|number| self.put(number)),
            Step::Remove(number) => {
                assert_eq!(self.map.remove(&key(number)), self.model.remove(&number).is_some());
            }
            Step::Forget(age) => {
                let to = Lsn::new(self.tag.saturating_sub(age));
                let mut gone = BTreeSet::new();
                let mut low = Some(Key::from(&[]));
                while let Some(from) = low {
                    low = self.map.forget(&from, 4, to, |_, version| {
                        gone.insert(tag_of(version));
                    });
                }
                self.model.retain(|_, tag| !gone.contains(tag));
            }
            Step::Complete(keys) => {
                let bounds = keys.map(|(one, other)| (key(one.min(other)), key(one.max(other))));
                let keys = bounds.as_ref().map_or((&[][..], None), |(low, high)| (&low[..], Some(&high[..])));
                if keys.1 != Some(keys.0) {
                    self.map.cut_out(keys);
                    self.map.complete(keys, Lsn::new(self.tag), Lsn::new(self.tag / 2));
                }
            }
            Step::Tidy => {
                self.map.tidy(8);
            }
        }
        self.check();
    }

    fn check(&self) {
        self.map.check();
        let mut found = BTreeMap::new();
        self.map.any(ALL, |key, version| {
            let number = u64::from_be_bytes(key.try_into().unwrap());
            found.insert(number, tag_of(&version)).is_some()
        });
        assert_eq!(found, self.model);
        for number in 0..KEYS {
            let version = self.map.get(&key(number)).0;
            assert_eq!(version.map(|version| tag_of(&version)), self.model.get(&number).copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]

    #[test]
    fn a_map_of_any_size_has_what_was_put(steps in proptest::collection::vec(step(), 0..300), is_away in any::<bool>()) {
        let map = Map::bare(if is_away { Known::AWAY } else { Known::COMPLETE });
        let mut pair = Pair { map, model: BTreeMap::new(), tag: 0 };
        steps.into_iter().for_each(|step| pair.run(step));
    }
}

/// There may be a hundred thousand keyspaces with a few entries each.
#[test]
fn a_leaf_is_as_large_as_what_is_in_it() {
    let mut pair = Pair { map: Map::default(), model: BTreeMap::new(), tag: 0 };
    assert_eq!(pair.map.leaf_bytes(), 0);
    for number in 0..2000 {
        // Of three bytes each.
        pair.tag = 8 + 9 * number;
        pair.put(number);
        let most = match number + 1 {
            0..=8 => 1200,
            9..=40 => 4200,
            entries => 16 << 10 << entries.div_ceil(64).ilog2(),
        };
        assert!(pair.map.leaf_bytes() <= most, "{number}: {} and {most}", pair.map.leaf_bytes());
    }
    for number in 0..2000 {
        assert!(pair.map.remove(&key(number)));
    }
    pair.model.clear();
    pair.map.tidy(8);
    assert_eq!(pair.map.leaf_bytes(), 0);
    pair.tag = 8;
    pair.put(1);
    assert!(pair.map.leaf_bytes() <= 1200);
}
