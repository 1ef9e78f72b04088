//! One workload for a disk that is watched: the same operations, file by file, on every disk. Two tests hold the
//! simulated disk and real file systems to one list, so the crash states of both follow from one sequence.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forelog::unstable::disk::Disk;
use forelog::{Options, Result};

/// One thread, every commit synced, over several segments.
pub fn watched_work(disk: Arc<dyn Disk>, dir: &Path) -> Result<()> {
    let engine = Options::new().segment_bytes(4096).open_on(disk, dir)?;
    let rows = engine.create_keyspace("rows")?;
    for number in 0_u32..40 {
        let mut transaction = engine.begin()?;
        transaction.put(&rows, number.to_be_bytes(), vec![b'r'; 40 + number as usize * 17 % 600])?;
        transaction.commit()?;
    }
    // A close does not wait for a segment that is being prepared, and then it is never made.
    while engine.stats().segments_prepared < prepared_ahead() {
        std::thread::sleep(Duration::from_millis(1));
    }
    engine.close()
}

/// How many segments the list has but for the first one, which the begin makes.
fn prepared_ahead() -> u64 {
    OPERATIONS.lines().filter(|line| line.starts_with("Create ") && line.ends_with(".log.tmp")).count() as u64 - 1
}

/// What [`watched_work`] does: a line for each operation, `KIND FILE …`.
const OPERATIONS: &str = include_str!("watched.txt");

/// The operations of [`watched_work`] by the file that they are done to.
pub fn watched_operations() -> BTreeMap<String, Vec<String>> {
    by_file(OPERATIONS.lines())
}

/// Operations by the file that they are done to: what two threads do to two files comes in any order.
pub fn by_file<'a>(operations: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for operation in operations {
        let file = operation.split(' ').nth(1).expect("KIND FILE …");
        files.entry(file.to_owned()).or_default().push(operation.to_owned());
    }
    files
}
