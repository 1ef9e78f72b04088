//! Events as text.

use crashkit::event::Event;

#[test]
fn an_event_reads_back_as_it_was_written_and_nothing_else_does() {
    let lines = [
        "opened 64",
        "not-opened Io",
        "submit 1.2.3 within:2ms 17",
        "ack 1.2.3 64 -",
        "ack 1.2.3 - -",
        "fail 1.2.3 Poisoned -",
        "durable 64",
        "poisoned",
        "struck",
        "retire 64",
        "retired 64",
        "prune",
        "checkpoint",
        "backed-up 64 one",
        "not-backed-up DiskFull",
        "not-checkpointed DiskFull",
        "closing",
        "closed",
        "not-closed Io",
        "wrong I12: it went wrong",
    ];
    for line in lines {
        assert_eq!(line.parse::<Event<u32>>().unwrap().to_string(), line);
    }

    for wrong in ["", "opened", "opened x", "ack 1.2 64 -", "submit 1.2.3 sometimes 17", "closed 5", "durable 64 65"] {
        assert!(wrong.parse::<Event<u32>>().is_err(), "{wrong}");
    }
}
