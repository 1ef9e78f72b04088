use std::sync::Arc;
use std::thread;

use super::*;

/// One that took turn after turn kept all others waiting for as long as it went on.
#[test]
fn whoever_waits_comes_before_the_one_that_has_just_had_a_turn() {
    let (turns, order) = (Arc::new(Turns::new()), Arc::new(Mutex::new(Vec::new())));
    let first = turns.take(Wait::ForItsTurn).unwrap();
    assert!(turns.take(Wait::Never).is_none());
    let other = {
        let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
        thread::spawn(move || {
            let _turn = turns.take(Wait::ForItsTurn).unwrap();
            order.lock().push("other");
        })
    };
    while turns.numbers.lock().next < 2 {
        thread::yield_now();
    }
    drop(first);
    let _again = turns.take(Wait::ForItsTurn).unwrap();
    order.lock().push("again");
    other.join().unwrap();
    assert_eq!(*order.lock(), ["other", "again"]);
}
