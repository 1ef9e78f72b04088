//! Runs a target without cargo-fuzz: over the files named on the command line, or else over inputs drawn from
//! `FORELOG_SEED`.

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

pub fn drive(target: impl Fn(&[u8])) {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    for file in &files {
        target(&std::fs::read(file).expect("an input file"));
    }
    if files.is_empty() {
        let mut state = std::env::var("FORELOG_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        println!("FORELOG_SEED={state}, {INPUTS} inputs");
        for _ in 0..INPUTS {
            let length = draw(&mut state) % LONGEST;
            let input: Vec<u8> = (0..length).map(|_| draw(&mut state).to_le_bytes()[0]).collect();
            target(&input);
        }
    }
}
