//! `import`: a CSV file into a keyspace, in the order of its rows. A crash at any moment leaves the first rows of the
//! file, and the next run goes on from there.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use forelog::limits::MAX_KEYSPACE_NAME_LEN;
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Lsn};
use serde_json::json;

use crate::memory::Memory;
use crate::output::{Done, Failure, Lines, grouped, note, note_rot, print, print_json, progress_bar, rate, short};
use input::Input;
use keys::Keys;
use progress::Progress;
use source::{Identity, Row, Rows, Source, Survey};

mod input;
mod keys;
mod progress;
mod source;
mod spill;
mod strict;
mod temporary;

/// Import a CSV file, resumable after a crash
///
/// The file is read once to check it, and nothing is made or imported if a row is bad. Then each row becomes one key
/// (the text of the key column) with the row as a JSON object. Progress is committed together with the rows: after a
/// crash, the same command continues; once it is finished, it changes nothing.
///
/// A key that is in the keyspace already, and not from this file, is found when its row is imported: the import stops
/// there.
///
/// Of a pipe (-, /dev/stdin, a FIFO, <(command) of a shell), up to 64 GiB are kept in a temporary file in $TMPDIR, or
/// else in /tmp, until the command ends. A pipe is known again by its contents, a file by its name. Where the pipe
/// ends, the file is taken to end: whether the command before it failed, the shell tells (set -o pipefail).
///
/// Memory does not grow with the file. To find keys that two rows have, up to 64 MiB are used, and less with a small
/// --memory; for larger files a temporary file in the same place takes 24 bytes for each row besides.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The database; created if there is none
    #[arg(long, value_name = "DIR")]
    db: PathBuf,
    /// The keyspace; created if there is none
    #[arg(long, value_name = "NAME")]
    keyspace: String,
    /// The column whose text is the key
    #[arg(long, value_name = "COLUMN")]
    key: String,
    /// How durable each commit is before the next begins: sync (survives power loss), written (survives the death of the
    /// process), async (returns at once; durable soon after), or within:TIME, such as within:5ms (returns at once; durable
    /// within that time)
    #[arg(long, value_name = "MODE", default_value_t = CommitMode::Sync)]
    mode: CommitMode,
    #[command(flatten)]
    memory: Memory,
    /// Rows in one transaction; fewer if they have 64 MiB together, or an eighth of --memory
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: u64,
    /// Accept what most programs accept, where a strict reading refuses the file
    ///
    /// Text: quotes inside a field or behind one that is closed, NULs, a Ctrl-Z, byte order marks, a row that repeats
    /// the header. A row may lack columns at its end, or have empty ones beyond the header; rows may end in different
    /// ways. Columns without a name are skipped, and so are blank lines and rows without any text that can be seen.
    /// Refused all the same: a quote that is never closed, or that is closed lines below in the middle of a field; a
    /// row with text but without a key.
    #[arg(long)]
    lenient: bool,
    /// Overwrite keys that are in the keyspace already
    #[arg(long)]
    replace: bool,
    /// Print the number of rows after each acknowledged commit, one a line
    #[arg(long, conflicts_with = "json")]
    acks: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    /// The file: UTF-8, with a header line; - is standard input
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Done {
    if arguments.keyspace == progress::KEYSPACE {
        return Err(Failure::told(format!(
            "the keyspace {} keeps the progress of imports: choose another",
            progress::KEYSPACE
        )));
    }
    if arguments.keyspace.is_empty() || arguments.keyspace.len() > MAX_KEYSPACE_NAME_LEN {
        let length = arguments.keyspace.len();
        let message = format!("a keyspace name of {length} bytes: names have 1 to {MAX_KEYSPACE_NAME_LEN} bytes");
        return Err(Failure::told(message));
    }
    let options = arguments.memory.options()?;
    let input = Input::open(&arguments.file)?;
    let survey = source::survey(source_of(arguments, &input), Keys::new(arguments.memory.bytes()))?;
    // Whatever can be refused by what was read is refused by now: from here on there is a database.
    let engine = options.retain_log_as_found().open(&arguments.db)?;
    let file = file_key(arguments, &input, &survey);
    let begun = find_progress(&engine, arguments, &file)?;
    let (begin, finished) = match &begun {
        Some(begun) => {
            check_same(arguments, &survey, begun)?;
            (begun.rows, begun.done)
        }
        None => (0, false),
    };
    let started = Instant::now();
    let imported = if finished { 0 } else { Import::new(&engine, arguments, &input, &file, &survey, begin)?.run()? };
    let durable = engine.flush()?;
    let Survey { rows, empty, .. } = survey;
    let (rows, time) = (rows - empty, started.elapsed());
    let summary = Summary { name: input.name, rows, empty, imported, begin, finished, durable, time };
    close(&engine)?;
    if arguments.json {
        print_json(summary.json(arguments))?;
    } else {
        print(summary.text(arguments))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Closes the engine. Says so if its tables could not be written: the import is done, but each open reads what is in the log
/// alone, and memory must hold it.
fn close(engine: &Engine) -> Result<(), Failure> {
    // A close makes a last checkpoint, or ends one under way; that one has not failed.
    let before = engine.table_stats().last_failure;
    engine.close()?;
    note_rot(engine);
    let at_close = engine.table_stats().last_failure.filter(|error| error.kind() != ErrorKind::Closed);
    if let Some(error) = before.or(at_close) {
        note(format_args!("all rows are durable, but some of them in the log alone, without tables: {error}"));
    }
    Ok(())
}

fn source_of<'a>(arguments: &'a Arguments, input: &'a Input) -> Source<'a> {
    Source { input, key_column: &arguments.key, lenient: arguments.lenient }
}

fn file_name(arguments: &Arguments) -> String {
    arguments.file.file_name().unwrap_or(arguments.file.as_os_str()).to_string_lossy().into_owned()
}

/// The name under which the progress of this input is kept.
fn file_key(arguments: &Arguments, input: &Input, survey: &Survey) -> String {
    if input.is_named {
        return file_name(arguments);
    }
    let Identity { bytes, crc32 } = survey.identity;
    format!("a pipe with {bytes} bytes, CRC-32 {crc32:08x}")
}

/// The progress that an earlier run committed, if there was one. Creates nothing.
fn find_progress(engine: &Engine, arguments: &Arguments, file: &str) -> Result<Option<Progress>, Failure> {
    let open = |name| match engine.open_keyspace(name) {
        Ok(keyspace) => Ok(Some(keyspace)),
        Err(error) if error.kind() == ErrorKind::NoSuchKeyspace => Ok(None),
        Err(error) => Err(error),
    };
    // Without the keyspace (dropped since then) there is nothing to go on with.
    let (Some(ledger), Some(_)) = (open(progress::KEYSPACE)?, open(&arguments.keyspace)?) else { return Ok(None) };
    let key = Progress::key(&arguments.keyspace, file);
    let Some(bytes) = engine.snapshot()?.get(&ledger, key.as_bytes())? else { return Ok(None) };
    let progress = Progress::parse(&bytes);
    progress.map(Some).ok_or_else(|| {
        Failure::told(format!("{key} in keyspace {} is not the progress of an import", progress::KEYSPACE))
    })
}

/// Refuses to go on with a file other than the one that was begun.
fn check_same(arguments: &Arguments, survey: &Survey, begun: &Progress) -> Result<(), Failure> {
    let file = arguments.file.display();
    if begun.key_column != arguments.key {
        let message = format!(
            "{file}: this import was begun with the key column '{}', not '{}'",
            begun.key_column, arguments.key
        );
        return Err(Failure::told(message));
    }
    if begun.file != survey.identity {
        let message = format!(
            "{file} has changed since {} of its rows were imported (then {} bytes, CRC-32 {:08x}; now {} bytes, {:08x}): \
             restore it, or import the new one under another file name with --replace",
            begun.rows, begun.file.bytes, begun.file.crc32, survey.identity.bytes, survey.identity.crc32
        );
        return Err(Failure::told(message));
    }
    if begun.rows > survey.rows {
        let message = format!("{file} has {} rows, and {} of them are recorded as imported", survey.rows, begun.rows);
        return Err(Failure::told(message));
    }
    Ok(())
}

/// The import of the rows that are not imported yet.
struct Import<'a> {
    arguments: &'a Arguments,
    input: &'a Input,
    engine: &'a Engine,
    keyspace: Keyspace,
    ledger: Keyspace,
    progress_key: String,
    progress: Progress,
    total: u64,
    /// There may be keys that are not of this file. Of a keyspace that is empty at the begin nothing needs to be asked: nobody
    /// else has the database open, and the keys of the file differ. (If it is changed between the two readings they may not;
    /// then the import fails at its end, as it says.)
    has_others: bool,
}

impl<'a> Import<'a> {
    /// A transaction with this many bytes of rows takes no further one. With the last row it has at most twice as many,
    /// which is below what a transaction may have.
    const ENOUGH: u64 = 64 << 20;
    /// Nor does one with this part of the memory of the engine: what is read ahead comes on top of it.
    const PART: u64 = 8;

    fn new(
        engine: &'a Engine,
        arguments: &'a Arguments,
        input: &'a Input,
        file: &str,
        survey: &Survey,
        begin: u64,
    ) -> Result<Self, Failure> {
        let keyspace = engine.create_keyspace(&arguments.keyspace)?;
        let has_others = engine.snapshot()?.iter(&keyspace)?.next_ref().is_some();
        Ok(Import {
            arguments,
            input,
            engine,
            keyspace,
            ledger: engine.create_keyspace(progress::KEYSPACE)?,
            progress_key: Progress::key(&arguments.keyspace, file),
            progress: Progress { file: survey.identity, key_column: arguments.key.clone(), rows: begin, done: false },
            total: survey.rows,
            has_others,
        })
    }

    /// Returns the number of rows that it has imported.
    fn run(mut self) -> Result<u64, Failure> {
        let mut rows = Rows::again(source_of(self.arguments, self.input))?;
        let mut imported = 0;
        rows.skip(self.progress.rows)?;
        let bar = progress_bar(self.total, "{wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left");
        bar.set_position(self.progress.rows);
        // The rate and the time that is left are those of this run.
        bar.reset_eta();
        let mut acks = self.arguments.acks.then(Lines::new);
        while !self.progress.done {
            let batch = self.next_batch(&mut rows).map_err(stopped)?;
            self.commit(&batch).map_err(stopped)?;
            imported += batch.len() as u64;
            bar.set_position(self.progress.rows);
            if let Some(acks) = &mut acks {
                acks.line(self.progress.rows)?;
                acks.flush()?;
            }
        }
        bar.finish_and_clear();
        Ok(imported)
    }

    /// Reads the rows of the next transaction, and adds them to the progress that it commits.
    fn next_batch(&mut self, rows: &mut Rows) -> Result<Vec<Row>, Failure> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let enough = self.arguments.memory.bytes().map_or(Self::ENOUGH, |memory| Self::ENOUGH.min(memory / Self::PART));
        while (batch.len() as u64) < self.arguments.batch && bytes < enough {
            let Some(row) = rows.next()? else {
                self.progress.done = true;
                break;
            };
            bytes += (row.key.len() + row.json.len()) as u64;
            batch.push(row);
        }
        self.progress.rows = rows.number();
        // The first reading has checked the file: at the second it must still be the same.
        let changed =
            if self.progress.done { rows.identity() != self.progress.file } else { self.progress.rows > self.total };
        if changed {
            let message = format!("{} was changed while it was imported", self.input.name);
            return Err(Failure::told(message));
        }
        Ok(batch)
    }

    fn commit(&self, batch: &[Row]) -> Result<(), Failure> {
        let mut transaction = self.engine.begin()?;
        for row in batch {
            let at_row = |failure: Failure| failure.at(format_args!("{}, row {}", self.input.name, row.number));
            let key = row.key.as_bytes();
            if self.has_others && !self.arguments.replace && transaction.get(&self.keyspace, key)?.is_some() {
                return Err(at_row(Failure::told(format!(
                    "the key '{}' is in keyspace {} already, and not from this file: --replace would overwrite it",
                    row.key, self.arguments.keyspace
                ))));
            }
            transaction.put(&self.keyspace, key, row.json.as_bytes()).map_err(|error| at_row(error.into()))?;
        }
        transaction.put(&self.ledger, self.progress_key.as_bytes(), self.progress.to_json().as_bytes())?;
        transaction.commit_with(self.arguments.mode)?;
        Ok(())
    }
}

/// Adds to a failure that the transactions before it stay imported, while the current one was not committed.
fn stopped(failure: Failure) -> Failure {
    match failure {
        Failure::Told(message) => {
            Failure::Told(format!("{message}; the transactions before it stay, and the next run goes on from there"))
        }
        Failure::ReaderGone => Failure::ReaderGone,
    }
}

/// The result of an import.
struct Summary {
    /// What was read, as messages call it.
    name: String,
    /// Rows of the file that have any text.
    rows: u64,
    /// Rows that were skipped, because they have no text.
    empty: u64,
    imported: u64,
    /// Rows imported by earlier runs.
    begin: u64,
    /// Whether an earlier run had finished.
    finished: bool,
    durable: Lsn,
    time: Duration,
}

impl Summary {
    fn rate(&self) -> f64 {
        self.imported as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn text(&self, arguments: &Arguments) -> String {
        let (file, keyspace) = (&self.name, &arguments.keyspace);
        if self.finished {
            return format!(
                "already imported: {file}, {} rows in keyspace {keyspace}; nothing was changed",
                grouped(self.rows)
            );
        }
        let earlier = match self.begin {
            0 => String::new(),
            begin => format!(" ({} were there from an earlier run)", grouped(begin)),
        };
        let empty = match self.empty {
            0 => String::new(),
            empty => format!(", {} rows without any text were skipped", grouped(empty)),
        };
        format!(
            "imported {} rows of {file} into keyspace {keyspace}{earlier}{empty}: {} rows/s in {}, mode {}, durable up to LSN {}",
            grouped(self.imported),
            rate(self.rate()),
            short(self.time),
            arguments.mode,
            self.durable
        )
    }

    fn json(&self, arguments: &Arguments) -> String {
        json!({
            "file": file_name(arguments),
            "keyspace": arguments.keyspace,
            "rows": self.rows,
            "imported": self.imported,
            "empty_rows": self.empty,
            "resumed_at": self.begin,
            "already_imported": self.finished,
            "seconds": self.time.as_secs_f64(),
            "rows_per_second": self.rate(),
            "mode": arguments.mode.to_string(),
            "batch": arguments.batch,
            "durable_lsn": self.durable.get(),
        })
        .to_string()
    }
}
