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
