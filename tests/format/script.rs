//! What the fixtures hold: each is a script, which the writer performs and the reader derives the state from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crashkit::Random;

/// Keyspaces with their entries.
pub(crate) type State = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// How a process that had the database open ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    /// SIGKILL.
    Kill,
    /// SIGKILL after the log was at rest for so long that MARK was written.
    Rest,
    /// SIGKILL; then one sector of the first commit that is not kept gets its former content back, as after a power
    /// loss that took it.
    Tear,
    /// Close; then the segments get the length and the content back that they had before: the cut was cut off.
    Uncut,
}

#[derive(Clone, Copy)]
pub(crate) enum Op {
    /// The keys of this range get values of so many bytes.
    Put(u64, u64, usize),
    /// The keys of this range go.
    Delete(u64, u64),
    /// The keyspace goes.
    Drop,
}

#[derive(Clone, Copy)]
pub(crate) struct Commit {
    pub(crate) keyspace: &'static str,
    pub(crate) op: Op,
    pub(crate) durable: Durable,
}

/// In which mode it is committed, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Sync,
    Written,
    /// `Written`, and lost.
    Lost,
}

pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    /// One process after the other.
    pub(crate) lives: &'static [(&'static [Commit], End)],
}

/// So small that few commits fill a segment.
pub(crate) const SEGMENT_BYTES: u64 = 4096;

const fn commit(keyspace: &'static str, op: Op, durable: Durable) -> Commit {
    Commit { keyspace, op, durable }
}

/// The directories below `tests/fixtures/v1`.
pub(crate) const FIXTURES: [Fixture; 8] = {
    use Durable::{Lost, Sync, Written};
    use Op::{Delete, Drop, Put};
    const SMALL: Commit = commit("a", Put(0, 5, 40), Sync);
    const MIXED: &[Commit] = &[
        SMALL,
        commit("b", Put(0, 3, 0), Sync),
        commit("gone", Put(0, 2, 100), Written),
        commit("a", Delete(1, 3), Sync),
        commit("gone", Drop, Sync),
        commit("b", Put(2, 4, 300), Sync),
    ];
    [
        Fixture { name: "empty", lives: &[(&[], End::Close)] },
        Fixture { name: "closed", lives: &[(MIXED, End::Close)] },
        Fixture { name: "killed", lives: &[(&[SMALL, commit("a", Put(3, 9, 77), Written)], End::Kill)] },
        Fixture {
            name: "torn",
            lives: &[(
                &[
                    SMALL,
                    commit("a", Put(4, 5, 700), Written),
                    commit("a", Put(5, 6, 1500), Lost),
                    commit("a", Put(0, 1, 20), Lost),
                ],
                End::Tear,
            )],
        },
        Fixture {
            name: "lives",
            lives: &[
                (MIXED, End::Close),
                (&[commit("a", Put(20, 21, 10), Written)], End::Kill),
                (&[], End::Close),
                (&[commit("a", Delete(20, 21), Sync), commit("c", Put(0, 1, 8), Sync)], End::Kill),
                (&[commit("c", Put(1, 2, 8), Written)], End::Close),
                (&[commit("a", Put(30, 33, 50), Sync)], End::Kill),
            ],
        },
        // Records over several segments, and a segment that is left before it is full.
        Fixture {
            name: "segments",
            lives: &[
                (&[commit("a", Put(0, 1, 9000), Sync), commit("a", Put(1, 6, 500), Sync)], End::Close),
                (&[commit("b", Put(0, 2, 3000), Sync), SMALL], End::Kill),
            ],
        },
        Fixture { name: "marked", lives: &[(&[SMALL, commit("b", Put(0, 1, 600), Written)], End::Rest)] },
        Fixture { name: "uncut", lives: &[(MIXED, End::Uncut)] },
    ]
};

pub(crate) fn root() -> PathBuf {
    checkout().join("tests/fixtures/v1")
}

/// The package that is tested may be `tests/sim`.
pub(crate) fn checkout() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let is_checkout = |dir: &&Path| dir.join("tests/fixtures").is_dir();
    package.ancestors().find(is_checkout).expect("a package of the checkout").to_owned()
}

pub(crate) fn key(n: u64) -> Vec<u8> {
    format!("key-{n:04}").into_bytes()
}

/// `length` bytes that depend on the commit and the key.
pub(crate) fn value(serial: u64, n: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(serial << 32 | n);
    std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(length).collect()
}

impl Fixture {
    /// All commits with their serial numbers, life by life.
    pub(crate) fn commits(&self, life: usize) -> impl Iterator<Item = (u64, &Commit)> {
        let before: usize = self.lives[..life].iter().map(|(commits, _)| commits.len()).sum();
        (before as u64..).zip(self.lives[life].0)
    }

    pub(crate) fn state(&self) -> State {
        let mut state = State::new();
        for life in 0..self.lives.len() {
            for (serial, commit) in self.commits(life).filter(|(_, commit)| commit.durable != Durable::Lost) {
                let keyspace = state.entry(commit.keyspace.to_owned()).or_default();
                match commit.op {
                    Op::Put(from, to, length) => {
                        keyspace.extend((from..to).map(|n| (key(n), value(serial, n, length))));
                    }
                    Op::Delete(from, to) => keyspace.retain(|held, _| !(key(from)..key(to)).contains(held)),
                    Op::Drop => drop(state.remove(commit.keyspace)),
                }
            }
        }
        state
    }
}
