//! What a test reads from the medium, and changes on it, while an engine has it open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SimDisk;
use super::names::Entry;
use super::paths::tidy;
use super::state::{Image, Inode};

/// Reading and damaging the contents. None of this is an operation: it is not counted, observed, or hit by faults.
/// Damage changes the durable and the visible bytes, and leaves the pending changes alone.
impl SimDisk {
    /// All files with their visible bytes, in the order of their paths.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let image = self.crash_point().0;
        let contents = |ino| image.inodes.get(&ino).map(|inode| Vec::clone(&inode.visible)).unwrap_or_default();
        let files = image.visible.iter().filter_map(|(key, entry)| match entry {
            Entry::File(ino) => Some((image.visible.path(key)?, contents(ino))),
            Entry::Dir(_) => None,
        });
        let mut files: Vec<_> = files.collect();
        files.sort_unstable();
        files.into_iter().map(|(path, bytes)| (PathBuf::from(&*path), bytes)).collect()
    }

    /// The visible bytes of a file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let image = self.crash_point().0;
        let ino = image.find(&image.locate(&tidy(path.as_ref()))?)?;
        Ok(image.inodes.get(&ino).map(|inode| Vec::clone(&inode.visible)).unwrap_or_default())
    }

    /// Writes a file, durably, and the directories above it. Replaces a file of the same name.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.with_image(|image| image.plant(&tidy(path.as_ref()), bytes))
    }

    /// Flips one bit: bit `bit % 8`, counted from the lowest, of byte `bit / 8`.
    pub fn flip_bit(&self, path: impl AsRef<Path>, bit: u64) -> io::Result<()> {
        self.damage(path.as_ref(), |bytes| {
            let byte = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at));
            byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
    }

    /// Overwrites bytes of a file, at most up to its end.
    pub fn overwrite(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.damage(path.as_ref(), |old| {
            let start = usize::try_from(offset).ok();
            let range = start.and_then(|start| Some(start..start.checked_add(bytes.len())?));
            range.and_then(|range| old.get_mut(range)).map(|old| old.copy_from_slice(bytes)).is_some()
        })
    }

    /// Cuts a file to `length`; it must be longer.
    pub fn truncate(&self, path: impl AsRef<Path>, length: u64) -> io::Result<()> {
        self.damage(path.as_ref(), |bytes| match usize::try_from(length) {
            Ok(length) if length <= bytes.len() => {
                bytes.truncate(length);
                true
            }
            _ => false,
        })
    }

    /// Removes a file, durably.
    pub fn delete(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.with_image(|image| {
            let key = image.locate(&tidy(path.as_ref()))?;
            image.find(&key)?;
            image.forget(&key);
            Ok(())
        })
    }

    /// Renames a file, durably, even if it is open. Replaces a file that has the new name.
    pub fn rename_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.with_image(|image| {
            let from = image.locate(&tidy(from.as_ref()))?;
            image.alias(&from, image.locate(&tidy(to.as_ref()))?)?;
            image.forget(&from);
            Ok(())
        })
    }

    /// Gives a file a second name, durably: a hard link. Replaces a file that has the new name.
    pub fn link_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.with_image(|image| {
            let from = image.locate(&tidy(from.as_ref()))?;
            image.alias(&from, image.locate(&tidy(to.as_ref()))?)
        })
    }

    /// Drops clean pages from the kernel's cache: reads no longer show a change that a failed sync gave up.
    pub fn drop_caches(&self) {
        self.with_image(Image::drop_caches);
    }

    /// Applies `change` to the durable and to the visible bytes of a file. `change` returns whether the bytes that it
    /// damages exist.
    fn damage(&self, path: &Path, change: impl Fn(&mut Vec<u8>) -> bool) -> io::Result<()> {
        self.with_image(|image| {
            let Inode { durable, visible, .. } = image.damage(&tidy(path))?;
            let one = Arc::ptr_eq(durable, visible);
            let mut done = change(Arc::make_mut(durable));
            if one {
                visible.clone_from(durable);
            } else {
                done |= change(Arc::make_mut(visible));
            }
            if done { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the file")) }
        })
    }
}
