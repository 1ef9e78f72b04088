//! The rows: read once to check all of them, and a second time to import them.

use std::fmt;
use std::io::{self, Read};

use csv::StringRecord;
use forelog::limits::{MAX_KEY_LEN, MAX_VALUE_LEN};
use serde_json::{Map, Value};

use super::input::{Input, Reading};
use super::keys::{Keys, Twice};
use super::strict::{Flaw, Strict};
use crate::output::{Failure, progress_bar};

/// One row of the file.
#[derive(Debug)]
pub(super) struct Row {
    /// From 1; the header line does not count.
    pub(super) number: u64,
    pub(super) key: String,
    /// The row as a JSON object in the header's order.
    pub(super) json: String,
}

/// Distinguishes this file from another one of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

/// The result of the first reading.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) identity: Identity,
    pub(super) rows: u64,
    /// Rows without any text; they are counted in `rows`.
    pub(super) empty: u64,
}

/// What is read, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) input: &'a Input,
    pub(super) key_column: &'a str,
    /// Whether to accept what most programs accept and a strict reading refuses.
    pub(super) lenient: bool,
}

/// Reads the whole file and checks every row, so that a bad row is found before the first one is imported.
///
/// What is wrong first is told, whether the keys were kept in memory or not: a key that two rows have stands before what
/// ended the reading.
pub(super) fn survey(source: Source<'_>, mut keys: Keys) -> Result<Survey, Failure> {
    let mut rows = Rows::open(source, source.input.first()?)?;
    let read = check_all(&mut rows, &mut keys, source.input.length);
    let twice = match &read {
        Ok(None) => keys.finish()?,
        Ok(twice) => *twice,
        Err(_) => keys.finish().unwrap_or(None),
    };
    if let Some(twice) = twice {
        return Err(twice_told(source, twice));
    }
    read.map(|_| Survey { identity: rows.identity(), rows: rows.number, empty: rows.empty })
}

/// Reads up to the end, or to a row whose key is known to be that of an earlier one.
fn check_all(rows: &mut Rows, keys: &mut Keys, length: Option<u64>) -> Result<Option<Twice>, Failure> {
    let bar = length.map(|length| progress_bar(length, "{wide_bar} {bytes}/{total_bytes} checked, {eta} left"));
    while rows.advance()? {
        if let Some(bar) = bar.as_ref().filter(|_| rows.number.is_multiple_of(ROWS_A_LOOK)) {
            bar.set_position(rows.reader.get_ref().bytes);
        }
        if let Some(twice) = keys.add(rows.key(), rows.number)? {
            return Ok(Some(twice));
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(None)
}

/// Rows between two moves of the progress bar.
const ROWS_A_LOOK: u64 = 1024;

/// Says that two rows have the same key. The file is read again up to there, since only hashes of the keys are kept.
fn twice_told(source: Source<'_>, twice: Twice) -> Failure {
    find_twice(source, twice).unwrap_or_else(|failure| failure)
}

fn find_twice(source: Source<'_>, twice: Twice) -> Result<Failure, Failure> {
    let Source { input, key_column, .. } = source;
    let mut reader = csv_reader(input.again()?);
    let unreadable = |error: csv::Error| Failure::told(format!("{}: {}", input.name, explain(&error)));
    let column = reader.headers().map_err(unreadable)?.iter().position(|name| name == key_column).unwrap_or_default();
    let (mut record, mut number, mut first) = (StringRecord::new(), 0, None);
    while reader.read_record(&mut record).map_err(unreadable)? {
        number += 1;
        let key = record.get(column).unwrap_or_default();
        if number == twice.first {
            first = Some(key.to_owned());
        }
        if number == twice.second && first.as_deref() == Some(key) {
            let what =
                format!("the key '{key}' is in row {} already: a key column must tell all rows apart", twice.first);
            return Ok(failed_at(&input.name, &record, number, what));
        }
    }
    Ok(Failure::told(format!(
        "{}: rows {} and {} had keys with the same hash, and they are different: was the file changed while it was read? \
         Run the command again",
        input.name, twice.first, twice.second
    )))
}

/// The rows of the file, one after another.
pub(super) struct Rows {
    name: String,
    reader: csv::Reader<Measured>,
    header: StringRecord,
    /// Bytes that the names and the punctuation take in the JSON object of a row, at most.
    header_json: usize,
    key_index: usize,
    record: StringRecord,
    number: u64,
    empty: u64,
    lenient: bool,
}

impl Rows {
    /// The rows that the second reading brings.
    pub(super) fn again(source: Source<'_>) -> Result<Self, Failure> {
        Rows::open(source, source.input.again()?)
    }

    fn open(source: Source<'_>, reading: Reading) -> Result<Self, Failure> {
        let Source { input, key_column, lenient } = source;
        let name = input.name.clone();
        let measured = Measured { reading, crc32: crc32fast::Hasher::new(), bytes: 0, strict: Strict::new(lenient) };
        let mut reader = csv_reader(measured);
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => {
                let flaw = reader.get_mut().strict.follow(&[]).cloned();
                return Err(flaw.map_or_else(
                    || Failure::told(format!("{name}, header: {}", explain(&error))),
                    |flaw| told_of(&name, &flaw),
                ));
            }
        };
        let refuse = |message: String| Err(Failure::told(format!("{name}: {message}")));
        if header.is_empty() {
            return refuse("the file is empty: expected a line with the names of the columns".into());
        }
        let header = named_columns(header, lenient);
        for (index, name) in header.iter().enumerate() {
            if name.is_empty() {
                return refuse(format!("column {} has no name in the header", index + 1));
            }
            if header.iter().take(index).any(|earlier| earlier == name) {
                return refuse(format!("two columns are called '{name}': a JSON object can hold only one"));
            }
        }
        let Some(key_index) = header.iter().position(|name| name == key_column) else {
            let names: Vec<_> = header.iter().collect();
            return refuse(format!("no column is called '{key_column}'; there are: {}", names.join(", ")));
        };
        let header_json =
            header.iter().map(|name| name.len() * MOST_ESCAPED + PUNCTUATION).sum::<usize>() + PUNCTUATION;
        let record = StringRecord::new();
        Ok(Rows { name, reader, header, header_json, key_index, record, number: 0, empty: 0, lenient })
    }

    /// Reads the next row, and checks it. Returns whether there is one.
    fn advance(&mut self) -> Result<bool, Failure> {
        loop {
            let read = self.reader.read_record(&mut self.record);
            if let Some(flaw) = self.reader.get_mut().strict.follow(&[]) {
                return Err(told_of(&self.name, flaw));
            }
            match read {
                Ok(false) => return Ok(false),
                Ok(true) => self.number += 1,
                Err(error) => {
                    self.number += 1;
                    return Err(self.failed_at_row(explain(&error)));
                }
            }
            // Spreadsheets write such rows below their last one.
            if self.lenient && self.record.iter().all(is_blank) {
                self.empty += 1;
                continue;
            }
            return self.check().map(|()| true);
        }
    }

    /// The key of the row that was read last.
    fn key(&self) -> &str {
        self.record.get(self.key_index).unwrap_or_default()
    }

    /// Refuses a row that does not match the header, or has no key.
    fn check(&self) -> Result<(), Failure> {
        let (expected, length) = (self.header.len(), self.record.len());
        let unequal = format!("{length} fields where the header has {expected}");
        if length > expected {
            let are_empty = self.record.iter().skip(expected).all(str::is_empty);
            if !are_empty {
                return Err(self.failed_at_row(unequal));
            }
            if !self.lenient {
                let what = format!("{unequal}; the fields beyond are empty: --lenient skips them");
                return Err(self.failed_at_row(what));
            }
        }
        if length < expected && !self.lenient {
            return Err(self.failed_at_row(unequal));
        }
        let key = self.key();
        if is_blank(key) {
            let column = self.header.get(self.key_index).unwrap_or_default();
            let what = if key.is_empty() { "is empty" } else { "has nothing that can be seen" };
            return Err(self.failed_at_row(format!("no key: column '{column}' {what}")));
        }
        if !self.lenient && self.record == self.header {
            let what = "it repeats the header: were files joined? --lenient imports it as a row";
            return Err(self.failed_at_row(what));
        }
        self.check_limits(key)
    }

    /// Refuses a row that the engine would refuse.
    fn check_limits(&self, key: &str) -> Result<(), Failure> {
        if key.len() > MAX_KEY_LEN {
            let what = format!("a key of {} bytes is over the limit of {MAX_KEY_LEN}", key.len());
            return Err(self.failed_at_row(what));
        }
        // Only a row that may be too long is encoded to know.
        if self.record.as_slice().len() * MOST_ESCAPED + self.header_json > MAX_VALUE_LEN {
            let length = self.json().len();
            if length > MAX_VALUE_LEN {
                let what = format!("as a JSON object it has {length} bytes, over the limit of {MAX_VALUE_LEN}");
                return Err(self.failed_at_row(what));
            }
        }
        Ok(())
    }

    /// The row as a JSON object in the header's order.
    fn json(&self) -> String {
        let fields = self.header.iter().zip(&self.record);
        let object: Map<_, _> = fields.map(|(name, field)| (name.to_owned(), Value::from(field))).collect();
        Value::Object(object).to_string()
    }

    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        if !self.advance()? {
            return Ok(None);
        }
        Ok(Some(Row { number: self.number, key: self.key().to_owned(), json: self.json() }))
    }

    /// Skips the first `rows` rows.
    pub(super) fn skip(&mut self, rows: u64) -> Result<(), Failure> {
        while self.number < rows && self.advance()? {}
        Ok(())
    }

    /// The number of rows read, including those without any text.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The file's identity, once its last row was read.
    pub(super) fn identity(&self) -> Identity {
        let measured = self.reader.get_ref();
        Identity { bytes: measured.bytes, crc32: measured.crc32.clone().finalize() }
    }

    fn failed_at_row(&self, what: impl fmt::Display) -> Failure {
        failed_at(&self.name, &self.record, self.number, what)
    }
}

fn failed_at(name: &str, record: &StringRecord, number: u64, what: impl fmt::Display) -> Failure {
    let line = record.position().map_or(0, csv::Position::line);
    Failure::told(format!("{name}, row {number} (line {line}): {what}"))
}

fn csv_reader<R: Read>(reading: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().flexible(true).buffer_capacity(64 << 10).from_reader(reading)
}

/// The most bytes that one byte of text takes in JSON: `\u0001`.
const MOST_ESCAPED: usize = 6;
/// The bytes that JSON has around a name and its value: four quotes, a colon, a comma.
const PUNCTUATION: usize = 6;

/// Whether nothing of it can be seen: empty, or blanks, control characters and what has no width.
fn is_blank(text: &str) -> bool {
    let has_no_width = |char| {
        matches!(char, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
            || matches!(char, '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().all(|char| char.is_whitespace() || char.is_control() || has_no_width(char))
}

fn told_of(name: &str, flaw: &Flaw) -> Failure {
    let row = if flaw.row == 0 { "header".to_owned() } else { format!("row {}", flaw.row) };
    Failure::told(format!("{name}, {row} (line {}): {}", flaw.line, flaw.what))
}

/// The header, without the nameless columns at its end if a lenient reading skips them.
fn named_columns(header: StringRecord, lenient: bool) -> StringRecord {
    let named = header.iter().enumerate().filter(|(_, name)| !name.is_empty()).last().map_or(0, |(last, _)| last + 1);
    if lenient { header.iter().take(named).collect() } else { header }
}

/// What the CSV reader refused, for the person who has to correct the file.
fn explain(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
        // Not by the operating system: it says itself what could not be done.
        csv::ErrorKind::Io(error) if error.raw_os_error().is_none() => error.to_string(),
        csv::ErrorKind::Io(error) => format!("cannot read: {error}"),
        _ => error.to_string(),
    }
}

/// A reading whose length and checksum are computed meanwhile.
struct Measured {
    reading: Reading,
    crc32: crc32fast::Hasher,
    bytes: u64,
    strict: Strict,
}

impl Read for Measured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reading.read(buffer)?;
        self.crc32.update(&buffer[..length]);
        self.bytes += length as u64;
        let flaw = if length == 0 { self.strict.finish() } else { self.strict.follow(&buffer[..length]) };
        // The flaw is reported; this error only ends the reading.
        flaw.map_or(Ok(length), |flaw| Err(io::Error::other(flaw.what)))
    }
}
