//! Faults of the medium, sector by sector, files that were made to mislead, and the residue: what cannot be seen
//! (specification, section 7), with the side on which each line of it falls.

use super::support::*;
use crate::base::error::{DamageCause, ErrorKind};
use crate::base::types::CommitMode::{Sync, Written};
use crate::base::types::{Lsn, Outcome};
use crate::disk::sim::{Granularity, Loss, SimDisk};
use crate::format::fill::Fill;
use crate::format::frame::Kind;
use crate::format::history::History;
use crate::format::segment::SegmentHeader;

pub(super) const SECTOR: u64 = 512;

fn log_files(disk: &SimDisk) -> Files {
    files(disk).into_iter().filter(|(path, _)| path.extension() == Some("log".as_ref())).collect()
}

#[test]
fn a_sector_of_zeros_of_garbage_or_of_another_place_is_refused_or_harmless() {
    let (disk, session) = crashed_twelve();
    let expected = session.records();
    let all = log_files(&disk);
    let sectors: Vec<&[u8]> = all.iter().flat_map(|(_, bytes)| bytes.chunks(512)).collect();
    let garbage = payload(77, 512);
    let (mut refused, mut harmless) = (0, 0);
    for (path, bytes) in &all {
        for at in (0..bytes.len() as u64).step_by(512) {
            let own = &bytes[usize::try_from(at).unwrap()..][..512];
            let others = sectors.iter().copied().filter(|sector| *sector != own);
            for sector in others.chain([&[0; 512][..], &[0xFF; 512], &garbage]) {
                let damaged = disk.crash_point().process_kill();
                damaged.overwrite(path, at, sector).unwrap();
                match open(&damaged) {
                    Ok(opened) => {
                        assert_same(&opened.records, &expected, &format!("{path:?} at {at}"));
                        harmless += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Damaged, "{path:?} at {at}: {error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("sectors of zeros, ones, garbage, and misdirected writes: {refused} refused, {harmless} harmless");
}

#[test]
fn r1_a_sector_that_reverts_is_refused_below_d_and_unseen_above() {
    // The last record was synced, and nothing was written after it: D is the end of the one before it.
    let steps = [(600, Sync), (600, Sync), (1200, Sync)];
    let session = session(&SimDisk::new(), 60, &steps);
    let disk = session.crash.power_loss(&Loss::Everything, Granularity::Sector);
    let before = first_segment_after(&steps[..2]);
    let bytes = disk.read_file(segment_path(0)).unwrap();
    assert_eq!(before[..512], bytes[..512], "the same incarnation, one record earlier");
    let fill = Fill::new(SegmentHeader::decode(bytes[..512].try_into().unwrap()).unwrap().identity);
    let (durable, end) = (session.issued[1].token.lsn.get(), session.issued[2].token.lsn.get());
    let mut unseen = 0;
    for at in (SECTOR..end).step_by(512) {
        let place = usize::try_from(at).unwrap();
        // A write that was lost: the sector has its former content.
        let former = &before[place..place + 512];
        if *former != bytes[place..place + 512] {
            let reverted = copy(&disk);
            reverted.overwrite(segment_path(0), at, former).unwrap();
            assert_holds(&reverted, &session.records()[..2].to_vec(), &format!("{at} was lost"));
            unseen += 1;
        }
        // A sector that shows the fill, though it held more than one group.
        let mut sector = [0; 512];
        fill.write(&mut sector, at);
        let reverted = copy(&disk);
        reverted.overwrite(segment_path(0), at, &sector).unwrap();
        if at + SECTOR <= durable {
            assert_damaged(&reverted, &format!("{at} is below"));
        } else {
            // Where D is proven by a header in this very sector alone, D goes with it, and what shared the sector.
            let kept = if at < durable { 1 } else { 2 };
            assert_holds(&reverted, &session.records()[..kept].to_vec(), &format!("{at} is above"));
        }
    }
    assert!(unseen >= 2);
}

/// The first segment's bytes after the same incarnation as that of [`r1_a_sector_that_reverts_is_refused_below_d_and_unseen_above`],
/// a few records shorter.
fn first_segment_after(steps: &[(usize, crate::CommitMode)]) -> Vec<u8> {
    let session = session(&SimDisk::new(), 60, steps);
    session.crash.power_loss(&Loss::Everything, Granularity::Sector).read_file(segment_path(0)).unwrap()
}

#[test]
fn r2_and_r3_all_evidence_gone_at_once_is_the_log_of_that_moment() {
    let disk = SimDisk::new();
    let first = session(&disk, 61, &[(100, Sync), (100, Written)]);
    let older = first.crash.power_loss(&Loss::Nothing, Granularity::Sector);
    let later = closed_session(&disk, 62, &[(100, Sync)]);
    assert_holds(&older, &first.records(), "an older copy of the directory");
    // A token of the branch that is gone is not mistaken for one of this log, also when the same place is used again.
    let token = later.issued[0].token;
    assert_eq!(open(&older).unwrap().log.outcome(&token).unwrap(), Outcome::Foreign);
    let branch = closed_session(&older, 63, &[(100, Sync)]);
    assert_eq!(branch.issued[0].token.incarnation.number, token.incarnation.number);
    assert_eq!(open(&older).unwrap().log.outcome(&token).unwrap(), Outcome::Foreign);
    assert_eq!(open(&disk).unwrap().log.outcome(&branch.issued[0].token).unwrap(), Outcome::Foreign);
}

#[test]
fn r5_a_former_history_is_unseen_only_if_nothing_of_the_incarnation_begun_since_landed() {
    let disk = SimDisk::new();
    let first = closed_session(&disk, 64, &[(100, Sync)]);
    let former = disk.read_file(path("HISTORY")).unwrap();
    let second = session(&disk, 65, &[(100, Written)]);
    let landed = second.crash.power_loss(&Loss::Nothing, Granularity::Word);
    landed.write_file(path("HISTORY"), &former).unwrap();
    let begin = History::decode(&former).unwrap().next_begin();
    assert_refused(&landed, DamageCause::BadHistory, begin.get(), "landed");
    let lost = second.crash.power_loss(&Loss::Everything, Granularity::Word);
    lost.write_file(path("HISTORY"), &former).unwrap();
    assert_holds(&lost, &first.records(), "nothing landed");
    assert_eq!(open(&lost).unwrap().log.outcome(&second.issued[0].token).unwrap(), Outcome::Foreign);
}

const EXTREMES: [u64; 13] =
    [0, 1, 8, 511, 512, 4096, 4097, 8192, 1 << 30, 1 << 63, u64::MAX - 511, u64::MAX - 1, u64::MAX];

/// Opens, whatever it holds; a refusal changes no byte.
fn open_any(disk: &SimDisk, what: &str) -> bool {
    let before = files(disk);
    match open(disk) {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported), "{what}: {error}");
            assert!(files(disk) == before, "{what}: the refusal changed a byte");
            false
        }
    }
}

fn with_checksum(bytes: &[u8], offset: usize, value: u64, covered: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    let crc = crc32fast::hash(&bytes[12..covered]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn whatever_the_fields_say_opening_comes_to_an_end() {
    let mut sketch = Sketch::new();
    let end = sketch.frame(FIRST_FRAME, Kind::Full, b"one", 0);
    sketch.end(end, 8192);
    let mut next = sketch.history.entries[0];
    (next.begin, next.end, next.incarnation.number) = (Lsn::new(8192), None, 2);
    sketch.history.entries.push(next);
    sketch.add_segment(8192);
    sketch.frame(8192 + FIRST_FRAME, Kind::Full, b"two", 8192);
    let disk = sketch.disk();
    assert!(open_any(&copy(&disk), "whole"));
    let (mut opened, mut tried) = (0, 0);
    let mut attempt = |disk: &SimDisk, what: String| {
        tried += 1;
        opened += u32::from(open_any(disk, &what));
    };
    let history = sketch.history.to_bytes();
    for offset in (12..history.len() - 7).step_by(4) {
        for value in EXTREMES {
            let disk = copy(&disk);
            disk.write_file(path("HISTORY"), &with_checksum(&history, offset, value, history.len())).unwrap();
            attempt(&disk, format!("HISTORY at {offset}: {value:#x}"));
        }
    }
    for base in [0, 8192] {
        let bytes = disk.read_file(segment_path(base)).unwrap();
        for offset in (12..104).step_by(4) {
            for value in EXTREMES {
                let disk = copy(&disk);
                disk.write_file(segment_path(base), &with_checksum(&bytes, offset, value, 512)).unwrap();
                attempt(&disk, format!("segment {base} at {offset}: {value:#x}"));
                // Under the name that its base asks for, too.
                disk.delete(segment_path(base)).unwrap();
                if let Ok(header) =
                    SegmentHeader::decode(with_checksum(&bytes, offset, value, 512)[..512].try_into().unwrap())
                {
                    disk.write_file(segment_path(header.identity.base), &with_checksum(&bytes, offset, value, 512))
                        .unwrap();
                    attempt(&disk, format!("segment {base} at {offset}, renamed: {value:#x}"));
                }
            }
        }
    }
    for offset in [4, 8, 16, 24] {
        for value in EXTREMES {
            let mut sketch = sketch.clone();
            let checksum = sketch.identity(8192).checksum();
            let bytes = sketch.at(8192 + FIRST_FRAME, 32);
            bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
            let mut hasher = checksum;
            hasher.update(&bytes[4..32]);
            bytes[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
            attempt(&sketch.disk(), format!("frame at {offset}: {value:#x}"));
        }
    }
    println!("files with good checksums and extreme fields: {tried} tried, {opened} opened");
}
