//! Promise 11 through `Engine::open` on real files: rot is refused (E1, E2), legal tears open (E3).
//!
//! `cargo test --release --test api no_silent_loss -- --ignored --nocapture` flips every bit; `cargo test` a sample.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crashkit::{Random, TempDir, contents_of, restore, seed};
use forelog::{CommitMode, Engine, ErrorKind, Key, LossBudget, Options, Value};

type Image = Vec<(PathBuf, Vec<u8>)>;
type Contents = Vec<(Key, Value)>;

const COMMITS: u32 = 100;

/// Without background flushes, so that the test decides what is synced.
fn options() -> Options {
    let hour = Duration::from_secs(3600);
    Options::new().segment_bytes(8192).flush_interval(hour).loss_budget(LossBudget::default().max_age(hour))
}

fn commit(engine: &Engine, number: u32, mode: CommitMode) {
    let keys = engine.create_keyspace("keys").expect("a keyspace");
    let mut tx = engine.begin().expect("a transaction");
    let value = vec![u8::try_from(number % 251).expect("small"); 20 + (number as usize * 37) % 300];
    tx.put(&keys, number.to_be_bytes(), value).expect("a write");
    tx.commit_with(mode).expect("a commit");
}

fn contents(engine: &Engine) -> Contents {
    match engine.open_keyspace("keys") {
        Ok(keys) => engine.snapshot().unwrap().iter(&keys).unwrap().map(Result::unwrap).collect(),
        Err(_) => Vec::new(),
    }
}

/// The files as a crash of the process leaves them, after `commits` commits of which every one is durable.
fn durable_log(dir: &Path, modes: &[CommitMode]) -> (Image, Contents) {
    let engine = options().open(dir).unwrap();
    for number in 0..COMMITS {
        commit(&engine, number, modes[number as usize % modes.len()]);
    }
    engine.flush().unwrap();
    let image = contents_of(dir);
    let contents = contents(&engine);
    assert_eq!(contents.len(), COMMITS as usize);
    (image, contents)
}

#[derive(Default, Debug)]
struct Flips {
    refused: usize,
    harmless: usize,
}

/// Flips one bit and opens: a refusal that changes nothing, or everything is there. Never fewer commits.
fn flip(dir: &Path, image: &Image, file: usize, bit: usize, expected: &Contents, flips: &mut Flips) {
    let mut image = image.clone();
    image[file].1[bit / 8] ^= 1 << (bit % 8);
    restore(dir, &image);
    match options().open(dir) {
        Err(error) => {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Damaged | ErrorKind::Unsupported), "file {file} bit {bit}: {error:?}");
            let unchanged = contents_of(dir).iter().map(|(_, bytes)| bytes).eq(image.iter().map(|(_, bytes)| bytes));
            assert!(unchanged, "the refusal of file {file} bit {bit} changed something");
            flips.refused += 1;
        }
        Ok(engine) => {
            assert!(contents(&engine) == *expected, "silent loss: file {file} bit {bit}");
            flips.harmless += 1;
        }
    }
}

fn sweep(modes: &[CommitMode], stride: impl Fn(&mut Random) -> usize) {
    let seed = seed(11);
    let dir = TempDir::new("flips");
    let (image, expected) = durable_log(&dir.join("source"), modes);
    let mut random = Random::new(seed);
    let mut flips = Flips::default();
    for file in 0..image.len() {
        let mut bit = stride(&mut random) - 1;
        while bit < image[file].1.len() * 8 {
            flip(&dir.join("copy"), &image, file, bit, &expected, &mut flips);
            bit += stride(&mut random);
        }
    }
    println!("{modes:?}: {flips:?}, silent 0");
    // Harmless is only what no frame has reached yet.
    assert!(flips.refused > flips.harmless);
}

#[test]
fn e1_e2_a_sample_of_flipped_bits_is_refused_or_harmless() {
    sweep(&[CommitMode::Sync], |random| 1 + random.below(300));
    sweep(&[CommitMode::Sync, CommitMode::Written, CommitMode::Async], |random| 1 + random.below(300));
}

#[test]
#[ignore = "a campaign of some minutes"]
fn e1_e2_every_flipped_bit_is_refused_or_harmless() {
    for modes in [
        &[CommitMode::Sync][..],
        &[CommitMode::Written],
        &[CommitMode::Async],
        &[CommitMode::Sync, CommitMode::Written, CommitMode::Async],
    ] {
        sweep(modes, |_| 1);
    }
}

#[test]
fn e2_every_bit_of_the_last_durable_record_is_refused() {
    let dir = TempDir::new("last");
    let (image, expected) = durable_log(&dir.join("source"), &[CommitMode::Sync]);
    let mut last = None;
    forelog::unstable::inspect::dump::<forelog::Error>(dir.join("source"), |frame| {
        if frame.length > 0 {
            last = Some(frame.clone());
        }
        Ok(())
    })
    .unwrap();
    let last = last.unwrap();
    let file = image.iter().position(|(path, _)| path.ends_with(&last.segment)).unwrap();
    let base = u64::from_str_radix(&last.segment[..16], 16).unwrap();
    let offset = |lsn: forelog::Lsn| usize::try_from(lsn.get() - base).unwrap();
    let mut flips = Flips::default();
    for bit in offset(last.position) * 8..offset(last.lsn) * 8 {
        flip(&dir.join("copy"), &image, file, bit, &expected, &mut flips);
    }
    println!("the last durable record: {flips:?}");
    assert_eq!(flips.harmless, 0);
}

#[test]
fn e3_every_legal_state_of_three_unsynced_groups_opens() {
    let dir = TempDir::new("tears");
    let source = dir.join("source");
    let engine = options().open(&source).unwrap();
    for number in 0..20 {
        commit(&engine, number, CommitMode::Sync);
    }
    let durable = contents(&engine).len();
    let mut before = contents_of(&source);
    for number in 20..38 {
        // The sixth commit of a group writes it, and no fsync follows.
        commit(&engine, number, if number % 6 == 1 { CommitMode::Written } else { CommitMode::Async });
    }
    let all = contents(&engine);
    let after = contents_of(&source);
    drop(engine);
    // The next segment may have been prepared in between; it holds no log.
    before.extend(
        after.iter().filter(|(path, _)| !before.iter().any(|(known, _)| known == path)).cloned().collect::<Vec<_>>(),
    );
    before.sort();
    let sectors: Vec<(usize, usize)> = (0..after.len())
        .flat_map(|file| (0..after[file].1.len() / 512).map(move |sector| (file, sector * 512)))
        .filter(|&(file, at)| before[file].1[at..at + 512] != after[file].1[at..at + 512])
        .collect();
    assert!((4..=12).contains(&sectors.len()), "{} sectors", sectors.len());
    let mut lengths = std::collections::BTreeMap::new();
    for landed in 0..1u32 << sectors.len() {
        let mut image = before.clone();
        for (index, &(file, at)) in sectors.iter().enumerate() {
            if landed & (1 << index) != 0 {
                image[file].1[at..at + 512].copy_from_slice(&after[file].1[at..at + 512]);
            }
        }
        restore(&dir.join("copy"), &image);
        let engine = options()
            .open(dir.join("copy"))
            .unwrap_or_else(|error| panic!("legal state {landed:b} refused: {error:?}"));
        let found = contents(&engine);
        assert!(found.len() >= durable && all.starts_with(&found), "state {landed:b} is no prefix");
        *lengths.entry(found.len()).or_insert(0) += 1;
    }
    println!(
        "{} sectors, {} states opened, refused 0; commits kept: {lengths:?}",
        sectors.len(),
        1u32 << sectors.len()
    );
    assert!(lengths.len() > 3, "the states differ");
}

#[test]
fn values_made_of_the_logs_own_bytes_are_never_taken_for_frames() {
    let dir = TempDir::new("own-bytes");
    let source = dir.join("source");
    let (image, _) = durable_log(&source, &[CommitMode::Sync]);
    let engine = options().open(&source).unwrap();
    let keys = engine.create_keyspace("keys").unwrap();
    for (number, (_, bytes)) in image.iter().enumerate() {
        let mut tx = engine.begin().unwrap();
        tx.put(&keys, format!("copy {number}"), bytes).unwrap();
        tx.commit_with(CommitMode::Sync).unwrap();
    }
    let expected = contents(&engine);
    let durable = contents_of(&source);
    // The first sector of one more such record is lost, the copies of old frames in it land.
    let mut tx = engine.begin().unwrap();
    tx.put(&keys, b"torn", image.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()).unwrap();
    tx.commit_with(CommitMode::Written).unwrap();
    let mut torn = contents_of(&source);
    drop(engine);
    let (file, first) = (0..durable.len())
        .find_map(|file| {
            durable[file].1.chunks(512).zip(torn[file].1.chunks(512)).position(|(a, b)| a != b).map(|s| (file, s))
        })
        .expect("something was written");
    torn[file].1[first * 512..(first + 1) * 512].copy_from_slice(&durable[file].1[first * 512..(first + 1) * 512]);
    restore(&dir.join("copy"), &torn);
    let engine = options().open(dir.join("copy")).unwrap();
    assert!(contents(&engine) == expected);
}
