use proptest::prelude::*;

use super::*;

const GOLDEN: &[u8] = &[
    1, // version
    3, 1, 3, b'a', b'c', b'c', // create keyspace 1 "acc"
    1, 1, 5, b'a', b'l', b'i', b'c', b'e', 2, b'9', b'0', // put alice = 90
    2, 0xAC, 0x02, 1, b'x', // delete x in keyspace 300
    1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0, // put "" = "" in the last keyspace
    5, 2, 1, 1, b'b', 2, b'c', 0, // delete b..c\0 in keyspace 2
    5, 2, 0, 0, // delete all of it
    4, 1, // drop keyspace 1
];

fn golden_ops() -> Vec<Op<'static>> {
    vec![
        Op::CreateKeyspace { keyspace: 1, name: "acc" },
        Op::Put { keyspace: 1, key: b"alice", value: b"90" },
        Op::Delete { keyspace: 300, key: b"x" },
        Op::Put { keyspace: u32::MAX, key: b"", value: b"" },
        Op::DeleteRange { keyspace: 2, from: b"b", to: Some(b"c\0") },
        Op::DeleteRange { keyspace: 2, from: b"", to: None },
        Op::DropKeyspace { keyspace: 1 },
    ]
}

fn encode(ops: &[Op<'_>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for op in ops {
        let before = builder.len();
        builder.push(op).unwrap();
        assert_eq!(builder.len() - before, encoded_len(op), "{op:?}");
    }
    builder.batch().bytes().to_vec()
}

fn refused(bytes: &[u8]) -> (usize, Reason) {
    let malformed = Batch::parse(bytes).unwrap_err();
    (malformed.offset, malformed.reason)
}

#[test]
fn an_operation_prints_no_more_than_a_line() {
    let long = vec![0; 60_000];
    for op in [Op::Put { keyspace: 1, key: &long, value: &long }, Op::Delete { keyspace: 1, key: &long }] {
        let text = format!("{op:?}");
        assert!(text.len() < 400 && text.contains("60000 bytes"), "{text:.500}");
    }
    let texts = golden_ops().iter().map(|op| format!("{op:?}")).collect::<Vec<_>>();
    assert_eq!(texts[1..3], [r#"Put(1, "alice" = "90")"#, r#"Delete(300, "x")"#]);
    assert_eq!(texts[4..6], [r#"DeleteRange(2, "b".."c\x00")"#, r#"DeleteRange(2, ""..)"#]);
}

#[test]
fn a_builder_takes_in_batches_and_is_used_again() {
    let golden = Batch::parse(GOLDEN).unwrap();
    let mut all = BatchBuilder::new();
    all.put(7, b"gone", b"gone").unwrap();
    all.clear();
    all.append(&golden);
    assert_eq!((all.batch().bytes(), all.batch().len()), (GOLDEN, golden.len()));
    all.delete(1, b"more").unwrap();
    all.append(&golden);
    let (all, len) = (Batch::parse(all.batch().bytes()).unwrap(), golden.len());
    assert_eq!(all.len(), 2 * len + 1);
    assert!(all.iter().take(len).eq(&golden) && all.iter().skip(len + 1).eq(&golden));
}

#[test]
fn a_batch_tells_whether_it_only_writes() {
    let mut builder = BatchBuilder::new();
    builder.put(1, b"key", b"value").unwrap();
    builder.delete(1, b"key").unwrap();
    let writes = builder.clone();
    builder.drop_keyspace(1).unwrap();
    for (builder, expected) in [(&writes, true), (&builder, false)] {
        assert_eq!(builder.batch().only_writes(), expected);
        assert_eq!(Batch::parse(builder.batch().bytes()).unwrap().only_writes(), expected);
    }
    let mut all = writes.clone();
    all.append(&builder.batch());
    assert!(!all.batch().only_writes());
    all.clear();
    assert!(all.batch().only_writes());
}

#[test]
fn a_batch_tells_whether_it_deletes_a_range() {
    let mut builder = BatchBuilder::new();
    builder.put(1, b"key", b"value").unwrap();
    assert!(!builder.batch().has_ranges());
    builder.delete_range(1, b"a", None).unwrap();
    let batch = Batch::parse(builder.batch().bytes()).unwrap();
    assert!(builder.batch().has_ranges() && batch.has_ranges() && batch.only_writes());
}

#[test]
fn of_a_write_that_a_later_range_covers_nothing_is_left() {
    let put = |keyspace, key| Op::Put { keyspace, key, value: b"v" };
    let range = |from, to| Op::DeleteRange { keyspace: 1, from, to };
    let ops = [
        put(1, b"b"),
        put(2, b"b"),
        Op::Delete { keyspace: 1, key: b"a" },
        put(1, b"c"),
        range(b"b", Some(b"c")),
        put(1, b"b"),
        put(1, b"d"),
        Op::CreateKeyspace { keyspace: 3, name: "three" },
        range(b"d", None),
        put(1, b"e"),
    ];
    let bytes = encode(&ops);
    let left: Vec<_> = Batch::parse(&bytes).unwrap().effective().collect();
    assert_eq!(left, [&ops[1..6], &ops[7..]].concat());
}

#[test]
fn the_golden_bytes_are_written_and_read() {
    assert_eq!(encode(&golden_ops()), GOLDEN);
    assert_eq!(include_bytes!("../../fuzz/seeds/batch/golden"), GOLDEN, "the fuzz target begins with it");
    let batch = Batch::parse(GOLDEN).unwrap();
    assert_eq!(batch.len(), 7);
    assert_eq!(batch.iter().collect::<Vec<_>>(), golden_ops());
}

#[test]
fn a_batch_may_be_empty() {
    assert_eq!(BatchBuilder::new().batch().bytes(), [1]);
    let batch = Batch::parse(&[1]).unwrap();
    assert!(batch.is_empty());
    assert_eq!(batch.iter().next(), None);
}

#[test]
fn each_way_to_be_malformed_is_named_with_its_place() {
    assert_eq!(refused(&[]), (0, Reason::Truncated));
    assert_eq!(refused(&[2, 4, 1]), (0, Reason::Version(2)));
    assert_eq!(refused(&[1, 0]), (1, Reason::Tag(0)));
    assert_eq!(refused(&[1, 4, 1, 6]), (3, Reason::Tag(6)));
    assert_eq!(refused(&[1, 5, 1, 2, 0]), (3, Reason::Form(2)));
    assert_eq!(refused(&[1, 5, 1, 1, 1, b'b', 1, b'b']), (3, Reason::EmptyRange));
    assert_eq!(refused(&[1, 5, 1, 1, 0, 0]), (3, Reason::EmptyRange));
    assert_eq!(refused(&[1, 5, 1, 0]), (4, Reason::Truncated));
    assert_eq!(refused(&[1, 4]), (2, Reason::Truncated));
    assert_eq!(refused(&[1, 4, 0x80]), (3, Reason::Truncated));
    assert_eq!(refused(&[1, 4, 0x80, 0]), (2, Reason::NotMinimal));
    assert_eq!(refused(&[1, 4, 0x80, 0x80, 0x80, 0x80, 0]), (2, Reason::NotMinimal));
    assert_eq!(refused(&[1, 4, 0x80, 0x80, 0x80, 0x80, 0x10]), (2, Reason::TooLarge));
    assert_eq!(refused(&[1, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), (2, Reason::TooLarge));
    assert_eq!(refused(&[1, 2, 1, 2, b'x']), (3, Reason::Truncated));
    assert_eq!(refused(&[1, 1, 1, 1, b'x', 1]), (5, Reason::Truncated));
    assert_eq!(refused(&[1, 3, 1, 0]), (3, Reason::NameLength(0)));
    assert_eq!(refused(&[1, 3, 1, 2, 0xC3, 0x28]), (3, Reason::NameEncoding));
}

#[test]
fn a_length_over_its_limit_is_refused_whatever_follows() {
    assert_eq!(refused(&[1, 2, 1, 0x80, 0x80, 0x04]), (3, Reason::KeyLength(65_536)));
    assert_eq!(refused(&[1, 5, 1, 0, 0x81, 0x80, 0x04]), (4, Reason::BoundLength(65_537)));
    assert_eq!(refused(&[1, 1, 1, 0, 0x81, 0x80, 0x80, 0x20]), (4, Reason::ValueLength((64 << 20) + 1)));
    assert_eq!(refused(&[1, 3, 1, 0x80, 0x02]), (3, Reason::NameLength(256)));
    assert_eq!(refused(&[1, 2, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), (3, Reason::KeyLength(0xFFFF_FFFF)));
}

#[test]
fn every_cut_of_a_batch_is_whole_operations_or_refused() {
    let whole = [1, 7, 18, 23, 31, 39, 43, GOLDEN.len()];
    for end in 0..=GOLDEN.len() {
        assert_eq!(Batch::parse(&GOLDEN[..end]).is_ok(), whole.contains(&end), "cut at {end}");
    }
}

#[test]
fn the_limits_can_be_reached_and_not_passed() {
    let longest_key = vec![7; MAX_KEY_LEN];
    let longest_bound = vec![7; MAX_BOUND_LEN];
    let longest_name = "n".repeat(MAX_KEYSPACE_NAME_LEN);
    let ops = [
        Op::Put { keyspace: 1, key: &longest_key, value: &vec![8; MAX_VALUE_LEN] },
        Op::CreateKeyspace { keyspace: 2, name: &longest_name },
        Op::DeleteRange { keyspace: 1, from: &longest_key, to: Some(&longest_bound) },
    ];
    assert!(Batch::parse(&encode(&ops)).unwrap().iter().eq(ops));

    let mut builder = BatchBuilder::new();
    assert_eq!(builder.delete(1, &vec![7; MAX_KEY_LEN + 1]), Err(Reason::KeyLength(MAX_KEY_LEN + 1)));
    assert_eq!(builder.put(1, b"k", &vec![8; MAX_VALUE_LEN + 1]), Err(Reason::ValueLength(MAX_VALUE_LEN + 1)));
    assert_eq!(builder.create_keyspace(1, ""), Err(Reason::NameLength(0)));
    assert_eq!(builder.create_keyspace(1, &"n".repeat(256)), Err(Reason::NameLength(256)));
    assert_eq!(builder.batch().bytes(), [1], "what was refused left nothing behind");
}

#[derive(Clone, Debug)]
enum OwnedOp {
    Put(u32, Vec<u8>, Vec<u8>),
    Delete(u32, Vec<u8>),
    DeleteRange(u32, Vec<u8>, Option<Vec<u8>>),
    Create(u32, String),
    Drop(u32),
}

impl OwnedOp {
    fn borrow(&self) -> Op<'_> {
        match self {
            OwnedOp::Put(keyspace, key, value) => Op::Put { keyspace: *keyspace, key, value },
            OwnedOp::Delete(keyspace, key) => Op::Delete { keyspace: *keyspace, key },
            OwnedOp::DeleteRange(keyspace, from, to) => {
                Op::DeleteRange { keyspace: *keyspace, from, to: to.as_deref().filter(|to| *to > from.as_slice()) }
            }
            OwnedOp::Create(keyspace, name) => Op::CreateKeyspace { keyspace: *keyspace, name },
            OwnedOp::Drop(keyspace) => Op::DropKeyspace { keyspace: *keyspace },
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..300)
}

fn any_op() -> impl Strategy<Value = OwnedOp> {
    prop_oneof![
        (any::<u32>(), bytes(), bytes()).prop_map(|(id, key, value)| OwnedOp::Put(id, key, value)),
        (0..200_u32, bytes()).prop_map(|(id, key)| OwnedOp::Delete(id, key)),
        (any::<u32>(), bytes(), proptest::option::of(bytes()))
            .prop_map(|(id, from, to)| OwnedOp::DeleteRange(id, from, to)),
        (any::<u32>(), proptest::collection::vec(any::<char>(), 1..60))
            .prop_map(|(id, name)| OwnedOp::Create(id, name.into_iter().collect())),
        any::<u32>().prop_map(OwnedOp::Drop),
    ]
}

/// Bytes that pass the first checks more often than random bytes do.
fn nearly_a_batch() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => 0..7_u8, 1 => any::<u8>(), 1 => Just(0x80_u8)];
    proptest::collection::vec(byte, 0..60).prop_map(|mut bytes| {
        bytes.insert(0, BATCH_VERSION);
        bytes
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(ops in proptest::collection::vec(any_op(), 0..20)) {
        let ops: Vec<Op<'_>> = ops.iter().map(OwnedOp::borrow).collect();
        let bytes = encode(&ops);
        let batch = Batch::parse(&bytes).unwrap();
        prop_assert_eq!(batch.len(), ops.len());
        prop_assert_eq!(batch.iter().collect::<Vec<_>>(), ops);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop_oneof![bytes(), nearly_a_batch()]) {
        match Batch::parse(&bytes) {
            // There is only one encoding, so an accepted batch encodes to the same bytes again.
            Ok(batch) => prop_assert_eq!(encode(&batch.iter().collect::<Vec<_>>()), bytes),
            Err(malformed) => prop_assert!(malformed.offset <= bytes.len()),
        }
    }
}
