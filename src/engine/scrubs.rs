//! A scrub of an open engine, and what it leaves to be removed.

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
    let let_go = move || {
        let Some(store) = beside.store().filter(|_| beside.names() != held && beside.check_open().is_ok()) else {
            return;
        };
        if of.check_ours(|| beside.check_place(of.handle())).is_ok() {
            remove_needless(&beside, store);
        }
    };
    scrub::scrub(log, options, || tables.hold(), let_go)
}
