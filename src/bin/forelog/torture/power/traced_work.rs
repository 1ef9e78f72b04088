//! One workload for a disk that is watched: the same operations, file by file, on every disk.

use std::path::Path;
use std::sync::Arc;

use forelog::unstable::disk::Disk;
use forelog::{Options, Result};

/// One thread, every commit synced, over several segments.
pub(crate) fn work(disk: Arc<dyn Disk>, dir: &Path) -> Result<()> {
    let engine = Options::new().segment_bytes(4096).open_on(disk, dir)?;
    let rows = engine.create_keyspace("rows")?;
    for number in 0_u32..40 {
        let mut transaction = engine.begin()?;
        transaction.put(&rows, number.to_be_bytes(), vec![b'r'; 40 + number as usize * 17 % 600])?;
        transaction.commit()?;
    }
    engine.close()
}
