//! Every bit of a reference log: refused, or harmless. Never fewer commits, never others.

use std::collections::BTreeMap;

use super::files;
use super::media::Judge;
use super::matrix::Matrix;
use super::name_of;
use super::reference::Reference;

/// Flips the bits that `pick` takes, one at a time.
pub(crate) fn sweep(reference: &Reference, mut pick: impl FnMut() -> usize) -> (Matrix, u64) {
    let mut judge = Judge::new(reference);
    let whole = reference.disk.crash_point();
    for (path, bytes) in files(&reference.disk) {
        let mut bit = pick() - 1;
        while bit < bytes.len() * 8 {
            let damaged = whole.process_kill();
            damaged.flip_bit(&path, bit as u64).expect("inside the file");
            let region = reference.region(&path, bit / 8);
            judge.judge(region, &damaged, || format!("bit {bit} of {}", name_of(&path)), None);
            bit += pick();
        }
    }
    (judge.matrix, judge.most_memory)
}

/// The bytes of each file in which a flip is harmless, as ranges.
pub(crate) fn harmless_bytes(reference: &Reference) -> BTreeMap<String, Vec<(usize, usize)>> {
    let mut judge = Judge::new(reference);
    let whole = reference.disk.crash_point();
    let mut harmless: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
    for (path, bytes) in files(&reference.disk) {
        for byte in 0..bytes.len() {
            let damaged = whole.process_kill();
            damaged.flip_bit(&path, byte as u64 * 8).expect("inside the file");
            if judge.verdict(&damaged, None).is_ok_and(|verdict| verdict.starts_with("harmless")) {
                let ranges = harmless.entry(name_of(&path)).or_default();
                match ranges.last_mut() {
                    Some((_, last)) if *last + 1 == byte => *last = byte,
                    _ => ranges.push((byte, byte)),
                }
            }
        }
    }
    harmless
}
