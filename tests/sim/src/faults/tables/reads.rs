//! Reading everything of a database with a flipped bit: each answer is right, or an error that names the file.

use std::path::Path;

use forelog::{DamageCause, Engine, Error, ErrorKind, Key, ReadOnly, Result, Snapshot, Value};

use super::reference::{Entries, Reference};
use crate::faults::name_of;
use crate::faults::verdict::Violation;

/// What can be asked, with and without an open.
pub trait Reads {
    fn names(&self) -> Result<Vec<String>>;
    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Value>>;
    fn entries(&self, keyspace: &str) -> Result<forelog::Entries>;
}

impl Reads for ReadOnly {
    fn names(&self) -> Result<Vec<String>> {
        self.keyspace_names()
    }

    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Value>> {
        ReadOnly::get(self, keyspace, key)
    }

    fn entries(&self, keyspace: &str) -> Result<forelog::Entries> {
        self.iter(keyspace)
    }
}

/// An open engine, and its newest state.
pub struct Open<'e>(pub &'e Engine, pub Snapshot);

impl Reads for Open<'_> {
    fn names(&self) -> Result<Vec<String>> {
        self.1.keyspace_names()
    }

    fn get(&self, keyspace: &str, key: &[u8]) -> Result<Option<Value>> {
        self.1.get(&self.0.open_keyspace(keyspace)?, key)
    }

    fn entries(&self, keyspace: &str) -> Result<forelog::Entries> {
        self.1.iter(&self.0.open_keyspace(keyspace)?)
    }
}

/// An error that the flipped bit explains.
pub fn told(error: &Error, flipped: &Path) -> Result<(), Violation> {
    let names_it = match error.kind() {
        // Behind a merge that went round it a file says so that the merge has written.
        ErrorKind::Damaged => {
            let is_run = flipped.extension().is_some_and(|run| run == "run");
            error.damage().is_some_and(|damage| damage.file == flipped || (is_run && damage.cause == DamageCause::Lost))
        }
        ErrorKind::Unsupported => error.to_string().contains(&name_of(flipped)),
        _ => false,
    };
    if names_it { Ok(()) } else { Err(Violation::Wrong(format!("the error is {error:?}"))) }
}

/// Asks for every key, and reads every keyspace forward and backward. Returns how many of these calls met the damage; all
/// others gave the right answer.
pub fn read_through(reads: &impl Reads, reference: &Reference, flipped: &Path) -> Result<u64, Violation> {
    let names = reads.names().map_err(|error| Violation::Wrong(format!("the names of keyspaces: {error:?}")))?;
    if !names.iter().eq(reference.state.keys()) {
        return Err(Violation::Silent(format!("the keyspaces are {names:?}")));
    }
    let mut met = 0;
    for (name, entries) in &reference.state {
        for key in &reference.asked[name] {
            let expected = entries.get(key).map(Vec::as_slice);
            match reads.get(name, key) {
                Ok(found) if found.as_deref() == expected => {}
                Ok(found) => {
                    let (key, length) = (String::from_utf8_lossy(key), found.map(|value| value.len()));
                    return Err(Violation::Silent(format!("{name} {key:?}: a value of {length:?} bytes was read")));
                }
                Err(error) => {
                    told(&error, flipped)?;
                    met += 1;
                }
            }
        }
        for backward in [false, true] {
            let range =
                reads.entries(name).map_err(|error| Violation::Wrong(format!("a range of {name}: {error:?}")))?;
            met += u64::from(scan(range, backward, entries, flipped).map_err(|violation| violation.at(name))?);
        }
    }
    Ok(met)
}

/// Reads a keyspace from one end. Returns whether the scan ended with the damage.
fn scan(mut range: forelog::Entries, backward: bool, entries: &Entries, flipped: &Path) -> Result<bool, Violation> {
    let mut next = || if backward { range.next_back() } else { range.next() };
    let mut is_next = |expected: Option<(&Vec<u8>, &Vec<u8>)>| {
        let is = |(key, value): &(Key, Value)| expected.is_some_and(|(k, v)| key == k && value == v);
        match next() {
            Some(Err(error)) => {
                told(&error, flipped)?;
                match next() {
                    None => Ok(None),
                    Some(_) => Err(Violation::Wrong("a scan goes on behind an error".to_owned())),
                }
            }
            Some(Ok(entry)) if is(&entry) => Ok(Some(())),
            None if expected.is_none() => Ok(Some(())),
            other => {
                let shown = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
                let (found, expected) = (other.and_then(Result::ok), expected.map(|(key, _)| shown(key)));
                let found = found.map(|(key, value)| (shown(&key), value.len()));
                Err(Violation::Silent(format!("backward {backward}: {found:?} comes where {expected:?} is")))
            }
        }
    };
    let mut all = entries.iter();
    loop {
        let expected = if backward { all.next_back() } else { all.next() };
        if is_next(expected)?.is_none() {
            return Ok(true);
        }
        if expected.is_none() {
            return Ok(false);
        }
    }
}
