//! Operations, a power loss that takes what the input says, and the comparison.

use crashkit::ledger::Ending;
use forelog::sim::{self, Granularity, Loss, SimDisk};

use super::client::Client;

pub fn target(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_at_checked(4) else { return };
    let steps = usize::from(head[0] % 32).min(rest.len() / 2);
    let (steps, losses) = rest.split_at(steps * 2);
    let granularity = [Granularity::Word, Granularity::Sector, Granularity::Page][usize::from(head[1] % 3)];
    sim::run(u64::from(head[2]), || {
        let disk = SimDisk::new();
        let mut client = Client::begin(&disk);
        for step in steps.chunks_exact(2) {
            client.step(step[0], step[1]);
        }
        let kept = losses.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
        let loss = if losses.is_empty() { Loss::Seeded(u64::from(head[3])) } else { Loss::AllBut(kept) };
        client.crash_and_check(Ending::Power, false, |disk| disk.crash_point().power_loss(&loss, granularity));
    });
}
