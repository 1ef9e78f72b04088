//! The bugs of other engines, see `cases.rs`.

use forelog_sim::faults::cases::check_all;

#[test]
fn every_bug_of_another_engine_that_applies_is_checked() {
    let checked = check_all();
    println!("{} checked here, {} elsewhere, {} do not apply yet", checked.here, checked.elsewhere, checked.not_yet);
    assert!(checked.violations.is_empty(), "{}", checked.violations.join("\n"));
    assert_eq!(checked.here + checked.elsewhere + checked.not_yet, 48);
}
