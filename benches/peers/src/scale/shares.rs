//! How the time of an engine is divided: each phase has a share, so that each has a figure when the load is cut.

use std::time::Duration;

use super::event::{Part, Phase};

/// Of a thousand. What a phase leaves of its share is given to no other.
pub fn per_mille(phase: Phase) -> u64 {
    match phase {
        Phase::Load => 450,
        Phase::BeforeKill => 10,
        Phase::ReadPresent => 80,
        Phase::ReadAbsent => 40,
        Phase::Scan => 80,
        Phase::Overwrite => 120,
        Phase::SettleOverwritten | Phase::SettleDeleted => 65,
        Phase::Delete => 80,
        Phase::SyncAlone | Phase::AsyncAlone | Phase::SyncBeside | Phase::AsyncBeside => 130,
        // They end when they end.
        Phase::Close | Phase::OpenClosed | Phase::OpenKilled => 0,
    }
}

/// The most that the process which is killed writes before.
const MOST_BEFORE_KILL: f64 = 5.0;

pub fn limit(phase: Phase, seconds: f64) -> Duration {
    let share = seconds * per_mille(phase) as f64 / 1000.0;
    Duration::from_secs_f64(if phase == Phase::BeforeKill { share.min(MOST_BEFORE_KILL) } else { share })
}

/// After so long a process is ended from outside: an open, a close and a single operation are not cut from within.
pub fn most(part: Part, seconds: f64) -> Duration {
    const LEAST_PATIENCE: f64 = 120.0;
    let phases: &[Phase] = match part {
        Part::Load => &[Phase::Load],
        Part::OpenAndDie => &[Phase::BeforeKill],
        Part::Open => &[],
        Part::Steady => &[
            Phase::Load,
            Phase::SettleOverwritten,
            Phase::SyncAlone,
            Phase::AsyncAlone,
            Phase::SyncBeside,
            Phase::AsyncBeside,
        ],
        Part::OpenAndGoOn => &[
            Phase::ReadPresent,
            Phase::ReadAbsent,
            Phase::Scan,
            Phase::Overwrite,
            Phase::SettleOverwritten,
            Phase::Delete,
            Phase::SettleDeleted,
        ],
    };
    let shares: Duration = phases.iter().map(|phase| limit(*phase, seconds)).sum();
    shares + Duration::from_secs_f64(LEAST_PATIENCE.max(seconds / 4.0))
}
