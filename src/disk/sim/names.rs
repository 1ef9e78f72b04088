//! Names: what each name in each directory leads to. A directory has a number of its own, so its contents go along when its
//! name changes, on the medium as in the cache, whichever of the two has the new name.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use super::paths::{Name, join};

/// Names an inode: a file or a directory.
pub(super) type Ino = u64;

/// The root directory. No other inode has this number.
pub(super) const ROOT: Ino = 0;

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    pub(super) dir: Ino,
    pub(super) name: Name,
}

impl Key {
    pub(super) fn new(dir: Ino, name: &OsStr) -> Self {
        Key { dir, name: name.into() }
    }
}

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    File(Ino),
    Dir(Ino),
}

impl Entry {
    pub(super) fn ino(self) -> Ino {
        match self {
            Entry::File(ino) | Entry::Dir(ino) => ino,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<Key, Entry>);

impl Names {
    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        self.0.get(key).copied()
    }

    pub(super) fn insert(&mut self, key: Key, entry: Entry) {
        self.0.insert(key, entry);
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        self.0.remove(key)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, Entry)> {
        self.0.iter().map(|(key, entry)| (key, *entry))
    }

    /// The inodes that the names lead to.
    pub(super) fn inos(&self) -> impl Iterator<Item = Ino> {
        self.0.values().map(|entry| entry.ino())
    }

    /// The names in a directory.
    pub(super) fn list(&self, dir: Ino) -> impl Iterator<Item = (&Key, Entry)> {
        self.iter().filter(move |(key, _)| key.dir == dir)
    }

    /// The directory at `path`.
    pub(super) fn dir(&self, path: &OsStr) -> Option<Ino> {
        let mut dir = ROOT;
        for name in Path::new(path) {
            let Some(Entry::Dir(below)) = self.get(&Key::new(dir, name)) else { return None };
            dir = below;
        }
        Some(dir)
    }

    /// The name at the end of `path`, if the directory above is there. It need not lead anywhere.
    pub(super) fn locate(&self, path: &OsStr) -> Option<Key> {
        let path = Path::new(path);
        Some(Key::new(self.dir(path.parent()?.as_os_str())?, path.file_name()?))
    }

    /// The path of a directory, if the root leads to it.
    pub(super) fn path_of(&self, dir: Ino) -> Option<Name> {
        if dir == ROOT {
            return Some(Name::from(OsStr::new("")));
        }
        let (key, _) = self.iter().find(|(_, entry)| *entry == Entry::Dir(dir))?;
        self.path(key)
    }

    /// The path of a name, which need not lead anywhere, if the root leads to its directory.
    pub(super) fn path(&self, key: &Key) -> Option<Name> {
        Some(join(&self.path_of(key.dir)?, &key.name))
    }

    /// The directories that the root leads to.
    pub(super) fn reached(&self) -> Vec<Ino> {
        self.reached_from(ROOT)
    }

    /// `dir`, and the directories that it leads to.
    pub(super) fn reached_from(&self, dir: Ino) -> Vec<Ino> {
        let mut reached = vec![dir];
        let mut at = 0;
        while let Some(dir) = reached.get(at).copied() {
            for (_, entry) in self.list(dir) {
                if let Entry::Dir(below) = entry
                    && !reached.contains(&below)
                {
                    reached.push(below);
                }
            }
            at += 1;
        }
        reached
    }

    /// Drops what the root does not lead to.
    pub(super) fn drop_unreachable(&mut self) {
        let reached = self.reached();
        self.retain(|key| reached.contains(&key.dir));
    }
}

/// A change of names: a rename removes one and adds one.
#[derive(Clone, Debug, Default)]
pub(super) struct NameChange {
    pub(super) removes: Option<Key>,
    pub(super) adds: Option<(Key, Entry)>,
}

impl NameChange {
    pub(super) fn names(&self) -> impl Iterator<Item = &Key> {
        self.removes.iter().chain(self.adds.iter().map(|(key, _)| key))
    }

    pub(super) fn is_about(&self, key: &Key) -> bool {
        self.names().any(|own| own == key)
    }

    pub(super) fn apply(&self, names: &mut Names) {
        if let Some(key) = &self.removes {
            names.remove(key);
        }
        if let Some((key, entry)) = &self.adds {
            names.insert(key.clone(), *entry);
        }
    }
}

/// Adds to the chosen changes the earlier changes of the same names, on which they build.
pub(super) fn close_names(changes: &[(u64, NameChange)], landed: &mut [bool]) {
    for later in (0..changes.len()).rev() {
        if landed[later] {
            for earlier in 0..later {
                landed[earlier] |= changes[earlier].1.names().any(|key| changes[later].1.is_about(key));
            }
        }
    }
}
