//! What follows from what was told.

use crashkit::event::{Event, Name};
use crashkit::ledger::{Ending, Fate, Ledger};
use crashkit::{in_memory, put};
use forelog::{CommitMode, Incarnation, Lsn, Token};

/// A ledger in its first life, and a token to make others of.
fn ledger() -> (Ledger<()>, Token) {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("keys").unwrap();
    let token = put(&engine, &keyspace, "key", "value", CommitMode::Async).unwrap().token();
    let mut ledger = Ledger::default();
    ledger.begin();
    ledger.hear(Event::Opened(Lsn::ZERO)).unwrap();
    (ledger, token)
}

fn name(ledger: &Ledger<()>, number: u32) -> Name {
    Name { life: ledger.lives_begun(), client: 0, number }
}

fn submit(ledger: &mut Ledger<()>, number: u32, mode: CommitMode) {
    let name = name(ledger, number);
    ledger.hear(Event::Submit(name, mode, ())).unwrap();
}

fn acknowledge(ledger: &mut Ledger<()>, number: u32, like: Token, lsn: u64) -> Result<(), String> {
    let (name, token) = (name(ledger, number), Token { lsn: Lsn::new(lsn), ..like });
    ledger.hear(Event::Ack(name, Some(token.lsn), Some(token)))
}

/// Commits number 1, 2, ... at 10, 20, ...
fn commit(ledger: &mut Ledger<()>, like: Token, modes: &[CommitMode]) {
    for (number, mode) in (1..).zip(modes) {
        submit(ledger, number, *mode);
        acknowledge(ledger, number, like, u64::from(number) * 10).unwrap();
    }
}

fn floors(ledger: &Ledger<()>) -> (u64, u64) {
    (ledger.floor(Ending::Process).get(), ledger.durable().get())
}

const MODES: [CommitMode; 4] = [CommitMode::Async, CommitMode::Sync, CommitMode::Written, CommitMode::Async];

#[test]
fn each_word_raises_what_must_be_there() {
    let (mut ledger, token) = ledger();
    commit(&mut ledger, token, &MODES);
    assert_eq!(floors(&ledger), (30, 20));
    ledger.hear(Event::Durable(Lsn::new(25))).unwrap();
    assert_eq!(floors(&ledger), (30, 25));
    assert_eq!(ledger.ceiling(), Lsn::new(40));
    let mut closed = ledger.clone();
    closed.hear(Event::Closed).unwrap();
    assert_eq!(floors(&closed), (40, 40));
    // What only a process was promised, a power loss takes.
    ledger.end(Ending::Power, false);
    assert_eq!(floors(&ledger), (25, 25));
}

#[test]
fn an_open_that_finds_less_than_was_promised_breaks_a_promise() {
    let (mut ledger, token) = ledger();
    commit(&mut ledger, token, &MODES);
    for (ending, recovered, broken) in [
        (Ending::Process, 20, true),
        (Ending::Process, 30, false),
        (Ending::Power, 20, false),
        (Ending::Power, 10, true),
    ] {
        let mut next = ledger.clone();
        next.end(ending, false);
        next.begin();
        let heard = next.hear(Event::Opened(Lsn::new(recovered)));
        assert_eq!(heard.is_err(), broken, "{ending:?} {recovered} {heard:?}");
        if heard.is_ok() {
            let fates: Vec<_> = next.tokens.iter().map(|(token, fate)| (token.lsn.get() <= recovered, *fate)).collect();
            assert!(fates.iter().all(|(there, fate)| *fate == if *there { Fate::Kept } else { Fate::Gone }));
            // Promise 5: what was reported stays.
            assert!(next.settle(Lsn::new(recovered - 10)).unwrap_err().contains("I10"));
        }
    }
}

#[test]
fn a_look_settles_what_is_lost_and_keeps_in_doubt_what_only_the_cache_holds() {
    let (mut ledger, token) = ledger();
    commit(&mut ledger, token, &[CommitMode::Sync, CommitMode::Async, CommitMode::Async]);
    ledger.look(Ending::Process, Lsn::new(20));
    assert_eq!(floors(&ledger), (20, 10));
    let fates: Vec<Fate> = ledger.tokens.iter().map(|(_, fate)| *fate).collect();
    assert_eq!(fates, [Fate::Open, Fate::Open, Fate::Gone]);
    ledger.end(Ending::Power, false);
    ledger.begin();
    ledger.hear(Event::Opened(Lsn::new(10))).unwrap();
    assert_eq!(ledger.tokens[1].1, Fate::Gone);
}

#[test]
fn a_medium_that_lies_holds_what_was_told_before() {
    let (mut ledger, token) = ledger();
    commit(&mut ledger, token, &MODES[..2]);
    ledger.hear(Event::Struck).unwrap();
    submit(&mut ledger, 3, CommitMode::Sync);
    acknowledge(&mut ledger, 3, token, 30).unwrap();
    assert_eq!((ledger.durable().get(), ledger.floor_before_lies(Ending::Power).get()), (30, 20));
    ledger.end(Ending::Process, true);
    assert_eq!(floors(&ledger), (20, 20));
}

#[test]
fn positions_incarnations_and_a_stopped_engine_are_watched() {
    let (mut ledger, token) = ledger();
    // Submitted before the other was acknowledged, so any order will do; afterwards it will not.
    submit(&mut ledger, 1, CommitMode::Async);
    submit(&mut ledger, 2, CommitMode::Async);
    acknowledge(&mut ledger, 2, token, 20).unwrap();
    acknowledge(&mut ledger.clone(), 1, token, 10).unwrap();
    assert!(acknowledge(&mut ledger.clone(), 1, token, 20).unwrap_err().starts_with("I1"));
    submit(&mut ledger, 3, CommitMode::Async);
    assert!(acknowledge(&mut ledger.clone(), 3, token, 15).unwrap_err().starts_with("I1, I8"));
    let other = Token { incarnation: Incarnation { number: 9, nonce: 9 }, ..token };
    assert!(acknowledge(&mut ledger.clone(), 3, other, 30).unwrap_err().starts_with("I8"));
    ledger.hear(Event::Poisoned).unwrap();
    acknowledge(&mut ledger, 3, token, 30).unwrap();
    submit(&mut ledger, 4, CommitMode::Async);
    assert!(acknowledge(&mut ledger, 4, token, 40).unwrap_err().starts_with("I11"));
    // Of another life, by its number or its nonce alone.
    for again in [Incarnation { nonce: 9, ..token.incarnation }, Incarnation { number: 9, ..token.incarnation }] {
        let mut next = ledger.clone();
        next.begin();
        submit(&mut next, 1, CommitMode::Async);
        assert!(acknowledge(&mut next, 1, Token { incarnation: again, ..token }, 50).unwrap_err().starts_with("I8"));
    }
}

#[test]
fn the_account_names_the_incarnation_that_a_crash_has_ended() {
    let (mut ledger, token) = ledger();
    assert_eq!(ledger.crashed(), Some(None), "nothing was committed");
    submit(&mut ledger, 1, CommitMode::Async);
    assert_eq!(ledger.crashed(), None, "its incarnation may have begun");
    acknowledge(&mut ledger, 1, token, 10).unwrap();
    assert_eq!(ledger.crashed(), Some(Some(token.incarnation)));
    ledger.hear(Event::Closing).unwrap();
    assert_eq!(ledger.crashed(), None);
    ledger.hear(Event::Closed).unwrap();
    assert_eq!(ledger.crashed(), Some(None));
}
