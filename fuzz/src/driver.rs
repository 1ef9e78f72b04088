//! Runs a target without cargo-fuzz: over the files named on the command line, or else over inputs drawn from
//! `FORELOG_SEED`: some anew, most by changes to the seeds in `seeds/`. `FORELOG_INPUTS` says how many.

use std::path::Path;

use crashkit::{Random, number};

const INPUTS: u64 = 20_000;
const LONGEST: usize = 512;

/// The seeds of a target: every file in its folder, in order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("fuzz/seeds").join(name));
    let Some(folder) = folder.into_iter().find(|folder| folder.is_dir()) else { return Vec::new() };
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

/// The next input: one in four is drawn anew, the others are a seed with a few bytes changed, added or taken away.
fn input(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let byte = |random: &mut Random| random.next().to_le_bytes()[0];
    if seeds.is_empty() || random.one_in(4) {
        return (0..random.below(LONGEST)).map(|_| byte(random)).collect();
    }
    let mut input = random.pick(seeds);
    for _ in 0..=random.below(4) {
        let at = random.below(input.len().max(1));
        match random.below(4) {
            _ if input.is_empty() => input.push(byte(random)),
            0 => input[at] = byte(random),
            1 => input[at] ^= 1 << random.below(8),
            2 => input.insert(at, byte(random)),
            _ => drop(input.remove(at)),
        }
    }
    input
}

/// Runs `target` over `count` inputs; prints what reproduces one that panics.
pub fn drive(name: &str, target: fn(&[u8]), seed: u64, count: u64) {
    let seeds = seeds(name);
    let mut random = Random::new(seed);
    seeds.iter().for_each(|seed| target(seed));
    for index in 0..count {
        let input = input(&mut random, &seeds);
        let outcome = std::panic::catch_unwind(|| target(&input));
        if let Err(panic) = outcome {
            eprintln!("FORELOG_SEED={seed} {name}: input {index} of {count}: {}", input.escape_ascii());
            std::panic::resume_unwind(panic);
        }
    }
    println!("FORELOG_SEED={seed} {name}: {} seeds and {count} inputs", seeds.len());
}

/// The program of a target.
pub fn main(name: &str, target: fn(&[u8])) {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    for file in &files {
        target(&std::fs::read(file).expect("an input file"));
    }
    if files.is_empty() {
        drive(name, target, number("FORELOG_SEED").unwrap_or(1), number("FORELOG_INPUTS").unwrap_or(INPUTS));
    }
}
