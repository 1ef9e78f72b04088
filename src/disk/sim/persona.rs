//! The ways in which file systems lose changes.

use super::names::{NameChange, close_names};

/// The unit that lands whole or not at all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub enum Granularity {
    /// No unit at all: a tear anywhere. No medium within the format's assumptions does this.
    Byte,
    /// 8 aligned bytes: the unit of a sector whose page changes while it is written.
    Word,
    /// 512 aligned bytes.
    #[default]
    Sector,
    /// 4096 aligned bytes.
    Page,
}

impl Granularity {
    /// The unit's size.
    pub const fn bytes(self) -> usize {
        match self {
            Granularity::Byte => 1,
            Granularity::Word => 8,
            Granularity::Sector => 512,
            Granularity::Page => 4096,
        }
    }
}

/// Which changes of names that were not synced land without the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NameOrder {
    /// Each lands or not, independently of the others: a rename without the creation before it.
    Any,
    /// A change lands only with the earlier ones of the same names.
    OfEachName,
    /// All changes up to some moment land, by a journal.
    Journal,
}

impl NameOrder {
    /// Adds to the chosen changes those that must land with them.
    pub(super) fn close(self, changes: &[(u64, NameChange)], landed: &mut [bool]) {
        match self {
            NameOrder::Any => {}
            NameOrder::OfEachName => close_names(changes, landed),
            NameOrder::Journal => {
                let reached = landed.iter().filter(|landed| **landed).count();
                landed.iter_mut().enumerate().for_each(|(at, landed)| *landed = at < reached);
            }
        }
    }
}

/// What reads show if a length landed without all the bytes below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Growth {
    /// Zeros.
    Zeros,
    /// The former contents of the medium.
    Garbage,
    /// Impossible: the bytes land first.
    WithData,
}

/// A file system, by what a power loss may do to changes that no sync has covered.
///
/// | persona | names | growth | least unit | why |
/// |---|---|---|---|---|
/// | `posix-min` | any | zeros | word | all that POSIX leaves open; the others are restrictions of it |
/// | `posix-min, garbage` | any | garbage | word | the same with stale blocks |
/// | `ext4-ordered` | journal | with data | word | `data=ordered`: blocks before the metadata that leads to them |
/// | `ext4-writeback` | journal | garbage | word | `data=writeback`: the length may come first |
/// | `xfs` | journal | with data | word | ordered log; the length changes when the data I/O has ended |
/// | `btrfs` | of each name | with data | page | copy on write: a page is old or new as a whole; fsync logs one file's names |
///
/// All of them satisfy the assumptions A1 to A9 of the format's specification: a word is whole (A1), the bytes that a
/// successful sync covered stay (A2), no other place is touched (A3), a rename is atomic (A4), names wait for their
/// directory (A5), the rest lands in any order (A6). Only [`Granularity::Byte`] breaks one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Persona {
    /// Its name in messages.
    pub name: &'static str,
    /// Which changes of names land without the others.
    pub names: NameOrder,
    /// What reads show below a length where no bytes landed.
    pub growth: Growth,
    /// Nothing smaller than this unit is torn.
    pub least: Granularity,
}

impl Persona {
    /// The names of each file in order; zeros.
    pub(super) const PLAIN: Persona =
        Persona { name: "plain", names: NameOrder::OfEachName, growth: Growth::Zeros, least: Granularity::Byte };

    /// The table above.
    pub const ALL: [Persona; 6] = [
        Persona::new("posix-min", NameOrder::Any, Growth::Zeros, Granularity::Word),
        Persona::new("posix-min, garbage", NameOrder::Any, Growth::Garbage, Granularity::Word),
        Persona::new("ext4-ordered", NameOrder::Journal, Growth::WithData, Granularity::Word),
        Persona::new("ext4-writeback", NameOrder::Journal, Growth::Garbage, Granularity::Word),
        Persona::new("xfs", NameOrder::Journal, Growth::WithData, Granularity::Word),
        Persona::new("btrfs", NameOrder::OfEachName, Growth::WithData, Granularity::Page),
    ];

    /// Everything is possible, and words may be torn. This breaks A1, so a log on it may be refused.
    pub const PARANOID: Persona = Persona::new("paranoid", NameOrder::Any, Growth::Garbage, Granularity::Byte);

    const fn new(name: &'static str, names: NameOrder, growth: Growth, least: Granularity) -> Self {
        Persona { name, names, growth, least }
    }

    /// The unit that is torn when `asked` is asked for.
    pub fn unit(&self, asked: Granularity) -> Granularity {
        asked.max(self.least)
    }
}
