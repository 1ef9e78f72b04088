//! One thread does everything: a hundred tasks commit with `Sync` while a heartbeat shows that none of them stops the others.
//!
//! `cargo run -p forelog-programs --bin current_thread`

use std::time::{Duration, Instant};

use forelog::CommitMode;
use forelog_programs::Database;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = Database::make("current-thread")?;
    let heartbeat = tokio::spawn(async {
        let (mut worst, mut before) = (Duration::ZERO, Instant::now());
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            worst = worst.max(before.elapsed());
            before = Instant::now();
        }
        worst
    });
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let (engine, events) = (database.engine.clone(), database.events.clone());
        tasks.spawn(async move {
            let mut tx = engine.begin()?;
            tx.put(&events, number.to_be_bytes(), "happened")?;
            tx.commit_async(CommitMode::Sync).await
        });
    }
    let mut durable = 0;
    while let Some(receipt) = tasks.join_next().await {
        durable += usize::from(receipt??.is_durable());
    }
    println!("{durable} commits are durable; longest time between two heartbeats of 1 ms: {:?}", heartbeat.await?);
    Ok(())
}
