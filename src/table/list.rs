//! Reading MANIFEST and files of keyspaces: as a whole, once their checksum is known to match; and telling them apart.

use std::path::Path;

use crate::base::error::{Error, Result};
use crate::disk::DiskFile;
use crate::format::table::MAX_LIST_BYTES;
use crate::format::{Check, Refusal};
use crate::table::run::read::read;

/// Read at a time.
const PIECE: usize = 1 << 20;

/// The first bytes, which tell which file it is, if there are so many.
pub(crate) fn magic(file: &dyn DiskFile, path: &Path) -> Result<Option<[u8; 8]>> {
    let mut bytes = [0; 8];
    let length = file.len().map_err(|error| Error::io("read", path, error))?;
    if length < bytes.len() as u64 {
        return Ok(None);
    }
    read(file, path, &mut bytes, 0)?;
    Ok(Some(bytes))
}

/// The bytes of a file whose checksum `begin` begins to check. Nothing is allocated by its length before the checksum
/// matches: a file may be a hole of any size.
///
/// # Errors
/// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged), [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported),
/// [`ErrorKind::Io`](crate::ErrorKind::Io).
pub(crate) fn read_list(
    file: &dyn DiskFile,
    path: &Path,
    begin: impl FnOnce(&[u8]) -> std::result::Result<Check, Refusal>,
) -> Result<Vec<u8>> {
    let refused = |refusal: Refusal| refusal.error(path, || Error::bad_table(path, 0));
    let length = file.len().map_err(|error| Error::io("read", path, error))?;
    if length > MAX_LIST_BYTES {
        return Err(Error::bad_table(path, MAX_LIST_BYTES));
    }
    let length = usize::try_from(length).expect("at most 1 GiB");
    let mut piece = vec![0; PIECE.min(length)];
    read(file, path, &mut piece, 0)?;
    let mut check = begin(&piece).map_err(refused)?;
    let mut at = piece.len();
    while at < length {
        piece.truncate(length - at);
        read(file, path, &mut piece, at as u64)?;
        check.add(&piece);
        at += piece.len();
    }
    check.end().map_err(refused)?;
    let mut bytes = vec![0; length];
    read(file, path, &mut bytes, 0)?;
    Ok(bytes)
}
