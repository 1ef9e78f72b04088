//! The guide: how to choose, wait, write transactions, lay out keys, and what other databases call it.
//!
//! | page | for the question |
//! |---|---|
//! | [`choosing`] | which commit mode do I take? |
//! | [`waiting`] | how does my program learn that a commit is durable? |
//! | [`transactions`] | what conflicts, what is run again, what about ids after a crash? |
//! | [`keys`] | how do I lay out keys? |
//! | [`coming_from`] | what is the word for it here? |
//!
//! The commit in an async program is on the [first page](crate#in-an-async-program); following what is committed is in [`tail`](crate::tail), requests that are done once in
//! [`requests`](crate::requests).

#[doc = include_str!("choosing.md")]
pub mod choosing {}

#[doc = include_str!("waiting.md")]
pub mod waiting {}

#[doc = include_str!("transactions.md")]
pub mod transactions {}

#[doc = include_str!("keys.md")]
pub mod keys {}

#[doc = include_str!("coming_from.md")]
pub mod coming_from {}
