//! Everything that is measured, one file each.

mod forelog;
mod raw;

use crate::peer::Peer;

/// The name of the raw limit and of the engine that the others are compared with.
pub const RAW: &str = raw::PEER.name;
pub const OURS: &str = forelog::ENGINE.name;

/// In the order in which they are shown.
pub const ALL: &[&Peer] = &[&raw::PEER, &forelog::ENGINE, &forelog::LOG];

pub fn named(name: &str) -> Option<&'static Peer> {
    ALL.iter().copied().find(|peer| peer.name == name)
}
