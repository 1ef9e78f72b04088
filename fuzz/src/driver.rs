//! Runs a target without cargo-fuzz: over the files named on the command line, or else over inputs drawn from
//! `FORELOG_SEED`: some anew, most by changes to the seeds in `seeds/`. `FORELOG_INPUTS` says how many.

use std::path::Path;

const INPUTS: u64 = 20_000;
const LONGEST: u64 = 512;

/// splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn byte(state: &mut u64) -> u8 {
    draw(state).to_le_bytes()[0]
}

fn below(state: &mut u64, bound: usize) -> usize {
    usize::try_from(draw(state) % (bound as u64).max(1)).expect("below a usize")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    Some(parsed.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

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
fn input(state: &mut u64, seeds: &[Vec<u8>]) -> Vec<u8> {
    if seeds.is_empty() || draw(state).is_multiple_of(4) {
        let length = draw(state) % LONGEST;
        return (0..length).map(|_| byte(state)).collect();
    }
    let mut input = seeds[below(state, seeds.len())].clone();
    for _ in 0..=draw(state) % 4 {
        let at = below(state, input.len());
        match draw(state) % 4 {
            _ if input.is_empty() => input.push(byte(state)),
            0 => input[at] = byte(state),
            1 => input[at] ^= 1 << (draw(state) % 8),
            2 => input.insert(at, byte(state)),
            _ => drop(input.remove(at)),
        }
    }
    input
}

/// Runs `target` over `count` inputs; prints what reproduces one that panics.
pub fn drive(name: &str, target: fn(&[u8]), seed: u64, count: u64) {
    let seeds = seeds(name);
    let mut state = seed;
    seeds.iter().for_each(|seed| target(seed));
    for index in 0..count {
        let input = input(&mut state, &seeds);
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
