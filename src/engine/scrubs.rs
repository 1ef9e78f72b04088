//! A scrub of an open engine, and what those who hold layers leave to be removed.

use std::sync::Arc;

use super::install::remove_needless;
use super::tables::Tables;
use crate::base::error::Result;
use crate::care::pace::ScrubOptions;
use crate::care::scrub::{self, Scrub};
use crate::log::LogInner;

/// Begins a scrub. If layers took the place of those that it reads, it removes at its end what nothing needs any more.
pub(super) fn scrub(log: &Arc<LogInner>, tables: &Arc<Tables>, options: ScrubOptions) -> Result<Scrub> {
    let held = tables.names();
    let (of, beside) = (Arc::clone(log), Arc::clone(tables));
    scrub::scrub(log, options, || tables.hold(), move || let_go(&of, &beside, held))
}

/// Removes what nothing needs any more, if layers took the place of those that were held, whose MANIFEST had these names.
pub(super) fn let_go(log: &LogInner, tables: &Tables, held: Option<(u64, u32)>) {
    let Some(store) = tables.store().filter(|_| tables.names() != held && tables.check_open().is_ok()) else { return };
    if log.check_ours(|| tables.check_place(log.handle())).is_ok() {
        remove_needless(tables, store);
    }
}
