//! Paths as names: one spelling for each, and the new ones when a directory is renamed.

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

/// The new path of `path` after `from` was renamed to `to`. `path` may be `from` itself or lie in it.
pub(super) fn moved(path: &Name, from: &OsStr, to: &OsStr) -> Name {
    match Path::new(path).strip_prefix(from) {
        Ok(rest) => tidy(&Path::new(to).join(rest)),
        Err(_) => Arc::clone(path),
    }
}
