//! What a test sees of the medium, and does to it, behind the engine's back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SimDisk;
use super::state::{Image, Inode, tidy};

/// Looking at the contents, and damaging them. None of this is an operation: it is not counted, watched, or hit by
/// faults. Damage is done to what is durable and to what reads see, and leaves what is pending alone.
impl SimDisk {
    /// All files as reads see them, in the order of their paths.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let image = self.crash_point().0;
        let contents = |ino| image.inodes.get(ino).map(|inode| Vec::clone(&inode.visible)).unwrap_or_default();
        image.visible.iter().map(|(path, ino)| (PathBuf::from(&**path), contents(ino))).collect()
    }

    /// A file as reads see it.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let image = self.crash_point().0;
        let ino = image.find(&tidy(path.as_ref()))?;
        Ok(image.inodes.get(&ino).map(|inode| Vec::clone(&inode.visible)).unwrap_or_default())
    }

    /// Puts a file there, durably, with its directories, in place of one that has the name.
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

    /// Overwrites bytes of a file that reach no further than its end.
    pub fn overwrite(&self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.damage(path.as_ref(), |old| {
            let start = usize::try_from(offset).ok();
            let range = start.and_then(|start| Some(start..start.checked_add(bytes.len())?));
            range.and_then(|range| old.get_mut(range)).map(|old| old.copy_from_slice(bytes)).is_some()
        })
    }

    /// Cuts a file that is longer than this.
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
        let path = tidy(path.as_ref());
        self.with_image(|image| {
            image.find(&path)?;
            image.forget(&path);
            Ok(())
        })
    }

    /// Empties the kernel's cache of what is clean: a change that a failed sync gave up is no longer read from now on.
    pub fn drop_caches(&self) {
        self.with_image(Image::drop_caches);
    }

    /// Applies `change` to both contents of a file; it says whether the place it looks for is there.
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
