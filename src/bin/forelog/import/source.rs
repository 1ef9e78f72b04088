//! The CSV file: read once to check all of it, and a second time to import it.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use csv::StringRecord;
use serde_json::{Map, Value};

use crate::output::Failure;

/// One row of the file.
#[derive(Debug)]
pub(super) struct Row {
    /// From 1; the header line does not count.
    pub(super) number: u64,
    pub(super) key: String,
    /// The row as a JSON object in the header's order.
    pub(super) json: String,
}

/// What tells this file from another of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

/// What the first reading found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) identity: Identity,
    pub(super) rows: u64,
}

/// Reads the whole file and checks every row, so that a bad one is found before the first is imported.
///
/// Holds all keys in memory, as the engine itself does.
pub(super) fn survey(path: &Path, key_column: &str) -> Result<Survey, Failure> {
    let mut rows = Rows::open(path, key_column)?;
    let mut first_seen: HashMap<Box<str>, u64> = HashMap::new();
    while let Some(key) = rows.advance()? {
        if let Some(&first) = first_seen.get(key) {
            let message = format!("the key '{key}' is in row {first} already: a key column must tell all rows apart");
            return Err(rows.failed_at_row(message));
        }
        let key = key.into();
        first_seen.insert(key, rows.number);
    }
    Ok(Survey { identity: rows.identity(), rows: rows.number })
}

/// The rows of the file, one after another.
pub(super) struct Rows {
    path: PathBuf,
    reader: csv::Reader<Measured>,
    header: StringRecord,
    key_index: usize,
    record: StringRecord,
    number: u64,
}

impl Rows {
    pub(super) fn open(path: &Path, key_column: &str) -> Result<Self, Failure> {
        let unreadable = |error: &io::Error| Failure::io(format_args!("read {}", path.display()), error);
        let file = File::open(path).map_err(|error| unreadable(&error))?;
        let measured = Measured { file, crc32: crc32fast::Hasher::new(), bytes: 0 };
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(64 << 10).from_reader(measured);
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(Failure::told(format!("{}, header: {}", path.display(), explain(&error)))),
        };
        let refuse = |message: String| Err(Failure::told(format!("{}: {message}", path.display())));
        if header.is_empty() {
            return refuse("the file is empty: expected a line with the names of the columns".into());
        }
        for (index, name) in header.iter().enumerate() {
            if header.iter().take(index).any(|earlier| earlier == name) {
                return refuse(format!("two columns are called '{name}': a JSON object can hold only one"));
            }
        }
        let Some(key_index) = header.iter().position(|name| name == key_column) else {
            let names: Vec<_> = header.iter().collect();
            return refuse(format!("no column is called '{key_column}'; there are: {}", names.join(", ")));
        };
        Ok(Rows { path: path.to_owned(), reader, header, key_index, record: StringRecord::new(), number: 0 })
    }

    /// Reads the next row; returns its key.
    fn advance(&mut self) -> Result<Option<&str>, Failure> {
        match self.reader.read_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                self.number += 1;
                Ok(Some(&self.record[self.key_index]))
            }
            Err(error) => {
                self.number += 1;
                Err(self.failed_at_row(explain(&error)))
            }
        }
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        let Some(key) = self.advance()? else { return Ok(None) };
        let key = key.to_owned();
        let fields = self.header.iter().zip(&self.record);
        let object: Map<_, _> = fields.map(|(name, field)| (name.to_owned(), Value::from(field))).collect();
        Ok(Some(Row { number: self.number, key, json: Value::Object(object).to_string() }))
    }

    /// Passes over the first `rows` rows.
    pub(super) fn skip(&mut self, rows: u64) -> Result<(), Failure> {
        while self.number < rows && self.advance()?.is_some() {}
        Ok(())
    }

    /// The file's identity, once its last row was read.
    pub(super) fn identity(&self) -> Identity {
        let measured = self.reader.get_ref();
        Identity { bytes: measured.bytes, crc32: measured.crc32.clone().finalize() }
    }

    fn failed_at_row(&self, what: impl fmt::Display) -> Failure {
        let line = self.record.position().map_or(0, csv::Position::line);
        Failure::told(format!("{}, row {} (line {line}): {what}", self.path.display(), self.number))
    }
}

/// What the CSV reader refused, in the words of someone who has to mend the file.
fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields where the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
        csv::ErrorKind::Io(error) => format!("cannot read: {error}"),
        _ => error.to_string(),
    }
}

/// A file that is measured while it is read.
struct Measured {
    file: File,
    crc32: crc32fast::Hasher,
    bytes: u64,
}

impl Read for Measured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.crc32.update(&buffer[..length]);
        self.bytes += length as u64;
        Ok(length)
    }
}
