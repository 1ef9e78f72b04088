//! The programs run, and do what they say.

use std::process::{Command, Output};

fn run(program: &str) -> String {
    let Output { status, stdout, stderr } = Command::new(program).output().expect("the program runs");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

#[test]
fn every_event_loop_learns_of_every_commit() {
    let told = run(env!("CARGO_BIN_EXE_loops"));
    if cfg!(target_os = "linux") {
        for name in ["epoll", "io_uring", "mio", "tokio"] {
            assert!(told.contains(&format!("{name}: 100 commits are durable")), "{told}");
        }
    }
}

#[test]
fn a_thread_that_does_everything_commits() {
    let told = run(env!("CARGO_BIN_EXE_current_thread"));
    assert!(told.starts_with("100 commits are durable"), "{told}");
}
