//! A loaded index against one to which the same transactions were applied.

use proptest::prelude::*;

use super::*;
use crate::index::load::fault::{build_dies_at, load_dies_after, looks};
#[cfg(feature = "sim")]
use crate::rt::schedule;

/// What ships has no scheduler: there the operating system schedules the threads.
#[cfg(not(feature = "sim"))]
mod schedule {
    pub(super) fn run<T>(_seed: u64, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Puts (`Some`) and deletes: keyspace, key, value.
    Write(Vec<(u8, u8, Option<u8>)>),
    /// Creates a keyspace with a key in it, in one transaction.
    Create(u8),
    Drop(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..3_u8, 0..12_u8, proptest::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        12 => proptest::collection::vec(write, 1..5).prop_map(Step::Write),
        1 => any::<u8>().prop_map(Step::Create),
        1 => (0..3_u8).prop_map(Step::Drop),
    ]
}

/// Keys that are hard to tell apart: by one byte behind the first eight or sixteen, by zeros at the end, by their
/// length.
fn key_of(number: u8) -> Vec<u8> {
    let prefix: &[u8] = match number % 4 {
        0 => b"k",
        1 => b"k2345678",
        2 => b"k234567890123456",
        _ => return [b"k2345678".as_slice(), &vec![0; usize::from(number)]].concat(),
    };
    let length = if number == 10 { 2000 } else { 1 };
    [prefix, &vec![number; length]].concat()
}

/// Values, some of them large.
fn value_of(byte: u8) -> Vec<u8> {
    vec![byte; if byte.is_multiple_of(16) { 3000 } else { usize::from(byte % 16) }]
}

/// The transactions of some steps on three keyspaces, which are created first. Each step uses the keyspaces that exist
/// then.
fn batches(steps: &[Step]) -> Vec<BatchBuilder> {
    let mut ids = [1, 2, 3];
    let mut next = 4;
    let mut batches = vec![BatchBuilder::new()];
    for id in ids {
        batches[0].create_keyspace(id, &format!("space {id}")).unwrap();
    }
    for step in steps {
        let mut batch = BatchBuilder::new();
        match step {
            Step::Write(writes) => {
                for (space, key, value) in writes {
                    let (id, key) = (ids[usize::from(*space)], key_of(*key));
                    match value {
                        Some(value) => batch.put(id, &key, &value_of(*value)).unwrap(),
                        None => batch.delete(id, &key).unwrap(),
                    }
                }
            }
            Step::Create(value) => {
                batch.create_keyspace(next, &format!("space {next}")).unwrap();
                batch.put(next, b"k", b"gone").unwrap();
                batch.put(next, b"k", &[*value]).unwrap();
                batch.delete(ids[0], b"k\0").unwrap();
                next += 1;
            }
            Step::Drop(space) => {
                let id = &mut ids[usize::from(*space)];
                batch.drop_keyspace(*id).unwrap();
                batch.create_keyspace(next, &format!("space {next}")).unwrap();
                *id = next;
                next += 1;
            }
        }
        batches.push(batch);
    }
    batches
}

/// A keyspace: its id and name, the numbers of keys and versions that it reports, and its entries.
type Contents = (u32, String, usize, usize, Vec<(Key, Value)>);

/// Everything that can be observed of an index.
fn contents(index: &Index) -> Vec<Contents> {
    let at = index.visible();
    let of = |tree: &Arc<Tree>| {
        let counts = (tree.len_estimate(), tree.version_count());
        (tree.id(), tree.name().to_owned(), counts.0, counts.1, scan(tree, ALL, at))
    };
    index.keyspaces(at).unwrap().iter().map(of).collect()
}

fn load(batches: &[BatchBuilder], limits: Limits) -> Index {
    let mut loader = Loader::new(limits);
    for (number, batch) in (1..).zip(batches) {
        loader.add(Lsn::new(number * 8), &batch.batch()).unwrap().unwrap();
    }
    loader.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: cases(256), ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_index_is_one_that_was_written(
        steps in proptest::collection::vec(step(), 0..60),
        later in proptest::collection::vec(step(), 0..10),
        writes in 1..40_usize,
        bytes in 1..200_usize,
        alone in 0..400_usize,
    ) {
        let mut batches = batches(&[steps, later.clone()].concat());
        let behind = batches.split_off(batches.len() - later.len());
        let loaded = load(&batches, Limits { writes, bytes, alone });
        let written = write(&batches);
        prop_assert_eq!(contents(&loaded), contents(&written));
        // Later transactions find no difference either.
        for (number, batch) in (batches.len() as u64 + 1..).zip(&behind) {
            for index in [&loaded, &written] {
                index.apply(Lsn::new(number * 8), &batch.batch(), Lsn::new(number * 8)).unwrap();
                index.publish(Lsn::new(number * 8));
            }
        }
        for index in [&loaded, &written] {
            index.prune(index.visible(), usize::MAX);
        }
        prop_assert_eq!(contents(&loaded), contents(&written));
        prop_assert_eq!(loaded.next_keyspace_id(), written.next_keyspace_id());
    }
}

#[test]
fn what_cannot_be_applied_cannot_be_loaded() {
    let mut loader = Loader::new(Limits { writes: 2, bytes: 1000, alone: 0 });
    let mut add = |lsn, fill: &dyn Fn(&mut BatchBuilder)| {
        let mut batch = BatchBuilder::new();
        fill(&mut batch);
        loader.add(Lsn::new(lsn), &batch.batch()).unwrap()
    };
    add(8, &|batch| batch.create_keyspace(1, "one").unwrap()).unwrap();
    add(16, &|batch| batch.put(1, b"a", b"1").unwrap()).unwrap();
    assert_eq!(
        add(16, &|batch| batch.put(1, b"a", b"2").unwrap()),
        Err(ApplyError::LsnNotRising { lsn: Lsn::new(16), applied: Lsn::new(16) })
    );
    assert_eq!(add(24, &|batch| batch.put(2, b"a", b"2").unwrap()), Err(ApplyError::NoSuchKeyspace(2)));
    add(32, &|batch| batch.drop_keyspace(1).unwrap()).unwrap();
    assert_eq!(add(40, &|batch| batch.put(1, b"a", b"2").unwrap()), Err(ApplyError::NoSuchKeyspace(1)));
    assert_eq!(
        add(48, &|batch| batch.create_keyspace(1, "two").unwrap()),
        Err(ApplyError::IdNotRising { id: 1, next: 2 })
    );
}

/// Bundles are cut within a transaction: of its writes to one key, in different bundles, the last one wins.
#[test]
fn a_bundle_may_be_smaller_than_a_transaction() {
    let mut first = BatchBuilder::new();
    first.create_keyspace(1, "one").unwrap();
    let mut second = BatchBuilder::new();
    for round in 0..5_u8 {
        for key in (0..1000_u32).rev() {
            match key % 5 == u32::from(round) {
                true => second.delete(1, &key.to_be_bytes()).unwrap(),
                false => second.put(1, &key.to_be_bytes(), &[round; 10]).unwrap(),
            }
        }
    }
    let all = [first, second];
    let expected = contents(&write(&all));
    assert_eq!(expected[0].4.len(), 800);
    for limits in [(1, 1), (7, 1000), (300, 100_000)] {
        for alone in [0, usize::MAX] {
            let loaded = load(&all, Limits { writes: limits.0, bytes: limits.1, alone });
            assert!(contents(&loaded) == expected, "{limits:?}");
        }
    }
}

/// Sixty writes drawn from a seed, two in each transaction.
fn drawn(seed: u64) -> Vec<BatchBuilder> {
    let write = |number: u64| {
        let draw = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        let byte = |shift: u32| u8::try_from(draw >> shift & 7).expect("three bits");
        (byte(3) % 3, byte(17), (byte(30) > 1).then(|| byte(41)))
    };
    let steps = (0..30).map(|number| Step::Write(vec![write(number * 2), write(number * 2 + 1)]));
    batches(&steps.collect::<Vec<_>>())
}

/// Applies the same batches to an index one by one, as commits do.
fn write(batches: &[BatchBuilder]) -> Index {
    let written = Index::new();
    for (number, batch) in (1..).zip(batches) {
        written.apply(Lsn::new(number * 8), &batch.batch(), Lsn::new(number * 8)).unwrap();
        written.publish(Lsn::new(number * 8));
    }
    written.prune(written.visible(), usize::MAX);
    written
}

/// Enough data for several parts of a keyspace, so that several threads build. The bundles are small, so that keyspaces
/// are rebuilt several times, and so that few writes meet a large keyspace.
#[test]
fn what_many_threads_build_is_what_was_written() {
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut all = vec![BatchBuilder::new()];
    all[0].create_keyspace(1, "one").unwrap();
    all[0].create_keyspace(2, "two").unwrap();
    for number in 0..60_000_u64 {
        let mut batch = BatchBuilder::new();
        let id = if draw(10) == 0 { 2 } else { 1 };
        // First at random, then in order and above all others, then a few here and there.
        let key = match number {
            0..30_000 => draw(20_000) << 40,
            30_000..50_000 => 1 << 63 | number,
            _ => (draw(2_000) * 10) << 40,
        };
        match draw(5) {
            0 => batch.delete(id, &key.to_be_bytes()).unwrap(),
            kind => batch.put(id, &key.to_be_bytes(), &[kind.to_le_bytes()[0]; 100]).unwrap(),
        }
        if number == 55_000 {
            batch.create_keyspace(3, "three").unwrap();
        }
        all.push(batch);
    }
    let expected = contents(&write(&all));
    for writes in [700, 100_000] {
        let limits = Limits { writes, bytes: 1 << 30, alone: 0 };
        let loaded = schedule::run(writes as u64, || load(&all, limits));
        assert!(contents(&loaded) == expected, "bundles of {writes} writes");
        for tree in loaded.keyspaces(loaded.visible()).unwrap() {
            tree.check();
        }
    }
}

/// The thread that gathers and the thread that sorts, in an order drawn from a seed.
#[test]
fn two_threads_load_what_one_does() {
    for seed in 0..200 {
        let batches = drawn(seed);
        let alone = load(&batches, Limits { writes: 7, bytes: 1000, alone: usize::MAX });
        let both = schedule::run(seed, || load(&batches, Limits { writes: 7, bytes: 1000, alone: 0 }));
        assert_eq!(contents(&both), contents(&alone), "seed {seed}");
    }
}

/// The worker panics, before its first bundle or a later one. The load fails, whatever it waits for then.
#[test]
fn a_load_whose_thread_dies_is_an_error() {
    for seed in 0..200 {
        let batches = drawn(seed);
        let loaded = schedule::run(seed, || {
            load_dies_after(usize::try_from(seed % 7).unwrap());
            let mut loader = Loader::new(Limits { writes: 7, bytes: 1000, alone: 0 });
            for (number, batch) in (1..).zip(&batches) {
                loader.add(Lsn::new(number * 8), &batch.batch())?.unwrap();
            }
            loader.finish()
        });
        assert_eq!(loaded.err(), Some(Panicked), "seed {seed}");
    }
}

/// The thread that opens builds too. Its panic once unwound through the open, with the other threads still running.
#[test]
fn a_builder_that_dies_is_an_error() {
    let mut all = vec![BatchBuilder::new()];
    all[0].create_keyspace(1, "one").unwrap();
    for key in 0..4000_u32 {
        let mut batch = BatchBuilder::new();
        batch.put(1, &key.to_be_bytes(), &[7; 100]).unwrap();
        all.push(batch);
    }
    let limits = Limits { writes: 1000, bytes: 1 << 20, alone: 0 };
    let mut died = 0;
    for part in 0..20 {
        for seed in 0..5 {
            let loaded = schedule::run(seed, || {
                let mut loader = Loader::new(limits);
                for (number, batch) in (1..).zip(&all) {
                    loader.add(Lsn::new(number * 8), &batch.batch())?.unwrap();
                }
                build_dies_at(part);
                loader.finish()
            });
            died += u32::from(loaded.is_err());
        }
    }
    assert_eq!(died, 100, "there are more than 100 parts");
}

/// Thousands of small keyspaces in bundles of a few writes, as small segments make them. A merge looks at a keyspace
/// once for its writes, and not once for every bundle.
#[test]
fn many_keyspaces_with_few_writes_are_loaded() {
    let mut all = Vec::new();
    for id in 1..=500 {
        let mut batch = BatchBuilder::new();
        batch.create_keyspace(id, &id.to_string()).unwrap();
        all.push(batch);
    }
    for number in 0..5000_u32 {
        let mut batch = BatchBuilder::new();
        batch.put(1 + number * 7 % 500, &number.to_be_bytes(), b"value").unwrap();
        all.push(batch);
    }
    let loaded = load(&all, Limits { writes: 8, bytes: 1 << 20, alone: 0 });
    assert!(contents(&loaded) == contents(&write(&all)));
}

/// Each record that creates a keyspace has what was gathered merged. Each merge asked all keyspaces there were for their
/// sizes: 30,000 of them, each created and written to, were opened in far more time than they took to write.
#[test]
fn each_new_keyspace_costs_the_same() {
    let before = looks();
    let mut all = Vec::new();
    for id in 1..=2000 {
        let mut batch = BatchBuilder::new();
        batch.create_keyspace(id, &id.to_string()).unwrap();
        all.push(batch);
        let mut batch = BatchBuilder::new();
        batch.put(id, b"key", b"value").unwrap();
        all.push(batch);
    }
    let loaded = load(&all, Limits { writes: 8, bytes: 1 << 20, alone: 0 });
    assert_eq!(loaded.keyspaces(loaded.visible()).unwrap().len(), 2000);
    let looks = looks() - before;
    assert!((1..=4 * 2000).contains(&looks), "{looks} looks");
}
