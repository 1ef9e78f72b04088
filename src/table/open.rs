//! What an open finds in `table/`, and what it makes of it beside what HISTORY says (`format/DECISIONS.md`, section 2).
//! It changes nothing.

use std::sync::Arc;

use super::keyspaces::KeyspaceList;
use super::list::{magic, read_list};
use super::named::{Place, check_runs};
use super::store::Stack;
use crate::base::error::{DamageCause, Error, Result};
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::format::Refusal;
use crate::format::history::{self, Entry};
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{FILE_NAME, Manifest};
use crate::format::table::{FileIdentity, FileKind, file_name};

#[cfg(test)]
mod tests;

/// What HISTORY says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) log_id: LogId,
    /// It has the bit of tables.
    pub(crate) has_tables: bool,
    /// Generation and CRC of the MANIFEST that it names, if it names one.
    pub(crate) names: Option<(u64, u32)>,
    pub(crate) oldest: Lsn,
    pub(crate) incarnations: &'a [Entry],
}

/// The layers that an open begins with.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) stack: Stack,
    /// HISTORY names this MANIFEST, so it is known durable.
    pub(crate) is_named: bool,
}

/// The layers, or `None` if all there is is in the log.
///
/// # Errors
/// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with the file, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if
/// a newer version wrote it, [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn read(place: Place<'_>, known: Known<'_>) -> Result<Option<Layers>> {
    let Some(bytes) = read_manifest(place, known)? else { return Ok(None) };
    let path = place.path.join(FILE_NAME);
    let manifest = Manifest::decode(&bytes).map_err(|refusal| refusal.error(&path, || Error::bad_table(&path, 0)))?;
    let crc = Manifest::crc(&bytes);
    check(&manifest, crc, known).map_err(|cause| place.damaged(FILE_NAME, cause))?;
    let keyspaces = read_keyspaces(place, &manifest)?;
    check_runs(place, &manifest)?;
    let is_named = known.names == Some((manifest.generation, crc));
    Ok(Some(Layers { stack: Stack { manifest, keyspaces: Arc::new(keyspaces), crc }, is_named }))
}

/// The bytes of MANIFEST; `None` if there is none, and need not be.
fn read_manifest(place: Place<'_>, known: Known<'_>) -> Result<Option<Vec<u8>>> {
    let path = place.path.join(FILE_NAME);
    let found = match place.open(FILE_NAME) {
        // A directory or a pipe of another program.
        Err(error) if !known.has_tables && error.damage().is_some() => None,
        found => found?,
    };
    let Some(file) = found else {
        return if known.names.is_none() { Ok(None) } else { Err(place.damaged(FILE_NAME, DamageCause::MissingTable)) };
    };
    if known.has_tables {
        return read_list(&*file, &path, Manifest::begin_check).map(Some);
    }
    // Without the bit it may be another program's file.
    if magic(&*file, &path)? != Some(Manifest::MAGIC) {
        return Ok(None);
    }
    let history = place.path.parent().unwrap_or(place.path).join(history::FILE_NAME);
    Err(Error::damaged(&history, Lsn::ZERO, DamageCause::BadHistory))
}

/// Whether a whole MANIFEST belongs to this HISTORY, and is not older.
fn check(manifest: &Manifest, crc: u32, known: Known<'_>) -> std::result::Result<(), DamageCause> {
    let is_listed = lies_in(known.incarnations, manifest.branch, manifest.to);
    let is_older = known.names.is_some_and(|(generation, named)| {
        manifest.generation < generation || (manifest.generation == generation && crc != named)
    });
    let is_ours = manifest.log_id == known.log_id && is_listed && known.oldest <= manifest.to && !is_older;
    if is_ours { Ok(()) } else { Err(DamageCause::ForeignTable) }
}

/// Whether this incarnation is listed, and had its part of the log at `lsn`.
pub(crate) fn lies_in(incarnations: &[Entry], branch: Incarnation, lsn: Lsn) -> bool {
    let entry = incarnations.iter().find(|entry| entry.incarnation == branch);
    entry.is_some_and(|entry| entry.begin < lsn && entry.end.is_none_or(|end| lsn <= end.lsn))
}

/// Reads and checks the list of keyspaces that MANIFEST names.
pub(super) fn read_keyspaces(place: Place<'_>, manifest: &Manifest) -> Result<KeyspaceList> {
    let named = manifest.keyspaces;
    let name = file_name(named.number, FileKind::Keyspaces);
    let path = place.path.join(&name);
    let file = place.open_named(&name, &named)?;
    let bytes = read_list(&*file, &path, Keyspaces::begin_check)?;
    let refused = |refusal: Refusal| refusal.error(&path, || Error::bad_table(&path, 0));
    let list = Keyspaces::decode(&bytes).map_err(refused)?;
    let identity = FileIdentity { log_id: manifest.log_id, number: named.number, nonce: named.nonce };
    let is_named = list.identity == identity && Keyspaces::crc(&bytes) == named.crc && list.to <= manifest.to;
    if is_named { Ok(KeyspaceList::of(&list)) } else { Err(place.damaged(&name, DamageCause::ForeignTable)) }
}
