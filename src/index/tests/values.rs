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
