//! The child process: its command line, and its pipe.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use crashkit::journal;

use super::books::{Event, Reporter};
use super::fate::{Death, Fate};
use super::model::Action;
use super::script::Script;
use super::workload::{self, Work};
use super::{cgroup, stopper, sys};
use crate::output::{Done, Failure};

/// Work on a database until something happens (a part of this program)
#[derive(Debug, Args)]
pub(crate) struct ChildArguments {
    db: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    life: u32,
    #[arg(long)]
    script: Script,
    /// Be stopped at system calls by the parent
    #[arg(long)]
    traced: bool,
    #[arg(long)]
    fate: Option<Fate>,
}

pub(crate) fn run_child(arguments: &ChildArguments) -> Done {
    if arguments.traced {
        stopper::stop_at_calls().map_err(|error| Failure::io("be stopped at system calls", &error))?;
    }
    let death = match arguments.fate {
        Some(Fate::Dies(death, nth)) => Some((nth, planned(death))),
        _ => None,
    };
    let work = Work { seed: arguments.seed, life: arguments.life, script: arguments.script.clone(), death };
    workload::run(&arguments.db, &work, &(Arc::new(Pipe) as Arc<Reporter>));
    Ok(ExitCode::SUCCESS)
}

fn planned(death: Death) -> workload::Death {
    // A limit that cannot be set changes nothing: the child finishes.
    match death {
        Death::Abort => workload::Death::AbortInCallback,
        Death::CallbackPanic => workload::Death::PanicInCallback,
        Death::TransactionPanic => workload::Death::PanicInTransaction,
        Death::FileLimit => workload::Death::Call(|| _ = sys::limit_file_size(2048)),
        Death::FileLimitSignal => workload::Death::Call(|| _ = sys::limit_file_size_by_death(2048)),
        Death::MemoryLimit => workload::Death::Call(|| {
            _ = sys::limit_memory(1 << 20);
            // Nothing large is to be had: whoever asks next ends the process.
            hoard(usize::MAX);
        }),
        Death::OutOfMemory => workload::Death::Call(|| {
            if cgroup::enter().is_ok() {
                hoard(2 * cgroup::BYTES);
            }
        }),
    }
}

/// Takes so many bytes of memory, and uses them.
fn hoard(bytes: usize) {
    const PIECE: usize = 64 << 10;
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes / PIECE {
        hoard.push(std::hint::black_box(vec![1; PIECE]));
    }
}

/// Standard output: one line in one write, past every buffer of this process. What is in the pipe outlives us.
struct Pipe;

impl journal::Reporter<Action> for Pipe {
    fn say(&self, event: Event) {
        let mut stdout = io::stdout().lock();
        if stdout.write_all(format!("{event}\n").as_bytes()).and_then(|()| stdout.flush()).is_err() {
            // Nobody listens any more: nothing of this is worth anything.
            std::process::exit(1);
        }
    }
}
