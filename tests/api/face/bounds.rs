//! `range` takes every kind of bounds, of everything that is bytes. That this compiles is half of the test.

use std::ops::Bound::{Excluded, Included, Unbounded};

use forelog::{Engine, KeyBounds, Keyspace};

struct Fixture {
    engine: Engine,
    keys: Keyspace,
}

/// The keys "a" to "e".
fn fixture() -> Fixture {
    let engine = Engine::in_memory().unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    let mut batch = engine.batch().unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        batch.put(&keys, key, "").unwrap();
    }
    batch.commit().unwrap();
    Fixture { engine, keys }
}

impl Fixture {
    /// What a snapshot and a transaction find in `range`.
    #[track_caller]
    fn finds(&self, range: impl KeyBounds, expected: &str) {
        let text = |entries: forelog::Entries| -> String {
            entries.map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap()).collect()
        };
        let snapshot = self.engine.snapshot().unwrap();
        assert_eq!(text(snapshot.range(&self.keys, &range).unwrap()), expected);
        let mut tx = self.engine.begin().unwrap();
        assert_eq!(text(tx.range(&self.keys, range).unwrap()), expected);
    }
}

/// Each form of a range, of two values that are bytes.
macro_rules! every_form {
    ($db:expr, $b:expr, $d:expr) => {{
        let db: &Fixture = $db;
        db.finds($b..$d, "bc");
        db.finds($b..=$d, "bcd");
        db.finds($b.., "bcde");
        db.finds(..$d, "abc");
        db.finds(..=$d, "abcd");
        db.finds((Included($b), Excluded($d)), "bc");
        db.finds((Excluded($b), Included($d)), "cd");
        db.finds((Excluded($b), Unbounded), "cde");
        db.finds((Unbounded, Excluded($d)), "abc");
        db.finds(&($b..$d), "bc");
    }};
}

#[test]
fn every_form_of_a_range_of_everything_that_is_bytes() {
    let db = &fixture();
    let (b, d) = (vec![b'b'], vec![b'd']);
    let (text_b, text_d) = (String::from("b"), String::from("d"));
    let (boxed_b, boxed_d) = (b.clone().into_boxed_slice(), d.clone().into_boxed_slice());
    let entries = db.engine.snapshot().unwrap().range(&db.keys, "b"..="d").unwrap();
    let keys: Vec<_> = entries.map(|entry| entry.unwrap().0).collect();
    every_form!(db, "b", "d");
    every_form!(db, b"b", b"d");
    every_form!(db, [b'b'], [b'd']);
    let (array_b, array_d) = ([b'b'], [b'd']);
    every_form!(db, &array_b, &array_d);
    every_form!(db, b.as_slice(), d.as_slice());
    every_form!(db, b.clone(), d.clone());
    every_form!(db, &b, &d);
    every_form!(db, text_b.clone(), text_d.clone());
    every_form!(db, &text_b, &text_d);
    every_form!(db, &boxed_b, &boxed_d);
    every_form!(db, &keys[0], &keys[2]);
    every_form!(db, std::borrow::Cow::from(b"b"), std::borrow::Cow::from(b"d"));
    db.finds([98]..[100], "bc");
}

#[test]
fn the_whole_range_has_no_type_to_name() {
    let db = fixture();
    db.finds(.., "abcde");
    let snapshot = db.engine.snapshot().unwrap();
    assert_eq!(snapshot.range(&db.keys, ..).unwrap().count(), 5);
    assert_eq!(db.engine.begin().unwrap().range(&db.keys, ..).unwrap().count(), 5);
}

/// A range type of a user's own is one call away.
#[test]
fn a_range_of_ones_own() {
    struct From(&'static str);
    impl KeyBounds for From {
        fn bounds(&self) -> (std::ops::Bound<&[u8]>, std::ops::Bound<&[u8]>) {
            (Included(self.0.as_bytes()), Unbounded)
        }
    }
    let db = fixture();
    db.finds(From("d"), "de");
    db.finds((Included("a"), Excluded("a")), "");
    db.finds("d".."b", "");
}
