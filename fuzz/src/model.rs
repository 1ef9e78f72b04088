//! Operations against a model, with an I/O error at the n-th operation of the disk, for one time or for good; then the
//! death of the process, and the comparison.

use crashkit::ledger::Ending;
use forelog::sim::{self, Fault, FaultKind, OpSelector, Pages, SimDisk};

use super::client::Client;

const KINDS: [FaultKind; 7] = [
    FaultKind::Errno(5),
    FaultKind::Errno(28),
    FaultKind::Errno(4),
    FaultKind::ShortWrite(5),
    FaultKind::FailedWrite(16),
    FaultKind::SyncFails { pages: Pages::KeepNew },
    FaultKind::SyncFails { pages: Pages::RevertOld },
];

pub fn target(bytes: &[u8]) {
    let Some((head, steps)) = bytes.split_at_checked(3) else { return };
    let (countdown, kind, seed) = (u64::from(head[0]), usize::from(head[1]), u64::from(head[2]));
    sim::run(seed, || {
        let disk = SimDisk::new();
        let mut client = Client::begin(&disk);
        let at = OpSelector::any().skip(countdown);
        let fault = KINDS[kind % KINDS.len()].clone();
        let reverts = fault == FaultKind::SyncFails { pages: Pages::RevertOld };
        // An interrupted call is repeated, for ever if need be.
        let is_lasting = kind & 0x80 != 0 && fault != FaultKind::Errno(4);
        disk.inject(if is_lasting { Fault::lasting(at, fault) } else { Fault::once(at, fault) });
        for step in steps.chunks_exact(2).take(40) {
            client.step(step[0], step[1]);
        }
        disk.clear_faults();
        client.crash_and_check(Ending::Process, reverts, |disk| disk.crash_point().process_kill());
    });
}
