//! Every bit of a reference log: refused, or harmless. Never fewer commits, never others.

use super::files;
use super::matrix::Matrix;
use super::media::Judge;
use super::name_of;
use super::reference::Reference;

/// Where nothing of the log is, and a flip is harmless: what no frame has reached.
pub const ABOVE_THE_END: &str = "fill above the end of the log";

/// A file that was being prepared when the crash came.
pub const NEVER_READ: &str = "temporary file";

/// Flips the bits that `pick` takes, one at a time.
pub fn sweep(reference: &Reference, mut pick: impl FnMut() -> usize) -> (Matrix, u64) {
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
