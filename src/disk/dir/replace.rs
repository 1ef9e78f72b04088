//! Replacing a small file as a whole.

use std::ffi::OsStr;

use super::DirHandle;
use crate::base::error::{Error, Result};
use crate::disk::{Dir, write_all_at};

impl DirHandle {
    /// Replaces the file `name` by way of `temporary`. Whatever happens, the old or the new file is there in full;
    /// after success the new one is durable, after an error it may be either. The caller first checks that it still
    /// holds the directory's lock.
    pub(crate) fn replace(&self, name: &OsStr, temporary: &OsStr, bytes: &[u8]) -> Result<()> {
        self.check_lock()?;
        let attempt = || {
            let file = self.create(temporary)?;
            write_all_at(&*file, bytes, 0)?;
            file.sync_all()?;
            self.dir().rename(temporary, name)
        };
        attempt().map_err(|error| {
            // What cannot be removed only costs space: the next attempt removes it first.
            let _ = self.dir().remove(temporary);
            Error::io("replace", &self.path_of(name), error)
        })?;
        self.sync()
    }
}
