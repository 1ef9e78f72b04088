//! What two calls do that forget the same requests.

use super::*;

/// Both have the same list. Behind the first of them a request of it comes again, and is done again: its new mark is not on the list.
#[test]
fn who_is_late_to_forget_leaves_what_came_again() {
    let engine = Engine::in_memory().unwrap();
    let requests = Requests::open(&engine, "requests", 1).unwrap();
    let send = |id: &str| requests.transact(id, CommitMode::Async, |_| Ok("done")).unwrap().is_repeated;
    assert!(!send("a"));
    requests.since.store(0, Ordering::Relaxed);
    assert!(!send("b") && !send("c"));
    requests.since.store(OFTEN, Ordering::Relaxed);
    let keys = requests.due().unwrap().expect("two are too many");
    requests.forget(&keys).unwrap();
    assert!(requests.find("a").unwrap().is_none());
    assert!(!send("a"), "it is done again");
    requests.forget(&keys).unwrap();
    assert!(send("a"), "it is remembered");
}
