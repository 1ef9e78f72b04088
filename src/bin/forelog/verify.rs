//! `verify`: reads and checks everything, changes nothing.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use forelog::scrub::ScrubOptions;
use forelog::{Damage, Error, ErrorKind, LockHeld, MarkFound, ReadOnlyOptions, Recovery};
use serde_json::json;

use crate::output::{Done, Failure, grouped, note, print, print_json};
use crate::table_file::{self, Target};

/// Read and check the whole database, log and tables, changing nothing: would it open, and is all of it sound?
///
/// Exit code 0: it is sound and would open. 1: it is damaged, with the first damage by file, LSN or offset and cause, or it
/// cannot be read; whether it opens all the same is said: reads of some keys fail then. 3: it is sound, and now it would not
/// open, or would open and take no commit, with the reason.
///
/// If a program has it open, what that had written is checked; whether it would open is not asked, and stderr says so.
///
/// With --file: one MANIFEST, file of keyspaces or run on its own. Whether a database needs it is not asked.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Read at most N MiB a second, for a disk that others need meanwhile
    #[arg(long, value_name = "MIB_PER_S", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    rate: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    match arguments.target.choose() {
        Ok(db) => verify(db, arguments),
        Err(file) => table_file::verify(file, arguments.json),
    }
}

fn verify(db: &Path, arguments: &Arguments) -> Done {
    let options = ReadOnlyOptions::new().beside_a_writer(true);
    let options = match arguments.rate {
        Some(rate) => options.pace(ScrubOptions::default().bytes_per_second(rate << 20)),
        None => options,
    };
    match options.verify(db) {
        Ok(found) => {
            if is_open(&found) {
                note(format!("open in a program: checked up to LSN {}", found.recovered_to));
            }
            if arguments.json {
                print_json(sound_json(&found))?;
            } else {
                print(sound_text(&found))?;
            }
            let is_of_use = found.obstacle.is_none() && found.commit_obstacle.is_none();
            Ok(if is_of_use { ExitCode::SUCCESS } else { ExitCode::from(WOULD_NOT_OPEN) })
        }
        Err(error) => {
            // An open reads no more of tables than their names. Whoever reads does as an open does.
            let opens = is_sound(&error).is_some() && ReadOnlyOptions::new().beside_a_writer(true).open(db).is_ok();
            if arguments.json {
                print_json(unsound_json(&error, opens))?;
            }
            // The error's text has the segment's file, the LSN and the cause.
            let verdicts = match is_sound(&error) {
                Some(_) if opens => "it is not sound, though it opens: reads of some keys fail",
                Some(_) => "it would not open, and is not sound",
                None => "it would not open, and whether it is sound is not known",
            };
            Err(Failure::from(error).at(verdicts))
        }
    }
}

/// The exit code for a sound log that would not open, or not take a commit.
const WOULD_NOT_OPEN: u8 = 3;

/// Whether the log is sound, as far as an error tells: `Some(false)` if it is damaged, otherwise `None`.
pub(crate) fn is_sound(error: &Error) -> Option<bool> {
    (error.kind() == ErrorKind::Damaged).then_some(false)
}

fn sound_text(found: &Recovery) -> String {
    let mut text = format!(
        "sound: {} segments, {} frames, {} records, durable up to LSN {}",
        grouped(found.segments),
        grouped(found.frames),
        grouped(found.records),
        found.proven_durable
    );
    if found.crashed.is_some() {
        text.push_str(&format!(
            "\nnot closed: the next open keeps everything up to LSN {} and drops {} frames ({} bytes) of a torn tail",
            found.recovered_to,
            grouped(found.dropped_frames),
            grouped(found.dropped_bytes)
        ));
    }
    if found.crashed.is_some() || found.mark == MarkFound::Invalid {
        text.push_str(&format!("\nmark: {}", mark(found)));
    }
    if found.lock != LockHeld::Both {
        text.push_str(&format!("\n{}", found.lock));
    }
    match &found.obstacle {
        None if is_open(found) => text.push_str("\nopens: not asked"),
        None => text.push_str("\nopens: yes"),
        Some(error) => text.push_str(&format!("\nopens: no: {error}")),
    }
    if let Some(error) = &found.commit_obstacle {
        text.push_str(&format!("\ncommits: no: {error}"));
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

/// Whether a program has it open.
fn is_open(found: &Recovery) -> bool {
    found.lock == LockHeld::Beside
}

fn sound_json(found: &Recovery) -> serde_json::Value {
    let asked = |is_so: bool| (!is_open(found)).then_some(is_so);
    json!({
        "opens": asked(found.obstacle.is_none()),
        "obstacle": found.obstacle.as_ref().map(ToString::to_string),
        "commits": asked(found.obstacle.is_none() && found.commit_obstacle.is_none()),
        "commit_obstacle": found.commit_obstacle.as_ref().map(ToString::to_string),
        "sound": true,
        "segments": found.segments,
        "frames": found.frames,
        "records": found.records,
        "durable_lsn": found.proven_durable.get(),
        "mark": mark(found),
        "lock": found.lock.to_string(),
        "writer": is_open(found),
        "closed": !is_open(found) && found.crashed.is_none(),
        "recovered_to": found.recovered_to.get(),
        "dropped_frames": found.dropped_frames,
        "dropped_bytes": found.dropped_bytes,
    })
}

fn unsound_json(error: &Error, opens: bool) -> serde_json::Value {
    let damage = error.damage().map(|damage| {
        json!({
            "segment": segment(damage),
            "lsn": damage.lsn.get(),
            "offset": damage.offset,
            "cause": format!("{:?}", damage.cause),
            "meaning": damage.cause.to_string(),
        })
    });
    json!({ "opens": opens, "sound": is_sound(error), "damage": damage, "error": error.to_string() })
}

fn segment(damage: &Damage) -> String {
    damage.file.file_name().unwrap_or(damage.file.as_os_str()).to_string_lossy().into_owned()
}
