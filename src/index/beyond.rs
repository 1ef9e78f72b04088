//! What memory asks where it cannot answer alone: the layers of sorted tables, as the index sees them (`table/RULES.md`, 6
//! and 7). The index knows no files; `table/` implements this.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::key::Key;
use super::value::Value;
use super::version::Direction;
use crate::base::error::Result;
use crate::base::types::Lsn;

/// The layers of an open database, whichever are installed when they are asked.
pub(crate) trait Beyond: fmt::Debug + Send + Sync {
    /// The layers that are installed now. They stay, with their files, while they are held.
    fn installed(&self) -> Arc<dyn Layers>;

    /// `key` was read there: if it is read again and again, its range is to come into memory.
    fn note_read(&self, _keyspace: u32, _key: &[u8]) {}
}

/// Layers that are held. Together they have the effect of the log up to [`Layers::to`].
///
/// A reader at `at` holds a snapshot there, so that no merge leaves out what it reads. `at` may be above `to`: then the
/// answer is as of `to`.
pub(crate) trait Layers: fmt::Debug + Send + Sync {
    fn to(&self) -> Lsn;

    /// The value of `key` at `at`; `None` if it was deleted by then, or not yet there.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) with file and position, [`ErrorKind::Io`](crate::ErrorKind::Io).
    fn get(&self, keyspace: u32, key: &[u8], at: Lsn) -> Result<Option<Value>>;

    /// The entries of a range at `at`, in one direction. It stands before the first one.
    fn scan(
        self: Arc<Self>,
        keyspace: u32,
        range: (Bound<Key>, Bound<Key>),
        direction: Direction,
        at: Lsn,
    ) -> Box<dyn LayersScan>;
}

/// A scan of layers. Keys that have no value at its LSN are passed over.
pub(crate) trait LayersScan: fmt::Debug + Send + Sync {
    /// Goes to the next entry; `false` if there is none, and then it is not asked again.
    ///
    /// # Errors
    /// As [`Layers::get`]. Then the scan has ended.
    fn advance(&mut self) -> Result<bool>;

    /// The key of the present entry, without its keyspace. There must be one.
    fn key(&self) -> &[u8];

    /// The value of the present entry. There must be one.
    fn value(&self) -> &[u8];

    /// The LSN that wrote the present entry. There must be one.
    fn lsn(&self) -> Lsn;
}

/// A keyspace that layers have.
#[derive(Clone, Debug)]
pub(crate) struct AwayKeyspace {
    pub(crate) id: u32,
    pub(crate) name: Box<str>,
    /// The LSN that created it.
    pub(crate) created: Lsn,
    /// About how many keys it has; `None` if they have nothing of it at all.
    pub(crate) keys: Option<u64>,
}
