//! What the root package tests is what ships: an engine without the simulated disk.

mod without_sim {
    pub(super) mod sim {
        pub(in super::super) const IS_OFF: bool = true;
    }
}

// Were the engine built with its feature `sim`, it would have a module of that name as well, and `sim` below would be
// ambiguous: this file would not compile.
use forelog::*;
use without_sim::*;

#[test]
fn the_simulated_disk_is_not_in_what_is_tested_here() {
    assert!(sim::IS_OFF);
}
