//! Commits the same write in every mode and shows when each became durable.
//!
//! `cargo run --example modes`

use std::time::{Duration, Instant};

use forelog::{CommitMode, Engine};

fn main() -> forelog::Result<()> {
    let dir = std::env::temp_dir().join(format!("forelog-example-{}", std::process::id()));
    let engine = Engine::open(&dir)?;
    let events = engine.create_keyspace("events")?;
    let modes =
        [CommitMode::Sync, CommitMode::Written, CommitMode::Async, CommitMode::Within(Duration::from_millis(2))];
    for mode in modes {
        let mut tx = engine.begin()?;
        tx.put(&events, format!("{mode:?}"), "happened")?;
        let start = Instant::now();
        let receipt = tx.commit_with(mode)?;
        let returned = start.elapsed();
        let at_risk = engine.at_risk().commits;
        receipt.wait()?;
        println!("{mode:?}: returned after {returned:?} with {at_risk} at risk, durable after {:?}", start.elapsed());
    }
    println!("a crash now would take {} commits", engine.at_risk().commits);
    engine.close()?;
    // The example leaves nothing behind.
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}
