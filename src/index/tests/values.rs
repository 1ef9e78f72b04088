use super::*;

#[test]
fn a_value_compares_with_bytes_of_every_kind() {
    let value = Value::from(b"abc");
    assert_eq!(value, *b"abc");
    assert_eq!(value, b"abc");
    assert_eq!(value, b"abc".as_slice());
    assert_eq!(value, b"abc".to_vec());
    assert_eq!(value, Value::from(b"abc".to_vec()));
    assert_eq!(&value[1..], b"bc");
    let later = Value::from(b"abd");
    assert!(value < later);
}

#[test]
fn a_value_prints_as_bytes() {
    assert_eq!(format!("{:?}", Value::from(b"a\"\0")), r#"b"a\"\x00""#);
}

#[test]
fn a_clone_shares_the_bytes() {
    let value = Value::from(vec![1; 100]);
    assert_eq!(value.clone().as_ptr(), value.as_ptr());
}

/// An engine of 64 MiB counted 8 MB for 90 MB of keys that lay outside of their leaves, and forgot none.
#[test]
fn a_long_key_counts_as_long_as_it_has_a_record() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let long = |number: u16| [&number.to_be_bytes()[..], &[7; 2000]].concat();
    let outside = || tree.look().bytes().all - tree.bytes();
    (0..100).for_each(|number| _ = fixture.put(&long(number), b"value"));
    assert_eq!(outside(), 100 * 2002);
    (0..100).for_each(|number| _ = fixture.put(&long(number), &[1; 5000]));
    assert_eq!(outside(), 100 * 7002);
    (0..50).for_each(|number| _ = fixture.delete(&long(number)));
    fixture.prune();
    assert_eq!(outside(), 50 * 7002);
    (50..100).for_each(|number| _ = fixture.delete(&long(number)));
    fixture.prune();
    assert_eq!(outside(), 0);
}

/// A value that grows where its leaf has no room moves out of it, however small it is. What it takes there counts, and what
/// counts no more when it goes is what has counted.
#[test]
fn what_grows_out_of_a_leaf_counts_as_long_as_it_is_there() {
    let (mut fixture, tree) = Fixture::with_keyspace();
    let keys: Vec<[u8; 2]> = (0..400_u16).map(u16::to_be_bytes).collect();
    for length in [8, 900, 0] {
        for key in &keys {
            fixture.put(key, &vec![1; length]);
        }
        fixture.prune();
        let outside = tree.look().bytes().all - tree.bytes();
        match length {
            900 => assert!(outside >= 900 * keys.len() - tree.bytes() && outside.is_multiple_of(900), "{outside}"),
            _ => assert_eq!(outside, 0),
        }
    }
}
