//! What a build before tables says of a directory that has them: it knew no bit, and reads HISTORY first.

use std::path::Path;

use crate::base::error::{Error, ErrorKind};
use crate::format::Refusal;
use crate::format::features::{RANGE_DELETION, TABLES};
use crate::format::preamble::{self, Kind};

const HISTORY: &[u8] = include_bytes!("../../../tests/fixtures/v1-tables/kinds/HISTORY");
const BEFORE: &[u8] = include_bytes!("../../../tests/fixtures/v1/closed/HISTORY");
/// The same kind of file, of a build that knew no bit.
const KIND: Kind = Kind::plain(*b"forehist");

#[test]
fn a_build_before_tables_refuses_a_history_with_them_by_name() {
    assert_eq!(preamble::check(BEFORE, KIND), Ok(()));
    let refusal = preamble::check(HISTORY, KIND).unwrap_err();
    assert_eq!(refusal, Refusal::Features(TABLES | RANGE_DELETION));
    let error = refusal.error(Path::new("db/HISTORY"), || Error::new(ErrorKind::Damaged, "damaged"));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.contains("db/HISTORY") && text.contains("tables (bit 0)") && text.contains("newer"), "{text}");
    // It asks before it looks at what only the bits explain.
    assert_eq!(preamble::is_of_this_version(HISTORY, KIND), Ok(false));
}
