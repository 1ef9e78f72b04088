//! Every state that a power loss may legally leave opens, with a prefix that holds everything durable; and the three
//! cases that tell rot from a tear (specification, section 6).

use std::collections::HashSet;

use super::support::*;
use crate::base::error::DamageCause;
use crate::base::types::CommitMode::{self, Async, Sync, Written};
use crate::base::types::Lsn;
use crate::disk::sim::{CrashPoint, Granularity, Loss, SimDisk};

/// Opens every state that a loss of power may leave (all of them if they are few enough, else a sample), and asserts
/// that each holds a prefix of `issued` that ends at or above `durable`. Returns how many different ones there were,
/// and how many different prefixes.
fn open_all(
    point: &CrashPoint,
    session: &Session,
    before: &Records,
    granularity: Granularity,
    what: &str,
) -> (usize, usize) {
    let all = [before.clone(), session.records()].concat();
    let least = before.len() + session.durable_records();
    let atoms = point.atoms(granularity);
    let losses: Vec<Loss> = if atoms <= 15 {
        let chosen = |set: u32| (0..atoms).map(|atom| set >> atom & 1 == 1).collect();
        (0..1_u32 << atoms).map(|set| Loss::AllBut(chosen(set))).collect()
    } else {
        let each = (0..atoms).flat_map(|one| {
            let missing = (0..atoms).map(|atom| atom != one).collect();
            let present = (0..atoms).map(|atom| atom == one).collect();
            let prefix = (0..atoms).map(|atom| atom <= one).collect();
            let suffix = (0..atoms).map(|atom| atom >= one).collect();
            [missing, present, prefix, suffix].map(Loss::AllBut)
        });
        each.chain([Loss::Nothing, Loss::Everything]).chain((0..2000).map(Loss::Seeded)).collect()
    };
    let (mut states, mut prefixes) = (HashSet::new(), HashSet::new());
    for loss in losses {
        let disk = point.power_loss(&loss, granularity);
        if !states.insert(disk.image_hash()) {
            continue;
        }
        let what = format!("{what}, {granularity:?}, {loss:?}");
        let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: a legal state is refused: {error}"));
        let kept = opened.records.len();
        assert!(kept >= least, "{what}: {kept} records of {least} durable ones");
        assert_same(&opened.records, &all[..kept].to_vec(), &what);
        assert_outcomes(&opened.log, &opened.records, &session.issued, &what);
        let report = opened.log.recovery();
        assert!(report.proven_durable <= report.recovered_to.max(session.durable), "{what}");
        drop(opened);
        if prefixes.insert(kept) || states.len() % 16 == 0 {
            assert_holds(&disk, &all[..kept].to_vec(), &what);
        }
    }
    println!(
        "power loss, {what}, {granularity:?}: {atoms} atoms, {} states opened, {} prefixes",
        states.len(),
        prefixes.len()
    );
    (states.len(), prefixes.len())
}

const BOTH: [Granularity; 2] = [Granularity::Sector, Granularity::Word];

/// Some records in a closed incarnation, some durable ones in an open one, then these, not synced.
fn open_all_after(tail: &[(usize, CommitMode)], what: &str) -> usize {
    let disk = SimDisk::new();
    let first = closed_session(&disk, 20, &twelve()[..4]);
    let steps = [&[(300, Written), (8, Async), (100, Sync)], tail].concat();
    let second = session(&disk, 21, &steps);
    assert_eq!(second.durable_records(), 3, "{what}");
    BOTH.into_iter().map(|granularity| open_all(&second.crash, &second, &first.records(), granularity, what).0).sum()
}

#[test]
fn three_small_groups() {
    let states = open_all_after(&[(8, Written), (0, Written), (8, Written)], "three groups of one frame each");
    assert!(states > 2000, "exhaustive by the word");
}

#[test]
fn three_groups_over_several_sectors() {
    open_all_after(&[(600, Written), (900, Written), (20, Written)], "three groups over several sectors");
}

#[test]
fn three_groups_of_several_frames() {
    open_all_after(
        &[(0, Async), (30, Async), (1, Written), (700, Async), (5, Written), (0, Async), (513, Async), (64, Written)],
        "three groups of several frames",
    );
}

#[test]
fn three_groups_over_two_segment_boundaries() {
    open_all_after(&[(3000, Written), (3500, Written), (2500, Written)], "three groups over segment boundaries");
}

#[test]
fn a_record_over_four_segments_torn_at_each_fragment() {
    open_all_after(&[(9000, Written), (40, Written), (100, Written)], "a record over four segments");
}

#[test]
fn nothing_but_unsynced_groups() {
    let disk = SimDisk::new();
    let session = session(&disk, 22, &[(8, Written), (16, Written), (0, Written)]);
    assert_eq!(session.durable_records(), 0);
    for granularity in BOTH {
        let (_, prefixes) = open_all(&session.crash, &session, &Records::new(), granularity, "nothing durable");
        assert!(granularity == Granularity::Sector || prefixes == 4);
    }
}

#[test]
fn every_moment_of_a_incarnation() {
    // The creation, the begin, rolls with segments being prepared, syncs in flight, the close: the power may go at any.
    let disk = SimDisk::new();
    let steps = [(0, Sync), (1200, Written), (700, Async), (1500, Sync), (10, Written), (2000, Written), (64, Sync)];
    let mut session_of_all = None;
    let points = crash_points(&disk, || session_of_all = Some(closed_session(&disk, 23, &steps)));
    let issued = session_of_all.unwrap();
    let all = issued.records();
    let mut states = HashSet::new();
    for (index, point) in points.iter().enumerate() {
        let mut least = 0;
        for loss in [Loss::Everything, Loss::Nothing].into_iter().chain((0..24).map(Loss::Seeded)) {
            for granularity in BOTH {
                let disk = point.power_loss(&loss, granularity);
                if !states.insert(disk.image_hash()) {
                    continue;
                }
                let what = format!("moment {index} of {}, {loss:?}, {granularity:?}", points.len());
                if disk.files().is_empty() && open(&disk).is_ok() {
                    continue;
                }
                let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: a legal state is refused: {error}"));
                let kept = opened.records.len();
                assert!(kept >= least, "{what}: less than with everything lost");
                if loss == Loss::Everything {
                    least = kept;
                }
                assert_same(&opened.records, &all[..kept].to_vec(), &what);
            }
        }
    }
    println!("power loss at each of {} moments of a incarnation: {} states opened", points.len(), states.len());
    assert_eq!(open(&points.last().unwrap().power_loss(&Loss::Everything, Granularity::Word)).unwrap().records, all);
}

#[test]
fn every_moment_of_the_first_append_after_a_creation_that_was_cut_off() {
    // The process dies while the log is created, and the power goes while the next one begins to write.
    let disk = SimDisk::new();
    let created = crash_points(&disk, || drop(open(&disk).unwrap()));
    let (mut states, mut moments) = (HashSet::new(), 0);
    for (index, creation) in created.iter().enumerate() {
        let disk = creation.process_kill();
        let points = crash_points(&disk, || drop(session(&disk, index as u64, &[(40, Sync)])));
        moments += points.len();
        for (moment, point) in points.iter().enumerate() {
            for loss in [Loss::Everything, Loss::Nothing].into_iter().chain((0..40).map(Loss::Seeded)) {
                let disk = point.power_loss(&loss, Granularity::Sector);
                if states.insert(disk.image_hash()) {
                    let what = format!("creation {index}, moment {moment}, {loss:?}");
                    open(&disk).unwrap_or_else(|error| panic!("{what}: a legal state is refused: {error}"));
                }
            }
        }
    }
    println!(
        "death in creation, power loss in the first incarnation: {moments} moments, {} states opened",
        states.len()
    );
}

/// Where the frame of the record that ends at `lsn` begins, if it is one frame.
fn begin_of(lsn: Lsn, length: usize) -> u64 {
    lsn.get() - 32 - length.next_multiple_of(8) as u64
}

#[test]
fn e1_a_flip_below_an_acknowledged_record_and_e2_a_flip_in_the_last_one_are_refused() {
    // One fsync for the last group, of mixed modes, and nothing after it.
    let steps = [(100, Sync), (64, Async), (7, Written), (513, Async), (33, Sync)];
    let session = session(&SimDisk::new(), 24, &steps);
    assert_eq!(session.durable_records(), 5);
    let crash = session.crash.power_loss(&Loss::Everything, Granularity::Word);
    let mut flips = 0;
    for (issued, (length, _)) in session.issued.iter().zip(steps) {
        let begin = begin_of(issued.token.lsn, length);
        for bit in begin * 8..issued.token.lsn.get() * 8 {
            let disk = copy(&crash);
            disk.flip_bit(segment_path(0), bit).unwrap();
            assert_refused(&disk, DamageCause::Rotten, begin, &format!("bit {bit}"));
            flips += 1;
        }
    }
    println!("E1 and E2: {flips} flips, all refused as rot at the LSN of their frame");
}

#[test]
fn e3_a_later_record_whole_and_an_earlier_one_torn_opens_without_both() {
    let steps = [(100, Sync), (600, Written), (600, Written), (600, Written)];
    let session = session(&SimDisk::new(), 25, &steps);
    assert_eq!(session.durable_records(), 1);
    let landed = session.crash.power_loss(&Loss::Nothing, Granularity::Word);
    let lost = session.crash.power_loss(&Loss::Everything, Granularity::Word).read_file(segment_path(0)).unwrap();
    let (earlier, later) = (session.issued[1].token.lsn.get(), session.issued[2].token.lsn.get());
    for torn in (begin_of(session.issued[1].token.lsn, 600)..later).step_by(8) {
        // One word of the first or second unsynced record did not land; all of the rest did.
        let disk = copy(&landed);
        let at = usize::try_from(torn).unwrap();
        disk.overwrite(segment_path(0), torn, &lost[at..at + 8]).unwrap();
        let kept = if torn < earlier { 1 } else { 2 };
        assert_holds(&disk, &session.records()[..kept].to_vec(), &format!("torn at {torn}"));
    }
}
