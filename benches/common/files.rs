//! Copies of a database, as a killed process left it.

use std::fs;
use std::io::Result;
use std::path::Path;

/// Copies what is in the directory `from` into the directory `to`.
pub(crate) fn copy_into(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_into(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// Makes `dir` an empty directory, whatever was there.
pub(crate) fn make_empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir(dir)
}
