//! What the model (`src/SCALE.md`) makes of the terms: commits per second. Each is computed within a round, from terms
//! that were measured one after another.

use crate::engine::Values;

/// The rates that follow from `terms`.
pub(crate) fn rates(terms: &Values) -> Values {
    let term = |name: &str| terms.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value);
    let rate = |nanoseconds: f64| 1e9 / nanoseconds;
    let written = term("write") + term("pwrite");
    let alone = term("build0") + term("build") + term("append") + term("flush") + term("pwrite") + term("fsync");
    // A group: the device, then the threads that it let go, one after another.
    let group = |threads: f64, back: &str, commit: &str| {
        let per_record = (term("fsync_64") - term("fsync")) / 63.0 + 160.0 * term("pwrite_byte");
        let flush = term("pwrite") + term("fsync") + term("flush") + (threads - 1.0) * per_record;
        threads * rate(flush + threads * (term(back) + term(commit)))
    };
    let under_order = |apply: &str| term(apply) + term("append") - term("crc_121");
    vec![
        ("async", rate(term("commit") + term("now"))),
        ("async_warm", rate(term("commit_warm") + term("now"))),
        ("written", rate(term("commit") + written + term("now"))),
        ("written_warm", rate(term("commit_warm") + written + term("now"))),
        ("sync_1", rate(alone)),
        ("sync_4", group(4.0, "back_16", "commit")),
        ("sync_4_warm", group(4.0, "back_16", "commit_warm")),
        ("sync_16", group(16.0, "back_16", "commit")),
        ("sync_16_warm", group(16.0, "back_16", "commit_warm")),
        ("sync_64", group(64.0, "back_64", "commit")),
        ("sync_64_warm", group(64.0, "back_64", "commit_warm")),
        ("awaited", rate(term("commit") + term("poll") + term("task"))),
        ("awaited_warm", rate(term("commit_warm") + term("poll") + term("task"))),
        ("log_async", rate(term("append") + term("now"))),
        ("log_awaited", rate(term("append") + term("poll") + term("task"))),
        ("fast_1", rate(term("commit_warm") + term("flush") + 1000.0)),
        ("at_order_warm", rate(under_order("apply_warm"))),
        ("at_order", rate(under_order("apply"))),
        ("at_order_cold", rate(under_order("apply_cold"))),
        ("at_append", rate(term("append2"))),
        ("at_signal", rate(term("signal_64"))),
        ("at_start", rate(term("start") + term("pwrite"))),
    ]
}
