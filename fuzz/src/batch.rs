//! Any bytes either are a batch that reads back, or are refused; never a panic.

use forelog::unstable::format::{Batch, BatchBuilder};

pub fn target(bytes: &[u8]) {
    let Ok(batch) = Batch::parse(bytes) else { return };
    let mut again = BatchBuilder::new();
    for op in batch.iter() {
        again.push(&op).expect("what was read can be written");
    }
    assert_eq!(again.batch().bytes(), bytes, "one batch, one encoding");
}
