//! The interface, as a program uses it: on real files, in memory, and, where a disk has to fail, on the simulated one.
//!
//! The root package runs these tests against what ships: no feature is on, so those that need one are not there.
//! `cargo test -p forelog-sim --test api` runs all of them.
#![cfg_attr(
    not(feature = "sim"),
    allow(dead_code, unused_imports, reason = "some helpers serve only tests on the simulated disk")
)]

mod async_commits;
mod bad_input;
mod checkpoints;
mod differential;
#[cfg(feature = "sim")]
mod disk;
#[cfg(unix)]
mod durable_fd;
mod face;
mod forked;
mod garbage;
// Not from the library of forelog-sim: the root may be built with the feature and without that package.
#[cfg(feature = "sim")]
#[allow(unreachable_pub, reason = "there it is public")]
#[path = "../sim/src/gate.rs"]
mod gate;
mod hermitage;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(all(feature = "io-uring", target_os = "linux"))]
mod io_uring;
mod keyspaces;
mod large_transactions;
mod lifecycle;
mod limits;
mod log_api;
mod memory;

#[cfg(feature = "sim")]
mod model;
#[cfg(feature = "unstable")]
mod no_silent_loss;
mod queues;
mod ranges;
mod receipts;
mod requests;
mod retention;
#[cfg(unix)]
mod rot;
mod tail;
mod typed;

/// This test again, in a process of its own; `name` with its module.
fn this_test(name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().expect("a running program"));
    command.args(["--exact", name, "--nocapture"]).env("FORELOG_CHILD", "1");
    command
}
