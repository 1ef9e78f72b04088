use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

use super::*;

const KEYS: u8 = 12;

/// For each key the LSNs over it.
type Model = Vec<Vec<Lsn>>;

fn lsn(number: usize) -> Lsn {
    Lsn::new(8 * (1 + number as u64))
}

fn bounds(key: u8, low: Bound<u8>, high: Bound<u8>) -> bool {
    use std::ops::RangeBounds;
    (low, high).contains(&key)
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![Just(Bound::Unbounded), (0..KEYS).prop_map(Bound::Included), (0..KEYS).prop_map(Bound::Excluded)]
}

fn check(list: &RangeTombstones, model: &Model) {
    for (key, lsns) in (0_u8..).zip(model) {
        for at in 0..40 {
            let at = lsn(at);
            assert_eq!(list.newest(&[key], at), lsns.iter().rev().find(|lsn| **lsn <= at).copied());
            assert_eq!(list.oldest_above(&[key], at), lsns.iter().find(|lsn| **lsn > at).copied());
            assert_eq!(list.changed_since(&[key], at), lsns.iter().any(|lsn| *lsn > at));
        }
    }
    assert_eq!(list.is_empty(), model.iter().all(Vec::is_empty));
    assert_eq!(list.len(), list.fragments.values().map(|fragment| fragment.lsns.len()).sum::<usize>());
    let all: Vec<_> = list.fragments.iter().collect();
    assert!(all.iter().all(|(_, fragment)| fragment.lsns.is_sorted() && !fragment.lsns.is_empty()));
    assert!(all.windows(2).all(|pair| pair[0].1.end.as_ref().is_some_and(|end| end <= pair[1].0)), "{all:?}");
}

fn check_range(list: &RangeTombstones, model: &Model, (low, high): (Bound<u8>, Bound<u8>), at: Lsn) {
    let (low_key, high_key) = (low.map(|key| [key]), high.map(|key| [key]));
    let range = (low_key.as_ref().map(|key| &key[..]), high_key.as_ref().map(|key| &key[..]));
    // Between two keys there are others, so a range may have a part of which no key of the model tells.
    let found = list.of_range(range, at);
    for (key, lsns) in (0_u8..).zip(model).filter(|(key, _)| bounds(*key, low, high)) {
        let newest = lsns.iter().rev().find(|lsn| **lsn <= at);
        let has = |(from, end, _): &&Deleted| from[0] <= key && end.as_ref().is_none_or(|end| key < end[0]);
        assert_eq!(found.iter().find(has).map(|(.., lsn)| lsn), newest, "{key} of {found:?}");
        assert!(list.range_changed_since(range, at) || lsns.iter().all(|lsn| *lsn <= at));
    }
}

proptest! {
    #[test]
    fn it_says_of_each_key_what_was_deleted_of_it(
        ranges in vec((0..KEYS, weighted(0.8, 0..=KEYS), any::<bool>()), 1..30),
        removals in vec((any::<usize>(), 0..KEYS, 1_usize..3), 0..30),
        asked in (bound(), bound()),
    ) {
        let (mut list, mut model) = (RangeTombstones::default(), vec![Vec::new(); usize::from(KEYS)]);
        let mut removals = removals.into_iter();
        for (number, (from, to, gives_way)) in ranges.into_iter().enumerate() {
            if to.is_some_and(|to| to <= from) {
                continue;
            }
            list.insert(&[from], to.map(|to| [to]).as_ref().map(|to| &to[..]), lsn(number), |_, _| gives_way);
            for key in from..to.unwrap_or(KEYS) {
                let lsns: &mut Vec<_> = &mut model[usize::from(key)];
                if gives_way && !lsns.is_empty() {
                    lsns.drain(..lsns.len() - 1);
                }
                lsns.push(lsn(number));
            }
            check(&list, &model);
            check_range(&list, &model, asked, lsn(number / 2));
            let Some((_, key, count)) = removals.next().filter(|(chance, ..)| chance % 3 == 0) else { continue };
            let Some((from, fragment)) = list.next_from(&[key]) else { continue };
            prop_assert!(from[0] >= key);
            let (low, high) = (from[0], fragment.end.as_ref().map_or(KEYS, |end| end[0]));
            // A part of it, from where it was found.
            let end = low + (high - low).div_ceil(2);
            let is_all = end == high;
            let end_key = if is_all { fragment.end } else { Some(Key::from(&[end])) };
            list.remove(&from, end_key.as_ref(), count);
            for key in low..end {
                let lsns = &mut model[usize::from(key)];
                lsns.drain(..count.min(lsns.len()));
            }
            check(&list, &model);
        }
    }
}

#[test]
fn parts_that_say_the_same_become_one_again() {
    let mut list = RangeTombstones::default();
    list.insert(b"a", Some(b"z"), lsn(0), |_, _| false);
    list.insert(b"a", Some(b"z"), lsn(1), |_, _| false);
    for part in [b"a", b"c", b"e", b"g"].windows(2) {
        list.remove(part[0], Some(&Key::from(part[1])), 1);
    }
    assert_eq!(list.fragments.len(), 2, "{list:?}");
    assert_eq!((list.len(), list.newest(b"b", lsn(9)), list.newest(b"b", lsn(0))), (3, Some(lsn(1)), None));
}
