//! Modes and outcomes as words: in a configuration, on a command line, in a request.

use std::time::Duration;

use forelog::{CommitMode, ErrorKind, Outcome, Token};

#[test]
fn a_mode_prints_as_a_word_and_parses_back() {
    let modes = [
        (CommitMode::Sync, "sync"),
        (CommitMode::Written, "written"),
        (CommitMode::Async, "async"),
        (CommitMode::Within(Duration::from_millis(5)), "within:5ms"),
        (CommitMode::Within(Duration::from_secs(2)), "within:2s"),
        (CommitMode::Within(Duration::from_micros(1500)), "within:1500us"),
        (CommitMode::Within(Duration::from_nanos(7)), "within:7ns"),
        (CommitMode::Within(Duration::ZERO), "within:0s"),
        (CommitMode::Within(Duration::MAX), "within:18446744073709551615999999999ns"),
    ];
    for (mode, text) in modes {
        assert_eq!(mode.to_string(), text);
        assert_eq!(text.parse::<CommitMode>().unwrap(), mode, "{text}");
    }
    assert_eq!(format!("{:>8}|", CommitMode::Sync), "    sync|", "it keeps to a width");
}

#[test]
fn capitals_do_not_matter_and_other_words_are_refused_with_those_that_there_are() {
    assert_eq!("Sync".parse::<CommitMode>().unwrap(), CommitMode::Sync);
    assert_eq!("WITHIN:5MS".parse::<CommitMode>().unwrap(), CommitMode::Within(Duration::from_millis(5)));
    let too_long = format!("within:{}s", u128::MAX);
    let huge = format!("within:{}0s", u128::MAX);
    let wrong = [
        "",
        "durable",
        "sync ",
        "within",
        "within:",
        "within:5",
        "within:ms",
        "within:-5ms",
        "within:+5ms",
        "within:5 ms",
        "within:5m",
        "within:1.5s",
        "within:5msms",
        "within:٥ms",
        &too_long,
        &huge,
        "within:18446744073709551616s",
    ];
    for text in wrong {
        let error = text.parse::<CommitMode>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(error.to_string().contains("sync, written, async or within:5ms"), "{error}");
    }
}

/// The error repeated all of it.
#[test]
fn what_is_no_mode_and_no_token_is_not_repeated_at_length() {
    for text in ["x", "x\n", "\u{e9}", "within:", "forelog-"].map(|piece| piece.repeat(100_000)) {
        for error in [text.parse::<CommitMode>().unwrap_err(), text.parse::<Token>().unwrap_err()] {
            let shown = error.to_string();
            assert!(shown.len() < 300 && !shown.contains('\n'), "{} bytes: {shown:.500}", shown.len());
            assert!(shown.contains(&format!("{} bytes", text.len())), "{shown}");
        }
    }
    assert!("sink".parse::<CommitMode>().unwrap_err().to_string().starts_with("'sink' is no commit mode"));
}

#[test]
fn an_outcome_prints_as_a_word() {
    let outcomes = [
        (Outcome::Durable, "durable"),
        (Outcome::Lost, "lost"),
        (Outcome::Pending, "pending"),
        (Outcome::Indeterminate, "indeterminate"),
        (Outcome::Foreign, "foreign"),
        (Outcome::Invalid, "invalid"),
        (Outcome::Pruned, "pruned"),
    ];
    for (outcome, text) in outcomes {
        assert_eq!(outcome.to_string(), text);
    }
}
