//! The fault suite, in the small: faults of the disk while the engine runs and while it opens, damage to the medium
//! between opens, both together, and the bugs of other engines that they would have found.
//!
//! A *fault plan* is one fault at the n-th operation of one kind, once or from then on, over a small workload, for
//! every n until a run is not hit. Afterwards the process is killed, or the power cut, in several ways, the disk is
//! sound again, and the database is opened through its front door. A *media fault* is damage done to the files of a
//! small reference log behind the engine's back. What may become of a case:
//!
//! | outcome | |
//! |---|---|
//! | survived | no call failed, and everything is as without the fault |
//! | typed error | calls failed, with an error of the right kind; everything that was promised is there |
//! | refused | (media) open fails with a typed error that names what and where, and changes no byte |
//! | harmless | (media) contents, tokens and account are as without the fault |
//! | R1 to R5 | (media) the line of the closed residue, specification section 7, that it falls under |
//!
//! Anything else (silent, wrong, panic, hang) fails the suite. `cargo test` runs a sample; everything:
//!
//! ```text
//! cargo test --release -p forelog-sim --test campaign -- faults tables
//! FORELOG_FAULT='rotation/Sync: EIO, once/3' cargo test -p forelog-sim --test faults one_fault -- --nocapture
//! FORELOG_FLIP='kinds/0000000000000003.run/4711' cargo test -p forelog-sim --test faults one_bit -- --nocapture
//! ```

mod backup;
mod care;
mod case_tests;
mod double_tests;
mod evidence;
mod evidence_tables;
mod media_tests;
mod names;
mod plan_tests;
mod residue;
mod salvage;
mod scrub;
mod table_flips;
mod tables;
