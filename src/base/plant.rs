//! Planted bugs: known mistakes that the crash suite must find, or it proves nothing.
//!
//! Only a build with `--cfg forelog_plants` has them; everywhere else [`planted!`](crate::planted) is `false` at
//! compile time. Even there one is active only if the environment variable `FORELOG_PLANT` names it.

/// Whether the bug of this name is planted: `if planted!("ack-before-sync") { … }`.
macro_rules! planted {
    ($name:literal) => {
        $crate::base::plant::is_active($name)
    };
}
pub(crate) use planted;

#[cfg(not(forelog_plants))]
#[inline(always)]
pub(crate) const fn is_active(_name: &str) -> bool {
    false
}

#[cfg(forelog_plants)]
pub(crate) fn is_active(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ACTIVE.get_or_init(|| std::env::var("FORELOG_PLANT").ok()).as_deref() == Some(name)
}
