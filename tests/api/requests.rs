//! Requests that are done once.

use std::collections::BTreeSet;
use std::thread;

use forelog::limits::MAX_KEY_LEN;
use forelog::requests::{MAX_REQUEST_ID_LEN, Requests};
use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Outcome};

use crashkit::{TempDir, block_on, get, in_memory, kind_of};

/// Adds one to a counter, and replies with it.
fn count(
    requests: &Requests,
    counter: &Keyspace,
    id: &str,
    mode: CommitMode,
) -> forelog::Result<forelog::requests::Reply> {
    requests.transact(id, mode, |tx| add_one(tx, counter))
}

fn add_one(tx: &mut forelog::Transaction, counter: &Keyspace) -> forelog::Result<String> {
    let before = tx.get(counter, "count")?.map_or(0, |text| String::from_utf8_lossy(&text).parse().unwrap());
    let count = (before + 1_u64).to_string();
    tx.put(counter, "count", &count)?;
    Ok(count)
}

fn open(engine: &Engine, keep: u64) -> (Requests, Keyspace) {
    (Requests::open(engine, "requests", keep).unwrap(), engine.create_keyspace("counter").unwrap())
}

#[test]
fn a_request_that_comes_again_gets_the_reply_of_the_first_time() {
    let dir = TempDir::new("requests");
    let engine = Engine::open(dir.join("db")).unwrap();
    let (requests, counter) = open(&engine, 100);
    let first = count(&requests, &counter, "a", CommitMode::Sync).unwrap();
    assert!(!first.is_repeated && first.body == b"1" && first.receipt.is_durable());
    for mode in [CommitMode::Sync, CommitMode::Written, CommitMode::Async] {
        let again = count(&requests, &counter, "a", mode).unwrap();
        assert!(again.is_repeated && again.body == b"1");
        assert_eq!(again.receipt.token(), first.receipt.token());
        let again = block_on(requests.transact_async("a", mode, |tx| add_one(tx, &counter))).unwrap();
        assert!(again.is_repeated && again.receipt.token() == first.receipt.token());
    }
    let other = block_on(requests.transact_async("b", CommitMode::Sync, |tx| add_one(tx, &counter))).unwrap();
    assert!(!other.is_repeated && other.body == b"2");
    assert!(requests.find("c").unwrap().is_none());
    // After a checkpoint and a restart, by what is on disk.
    let (first, other) = (first.receipt.token(), other.receipt.token());
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    drop(requests);
    let engine = Engine::open(dir.join("db")).unwrap();
    let (requests, counter) = open(&engine, 100);
    assert_eq!(requests.find("a").unwrap().unwrap().receipt.token(), first);
    let again = count(&requests, &counter, "b", CommitMode::Sync).unwrap();
    assert!(again.is_repeated && again.body == b"2");
    assert_eq!(again.receipt.token(), other);
    assert_eq!(engine.outcome(&other).unwrap(), Outcome::Durable);
}

/// Clients that are in a hurry send everything several times, at once.
#[test]
fn of_those_that_come_at_a_time_one_is_done() {
    let engine = in_memory();
    let (requests, counter) = open(&engine, 10_000);
    let replies: Vec<BTreeSet<(u64, Vec<u8>)>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let reply = |number: u64| {
                        let reply = count(&requests, &counter, &number.to_string(), CommitMode::Async).unwrap();
                        (number, reply.body.to_vec())
                    };
                    (0..200).map(reply).collect()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(get(&engine, &counter, "count").unwrap(), "200");
    assert!(replies.windows(2).all(|two| two[0] == two[1]), "all get the reply of the one that was done");
}

/// What is asked for with `Sync` is durable when it is answered, though it was done with less.
#[test]
fn a_repeated_request_is_answered_when_its_commit_has_what_the_mode_promises() {
    let engine = in_memory();
    let (requests, counter) = open(&engine, 10);
    let slow = CommitMode::Within(std::time::Duration::from_secs(1));
    for (id, is_async) in [("a", false), ("b", true)] {
        assert!(!count(&requests, &counter, id, slow).unwrap().receipt.is_durable());
        let again = match is_async {
            true => block_on(requests.transact_async(id, CommitMode::Sync, |tx| add_one(tx, &counter))),
            false => count(&requests, &counter, id, CommitMode::Sync),
        };
        let again = again.unwrap();
        assert!(again.is_repeated && again.receipt.is_durable());
    }
}

/// An error of the body is no reply: it may be sent again, and is done then.
#[test]
fn what_fails_was_not_done() {
    let engine = in_memory();
    let (requests, counter) = open(&engine, 10);
    let refused = requests.transact("a", CommitMode::Sync, |tx| {
        add_one(tx, &counter)?;
        tx.put(&counter, vec![0; MAX_KEY_LEN + 1], "").map(|()| "")
    });
    assert_eq!(kind_of(refused), ErrorKind::InvalidInput);
    assert!(requests.find("a").unwrap().is_none());
    assert_eq!(count(&requests, &counter, "a", CommitMode::Sync).unwrap().body, b"1");
    // No more than it may be.
    let longest = "i".repeat(MAX_REQUEST_ID_LEN);
    count(&requests, &counter, &longest, CommitMode::Sync).unwrap();
    assert!(requests.find(&longest).unwrap().is_some());
    assert_eq!(kind_of(count(&requests, &counter, &(longest + "i"), CommitMode::Sync)), ErrorKind::InvalidInput);
    assert_eq!(kind_of(Requests::open(&engine, "none", 0)), ErrorKind::InvalidInput);
}

/// What is there of each kind: marks, and places in the order.
fn kept(engine: &Engine) -> (usize, usize) {
    let keyspace = engine.open_keyspace("requests").unwrap();
    let snapshot = engine.snapshot().unwrap();
    let [marks, order] = [1_u8, 2].map(|kind| snapshot.prefix(&keyspace, [kind]).unwrap().count());
    (marks, order)
}

/// The newest are remembered, and not many more; also those that come again after they were forgotten.
#[test]
fn the_oldest_are_forgotten() {
    let engine = in_memory();
    let (requests, counter) = open(&engine, 64);
    for number in 0..1_000_u64 {
        // Some come again after 200 others: by then they are forgotten, and are done again.
        let id = if number % 5 == 4 { number.saturating_sub(200) } else { number };
        count(&requests, &counter, &id.to_string(), CommitMode::Async).unwrap();
        let newest = number.saturating_sub(40)..=number;
        let newest = newest.filter(|number| number % 5 != 4);
        newest.for_each(|id| assert!(requests.find(id.to_string()).unwrap().is_some(), "{id} of {number}"));
    }
    let (marks, order) = kept(&engine);
    assert!((64..=64 + 65).contains(&order), "{order}");
    assert_eq!(marks, order, "each has its place in the order");
    // Those who open it for one request each forget, too; and a smaller number holds at last.
    for number in 1_000..1_100_u64 {
        let requests = Requests::open(&engine, "requests", 10).unwrap();
        count(&requests, &counter, &number.to_string(), CommitMode::Async).unwrap();
        assert!(
            (number.saturating_sub(9).max(1_000)..=number).all(|id| requests.find(id.to_string()).unwrap().is_some())
        );
    }
    assert_eq!(kept(&engine), (10, 10));
}

/// In a small transaction each, where all together are more than one may be.
#[test]
fn the_oldest_are_forgotten_in_small_transactions_too() {
    let engine = forelog::Options::new().max_transaction_bytes(300).in_memory().unwrap();
    let (requests, counter) = open(&engine, 5);
    for number in 0..200 {
        count(&requests, &counter, &format!("{number:050}"), CommitMode::Async).unwrap();
    }
    assert!(kept(&engine).0 <= 5 + 65);
    for number in 200..400 {
        block_on(requests.transact_async(format!("{number:050}"), CommitMode::Async, |tx| add_one(tx, &counter)))
            .unwrap();
    }
    assert!(kept(&engine).0 <= 5 + 65);
}

/// Its LSNs begin anew: what comes now is the newest all the same.
#[test]
fn a_copy_of_the_database_goes_on() {
    let dir = TempDir::new("requests-copy");
    let engine = Engine::open(dir.join("db")).unwrap();
    let (requests, counter) = open(&engine, 20);
    let filler = engine.create_keyspace("filler").unwrap();
    (0..100).for_each(|_| drop(crashkit::put(&engine, &filler, "key", &"x".repeat(4096), CommitMode::Async).unwrap()));
    for number in 0..20 {
        count(&requests, &counter, &number.to_string(), CommitMode::Async).unwrap();
    }
    engine.save_to(dir.join("copy")).unwrap();
    let engine = Engine::open(dir.join("copy")).unwrap();
    let (requests, counter) = open(&engine, 20);
    assert!(count(&requests, &counter, "19", CommitMode::Async).unwrap().is_repeated);
    for number in 20..300_u64 {
        let id = number.to_string();
        assert!(!count(&requests, &counter, &id, CommitMode::Async).unwrap().is_repeated);
        assert!(count(&requests, &counter, &(number - 15).max(20).to_string(), CommitMode::Async).unwrap().is_repeated);
    }
    assert!(requests.find("5").unwrap().is_none());
}

/// A user's data are no marks.
#[test]
fn a_keyspace_with_something_else_is_refused() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("orders").unwrap();
    crashkit::put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    let refused = Requests::open(&engine, "orders", 10).unwrap_err();
    assert!(refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("'orders'"), "{refused}");
    assert_eq!(get(&engine, &keyspace, "a").unwrap(), "1");
}

/// A body that begins another transaction, to see the newest, takes the look at the mark away.
#[test]
fn a_body_that_replaces_its_transaction_does_not_do_it_twice() {
    let engine = in_memory();
    let (requests, counter) = open(&engine, 10);
    let mut is_first = true;
    let reply = requests.transact("a", CommitMode::Async, |tx| {
        if std::mem::take(&mut is_first) {
            // Another client comes first.
            count(&requests, &counter, "a", CommitMode::Async)?;
            *tx = engine.begin()?;
        }
        add_one(tx, &counter)
    });
    let reply = reply.unwrap();
    assert!(reply.is_repeated && reply.body == b"1");
    assert_eq!(get(&engine, &counter, "count").unwrap(), "1");
}

/// Reading says which commit wrote a value, from memory and from tables.
#[test]
fn who_wrote_a_value() {
    let dir = TempDir::new("written-by");
    let engine = Engine::open(dir.join("db")).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    let token = |key: &str| engine.snapshot().unwrap().written_by(&keyspace, key).unwrap().map(|by| by.token());
    let put = |key: &str, value: &str| crashkit::put(&engine, &keyspace, key, value, CommitMode::Sync).unwrap().token();
    let (a, b) = (put("a", "1"), put("b", "1"));
    assert_eq!((token("a"), token("b"), token("c")), (Some(a), Some(b), None));
    let old = engine.snapshot().unwrap();
    let newer = put("a", "2");
    assert_eq!(token("a"), Some(newer));
    assert_eq!(old.written_by(&keyspace, "a").unwrap().unwrap().token(), a, "as of the snapshot");
    let mut tx = engine.begin().unwrap();
    assert_eq!(tx.written_by(&keyspace, "a").unwrap().unwrap().token(), newer);
    tx.put(&keyspace, "a", "3").unwrap();
    assert!(tx.written_by(&keyspace, "a").unwrap().is_none(), "its own");
    put("a", "4");
    assert_eq!(kind_of(tx.commit()), ErrorKind::Conflict);
    let mut batch = engine.batch().unwrap();
    batch.delete_range(&keyspace, "b".."c").unwrap();
    batch.commit().unwrap();
    assert_eq!(token("b"), None);
    // Old ones, by another open.
    let last = put("d", "1");
    engine.checkpoint().unwrap();
    drop(old);
    engine.close().unwrap();
    let engine = Engine::open(dir.join("db")).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(snapshot.written_by(&keyspace, "d").unwrap().unwrap().token(), last);
    assert!(snapshot.written_by(&keyspace, "b").unwrap().is_none());
}
