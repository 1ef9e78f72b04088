//! What follows from the seed of a case before it begins.

use std::time::Duration;

use crashkit::{MODES, Random, mode_name};
use forelog::{Checkpoints, CommitMode, LossBudget, Options};

/// The least that an engine takes, of which records get 3.5 MiB.
const MEMORY: u64 = 16 << 20;
/// What records may take: see `engine/memory.rs`.
const RECORDS: usize = 7 << 19;
/// What the ballast takes in a keyspace: a wide leaf.
const LEAF: usize = 16 << 10;

/// How a case is run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) steps: usize,
    /// Keys of a keyspace, at most.
    pub(super) keys: usize,
    /// Keyspaces that only take memory; none if all data are to fit.
    pub(super) ballast: usize,
    pub(super) modes: Vec<CommitMode>,
    pub(super) default_mode: CommitMode,
    pub(super) checkpoints: Checkpoints,
    checkpoint_bytes: u64,
    segment_bytes: u64,
    pub(super) sync_latency: Duration,
    /// One step in so many is an event.
    pub(super) events: usize,
}

impl Plan {
    pub(super) fn new(random: &mut Random) -> Self {
        // One mode alone, or all of them.
        let modes = if random.one_in(2) { vec![random.pick(&MODES)] } else { MODES.to_vec() };
        // Beyond a quarter more than there is room for, open transactions do not hold forgetting off any more.
        let (least, most) = (RECORDS / LEAF, RECORDS / LEAF * 5 / 4);
        let ballast = match random.below(8) {
            0 | 1 => 0,
            2 => random.between(least + 8, most),
            _ => random.between(most + 8, most + 40),
        };
        // The smallest make hundreds of files, which takes long.
        let is_tiny = ballast == 0 && random.one_in(6);
        let steps = random.between(400, 1_200);
        Plan {
            steps: if is_tiny { steps / 8 } else { steps },
            keys: random.pick(&[30, 200, 200, 1_500]),
            ballast,
            default_mode: random.pick(&modes),
            modes,
            checkpoints: random.pick(&[Checkpoints::Automatic, Checkpoints::OnRequest]),
            // Those of a MiB have more forgotten at a time.
            checkpoint_bytes: match ballast {
                _ if is_tiny => 4 << 10,
                0 => random.pick(&[16 << 10, 128 << 10, 1 << 20]),
                // The ballast alone is most of a MiB.
                _ => random.pick(&[128 << 10, 1 << 20, 1 << 20]),
            },
            segment_bytes: random.pick(&[4 << 10, 16 << 10, 256 << 10]),
            sync_latency: Duration::from_micros(random.pick(&[0, 50, 300])),
            events: random.between(8, 24),
        }
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .memory_bytes(MEMORY)
            .checkpoints(self.checkpoints)
            .checkpoint_bytes(self.checkpoint_bytes)
            .commit_mode(self.default_mode)
            .segment_bytes(self.segment_bytes)
            .flush_bytes(8 << 10)
            .loss_budget(LossBudget::default().max_bytes(32 << 10).max_commits(40))
    }

    /// A key: of several lengths, one of them a prefix of others, and often near to the one before.
    pub(super) fn key(&self, random: &mut Random, near: &mut usize) -> Vec<u8> {
        if random.one_in(6) {
            *near = random.below(self.keys);
        }
        let number = (*near + random.below(self.keys.min(24))) % self.keys;
        let [high, low] = u16::try_from(number).expect("few keys").to_be_bytes();
        let mut key = vec![high, low];
        match number % 5 {
            0 => {}
            1 => key.extend([low; 20]),
            _ => key.push(u8::MAX),
        }
        key
    }

    /// Most of them lie in a leaf; some do not.
    pub(super) fn length(random: &mut Random) -> usize {
        match random.below(60) {
            0 => random.between(1_025, 6_000),
            1..4 => random.between(200, 1_024),
            _ => random.pick(&[0, 1, 8, 8, 20, 60, 100]),
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let modes: Vec<_> = self.modes.iter().map(|mode| mode_name(*mode)).collect();
        write!(
            f,
            "{} steps, {} keys, ballast {}, {}, {:?} checkpoints of {} bytes",
            self.steps,
            self.keys,
            self.ballast,
            modes.join(" "),
            self.checkpoints,
            self.checkpoint_bytes
        )
    }
}
