//! Rot in `table/`: databases whose tables are known byte by byte, what a reader makes of them with one bit flipped, and
//! the sweeps over their bits.

pub mod flips;
pub mod reads;
pub mod reference;
