//! Salvage of keyspaces whose names are lost, among those whose names are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use forelog::salvage::Salvaged;
use forelog::sim::SimDisk;
use forelog::{CommitMode, Engine, Options};

use crashkit::{DB, open_on};

const LOST: &str = "the-name-that-is-lost";

/// What a program did, in order.
#[derive(Clone, Copy)]
enum Step {
    Create(&'static str),
    Put(&'static str, &'static str),
    Drop(&'static str),
}

use Step::{Create, Drop, Put};

/// Does the steps, and rots the record that created [`LOST`].
fn damaged(steps: &[Step]) -> SimDisk {
    let disk = SimDisk::new();
    let engine = open_on(&disk, Options::new().segment_bytes(4096)).unwrap();
    for step in steps {
        match step {
            Create(name) => _ = engine.create_keyspace(name).unwrap(),
            Put(name, key) => {
                let mut batch = engine.batch().unwrap();
                batch.put(&engine.open_keyspace(name).unwrap(), key, key.repeat(50)).unwrap();
                batch.commit_with(CommitMode::Sync).unwrap();
            }
            Drop(name) => _ = engine.drop_keyspace(name).unwrap(),
        }
    }
    engine.close().unwrap();
    let is_lost = |bytes: &[u8]| bytes.windows(LOST.len()).position(|window| window == LOST.as_bytes());
    let logs = disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "log"));
    let (path, at) = logs.filter_map(|(path, bytes)| Some((path, is_lost(&bytes)?))).next().expect("it was created");
    disk.flip_bit(path, at as u64 * 8).unwrap();
    disk
}

type Keys = BTreeMap<String, Vec<String>>;

fn salvaged(steps: &[Step]) -> (Salvaged, Keys) {
    let disk: Arc<SimDisk> = Arc::new(damaged(steps));
    let report = Engine::salvage_on(disk.clone(), DB, "saved").unwrap();
    let engine = Options::new().create(false).open_on(disk, "saved").unwrap();
    let snapshot = engine.snapshot().unwrap();
    let keys = |name: &String| {
        let keyspace = snapshot.keyspace(name).unwrap().unwrap();
        let keys = snapshot.iter(&keyspace).unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            let key = String::from_utf8(key.to_vec()).unwrap();
            assert_eq!(value, key.repeat(50).as_bytes());
            key
        });
        keys.collect()
    };
    let found = snapshot.keyspace_names().unwrap().iter().map(|name| (name.clone(), keys(name))).collect();
    (report, found)
}

/// Salvages, and checks what is in which keyspace, and which of them has a made-up name.
fn check(steps: &[Step], expected: &[(&str, &[&str])], made_up: &[&str]) {
    let (report, found) = salvaged(steps);
    let expected: Keys = expected
        .iter()
        .map(|(name, keys)| ((*name).to_owned(), keys.iter().map(ToString::to_string).collect()))
        .collect();
    assert_eq!(found, expected);
    let names: Vec<&str> = report.renamed.iter().map(|renamed| renamed.name.as_str()).collect();
    assert_eq!(names, made_up);
    assert!(report.renamed.iter().all(|renamed| renamed.id == 1));
}

/// The rows of a keyspace whose creation was lost were saved under the made-up name "salvaged-1". Then came the creation
/// of a keyspace that its user had called so: it was taken for a namesake, and the rows, all proven whole, were dropped.
#[test]
fn a_made_up_name_gives_way_to_one_that_a_user_chose() {
    check(
        &[
            Create(LOST),
            Put(LOST, "row1"),
            Put(LOST, "row2"),
            Create("salvaged-1"),
            Put("salvaged-1", "other"),
            Put(LOST, "row3"),
        ],
        &[("salvaged-1", &["other"]), ("salvaged-1+", &["row1", "row2", "row3"])],
        &["salvaged-1+"],
    );
}

#[test]
fn a_made_up_name_gives_way_as_often_as_it_must() {
    check(
        &[
            Create(LOST),
            Put(LOST, "row1"),
            Create("salvaged-1"),
            Put("salvaged-1", "a"),
            Put(LOST, "row2"),
            Create("salvaged-1+"),
            Put("salvaged-1+", "b"),
            Create("last"),
            Put("last", "c"),
            Put(LOST, "row3"),
        ],
        &[
            ("last", &["c"]),
            ("salvaged-1", &["a"]),
            ("salvaged-1+", &["b"]),
            ("salvaged-1++", &["row1", "row2", "row3"]),
        ],
        &["salvaged-1++"],
    );
}

#[test]
fn a_name_that_was_in_use_before_is_not_made_up() {
    check(
        &[
            Create(LOST),
            Create("salvaged-1"),
            Put("salvaged-1", "other"),
            Drop("salvaged-1"),
            Put(LOST, "row1"),
            Create("salvaged-1"),
            Put("salvaged-1", "again"),
        ],
        &[("salvaged-1", &["again"]), ("salvaged-1+", &["row1"])],
        &["salvaged-1+"],
    );
}

#[test]
fn a_keyspace_without_a_name_that_is_dropped_is_gone() {
    check(
        &[Create(LOST), Put(LOST, "row1"), Drop(LOST), Create("salvaged-1"), Put("salvaged-1", "other")],
        &[("salvaged-1", &["other"])],
        &[],
    );
}
