//! What a transaction has read of a range, calls on single entries, and transactions that are run again.

use std::collections::{BTreeSet, VecDeque};
use std::thread;

use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Transaction};

use crashkit::{Random, get, in_memory, kind_of, put, seed};

/// Keys 1, 3, 5, .., one byte each.
fn odd(count: u8) -> (Engine, Keyspace) {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut batch = engine.batch().unwrap();
    (0..count).for_each(|number| batch.put(&keyspace, [2 * number + 1], "x").unwrap());
    batch.commit().unwrap();
    (engine, keyspace)
}

/// What another transaction does to one key.
#[derive(Clone, Copy, Debug)]
enum Change {
    Put,
    Delete,
    DeleteRange,
}

fn change(engine: &Engine, keyspace: &Keyspace, key: u8, change: Change) {
    let mut batch = engine.batch().unwrap();
    match change {
        Change::Put => batch.put(keyspace, [key], "changed"),
        Change::Delete => batch.delete(keyspace, [key]),
        Change::DeleteRange => batch.delete_range(keyspace, [key]..=[key]),
    }
    .unwrap();
    batch.commit().unwrap();
}

/// Every number of entries from both ends, with every change of every key there is or might be: a conflict exactly where something
/// was shown, or shown to be absent.
#[test]
fn a_range_counts_as_read_as_far_as_it_was_shown() {
    const COUNT: u8 = 5;
    for (front, back) in (0..=COUNT + 1).flat_map(|front| (0..=COUNT + 1 - front).map(move |back| (front, back))) {
        for (key, what) in
            (0..=2 * COUNT).flat_map(|key| [Change::Put, Change::Delete, Change::DeleteRange].map(|what| (key, what)))
        {
            let (engine, keyspace) = odd(COUNT);
            let mut tx = engine.begin().unwrap();
            let mut entries = tx.iter(&keyspace).unwrap();
            let shown_in_front = (0..front).filter_map(|_| entries.next()).map(|entry| entry.unwrap().0[0]).last();
            let shown_behind = (0..back).filter_map(|_| entries.next_back()).map(|entry| entry.unwrap().0[0]).last();
            drop(entries);
            tx.put(&keyspace, "own", "1").unwrap();
            change(&engine, &keyspace, key, what);
            let is_read = front + back > COUNT
                || shown_in_front.is_some_and(|last| key <= last)
                || shown_behind.is_some_and(|last| key >= last);
            // To delete what is not there changes nothing, unless as a range, which may have held it.
            let is_change = key % 2 == 1 || matches!(what, Change::Put);
            let what = format!("{front} and {back} were shown, then {what:?} {key}");
            match tx.commit() {
                Ok(_) => assert!(!is_read || !is_change, "no conflict: {what}"),
                Err(error) => assert!(error.kind() == ErrorKind::Conflict && is_read, "{error}: {what}"),
            }
        }
    }
}

/// In a long range, where the iterator fetches ahead: what it has fetched and not shown is not read once it is gone. Own writes
/// are shown, too, and read nothing but what lies before them.
#[test]
fn what_was_fetched_ahead_is_not_read_once_the_iterator_is_gone() {
    for shown in [1, 15, 16, 17, 100, 120] {
        for with_own in [false, true] {
            let (engine, keyspace) = odd(125);
            let mut tx = engine.begin().unwrap();
            if with_own {
                (0..250_u8).step_by(2).for_each(|key| tx.put(&keyspace, [key], "own").unwrap());
            }
            let mut entries = tx.iter(&keyspace).unwrap();
            let last = (0..shown).map(|_| entries.next().unwrap().unwrap().0[0]).last().unwrap();
            drop(entries);
            tx.put(&keyspace, "end", "1").unwrap();
            let next = last + 1 + last % 2;
            change(&engine, &keyspace, next, Change::Delete);
            assert!(tx.commit().is_ok(), "{shown} shown, the last one {last}, then {next} was deleted");
        }
    }
}

/// It may show the rest after the commit, and that must have been right.
#[test]
fn all_of_a_range_is_read_while_its_iterator_is_there() {
    let (engine, keyspace) = odd(100);
    let mut tx = engine.begin().unwrap();
    let mut entries = tx.iter(&keyspace).unwrap();
    entries.next().unwrap().unwrap();
    tx.put(&keyspace, "own", "1").unwrap();
    change(&engine, &keyspace, 151, Change::Delete);
    assert_eq!(kind_of(tx.commit()), ErrorKind::Conflict);
    assert_eq!(entries.nth(74).unwrap().unwrap().0[0], 151, "as of its snapshot");
}

/// Of several looks from one begin the farthest counts, whatever came later; from the end as well.
#[test]
fn the_farthest_of_several_looks_counts() {
    for (is_backward, key) in [(false, 9), (true, 31)] {
        let (engine, keyspace) = odd(20);
        let mut tx = engine.begin().unwrap();
        for shown in [2, 5, 1, 3] {
            let mut entries = tx.iter(&keyspace).unwrap();
            for _ in 0..shown {
                let next = if is_backward { entries.next_back() } else { entries.next() };
                next.unwrap().unwrap();
            }
        }
        tx.put(&keyspace, "own", "1").unwrap();
        change(&engine, &keyspace, key, Change::Delete);
        assert_eq!(kind_of(tx.commit()), ErrorKind::Conflict, "the fifth was shown: {key}");
    }
}

/// Random ranges, own writes and walks from both ends; then one change of another transaction. What was learned is a conflict, and
/// what lies beyond what was shown is none.
#[test]
fn any_walk_reads_what_it_shows() {
    let seed = seed(0xC0A5);
    let mut random = Random::new(seed);
    let (mut conflicts, mut commits) = (0, 0);
    for case in 0..3_000 {
        let what = format!("FORELOG_SEED={seed:#x}, case {case}");
        let (engine, keyspace) = (in_memory(), "k");
        let keyspace = engine.create_keyspace(keyspace).unwrap();
        let mut batch = engine.batch().unwrap();
        let stored: BTreeSet<u8> = (0..random.below(120)).map(|_| byte(&mut random)).collect();
        stored.iter().for_each(|key| batch.put(&keyspace, [*key], "x").unwrap());
        batch.commit().unwrap();
        let mut tx = engine.begin().unwrap();
        let (mut view, mut own) = (stored.clone(), BTreeSet::new());
        for _ in 0..random.below(12) {
            let key = byte(&mut random);
            match random.below(4) {
                0 => {
                    tx.delete(&keyspace, [key]).unwrap();
                    view.remove(&key);
                    own.insert(key);
                }
                1 => {
                    let to = key.saturating_add(20);
                    tx.delete_range(&keyspace, [key]..[to]).unwrap();
                    view.retain(|kept| !(key..to).contains(kept));
                    own.extend(key..to);
                }
                _ => {
                    tx.put(&keyspace, [key], "own").unwrap();
                    view.insert(key);
                    own.insert(key);
                }
            }
        }
        let (low, high) =
            if random.one_in(3) { (0, 255) } else { (byte(&mut random) / 2, 128 + byte(&mut random) / 2) };
        let mut rest: VecDeque<u8> = view.range(low..=high).copied().collect();
        let mut entries = tx.range(&keyspace, [low]..=[high]).unwrap();
        let (mut front, mut back, mut is_over) = (None, None, false);
        let (mut steps, one_way) = (random.below(150), random.below(3));
        while steps > 0 && !is_over {
            steps -= 1;
            let forward = one_way == 0 || one_way == 2 && random.one_in(2);
            let (found, expected) = match forward {
                true if random.one_in(2) => (entries.next_ref().map(|entry| entry.unwrap().0[0]), rest.pop_front()),
                true => (entries.next().map(|entry| entry.unwrap().0[0]), rest.pop_front()),
                false => (entries.next_back().map(|entry| entry.unwrap().0[0]), rest.pop_back()),
            };
            assert_eq!(found, expected, "{what}");
            match found {
                None => is_over = true,
                Some(key) if forward => front = Some(key),
                Some(key) => back = Some(key),
            }
        }
        drop(entries);
        tx.put(&keyspace, "end", "1").unwrap();
        let key = match random.below(4) {
            0 => front.unwrap_or(low),
            1 => back.unwrap_or(high),
            _ => byte(&mut random),
        };
        let is_put = !stored.contains(&key) || random.one_in(2);
        change(&engine, &keyspace, key, if is_put { Change::Put } else { Change::Delete });
        let is_shown = (low..=high).contains(&key)
            && (is_over || front.is_some_and(|last| key <= last) || back.is_some_and(|last| key >= last));
        match tx.commit() {
            Ok(_) => {
                assert!(!is_shown || own.contains(&key), "{what}: key {key} was shown, {front:?} to {back:?}");
                commits += 1;
            }
            Err(error) => {
                assert!(error.kind() == ErrorKind::Conflict && is_shown, "{what}: {error}: key {key}");
                conflicts += 1;
            }
        }
    }
    assert!(conflicts > 500 && commits > 500, "{conflicts} and {commits}");
}

fn byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).unwrap()
}

#[test]
fn a_push_and_a_pop_are_no_conflict_and_two_pops_are() {
    let (engine, keyspace) = odd(3);
    let mut pops: Vec<Transaction> = (0..2).map(|_| engine.begin().unwrap()).collect();
    for tx in &mut pops {
        assert_eq!(tx.pop_first(&keyspace).unwrap().unwrap().0, [1]);
        tx.put(&keyspace, "done", "1").unwrap();
    }
    put(&engine, &keyspace, "z", "pushed", CommitMode::Async).unwrap();
    let mut results = pops.into_iter().map(Transaction::commit);
    assert!(results.next().unwrap().is_ok());
    assert_eq!(kind_of(results.next().unwrap()), ErrorKind::Conflict);
    // The other end: what was pushed is there first.
    let mut tx = engine.begin().unwrap();
    assert_eq!(tx.pop_last(&keyspace).unwrap().unwrap().0, b"z");
    assert_eq!(tx.last(&keyspace).unwrap().unwrap().0, b"done");
    put(&engine, &keyspace, "a", "before it", CommitMode::Async).unwrap();
    tx.commit().unwrap();
    assert_eq!(get(&engine, &keyspace, "z"), None);
}

/// An empty queue: whoever finds it empty conflicts with whoever fills it.
#[test]
fn a_pop_of_nothing_has_read_everything() {
    let engine = in_memory();
    let [keyspace, other] = ["k", "other"].map(|name| engine.create_keyspace(name).unwrap());
    let mut tx = engine.begin().unwrap();
    assert!(tx.pop_first(&keyspace).unwrap().is_none() && tx.pop_last(&keyspace).unwrap().is_none());
    tx.put(&other, "empty", "1").unwrap();
    put(&engine, &keyspace, "a", "1", CommitMode::Async).unwrap();
    assert_eq!(kind_of(tx.commit()), ErrorKind::Conflict);
}

#[test]
fn calls_on_single_entries() {
    let (engine, keyspace) = odd(3);
    let mut tx = engine.begin().unwrap();
    assert!(tx.contains(&keyspace, [1]).unwrap() && !tx.contains(&keyspace, [2]).unwrap());
    let many = tx.get_many(&keyspace, [[1], [2], [3]]).unwrap();
    assert_eq!(many.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(tx.take(&keyspace, [1]).unwrap().unwrap(), b"x");
    assert_eq!(tx.take(&keyspace, [1]).unwrap(), None);
    assert_eq!(tx.put_if_absent(&keyspace, [1], "new").unwrap(), None);
    assert_eq!(tx.put_if_absent(&keyspace, [1], "newer").unwrap().unwrap(), b"new");
    assert!(!tx.compare_and_swap(&keyspace, [1], Some(b"old"), None).unwrap());
    assert!(tx.compare_and_swap(&keyspace, [1], Some(b"new"), Some(b"swapped")).unwrap());
    assert!(tx.compare_and_swap(&keyspace, [2], None, Some(b"made")).unwrap());
    assert!(tx.compare_and_swap(&keyspace, [2], Some(b"made"), None).unwrap());
    let before = tx.update(&keyspace, [3], |value| Some([value.unwrap(), b"y"].concat())).unwrap();
    assert_eq!(before.unwrap(), b"x");
    tx.update(&keyspace, [5], |_| None::<&[u8]>).unwrap();
    tx.update(&keyspace, [7], |value| value.map(|_| "never")).unwrap();
    tx.commit().unwrap();
    let snapshot = engine.snapshot().unwrap();
    let all: Vec<_> = snapshot.iter(&keyspace).unwrap().map(Result::unwrap).collect();
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0].0[..], &all[0].1[..], &all[1].1[..]), (&[1][..], &b"swapped"[..], &b"xy"[..]));
}

#[test]
fn transactions_that_conflict_are_run_again() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    engine
                        .transact(CommitMode::Async, |tx| {
                            tx.update(&keyspace, "count", |count| {
                                let count = count.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
                                Some((count + 1).to_be_bytes())
                            })
                        })
                        .unwrap();
                }
            });
        }
    });
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(snapshot.get(&keyspace, "count").unwrap().unwrap(), &1000_u64.to_be_bytes()[..]);
    let (second, receipt) =
        crashkit::block_on(engine.transact_async(CommitMode::Async, |tx| tx.take(&keyspace, "count"))).unwrap();
    assert!(second.is_some() && receipt.lsn() == engine.visible_lsn());
}

/// It always conflicts with what it does itself meanwhile.
#[test]
fn a_transaction_that_conflicts_for_ever_ends() {
    let engine = in_memory();
    let keyspace = engine.create_keyspace("k").unwrap();
    let mut runs = 0;
    let result = engine.transact(CommitMode::Async, |tx| {
        runs += 1;
        tx.get(&keyspace, "a")?;
        put(&engine, &keyspace, "a", "1", CommitMode::Async)?;
        tx.put(&keyspace, "b", "1")
    });
    assert_eq!((kind_of(result), runs), (ErrorKind::Conflict, 100));
    // An error of the body is none of the commit.
    let refused = engine.transact(CommitMode::Async, |tx| tx.put(&keyspace, vec![0; 70_000], ""));
    assert_eq!(kind_of(refused), ErrorKind::InvalidInput);
}
