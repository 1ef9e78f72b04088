//! Isolation: the anomalies that Hermitage tests for (M. Kleppmann), each with the schedule that would show
//! it and what happens here instead; then what optimistic transactions promise beyond them.
//!
//! Every transaction reads a snapshot. Whoever commits second after reading what the first one changed gets
//! `Conflict`; who wrote nothing, or read nothing, never does.
//!
//! Schedules are written as in Hermitage: `r1[x]` transaction 1 reads x, `w1[x=5]` it writes, `c1` it commits, `a1` it
//! rolls back, `P` is a predicate. At the start row 1 holds 10 and row 2 holds 20.

use forelog::{CommitMode, Engine, ErrorKind, Keyspace, Receipt, Result, Transaction};

use crashkit::{MODES, in_memory, kind_of};

/// The table of Hermitage.
struct Table {
    engine: Engine,
    rows: Keyspace,
}

/// A transaction on it.
struct Tx<'a> {
    inner: Transaction,
    rows: &'a Keyspace,
}

impl Table {
    fn new() -> Self {
        let engine = in_memory();
        let rows = engine.create_keyspace("test").unwrap();
        let table = Table { engine, rows };
        let mut tx = table.begin();
        tx.set(1, 10);
        tx.set(2, 20);
        tx.commit().unwrap();
        table
    }

    fn begin(&self) -> Tx<'_> {
        Tx { inner: self.engine.begin().unwrap(), rows: &self.rows }
    }

    /// All rows as they are now.
    fn all(&self) -> Vec<(u8, u32)> {
        self.begin().select(|_| true)
    }
}

impl Tx<'_> {
    fn get(&mut self, row: u8) -> Option<u32> {
        let value = self.inner.get(self.rows, [row]).unwrap()?;
        Some(u32::from_le_bytes((*value).try_into().unwrap()))
    }

    fn set(&mut self, row: u8, value: u32) {
        self.inner.put(self.rows, [row], value.to_le_bytes()).unwrap();
    }

    fn delete(&mut self, row: u8) {
        self.inner.delete(self.rows, [row]).unwrap();
    }

    /// The rows whose value matches: a predicate read, which has to look at all of them.
    fn select(&mut self, predicate: impl Fn(u32) -> bool) -> Vec<(u8, u32)> {
        let rows = self.inner.iter(self.rows).unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            (key[0], u32::from_le_bytes((*value).try_into().unwrap()))
        });
        rows.filter(|(_, value)| predicate(*value)).collect()
    }

    fn commit(self) -> Result<Receipt> {
        self.inner.commit()
    }

    fn abort(self) {
        self.inner.rollback();
    }
}

#[test]
fn g0_dirty_write_cycles_cannot_be() {
    // w1[1=11] w2[1=12] w1[2=21] c1 w2[2=22] c2: neither read, so both commit, one wholly after the other.
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    t1.set(1, 11);
    t2.set(1, 12);
    t1.set(2, 21);
    t1.commit().unwrap();
    assert_eq!(table.all(), [(1, 11), (2, 21)]);
    t2.set(2, 22);
    t2.commit().unwrap();
    assert_eq!(table.all(), [(1, 12), (2, 22)]);
}

#[test]
fn g1a_aborted_writes_are_never_read() {
    // w1[1=101] r2[P] a1 r2[P] c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    t1.set(1, 101);
    assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
    t1.abort();
    assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
    t2.set(3, 30);
    t2.commit().unwrap();
    assert_eq!(table.all(), [(1, 10), (2, 20), (3, 30)]);
}

#[test]
fn g1b_intermediate_writes_are_never_read() {
    // w1[1=101] r2[P] w1[1=11] c1 r2[P] c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    t1.set(1, 101);
    assert_eq!(t2.get(1), Some(10));
    t1.set(1, 11);
    t1.commit().unwrap();
    assert_eq!(t2.get(1), Some(10));
    t2.commit().unwrap();
    assert_eq!(table.all(), [(1, 11), (2, 20)]);
}

#[test]
fn g1c_circular_information_flow_conflicts() {
    // w1[1=11] w2[2=22] r1[2] r2[1] c1 c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    t1.set(1, 11);
    t2.set(2, 22);
    assert_eq!(t1.get(2), Some(20));
    assert_eq!(t2.get(1), Some(10));
    t1.commit().unwrap();
    assert_eq!(kind_of(t2.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 11), (2, 20)]);
}

#[test]
fn otv_an_observed_transaction_does_not_vanish() {
    // w1[1=11] w1[2=19] w2[1=12] c1 r3[1] w2[2=18] r3[2] c2 r3[2] r3[1] c3
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    t1.set(1, 11);
    t1.set(2, 19);
    t2.set(1, 12);
    t1.commit().unwrap();
    let mut t3 = table.begin();
    assert_eq!(t3.get(1), Some(11));
    t2.set(2, 18);
    assert_eq!(t3.get(2), Some(19));
    t2.commit().unwrap();
    assert_eq!((t3.get(2), t3.get(1)), (Some(19), Some(11)), "all of T1, nothing of T2");
    t3.commit().unwrap();
    assert_eq!(table.all(), [(1, 12), (2, 18)]);
}

#[test]
fn pmp_predicate_many_preceders_sees_one_state() {
    // r1[P: v = 30] w2[3=30] c2 r1[P: v % 3 = 0] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.select(|value| value == 30), []);
    t2.set(3, 30);
    t2.commit().unwrap();
    assert_eq!(t1.select(|value| value % 3 == 0), [], "the state has not moved under it");
    t1.commit().unwrap();
}

#[test]
fn pmp_conflicts_once_the_reader_writes() {
    // r1[P: v = 30] w2[3=30] c2 w1[4=40] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.select(|value| value == 30), []);
    t2.set(3, 30);
    t2.commit().unwrap();
    t1.set(4, 40);
    assert_eq!(kind_of(t1.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 10), (2, 20), (3, 30)]);
}

#[test]
fn pmp_for_write_predicates_conflicts() {
    // w1[P: v += 10] d2[P: v = 20] c1 c2: T2 would delete row 2, or row 1, depending on which state it saw.
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    for (row, value) in t1.select(|_| true) {
        t1.set(row, value + 10);
    }
    for (row, _) in t2.select(|value| value == 20) {
        t2.delete(row);
    }
    t1.commit().unwrap();
    assert_eq!(kind_of(t2.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 20), (2, 30)]);
}

#[test]
fn p4_lost_updates_conflict() {
    // r1[1] r2[1] w1[1=11] w2[1=11] c1 c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.get(1), Some(10));
    assert_eq!(t2.get(1), Some(10));
    t1.set(1, 11);
    t2.set(1, 11);
    t1.commit().unwrap();
    assert_eq!(kind_of(t2.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 11), (2, 20)]);
}

#[test]
fn g_single_read_skew_cannot_be() {
    // r1[1] r2[1] r2[2] w2[1=12] w2[2=18] c2 r1[2] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.get(1), Some(10));
    assert_eq!((t2.get(1), t2.get(2)), (Some(10), Some(20)));
    t2.set(1, 12);
    t2.set(2, 18);
    t2.commit().unwrap();
    assert_eq!(t1.get(2), Some(20));
    t1.commit().unwrap();
}

#[test]
fn g_single_with_predicate_dependencies_cannot_be() {
    // r1[P: v % 5 = 0] w2[P: v = 10 -> 12] c2 r1[P: v % 3 = 0] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.select(|value| value % 5 == 0), [(1, 10), (2, 20)]);
    for (row, _) in t2.select(|value| value == 10) {
        t2.set(row, 12);
    }
    t2.commit().unwrap();
    assert_eq!(t1.select(|value| value % 3 == 0), []);
    t1.commit().unwrap();
}

#[test]
fn g_single_with_a_write_predicate_conflicts() {
    // r1[1] r2[P] w2[1=12] w2[2=18] c2 d1[P: v = 20] r1[P] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.get(1), Some(10));
    assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
    t2.set(1, 12);
    t2.set(2, 18);
    t2.commit().unwrap();
    for (row, _) in t1.select(|value| value == 20) {
        t1.delete(row);
    }
    assert_eq!(t1.select(|_| true), [(1, 10)]);
    assert_eq!(kind_of(t1.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 12), (2, 18)]);
}

#[test]
fn g_single_with_a_write_predicate_that_rolls_back_hurts_nobody() {
    // r1[1] r2[P] w2[1=12] d1[P: v = 20] w2[2=18] a1 c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.get(1), Some(10));
    assert_eq!(t2.select(|_| true), [(1, 10), (2, 20)]);
    t2.set(1, 12);
    for (row, _) in t1.select(|value| value == 20) {
        t1.delete(row);
    }
    t2.set(2, 18);
    t1.abort();
    t2.commit().unwrap();
    assert_eq!(table.all(), [(1, 12), (2, 18)]);
}

#[test]
fn g2_item_write_skew_conflicts() {
    // r1[1] r1[2] r2[1] r2[2] w1[1=11] w2[2=21] c1 c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!((t1.get(1), t1.get(2)), (Some(10), Some(20)));
    assert_eq!((t2.get(1), t2.get(2)), (Some(10), Some(20)));
    t1.set(1, 11);
    t2.set(2, 21);
    t1.commit().unwrap();
    assert_eq!(kind_of(t2.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 11), (2, 20)]);
}

#[test]
fn g2_anti_dependency_cycles_conflict() {
    // r1[P: v % 3 = 0] r2[P: v % 3 = 0] w1[3=30] w2[4=42] c1 c2
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.select(|value| value % 3 == 0), []);
    assert_eq!(t2.select(|value| value % 3 == 0), []);
    t1.set(3, 30);
    t2.set(4, 42);
    t1.commit().unwrap();
    assert_eq!(kind_of(t2.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 10), (2, 20), (3, 30)]);
}

#[test]
fn g2_with_two_anti_dependency_edges_conflicts() {
    // r1[P] r2[2] w2[2=25] c2 r3[P] c3 w1[1=0] c1: the read-only T3 has seen T2 without T1.
    let table = Table::new();
    let mut t1 = table.begin();
    assert_eq!(t1.select(|_| true), [(1, 10), (2, 20)]);
    let mut t2 = table.begin();
    let value = t2.get(2).unwrap();
    t2.set(2, value + 5);
    t2.commit().unwrap();
    let mut t3 = table.begin();
    assert_eq!(t3.select(|_| true), [(1, 10), (2, 25)]);
    t3.commit().unwrap();
    t1.set(1, 0);
    assert_eq!(kind_of(t1.commit()), ErrorKind::Conflict);
    assert_eq!(table.all(), [(1, 10), (2, 25)]);
}

#[test]
fn blind_batches_never_conflict() {
    let table = Table::new();
    let mut first = table.engine.batch().unwrap();
    let mut second = table.engine.batch().unwrap();
    for batch in [&mut first, &mut second] {
        batch.put(&table.rows, [1], 5u32.to_le_bytes()).unwrap();
        batch.delete(&table.rows, [2]).unwrap();
        batch.delete(&table.rows, [9]).unwrap();
    }
    first.commit().unwrap();
    second.commit().unwrap();
    second.commit().unwrap();
    assert_eq!(table.all(), [(1, 5)]);
}

#[test]
fn writes_alone_do_not_conflict() {
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    t1.set(1, 1);
    t2.set(1, 2);
    assert_eq!(t2.get(1), Some(2), "what it wrote itself is no read");
    t1.commit().unwrap();
    t2.commit().unwrap();
    assert_eq!(table.all(), [(1, 2), (2, 20)]);
}

#[test]
fn a_phantom_in_an_empty_range_conflicts() {
    // r1[5..9] w2[7] c2 w1[1] c1; a row beside the range does not disturb.
    for (row, conflicts) in [(7, true), (9, false), (4, false), (5, true), (8, true)] {
        let table = Table::new();
        let (mut t1, mut t2) = (table.begin(), table.begin());
        assert_eq!(t1.inner.range(&table.rows, [5]..[9]).unwrap().count(), 0);
        t2.set(row, 70);
        t2.commit().unwrap();
        t1.set(1, 0);
        assert_eq!(t1.commit().is_err_and(|error| error.kind() == ErrorKind::Conflict), conflicts, "row {row}");
    }
}

#[test]
fn a_phantom_in_an_empty_prefix_conflicts() {
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.inner.prefix(&table.rows, [7]).unwrap().next_back().map(|_| ()), None);
    t2.inner.put(&table.rows, [7, 1], [0; 4]).unwrap();
    t2.commit().unwrap();
    t1.set(1, 0);
    assert_eq!(kind_of(t1.commit()), ErrorKind::Conflict);
}

#[test]
fn a_range_counts_as_read_as_far_as_it_was_shown_and_all_of_it_while_it_may_be() {
    for is_kept in [false, true] {
        let table = Table::new();
        let (mut t1, mut t2) = (table.begin(), table.begin());
        let rows = Some(t1.inner.iter(&table.rows).unwrap()).filter(|_| is_kept);
        t2.set(9, 90);
        t2.commit().unwrap();
        t1.set(1, 0);
        assert_eq!(t1.commit().is_err_and(|error| error.kind() == ErrorKind::Conflict), is_kept);
        drop(rows);
    }
}

#[test]
fn a_deleted_key_conflicts() {
    // r1[2] d2[2] c2 w1[1] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.get(2), Some(20));
    t2.delete(2);
    t2.commit().unwrap();
    t1.set(1, 0);
    assert_eq!(kind_of(t1.commit()), ErrorKind::Conflict);
}

#[test]
fn an_absent_key_that_appears_conflicts() {
    // r1[3] w2[3] c2 w1[1] c1
    let table = Table::new();
    let (mut t1, mut t2) = (table.begin(), table.begin());
    assert_eq!(t1.get(3), None);
    t2.set(3, 30);
    t2.commit().unwrap();
    t1.set(1, 0);
    assert_eq!(kind_of(t1.commit()), ErrorKind::Conflict);
}

#[test]
fn read_only_transactions_never_conflict() {
    let table = Table::new();
    let mut readers: Vec<_> = (0..10).map(|_| table.begin()).collect();
    for reader in &mut readers {
        assert_eq!(reader.select(|_| true), [(1, 10), (2, 20)]);
    }
    let mut writer = table.begin();
    writer.set(1, 0);
    writer.delete(2);
    writer.commit().unwrap();
    for mut reader in readers {
        assert_eq!((reader.get(1), reader.get(2)), (Some(10), Some(20)));
        reader.commit().unwrap();
    }
}

#[test]
fn a_conflict_leaves_nothing_behind_and_a_second_run_succeeds() {
    let table = Table::new();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let mut tx = table.begin();
        let value = tx.get(1).unwrap();
        if attempts < 3 {
            let mut other = table.begin();
            other.set(1, value + 100);
            other.commit().unwrap();
        }
        tx.set(1, value + 1);
        tx.set(3, 30);
        match tx.commit() {
            Err(error) if error.kind() == ErrorKind::Conflict => assert_eq!(table.begin().get(3), None),
            other => break drop(other.unwrap()),
        }
    }
    assert_eq!((attempts, table.all()), (3, vec![(1, 211), (2, 20), (3, 30)]));
}

#[test]
fn a_transaction_begun_after_an_acknowledged_commit_sees_it_in_every_mode() {
    let table = Table::new();
    std::thread::scope(|scope| {
        for (thread, mode) in MODES.iter().cycle().take(8).enumerate() {
            let table = &table;
            scope.spawn(move || {
                let row = 10 + u8::try_from(thread).unwrap();
                for count in 0..100 {
                    let mut tx = table.begin();
                    tx.set(row, count);
                    let receipt = if *mode != CommitMode::Sync && count % 2 == 0 {
                        tx.inner.try_commit_with(*mode).unwrap()
                    } else {
                        tx.inner.commit_with(*mode).unwrap()
                    };
                    let mut after = table.begin();
                    assert!(after.inner.snapshot_lsn() >= receipt.lsn());
                    assert_eq!(after.get(row), Some(count), "{mode:?}");
                }
            });
        }
    });
}

#[test]
fn concurrent_increments_are_all_counted() {
    let table = Table::new();
    std::thread::scope(|scope| {
        for mode in MODES {
            let table = &table;
            scope.spawn(move || {
                let mut done = 0;
                while done < 100 {
                    let mut tx = table.begin();
                    let value = tx.get(1).unwrap();
                    tx.set(1, value + 1);
                    match tx.inner.commit_with(mode) {
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                        Ok(_) => done += 1,
                    }
                }
            });
        }
    });
    assert_eq!(table.all(), [(1, 410), (2, 20)]);
}
