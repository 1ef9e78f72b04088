//! Any bytes where something of ours is expected, with checksums that hold, so that they get past them: the rest of
//! each decoder must refuse what cannot be, and never panic, hang, or take its word for a length.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use forelog::sim::{self, SimDisk};
use forelog::{CommitMode, Options, Token};

/// A database with several segments and two incarnations, the second one marked, as a killed process leaves it.
static KILLED: LazyLock<SimDisk> = LazyLock::new(|| sim::run(1, killed));

/// The keys that it holds, whose values tell which life wrote them.
const KEYS: u64 = 9;
const LAST_LIFE: u8 = 2;

fn killed() -> SimDisk {
    let disk = SimDisk::new();
    let mut killed = disk.clone();
    for life in [1, LAST_LIFE] {
        let engine = Options::new().segment_bytes(4096).open_on(Arc::new(disk.clone()), "db").expect("a legal state");
        let keys = engine.create_keyspace("keys").expect("a keyspace");
        for number in 0..KEYS {
            let mut batch = engine.batch().expect("open");
            batch.put(&keys, number.to_be_bytes(), vec![life; 400]).expect("a write");
            batch.commit_with(CommitMode::Sync).expect("a commit");
        }
        // Long enough for the mark.
        sim::sleep(Duration::from_secs(3));
        killed = disk.crash_point().process_kill();
        drop(engine);
    }
    killed
}

/// Offset of the checksum in HISTORY and in a segment's header, and of the first byte that it covers.
const CRC: usize = 8;
const COVERED: usize = 12;
const SEGMENT_HEADER: usize = 512;
const IDENTITY: std::ops::Range<usize> = 32..80;
const FRAME_HEADER: usize = 32;
const MARK: &str = "db/MARK";
const MARK_SLOT: usize = 512;

pub fn target(bytes: &[u8]) {
    let Some((&what, rest)) = bytes.split_first() else { return };
    let disk = KILLED.crash_point().process_kill();
    let what = what % 8;
    match what {
        0 => {
            if let Ok(token) = String::from_utf8_lossy(rest).parse::<Token>() {
                assert_eq!(token.to_string().parse::<Token>().expect("what was printed"), token);
            }
            return;
        }
        1 => change_history(&disk, rest),
        2 => change_segment_header(&disk, rest),
        3 => change_frame(&disk, rest),
        4 => {
            let mut history = rest.to_vec();
            seal(&mut history);
            disk.write_file("db/HISTORY", &history).expect("a file");
        }
        5 => replace_segment(&disk, rest),
        6 => change_mark(&disk, rest),
        _ => replace_mark(&disk, rest),
    }
    // Whether it opens or is refused is for other tests: here it must return.
    if let Ok(engine) = Options::new().open_on(Arc::new(disk), "db") {
        let keyspaces = engine.keyspace_names().expect("open");
        let mut newest = 0;
        for name in keyspaces {
            let keyspace = engine.open_keyspace(&name).expect("listed");
            let snapshot = engine.snapshot().expect("open");
            for entry in snapshot.iter(&keyspace).expect("alive") {
                let (_, value) = entry.expect("readable");
                newest += u64::from(value.first() == Some(&LAST_LIFE));
            }
        }
        assert!(newest == KEYS || what < 6, "a mark took something away: {newest} of {KEYS} values are the newest");
    }
}

/// Writes pairs of (where, what) over `content` and makes the checksum hold again.
fn change(content: &mut [u8], changes: &[u8]) {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(byte) = content.get_mut(at) {
            *byte = change[2];
        }
    }
}

fn seal(content: &mut [u8]) {
    if content.len() > COVERED {
        let crc = crc32fast::hash(&content[COVERED..]);
        content[CRC..COVERED].copy_from_slice(&crc.to_le_bytes());
    }
}

fn change_history(disk: &SimDisk, rest: &[u8]) {
    let path = "db/HISTORY";
    let mut content = disk.read_file(path).expect("there");
    if let Some((&length, changes)) = rest.split_first() {
        content.resize(content.len().saturating_sub(usize::from(length) % 16 * 14), 0);
        change(&mut content, changes);
        seal(&mut content);
        disk.write_file(path, &content).expect("there");
    }
}

fn segment(disk: &SimDisk, choice: u8) -> (PathBuf, Vec<u8>) {
    let mut segments: Vec<_> =
        disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "log")).collect();
    let index = usize::from(choice) % segments.len();
    segments.swap_remove(index)
}

/// Changes one slot of the mark, which goes on to check.
fn change_mark(disk: &SimDisk, rest: &[u8]) {
    let Some((&choice, changes)) = rest.split_first() else { return };
    let mut content = disk.read_file(MARK).expect("there");
    let slots = content.len() / MARK_SLOT;
    if let Some(slot) = content.chunks_exact_mut(MARK_SLOT).nth(usize::from(choice) % slots.max(1)) {
        change(slot, changes);
        seal(slot);
        disk.write_file(MARK, &content).expect("there");
    }
}

/// Puts any bytes in the place of the mark, in slots that check.
fn replace_mark(disk: &SimDisk, rest: &[u8]) {
    let mut content = rest.to_vec();
    content.chunks_mut(MARK_SLOT).for_each(seal);
    disk.write_file(MARK, &content).expect("a file");
}

/// Puts any bytes in the place of a segment, with a header whose checksum holds.
fn replace_segment(disk: &SimDisk, rest: &[u8]) {
    let Some((&choice, content)) = rest.split_first() else { return };
    let (path, _) = segment(disk, choice);
    let mut content = content.to_vec();
    let length = SEGMENT_HEADER.min(content.len());
    seal(&mut content[..length]);
    disk.write_file(path, &content).expect("a file");
}

fn change_segment_header(disk: &SimDisk, rest: &[u8]) {
    let Some((&choice, changes)) = rest.split_first() else { return };
    let (path, mut content) = segment(disk, choice);
    let length = SEGMENT_HEADER.min(content.len());
    change(&mut content[..length], changes);
    seal(&mut content[..length]);
    disk.write_file(path, &content).expect("there");
}

/// Puts a frame header of any bytes, with a checksum that holds, somewhere in a segment.
fn change_frame(disk: &SimDisk, rest: &[u8]) {
    let Some((head, changes)) = rest.split_at_checked(3) else { return };
    let (path, mut content) = segment(disk, head[0]);
    let words = (content.len().saturating_sub(SEGMENT_HEADER + FRAME_HEADER)) / 8;
    if words == 0 {
        return;
    }
    let at = SEGMENT_HEADER + usize::from(u16::from_le_bytes([head[1], head[2]])) % words * 8;
    let identity: Vec<u8> = content[IDENTITY].to_vec();
    let frame = &mut content[at..at + FRAME_HEADER];
    change(frame, changes);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&identity);
    hasher.update(&frame[4..]);
    frame[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
    disk.write_file(path, &content).expect("there");
}
