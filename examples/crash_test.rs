//! A program that crash-tests itself: clerks move money between accounts, in all commit modes at once, and whatever
//! moment a crash comes at, none is made and none is lost, and nothing is taken back that was promised to stay.
//!
//! `cargo run --example crash_test --features sim`

use forelog::sim::{Crash, CrashTest, Told, start};
use forelog::{CommitMode, Engine, ErrorKind, Token};

const MODES: [CommitMode; 3] = [CommitMode::Sync, CommitMode::Written, CommitMode::Async];

fn transfer(engine: &Engine, from: u8, to: u8, mode: CommitMode) -> forelog::Result<Token> {
    let accounts = engine.create_keyspace("accounts")?;
    let mut tx = engine.begin()?;
    let mut balance = |account| Ok::<u8, forelog::Error>(tx.get(&accounts, [account])?.map_or(100, |value| value[0]));
    let (less, more) = (balance(from)? - 1, balance(to)? + 1);
    tx.put(&accounts, [from], [less])?;
    tx.put(&accounts, [to], [more])?;
    Ok(tx.commit_with(mode)?.token())
}

fn work(engine: &Engine, told: &Told<(CommitMode, Token)>) {
    let clerks: Vec<_> = (0..3_u8)
        .map(|clerk| {
            let (engine, told) = (engine.clone(), told.clone());
            start("clerk", move || {
                for round in 0..6 {
                    let mode = MODES[usize::from(clerk + round) % 3];
                    match transfer(&engine, clerk, (clerk + round % 2 + 1) % 4, mode) {
                        Ok(token) => told.say((mode, token)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            })
        })
        .collect();
    clerks.into_iter().for_each(|clerk| clerk.join());
}

fn check(engine: &Engine, told: &[(CommitMode, Token)], crash: Crash) {
    if let Ok(accounts) = engine.open_keyspace("accounts") {
        let snapshot = engine.snapshot().unwrap();
        let balance =
            |account: u8| snapshot.get(&accounts, [account]).unwrap().map_or(100, |value| u32::from(value[0]));
        assert_eq!((0..4).map(balance).sum::<u32>(), 400, "money is conserved");
    }
    for (mode, token) in told {
        let stays = *mode == CommitMode::Sync || (*mode == CommitMode::Written && crash == Crash::ProcessKill);
        let outcome = engine.outcome(token).unwrap();
        assert!(!stays || outcome == forelog::Outcome::Durable, "{mode:?} {token} is {outcome:?} after {crash:?}");
    }
}

fn main() {
    for seed in 0..20 {
        let explored = CrashTest::new(seed).run(work, check);
        println!("seed {seed}: {} states at {} crash points", explored.states, explored.crash_points);
    }
}
