//! `dump --file` and `verify --file`: one file of the tables on its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use forelog::unstable::inspect::{self, TableField, TableItem};
use serde_json::{Map, Value, json};

use crate::output::{Done, Failure, Lines, json_without_controls, print, print_json, without_controls};
use crate::reading::json_text;
use crate::verify::is_sound;

/// A database, or one file of its tables.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Target {
    /// The database
    #[arg(long, value_name = "DIR")]
    db: Option<PathBuf>,
    /// One file of the tables: a MANIFEST, a file of keyspaces, or a run
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Target {
    /// The database, or else the file.
    pub(crate) fn choose(&self) -> Result<&Path, &Path> {
        self.db.as_deref().ok_or_else(|| self.file.as_deref().expect("one of the two is required"))
    }
}

pub(crate) fn dump(file: &Path, as_json: bool) -> Done {
    let (mut lines, mut is_whole) = (Lines::new(), true);
    let dumped: Result<(), Failure> = inspect::dump_table_file(file, |item| {
        is_whole &= item.what != "damage";
        let line = if as_json { json_of(item).to_string() } else { text_of(item) };
        lines.line(if as_json { json_without_controls(&line) } else { without_controls(&line) })
    });
    // What stands before damage is the context of the error.
    lines.flush()?;
    dumped?;
    if is_whole { Ok(ExitCode::SUCCESS) } else { Err(Failure::told(format!("{} is damaged", file.display()))) }
}

pub(crate) fn verify(file: &Path, as_json: bool) -> Done {
    match inspect::verify_table_file(file) {
        Ok(item) if as_json => print_json(json!({ "sound": true, "file": json_of(&item) }))?,
        Ok(item) => print(format!("sound: {}", text_of(&item)))?,
        Err(error) => {
            if as_json {
                print_json(json!({ "sound": is_sound(&error), "error": error.to_string() }))?;
            }
            return Err(error.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text_of(item: &TableItem) -> String {
    let fields = item.fields.iter().map(|(name, field)| {
        let value = match field {
            TableField::Number(number) => number.to_string(),
            TableField::Lsn(lsn) => lsn.to_string(),
            TableField::Hex(number) => format!("{number:#x}"),
            TableField::Bytes(bytes) => json_text(bytes).to_string(),
            TableField::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        format!(" {name}={value}")
    });
    std::iter::once(item.what.to_owned()).chain(fields).collect()
}

fn json_of(item: &TableItem) -> Value {
    let mut object = Map::new();
    object.insert("what".into(), item.what.into());
    for (name, field) in &item.fields {
        let value = match field {
            TableField::Number(number) => (*number).into(),
            TableField::Lsn(lsn) => lsn.get().into(),
            TableField::Hex(number) => format!("{number:#x}").into(),
            TableField::Bytes(bytes) => json_text(bytes),
            TableField::Text(text) => text.as_str().into(),
            other => format!("{other:?}").into(),
        };
        object.insert((*name).into(), value);
    }
    Value::Object(object)
}
