//! Parsing texts that users store or type: commit modes, tokens and outcomes.

use std::str::FromStr;
use std::time::Duration;

use super::error::{Error, Result};
use super::excerpt;
use super::types::{CommitMode, Incarnation, LogId, Lsn, Outcome, Token, UNITS};

impl FromStr for CommitMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let mode = match lower.as_str() {
            "sync" => Some(CommitMode::Sync),
            "written" => Some(CommitMode::Written),
            "async" => Some(CommitMode::Async),
            other => other.strip_prefix("within:").and_then(parse_time).map(CommitMode::Within),
        };
        mode.ok_or_else(|| {
            let text = excerpt::text(text);
            Error::invalid_input(format!("{text} is no commit mode: write sync, written, async or within:5ms"))
        })
    }
}

/// Parses a whole number and its unit, with nothing between them.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, name) = text.split_at(digits);
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name)?;
    let nanos = number.parse::<u128>().ok()?.checked_mul(*unit)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).ok()?))
}

impl FromStr for Outcome {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let of_this_name = |outcome: &Outcome| outcome.to_string() == text.to_ascii_lowercase();
        Outcome::ALL.into_iter().find(of_this_name).ok_or_else(|| {
            let text = excerpt::text(text);
            Error::invalid_input(format!(
                "{text} is no outcome: expected one of {:?}",
                Outcome::ALL.map(|one| one.to_string())
            ))
        })
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let malformed = || {
            let text = excerpt::text(text);
            Error::invalid_input(format!("{text} is not a token: expected the text that a receipt's token prints"))
        };
        let mut fields = text.split('-');
        if fields.next() != Some("forelog") {
            return Err(malformed());
        }
        let mut number = |digits: usize| {
            let field = fields
                .next()
                .filter(|f| !f.is_empty() && f.len() <= digits && f.bytes().all(|b| b.is_ascii_hexdigit()));
            field.and_then(|f| u128::from_str_radix(f, 16).ok()).ok_or_else(malformed)
        };
        let log_id = LogId(number(32)?.to_be_bytes());
        let mut word = || number(16).and_then(|n| u64::try_from(n).map_err(|_| malformed()));
        let incarnation = Incarnation { number: word()?, nonce: word()? };
        let token = Token { log_id, incarnation, lsn: Lsn::new(word()?) };
        if word()? != u64::from(token.check()) || fields.next().is_some() {
            return Err(malformed());
        }
        Ok(token)
    }
}
