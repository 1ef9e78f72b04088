//! Paths in one spelling each.

use std::ffi::OsStr;
use std::path::{Component, Path};
use std::sync::Arc;

/// A path in its one spelling (see [`tidy`]). Compared as bytes: comparing paths part by part is slow.
pub(super) type Name = Arc<OsStr>;

/// The one spelling of a path.
pub(super) fn tidy(path: &Path) -> Name {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_odd = |pair: &[u8]| pair == b"//" || pair == b"/." || pair == b"./";
    if !bytes.ends_with(b"/") && bytes != b"." && !bytes.windows(2).any(is_odd) {
        return Name::from(path.as_os_str());
    }
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    Name::from(parts.collect::<std::path::PathBuf>().into_os_string())
}

/// The path of `name` in the directory at `dir`.
pub(super) fn join(dir: &OsStr, name: &OsStr) -> Name {
    if dir.is_empty() { Name::from(name) } else { Name::from(Path::new(dir).join(name).into_os_string()) }
}
