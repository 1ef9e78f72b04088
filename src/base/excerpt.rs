//! What users keep or type, in a line of text: the beginning of what is long, and its length.

use std::fmt::{Debug, Formatter, Result};

/// What is longer, in bytes, is cut.
const LONG: usize = 64;
/// Bytes or characters that are left of what is cut.
const KEPT: usize = 32;

/// Prints bytes between quotes, escaped.
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

impl Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0.len() <= LONG {
            return write!(f, "\"{}\"", self.0.escape_ascii());
        }
        write!(f, "\"{}\"... ({} bytes)", self.0[..KEPT].escape_ascii(), self.0.len())
    }
}

/// A text between quotes, for a message.
pub(crate) fn text(text: &str) -> String {
    if text.len() <= LONG {
        return format!("'{}'", text.escape_debug());
    }
    let kept: String = text.chars().take(KEPT).collect();
    format!("'{}'... ({} bytes)", kept.escape_debug(), text.len())
}
