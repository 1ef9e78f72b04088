//! `torture --power`: cuts the power of real file systems, thousands of times.
//!
//! A workload runs on a file system on a loop device on a file that this process serves through FUSE, and records: every write,
//! every flush, and everything the workload's clients were told, in one order ([`recorder`], [`fuse`]). From that
//! follow the states in which a power cut may leave the device ([`states`]). Each is mounted, opened and judged
//! ([`worker`]); for some, the power is cut once more while that happens ([`explore`]).

mod audit;
mod explore;
mod fuse;
mod image;
mod matrix;
mod random;
mod recorder;
mod reference;
mod run;
mod session;
mod sqlite;
mod states;
mod subject;
mod system;
mod traced;
mod traced_work;
mod worker;

pub(crate) use run::{PowerArguments, run};
pub(crate) use worker::{WorkerArguments, run_worker};

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
