//! `verify`: reads and checks everything, changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use forelog::scrub::ScrubOptions;
use forelog::{Damage, Engine, Error, LockHeld, MarkFound, Recovery};
use serde_json::json;

use crate::output::{Done, grouped, print};

/// Read and check the whole log, changing nothing
///
/// Exit code 0: sound. 1: damaged, with the first damage by segment, LSN and cause; or it cannot be read.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// Read no faster than so many MiB a second, for a disk that others need meanwhile
    #[arg(long, value_name = "MIB_PER_S", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    rate: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    let verified = match arguments.rate {
        Some(rate) => Engine::verify_with(&arguments.db, ScrubOptions::default().bytes_per_second(rate << 20)),
        None => Engine::verify(&arguments.db),
    };
    match verified {
        Ok(found) if arguments.json => print(sound_json(&found)).map(|()| ExitCode::SUCCESS),
        Ok(found) => print(sound_text(&found)).map(|()| ExitCode::SUCCESS),
        Err(error) => {
            if arguments.json {
                print(unsound_json(&error))?;
            }
            // Its text names the segment's file, the LSN and the cause.
            Err(error.into())
        }
    }
}

/// Up to where the log is known to be on the medium: a log that was closed is so as a whole.
fn durable(found: &Recovery) -> forelog::Lsn {
    if found.crashed.is_some() { found.proven_durable } else { found.recovered_to }
}

fn sound_text(found: &Recovery) -> String {
    let mut text = format!(
        "sound: {} segments, {} frames, {} records, durable up to LSN {}",
        grouped(found.segments),
        grouped(found.frames),
        grouped(found.records),
        durable(found)
    );
    if found.crashed.is_some() {
        text.push_str(&format!(
            "\nnot closed: the next open keeps everything up to LSN {} and drops {} frames ({} bytes) of a torn tail",
            found.recovered_to,
            grouped(found.dropped_frames),
            grouped(found.dropped_bytes)
        ));
        text.push_str(&format!("\nmark: {}", mark(found)));
    }
    if found.lock != LockHeld::Both {
        text.push_str(&format!("\n{}", found.lock));
    }
    text
}

fn mark(found: &Recovery) -> String {
    match found.mark {
        MarkFound::Absent => "there is no MARK".to_owned(),
        MarkFound::Empty => "none yet: the log was never at rest for two seconds".to_owned(),
        MarkFound::Foreign => "of another log or an earlier incarnation: it proves nothing".to_owned(),
        MarkFound::Proves(lsn) => format!("proves everything up to LSN {lsn} durable"),
        _ => "unreadable or torn: it proves nothing".to_owned(),
    }
}

fn sound_json(found: &Recovery) -> serde_json::Value {
    json!({
        "sound": true,
        "segments": found.segments,
        "frames": found.frames,
        "records": found.records,
        "durable_lsn": durable(found).get(),
        "mark": mark(found),
        "lock": found.lock.to_string(),
        "closed": found.crashed.is_none(),
        "recovered_to": found.recovered_to.get(),
        "dropped_frames": found.dropped_frames,
        "dropped_bytes": found.dropped_bytes,
    })
}

fn unsound_json(error: &Error) -> serde_json::Value {
    let damage = error.damage().map(|damage| {
        json!({
            "segment": segment(damage),
            "lsn": damage.lsn.get(),
            "cause": format!("{:?}", damage.cause),
            "meaning": damage.cause.to_string(),
        })
    });
    json!({ "sound": false, "damage": damage, "error": error.to_string() })
}

fn segment(damage: &Damage) -> String {
    damage.file.file_name().unwrap_or(damage.file.as_os_str()).to_string_lossy().into_owned()
}
