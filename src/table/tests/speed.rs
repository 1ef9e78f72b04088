//! How long the parts of a checkpoint take: `cargo test --release --lib table::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;
use crate::disk::OsDisk;
use crate::format::batch::{Batch, BatchBuilder};
use crate::format::table::data::Interval;
use crate::table::checkpoint::Piece;
use crate::table::merge::Retain;
use crate::table::pace::Pacers;
use crate::table::sort::Sorter;

/// Writes a piece of the log of about 64 MiB, in records of one write with a key of 16 bytes and a value of this length.
fn measure(value: usize) {
    let payloads: Vec<(Lsn, Vec<u8>)> = {
        let count = (64 << 20) / (32 + 24 + 16 + value);
        let mut random = 1_u64;
        let lsns = (1..=count as u64).map(|number| Lsn::new(8 * number));
        let record = |lsn: Lsn| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut batch = BatchBuilder::new();
            let key = [random.to_be_bytes(), lsn.get().to_be_bytes()].concat();
            batch.put(0, &key, &vec![b'v'; value]).unwrap();
            (lsn, batch.batch().bytes().to_vec())
        };
        lsns.map(record).collect()
    };
    let dir = std::env::temp_dir().join(format!("forelog-speed-{}-{value}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let handle = OsDisk.open_dir(&dir).unwrap();
    let store = Store::new(table_dir(&handle).0, Pacers::default(), LOG_ID, None).unwrap();
    let begun = Instant::now();
    let mut keyspaces = KeyspaceList::default();
    let mut create = BatchBuilder::new();
    create.create_keyspace(0, "k").unwrap();
    keyspaces.add(Lsn::new(8), &create.batch());
    let mut sorter = Sorter::with_capacity(64 << 20);
    for (lsn, payload) in &payloads {
        sorter.add(*lsn, &Batch::parse(payload).unwrap());
    }
    let gathered = begun.elapsed();
    let writes = sorter.finish();
    let sorted = begun.elapsed();
    let to = payloads.last().unwrap().0;
    let (interval, horizon) = (Interval { from: Lsn::ZERO, to }, Retain { floor: to, ..Retain::default() });
    let piece = Piece { interval, branch: BRANCH, writes, ranges: Vec::new(), keyspaces, horizon, log_bytes: 64 << 20 };
    let mut layer = store.write_layer(piece, 32 << 20).unwrap();
    let written = begun.elapsed();
    let stack = layer.install(|oldest| oldest, |_| ()).unwrap();
    let done = begun.elapsed();
    let bytes: u64 = stack.manifest.layers[0].runs.iter().map(|run| run.file.length).sum();
    println!(
        "{} records of 16 + {value}: gather {gathered:.1?}, sort {:.1?}, write and sync {:.1?}, install {:.1?}; {} bytes",
        payloads.len(),
        sorted - gathered,
        written - sorted,
        done - written,
        bytes
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
#[ignore = "it measures"]
fn checkpoints_of_64_mib() {
    for value in [4, 100, 1000] {
        measure(value);
    }
}
