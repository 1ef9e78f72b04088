//! Replacing a small file as a whole.

use std::ffi::OsStr;
use std::sync::Arc;

use super::DirHandle;
use crate::base::error::{Error, Result};
use crate::disk::{Dir, DiskFile, write_all_at};

impl DirHandle {
    /// Replaces the file `name` by way of `temporary`. Whatever happens, the old or the new file is there in full;
    /// after success the new one, which is returned, is durable; after an error it may be either.
    pub(crate) fn replace(&self, name: &OsStr, temporary: &OsStr, bytes: &[u8]) -> Result<Arc<dyn DiskFile>> {
        self.check_lock()?;
        let attempt = || {
            let file = self.create(temporary)?;
            write_all_at(&*file, bytes, 0)?;
            file.sync_all()?;
            self.dir().rename(temporary, name)?;
            Ok(file)
        };
        let file = attempt().map_err(|error| {
            // What cannot be removed only costs space: the next attempt removes it first.
            let _ = self.dir().remove(temporary);
            Error::io("replace", &self.path_of(name), error)
        })?;
        self.sync()?;
        Ok(file)
    }
}
