//! What is done to the engine and its model, drawn at random.

use std::ops::Bound;

use forelog::CommitMode;
use forelog::sim::Granularity;
use proptest::prelude::*;

use super::{Bounds, NAMES, SLOTS};

/// A write of the model: the keyspace, the key, and how long the new value is (`None`: delete).
pub(super) type Write = (usize, Vec<u8>, Option<usize>);

#[derive(Clone, Debug)]
pub(super) enum Read {
    Key(Vec<u8>),
    Range(Bounds, Walk),
    Prefix(Vec<u8>, Walk),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Walk {
    Forward,
    Backward,
    FromBothEnds,
    /// Forward, each entry lent, but for every third, which is taken.
    Lent,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Batch(CommitMode, Vec<Write>),
    Begin(usize),
    Read(usize, usize, Read),
    Write(usize, Write),
    Commit(usize, CommitMode),
    Rollback(usize),
    Snapshot(usize, bool),
    ReadSnapshot(usize, usize, Read),
    WaitDurable(usize),
    Create(usize),
    Drop(usize),
    Flush,
    Checkpoint,
    Sleep(u64),
    Reopen,
    Kill,
    PowerLoss(u64, Granularity),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ab\xff".as_slice()), 0..3)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
}

fn write() -> impl Strategy<Value = Write> {
    let length = prop::sample::select(&[0, 8, 8, 8, 100, 3_000, 9_000][..]);
    (0..NAMES.len(), key(), prop::option::weighted(0.7, length))
}

fn read() -> impl Strategy<Value = Read> {
    let walk = || prop::sample::select(&[Walk::Forward, Walk::Backward, Walk::FromBothEnds, Walk::Lent][..]);
    prop_oneof![
        key().prop_map(Read::Key),
        ((bound(), bound()), walk()).prop_map(|(bounds, walk)| Read::Range(bounds, walk)),
        (key(), walk()).prop_map(|(prefix, walk)| Read::Prefix(prefix, walk)),
    ]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    let name = || 0..NAMES.len();
    let mode = || prop::sample::select(&crashkit::MODES[..]);
    let granularity = prop::sample::select(&[Granularity::Word, Granularity::Sector, Granularity::Page][..]);
    prop_oneof![
        12 => (mode(), prop::collection::vec(write(), 1..5)).prop_map(|(mode, writes)| Op::Batch(mode, writes)),
        6 => slot().prop_map(Op::Begin),
        10 => (slot(), name(), read()).prop_map(|(slot, name, read)| Op::Read(slot, name, read)),
        10 => (slot(), write()).prop_map(|(slot, write)| Op::Write(slot, write)),
        6 => (slot(), mode()).prop_map(|(slot, mode)| Op::Commit(slot, mode)),
        1 => slot().prop_map(Op::Rollback),
        4 => (slot(), any::<bool>()).prop_map(|(slot, durable)| Op::Snapshot(slot, durable)),
        8 => (slot(), name(), read()).prop_map(|(slot, name, read)| Op::ReadSnapshot(slot, name, read)),
        2 => slot().prop_map(Op::WaitDurable),
        3 => name().prop_map(Op::Create),
        1 => name().prop_map(Op::Drop),
        1 => Just(Op::Flush),
        3 => Just(Op::Checkpoint),
        3 => (0..15u64).prop_map(Op::Sleep),
        1 => Just(Op::Reopen),
        1 => Just(Op::Kill),
        2 => (any::<u64>(), granularity).prop_map(|(seed, granularity)| Op::PowerLoss(seed, granularity)),
    ]
}
