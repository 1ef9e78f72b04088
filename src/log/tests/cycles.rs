//! Two hundred crashes in a row: no LSN and no incarnation is used twice, nothing comes back, and every token is
//! answered rightly, at every reopen, by what is there.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::support::*;
use crate::base::types::CommitMode::{Async, Sync, Within, Written};
use crate::base::types::{CommitMode, Lsn, Outcome, Token};
use crate::disk::sim::{Granularity, Loss, SimDisk};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("an index")]
    }

    fn steps(&mut self) -> Vec<(usize, CommitMode)> {
        let modes = [Sync, Written, Async, Written, Within(Duration::from_secs(3600))];
        let lengths = [0, 8, 100, 513, 1500, 3552, 5000];
        let count = self.below(7);
        (0..count).map(|_| (self.one_of(&lengths), self.one_of(&modes))).collect()
    }
}

fn two_hundred(seed: u64) {
    let mut random = Random(seed);
    let mut disk = SimDisk::new();
    let mut expected = Records::new();
    let mut answers: HashMap<Token, Outcome> = HashMap::new();
    let mut tokens: Vec<Token> = Vec::new();
    let mut numbers = BTreeSet::new();
    let mut nonces = BTreeSet::new();
    let mut highest = Lsn::ZERO;
    let (mut durable, mut lost, mut closed) = (0_u32, 0_u32, 0_u32);
    for cycle in 0..200 {
        let what = format!("seed {seed}, cycle {cycle}");
        let steps = random.steps();
        let closes = random.below(4) == 0;
        let session = if closes { closed_session(&disk, cycle, &steps) } else { session(&disk, cycle, &steps) };
        // Nothing that was handed out before is handed out again.
        let mut entries = BTreeSet::new();
        for issued in &session.issued {
            assert!(issued.token.lsn > highest, "{what}: {} after {highest}", issued.token.lsn);
            highest = issued.token.lsn;
            entries.insert((issued.token.incarnation.number, issued.token.incarnation.nonce));
        }
        assert!(entries.len() <= 1, "{what}");
        for (number, nonce) in entries {
            assert!(numbers.last().is_none_or(|last| number > *last), "{what}: incarnation {number}");
            assert!(numbers.insert(number) && nonces.insert(nonce), "{what}");
        }
        tokens.extend(session.issued.iter().map(|issued| issued.token));
        let granularity = random.one_of(&[Granularity::Word, Granularity::Sector]);
        disk = match random.below(4) {
            0 => session.crash.process_kill(),
            1 => session.crash.power_loss(&Loss::Everything, granularity),
            _ => session.crash.power_loss(&Loss::Seeded(random.below(1 << 30)), granularity),
        };
        if random.below(3) == 0 {
            // A crash in recovery, too.
            let recovering = disk.crash_point().process_kill();
            let points = crash_points(&recovering, || drop(open(&recovering).unwrap()));
            let point = &points[usize::try_from(random.below(points.len() as u64)).expect("an index")];
            disk = point.power_loss(&Loss::Seeded(random.below(1 << 30)), granularity);
        }
        let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        // A prefix of what was appended, everything durable in it, behind exactly what was there before.
        let kept = opened.records.len() - expected.len();
        assert!(kept >= session.durable_records(), "{what}: {kept}");
        expected.extend(session.records().into_iter().take(kept));
        assert_same(&opened.records, &expected, &what);
        if cycle % 10 == 0 {
            let scanned: Records = opened
                .log
                .scan(Lsn::ZERO)
                .unwrap()
                .map(Result::unwrap)
                .map(|record| (record.lsn, record.payload))
                .collect();
            assert_same(&scanned, &expected, &what);
        }
        for token in &tokens {
            let there = expected.binary_search_by_key(&token.lsn, |(lsn, _)| *lsn).is_ok();
            let answer = opened.log.outcome(token).unwrap();
            assert_eq!(answer, if there { Outcome::Durable } else { Outcome::Lost }, "{what}: {token}");
            assert_eq!(*answers.entry(*token).or_insert(answer), answer, "{what}: {token} was answered differently");
        }
        durable += u32::try_from(kept).unwrap();
        lost += u32::try_from(session.issued.len() - kept).unwrap();
        closed += u32::from(closes);
        // A bare LSN never aliases: the same position under another incarnation is none of theirs.
        if let Some(token) = tokens.last() {
            let mut other = *token;
            other.incarnation.nonce ^= 1;
            assert_eq!(opened.log.outcome(&other).unwrap(), Outcome::Foreign, "{what}");
        }
    }
    println!(
        "200 cycles, seed {seed}: {} incarnations, {closed} closed, {durable} records kept, {lost} lost, {} bytes",
        numbers.len(),
        highest.get()
    );
    assert!(lost > 20 && durable > 20);
}

#[test]
fn two_hundred_crashes() {
    two_hundred(1);
}

#[test]
fn two_hundred_other_crashes() {
    two_hundred(2);
}
