//! Output: lines on stdout, one line on stderr after a failure, a progress bar on a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The end of a command: its exit code, or why it could not do its work.
pub(crate) type Done = Result<ExitCode, Failure>;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A message, to be printed in one line.
    Told(String),
    /// The reader of the output is gone, as behind `| head`: not an error of this command.
    ReaderGone,
}

impl Failure {
    pub(crate) fn told(message: impl Into<String>) -> Self {
        Failure::Told(message.into())
    }

    /// An operating-system error while doing `what`.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let next = next_step(error).map_or_else(String::new, |step| format!(". {step}"));
        Failure::Told(format!("cannot {what}{next}: {error}"))
    }

    /// A thread was refused.
    pub(crate) fn no_thread(error: &io::Error) -> Self {
        let next = "Raise the limits of threads and memory (ulimit -u, ulimit -v)";
        Failure::Told(format!("cannot start a thread. {next}: {error}"))
    }

    /// Puts `place` before the message.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Failure::Told(message) => Failure::Told(format!("{place}: {message}")),
            Failure::ReaderGone => Failure::ReaderGone,
        }
    }

    /// Prints the message. Returns the exit code of the process.
    pub(crate) fn report(&self) -> u8 {
        match self {
            Failure::Told(message) => {
                note(message);
                1
            }
            Failure::ReaderGone => 0,
        }
    }
}

/// What to do about an operating-system error that comes of a limit of this process.
pub(crate) fn next_step(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => Some("Raise the limit of open files (ulimit -n), or have fewer open"),
        Some(libc::EFBIG) => Some("Raise the limit of the length of files (ulimit -f)"),
        _ => None,
    }
}

/// Prints a text on stderr as it is.
pub(crate) fn complain(text: &str) {
    let _ = write!(io::stderr(), "{text}");
}

/// Prints one line on stderr.
pub(crate) fn note(message: impl fmt::Display) {
    // If stderr is gone, nobody is there to be told.
    let _ = writeln!(io::stderr(), "forelog: {}", without_controls(&message.to_string().replace('\n', " ")));
}

/// Says so if an engine has found something of its tables, or of the log behind them, that it could not read.
pub(crate) fn note_rot(engine: &forelog::Engine) {
    let stats = engine.table_stats();
    if let Some(rot) = stats.last_rot {
        let aside = match stats.set_aside {
            0 if stats.last_failure.is_none() => "What it had was written again, and nothing is lost".to_owned(),
            0 => "It is tried again".to_owned(),
            count => format!(
                "Reads of what was lost fail. {count} of the files are kept apart for a salvage: forelog dump of MANIFEST names them"
            ),
        };
        note(format_args!("{rot}. {aside}"));
    }
}

impl From<forelog::Error> for Failure {
    fn from(error: forelog::Error) -> Self {
        Failure::Told(error.to_string())
    }
}

/// Standard output, buffered, one line at a time.
pub(crate) struct Lines(BufWriter<StdoutLock<'static>>);

impl Lines {
    pub(crate) fn new() -> Self {
        Lines(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Writes a line, or several. The caller must have escaped what is not its own text.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(|error| unwritable(&error))
    }

    /// Hands everything written so far to the reader of stdout.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| unwritable(&error))
    }
}

fn unwritable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::io("write to stdout", error),
    }
}

/// Prints text for people, in which names may stand that others have chosen, and flushes stdout.
pub(crate) fn print(text: impl fmt::Display) -> Result<(), Failure> {
    print_line(without_controls(&text.to_string()))
}

/// Prints one JSON object and flushes stdout.
pub(crate) fn print_json(object: impl fmt::Display) -> Result<(), Failure> {
    print_line(json_without_controls(&object.to_string()))
}

fn print_line(line: impl fmt::Display) -> Result<(), Failure> {
    let mut lines = Lines::new();
    lines.line(line)?;
    lines.flush()
}

/// Whether a character may command a terminal, or turn around what stands beside it.
fn is_control(char: char) -> bool {
    char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text with its control characters escaped, line breaks excepted.
pub(crate) fn without_controls(text: &str) -> Cow<'_, str> {
    replace_controls(text, |text, char| text.extend(char.escape_unicode()))
}

/// A line of JSON with its control characters escaped. In what is JSON already they can stand in strings only.
pub(crate) fn json_without_controls(json: &str) -> Cow<'_, str> {
    replace_controls(json, |text, char| match char {
        // Between two tokens, where a space means the same.
        '\t' | '\r' => text.push(' '),
        char => text.push_str(&format!("\\u{:04x}", u32::from(char))),
    })
}

fn replace_controls(text: &str, replace: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let is_replaced = |char: char| char != '\n' && is_control(char);
    if !text.contains(is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_replaced(char) { replace(&mut replaced, char) } else { replaced.push(char) }
    }
    Cow::Owned(replaced)
}

/// A progress bar on stderr, invisible unless that is a terminal.
pub(crate) fn progress_bar(steps: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style)
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    group(&number.to_string())
}

/// Operations per second, without a fraction.
pub(crate) fn rate(per_second: f64) -> String {
    group(&format!("{per_second:.0}"))
}

fn group(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in three digits and a unit.
pub(crate) fn short(duration: Duration) -> String {
    let nanos = duration.as_secs_f64() * 1e9;
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "us"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let decimals = if unit == "ns" || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

/// Bytes in three digits and a unit.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Bytes as text in which every line break, tab, backslash, control character and stray byte is escaped. So a line
/// stays a line, a column stays a column, and no two keys look the same.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\\' | '\n' | '\r' | '\t' => text.extend(char.escape_default()),
                char if is_control(char) => text.extend(char.escape_unicode()),
                char => text.push(char),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped).each_ref().map(|s| &**s)
        );
    }

    #[test]
    fn durations_and_sizes_have_three_digits() {
        let nanos = |n| short(Duration::from_nanos(n));
        assert_eq!(
            [nanos(850), nanos(1_250), nanos(84_000), nanos(123_400_000), nanos(2_500_000_000)],
            ["850 ns", "1.25 us", "84.0 us", "123 ms", "2.50 s"]
        );
        assert_eq!([size(12), size(1536), size(16 << 20)], ["12 B", "1.5 KiB", "16.0 MiB"]);
    }

    #[test]
    fn what_would_command_a_terminal_is_escaped_and_json_stays_what_it_is() {
        assert_eq!(without_controls("a\u{1b}[2J\u{9b}\n\u{202e}h\u{e9}\\"), "a\\u{1b}[2J\\u{9b}\n\\u{202e}h\u{e9}\\");
        let json = "{\"a\":\t\"\u{9b}\u{7f}\u{202e}\"}";
        let safe = json_without_controls(json);
        assert_eq!(safe, "{\"a\": \"\\u009b\\u007f\\u202e\"}");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&safe), parse(json));
    }

    #[test]
    fn what_would_break_a_line_is_escaped() {
        assert_eq!(escaped("h\u{e9}\t\n\\\u{1}".as_bytes()), "h\u{e9}\\t\\n\\\\\\u{1}");
        assert_eq!(escaped(b"a\xffb"), "a\\xffb");
    }
}
