//! Keys and values with types.

use std::fmt::Debug;

use forelog::typed::{PrefixOf, TypedKey, TypedKeyspace, TypedValue};
use forelog::{CommitMode, Engine, ErrorKind, Len};
use proptest::prelude::*;

use crashkit::{get, in_memory, kind_of, put};

fn bytes<K: TypedKey>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    K::encode(key.borrow(), &mut bytes);
    bytes
}

/// What is encoded comes back, and two of them have their order; as the last part of a key, and as one that others follow.
fn check<K: TypedKey + Ord + Debug + Clone>(a: &K, b: &K) -> Result<(), TestCaseError> {
    let known = K::decode(&bytes(a));
    prop_assert_eq!(known.as_ref(), Some(a));
    prop_assert_eq!(bytes(a).cmp(&bytes(b)), a.cmp(b), "{:?} and {:?}", a, b);
    let (with_a, with_b) = ((a.clone(), 7_u8), (b.clone(), 3_u8));
    let known = <(K, u8)>::decode(&bytes(&with_a));
    prop_assert_eq!(known.as_ref(), Some(&with_a));
    prop_assert_eq!(bytes(&with_a).cmp(&bytes(&with_b)), with_a.cmp(&with_b), "{:?} and {:?}", with_a, with_b);
    Ok(())
}

/// Bytes in which those with a meaning of their own are frequent.
fn awkward() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(255), any::<u8>()], 0..6)
}

proptest! {
    #[test]
    fn keys_come_back_and_have_their_order(
        unsigned in any::<[u64; 2]>(),
        signed in any::<[i64; 2]>(),
        small in any::<[i8; 2]>(),
        wide in any::<[i128; 2]>(),
        text in any::<[char; 2]>(),
        raw in [awkward(), awkward()],
        options in any::<[Option<u16>; 2]>(),
    ) {
        check(&unsigned[0], &unsigned[1])?;
        check(&signed[0], &signed[1])?;
        check(&small[0], &small[1])?;
        check(&wide[0], &wide[1])?;
        check(&text[0], &text[1])?;
        check(&raw[0], &raw[1])?;
        check(&options[0], &options[1])?;
        let [a, b] = raw.clone().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        check(&a, &b)?;
        check(&(raw[0].clone(), signed[0], a.clone()), &(raw[1].clone(), signed[1], b.clone()))?;
        check(&((a.clone(), unsigned[0]), Some(b.clone())), &((a, unsigned[0]), None))?;
        check(&(small[0], raw[0].clone()), &(small[0], raw[1].clone()))?;
    }

    /// Bytes of any kind are a key of a type, or are refused: none panics.
    #[test]
    fn any_bytes_are_read_or_refused(raw in awkward()) {
        if let Some(key) = <(String, Option<u8>, Vec<u8>)>::decode(&raw) {
            prop_assert_eq!(bytes(&key), raw.clone());
        }
        if let Some(key) = <(bool, char)>::decode(&raw) {
            prop_assert_eq!(bytes(&key), raw.clone());
        }
        let _ = (String::decode(&raw), <()>::decode(&raw), f64::from_bytes(&raw));
    }

    /// The keys with a prefix are those whose first parts it is, and no others.
    #[test]
    fn a_prefix_of_a_tuple_is_its_first_parts(first in awkward(), other in awkward(), rest in any::<u16>()) {
        let mut prefix = Vec::new();
        PrefixOf::<(Vec<u8>, u16)>::encode_prefix(&(first.clone(),), &mut prefix);
        let begins = |part: &Vec<u8>| bytes(&(part.clone(), rest)).starts_with(&prefix);
        prop_assert!(begins(&first));
        prop_assert_eq!(begins(&other), other == first);
    }
}

/// What is on disk does not change from one version to the next.
#[test]
fn the_bytes_are_those_of_the_documentation() {
    assert_eq!(bytes(&0x0102_0304_u32), [1, 2, 3, 4]);
    assert_eq!(bytes(&-1_i16), [0x7F, 0xFF]);
    assert_eq!(bytes(&1_i16), [0x80, 1]);
    assert_eq!(bytes(&("a\0b".to_owned(), "c\0".to_owned())), *b"a\0\x01b\0\0c\0");
    assert_eq!(bytes(&(Some(5_u8), 'é')), [1, 5, 0, 0, 0, 0xE9]);
    let mut value = Vec::new();
    i16::to_bytes(&-2, &mut value).unwrap();
    f32::to_bytes(&1.0, &mut value).unwrap();
    assert_eq!(value, [0xFF, 0xFE, 0x3F, 0x80, 0, 0]);
}

type Jobs = TypedKeyspace<(u8, u64), String>;

#[test]
fn a_queue_with_priorities() {
    let engine = in_memory();
    let jobs = Jobs::create(&engine, "jobs").unwrap();
    let mut batch = engine.batch().unwrap();
    for (key, job) in [((2, 1), "late"), ((1, 300), "third"), ((1, 2), "second"), ((0, 9), "first")] {
        batch.typed(&jobs).put(&key, job).unwrap();
    }
    batch.commit().unwrap();
    let (first, _) = engine.transact(CommitMode::Async, |tx| tx.typed(&jobs).pop_first()).unwrap();
    assert_eq!(first.unwrap(), ((0, 9), "first".to_owned()));
    let snapshot = engine.snapshot().unwrap();
    let of_priority_one: Vec<_> = snapshot.typed(&jobs).prefix(&(1,)).unwrap().map(|entry| entry.unwrap().1).collect();
    assert_eq!(of_priority_one, ["second", "third"]);
    let backwards: Vec<_> =
        snapshot.typed(&jobs).range((1, 3)..).unwrap().rev().map(|entry| entry.unwrap().0).collect();
    assert_eq!(backwards, [(2, 1), (1, 300)]);
    let (last, _) = engine.transact(CommitMode::Async, |tx| tx.typed(&jobs).pop_last()).unwrap();
    assert_eq!(last.unwrap().0, (2, 1));
    let mut tx = engine.begin().unwrap();
    tx.typed(&jobs).delete_range((1, 0)..=(1, 2)).unwrap();
    assert_eq!(tx.typed(&jobs).first().unwrap().unwrap().0, (1, 300));
    assert!(!tx.typed(&jobs).contains(&(1, 2)).unwrap());
    tx.commit().unwrap();
    assert_eq!(Jobs::open(&engine, "jobs").unwrap().keyspace().name(), "jobs");
    assert_eq!(kind_of(Jobs::open(&engine, "job")), ErrorKind::NoSuchKeyspace);
}

#[test]
fn calls_on_single_entries() {
    let engine = in_memory();
    let counts = TypedKeyspace::<String, u32>::create(&engine, "counts").unwrap();
    let mut tx = engine.begin().unwrap();
    let mut view = tx.typed(&counts);
    assert_eq!(view.update("a", |count| Some(count.map_or(1, |count| count + 1))).unwrap(), None);
    assert_eq!(view.update("a", |count| Some(count.map_or(1, |count| count + 1))).unwrap(), Some(1));
    assert_eq!((view.put_if_absent("a", &9).unwrap(), view.put_if_absent("b", &9).unwrap()), (Some(2), None));
    assert_eq!((view.take("b").unwrap(), view.take("b").unwrap()), (Some(9), None));
    assert_eq!(view.update("a", |_| None).unwrap(), Some(2));
    assert_eq!(view.get("a").unwrap(), None);
    view.put("c", &1).unwrap();
    tx.commit().unwrap();
    // Text is as it is without types.
    assert_eq!(get(&engine, counts.keyspace(), "c").unwrap().as_bytes(), [0, 0, 0, 1]);
}

#[test]
fn what_was_written_with_another_type_is_refused_by_name() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, "key", "value", CommitMode::Async).unwrap();
    let numbers = TypedKeyspace::<String, u64>::from(keyspace.clone());
    let mut tx = engine.begin().unwrap();
    let error = tx.typed(&numbers).get("key").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    assert!(error.to_string().contains("'k'") && error.to_string().contains("u64"), "{error}");
    assert_eq!(kind_of(tx.typed(&numbers).pop_first()), ErrorKind::WrongType);
    assert_eq!(
        tx.typed(&TypedKeyspace::<String, String>::from(keyspace.clone())).get("key").unwrap().unwrap(),
        "value"
    );
    let keys = TypedKeyspace::<u16, String>::from(keyspace);
    assert_eq!(kind_of(tx.typed(&keys).iter().unwrap().next().unwrap()), ErrorKind::WrongType);
}

/// Exact while all is in memory; never wrong without saying so.
#[test]
fn how_many_there_are() {
    let engine: Engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let snapshots: Vec<_> = (0..5_usize)
        .map(|number| {
            put(&engine, &keyspace, &number.to_string(), "1", CommitMode::Async).unwrap();
            let snapshot = engine.snapshot().unwrap();
            assert_eq!(snapshot.len(&keyspace).unwrap(), Len::Exact(number + 1));
            snapshot
        })
        .collect();
    assert_eq!(snapshots[2].len(&keyspace).unwrap(), Len::About(5), "others were committed since");
    let mut batch = engine.batch().unwrap();
    batch.delete(&keyspace, "0").unwrap();
    batch.put(&keyspace, "1", "again").unwrap();
    batch.commit().unwrap();
    assert_eq!(engine.snapshot().unwrap().len(&keyspace).unwrap(), Len::Exact(4));
    let mut batch = engine.batch().unwrap();
    batch.delete_range(&keyspace, "1".."3").unwrap();
    batch.commit().unwrap();
    let snapshot = engine.snapshot().unwrap();
    match snapshot.len(&keyspace).unwrap() {
        Len::Exact(keys) => assert_eq!(keys, 2, "it was swept"),
        Len::About(keys) => assert!(keys <= 4),
    }
}
