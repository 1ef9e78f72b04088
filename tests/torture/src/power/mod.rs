//! `--power`: cuts the power of real file systems, thousands of times.
//!
//! A workload runs on a file system on a loop device on a file that this process serves through FUSE. It records every
//! write, every flush, and everything the workload's clients were told, in one order ([`recorder`], [`fuse`]). From
//! that follow the states in which a power cut may leave the device ([`states`]). Each is mounted, opened and judged
//! ([`worker`]); for some, the power is cut once more while that happens ([`explore`]).

mod arguments;
mod audit;
mod explore;
mod fuse;
mod image;
mod matrix;
mod recorder;
mod reference;
mod run;
mod session;
mod sqlite;
mod states;
mod subject;
mod system;
mod traced;
mod worker;
mod xfs_log;

pub(crate) use arguments::PowerArguments;
pub(crate) use run::run;
pub(crate) use worker::{WorkerArguments, run_worker};
