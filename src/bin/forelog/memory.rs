//! `--memory`: how much memory the engine of a command may use.

use std::path::Path;
use std::str::FromStr;

use clap::Args;
use forelog::{Checkpoints, Engine, Error, Options};

/// What the commands that write take.
#[derive(Debug, Args)]
pub(crate) struct Memory {
    /// The memory that the engine may use, such as 256MiB; 16MiB or more. Without it half of what the machine has, or of
    /// what the control groups or the limits of the process allow (under ulimit -v set MALLOC_ARENA_MAX=1, too)
    #[arg(long, value_name = "BYTES")]
    memory: Option<Size>,
}

impl Memory {
    /// Options with this memory. Refuses what the engine would refuse, before the command has done anything.
    pub(crate) fn options(&self) -> Result<Options, Error> {
        let options = self.bytes().into_iter().fold(Options::new(), Options::memory_bytes);
        options.check()?;
        Ok(options)
    }

    /// Opens the database in `db`, which must be there, for a command that asks for the checkpoints which it needs.
    pub(crate) fn open(&self, db: &Path) -> Result<Engine, Error> {
        let options = self.options()?.create(false).checkpoints(Checkpoints::OnRequest);
        options.retain_log_as_found().open(db)
    }

    /// In bytes, if it was said.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.memory.map(|Size(bytes)| bytes)
    }
}

/// A number of bytes, as it is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size(u64);

/// Each with its bytes.
const UNITS: [(&str, u64); 6] =
    [("", 1), ("b", 1), ("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("tib", 1 << 40)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
        let (number, name) = lower.split_at(digits);
        let unit = UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, bytes)| *bytes);
        let bytes = number.parse().ok().zip(unit).and_then(|(number, unit): (u64, _)| number.checked_mul(unit));
        bytes.map(Size).ok_or_else(|| "write a number of bytes, or one with KiB, MiB, GiB or TiB: 256MiB".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("17B", 17), ("2KiB", 2048), ("256MiB", 256 << 20), ("3gib", 3 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "1 MiB", "1MB", "1M", "+1", "18446744073709551616", "16777216TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_engine_would_refuse_is_refused_with_its_error() {
        let of = |bytes| Memory { memory: Some(Size(bytes)) }.options().map(|_| ());
        assert!(of(16 << 20).is_ok());
        let error = of((16 << 20) - 1).unwrap_err();
        assert_eq!(error.kind(), forelog::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("memory_bytes is 16777215"), "{error}");
    }
}
