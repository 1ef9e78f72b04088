//! Media faults: the sample that every test run takes.

use forelog::CommitMode;

use crashkit::{Random, seed};
use forelog_sim::faults::matrix::Matrix;
use forelog_sim::faults::reference::{ENDINGS, Reference};
use forelog_sim::faults::{MODES, flips, in_parallel, media};

#[test]
fn damage_to_a_log_is_refused_harmless_or_of_the_residue() {
    let references: Vec<_> = ENDINGS.iter().map(|ending| Reference::new(&MODES, *ending, 1, 1)).collect();
    let other = Reference::new(&MODES, ENDINGS[0], 1, 2);
    let parts = in_parallel(references.len(), |index| media::sweep(&references[index], &other));
    let mut matrix = Matrix::default();
    for (part, memory) in parts {
        println!("most memory beyond the size of the files: {memory}");
        matrix.merge(part);
    }
    matrix.assert_clean("media faults");
}

#[test]
fn a_sample_of_flipped_bits_is_refused_or_harmless() {
    let seed = seed(0xB17);
    let mixes: [&[CommitMode]; 3] = [&MODES[..1], &MODES, &MODES[1..3]];
    let parts = in_parallel(mixes.len() * ENDINGS.len(), |index| {
        let reference = Reference::new(mixes[index / ENDINGS.len()], ENDINGS[index % ENDINGS.len()], 1, 1);
        let mut random = Random::new(seed + index as u64);
        flips::sweep(&reference, || 1 + random.below(150)).0
    });
    let mut matrix = Matrix::default();
    parts.into_iter().for_each(|part| matrix.merge(part));
    matrix.assert_clean("flipped bits");
    for region in ["HISTORY", "segment header", "frame header", "payload", "padding"] {
        assert!(matrix.row_total(region) > 0);
    }
}
