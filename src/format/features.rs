//! The must-understand feature bits: one registry for HISTORY, segment headers and MARK (DECISIONS.md, section 1).

/// Layers of sorted runs in `table/`. HISTORY has a block that names a MANIFEST.
pub(crate) const TABLES: u64 = 1;

/// Records that delete ranges of keys.
pub(crate) const RANGE_DELETION: u64 = 1 << 3;

/// Those that headers of segments have, too (the registry's last column).
pub(crate) const IN_SEGMENTS: u64 = TABLES | RANGE_DELETION;

/// The bits that are assigned. A bit is never given another meaning.
const NAMES: [(u32, &str); 4] = [(0, "tables"), (1, "archived incarnations"), (2, "cuts"), (3, "range deletion")];

/// The set bits for a message, by name where one is assigned.
pub(crate) fn describe(bits: u64) -> String {
    let set = (0..u64::BITS).filter(|bit| bits & 1 << bit != 0);
    let name = |bit| match NAMES.iter().find(|(assigned, _)| *assigned == bit) {
        Some((_, name)) => format!("{name} (bit {bit})"),
        None => format!("bit {bit}"),
    };
    set.map(name).collect::<Vec<_>>().join(", ")
}
