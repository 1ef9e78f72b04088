//! What reaches the device of a log, against the specification: a second reading of it, from the bytes alone.
//!
//! Within a sector of a segment each aligned word is the fill or what its frame says, and once it says that, it stays
//! (A1, 2.2, O3). A `Written` commit may extend a page that is being written back, so a sector may hold the beginning
//! of a frame; how often one did is counted.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::image::SECTOR;
use super::recorder::{Event, Recording};
use crashkit::mix;

const MAGIC: &[u8] = b"forelog\x1a";
const HISTORY: &[u8] = b"forehist";
const WORDS: usize = SECTOR / 8;
const FRAME_HEADER: u64 = 32;

type Words = [u64; WORDS];

/// What was found in one recording.
#[derive(Default, Debug)]
pub(super) struct Audit {
    /// Sectors of the device that held a part of a log at some time.
    pub(super) ours: HashSet<u64>,
    /// Writes of a sector of a segment.
    pub(super) sectors: u64,
    /// Of these, those that held a part of what the frame says there, and fill in the rest of it.
    pub(super) partly_written: u64,
    /// Frames whose checksums were compared.
    pub(super) frames: u64,
    /// Words that were neither fill nor what the frame says, in words.
    pub(super) torn: Vec<String>,
}

struct Segment {
    identity: [u8; 48],
    fill: u64,
    base: u64,
    size: u64,
    /// By offset in the segment.
    content: BTreeMap<u64, Sector>,
}

/// A sector of a segment, as it was written last.
struct Sector {
    words: Words,
    /// Bits of the words that were not fill, for every write of it.
    written: Vec<u64>,
}

/// Compares only where file systems write `in_place`: elsewhere a sector that shows no fill could be of any file.
pub(super) fn audit(recording: &Recording, in_place: bool) -> Audit {
    let mut audit = Audit::default();
    let mut segments = segments(recording);
    let mut places: HashMap<u64, (usize, u64)> = HashMap::new();
    for (sector, bytes) in written_sectors(recording) {
        if bytes.starts_with(MAGIC) || bytes.starts_with(HISTORY) {
            audit.ours.insert(sector);
            continue;
        }
        let words = words(bytes);
        let shown = segments.iter().enumerate().find_map(|(at, segment)| Some((at, segment.offset_of(&words)?)));
        match shown {
            Some(place) => _ = places.insert(sector, place),
            // Nothing in it shows the fill. It is still ours if it was, and still says what it said.
            None if places.get(&sector).is_some_and(|(at, offset)| !segments[*at].goes_on(*offset, &words)) => {
                places.remove(&sector);
            }
            None => {}
        }
        let Some((at, offset)) = places.get(&sector) else { continue };
        audit.ours.insert(sector);
        if in_place {
            audit.sectors += 1;
            segments[*at].write(*offset, &words, &mut audit.torn);
        }
    }
    segments.iter().for_each(|segment| segment.check_frames(&mut audit));
    audit
}

fn written_sectors(recording: &Recording) -> impl Iterator<Item = (u64, &[u8])> {
    let writes = recording.events.iter().filter_map(|event| match event {
        Event::Write { offset, data } => Some((offset / SECTOR as u64, data)),
        _ => None,
    });
    writes.flat_map(|(first, data)| (first..).zip(data.chunks_exact(SECTOR)))
}

fn words(bytes: &[u8]) -> Words {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Every segment whose header was written.
fn segments(recording: &Recording) -> Vec<Segment> {
    let mut identities = HashSet::new();
    let header = |(_, bytes): (u64, &[u8])| {
        let whole = bytes.starts_with(MAGIC) && bytes[8..12] == crc32fast::hash(&bytes[12..]).to_le_bytes();
        let identity: [u8; 48] = bytes[32..80].try_into().expect("48 bytes");
        (whole && identities.insert(identity)).then(|| Segment {
            identity,
            fill: (0..6).fold(0, |key, word| mix(key ^ u64_at(&identity, word * 8))),
            base: u64_at(&identity, 40),
            size: u64_at(bytes, 80),
            content: BTreeMap::new(),
        })
    };
    written_sectors(recording).filter_map(header).collect()
}

/// The inverse of [`mix`].
fn unmix(mixed: u64) -> u64 {
    let unshift = |value: u64, by: u32| (by..64).step_by(by as usize).fold(value, |z, at| z ^ (value >> at));
    let mut z = unshift(mixed, 31).wrapping_mul(0x3196_42B2_D24D_8EC3);
    z = unshift(z, 27).wrapping_mul(0x96DE_1B17_3F11_9089);
    unshift(z, 30).wrapping_sub(0x9E37_79B9_7F4A_7C15)
}

impl Segment {
    /// Where in the segment a sector belongs in which some word shows the fill.
    fn offset_of(&self, words: &Words) -> Option<u64> {
        words.iter().zip(0_u64..).find_map(|(word, at)| {
            let offset = unmix(*word).wrapping_sub(self.fill).wrapping_sub(self.base);
            let sector = offset.wrapping_sub(at * 8);
            (offset < self.size && sector.is_multiple_of(SECTOR as u64)).then_some(sector)
        })
    }

    fn fill_at(&self, offset: u64, word: usize) -> u64 {
        mix(self.fill.wrapping_add(self.base).wrapping_add(offset).wrapping_add(word as u64 * 8))
    }

    /// Whether most of what the sector said, if anything, is still there; otherwise the place was given to another file.
    fn goes_on(&self, offset: u64, words: &Words) -> bool {
        let Some(sector) = self.content.get(&offset) else { return false };
        let said = (0..WORDS).filter(|word| sector.words[*word] != self.fill_at(offset, *word));
        let (all, same) =
            said.fold((0, 0), |(all, same), word| (all + 1, same + usize::from(sector.words[word] == words[word])));
        all == 0 || same * 2 > all
    }

    fn write(&mut self, offset: u64, words: &Words, torn: &mut Vec<String>) {
        let fill: Words = std::array::from_fn(|word| self.fill_at(offset, word));
        let before = self.content.get(&offset).map_or(fill, |sector| sector.words);
        // Cutting a file puts zeros behind its end: those at the end of a sector say nothing.
        let said = WORDS - words.iter().rev().take_while(|word| **word == 0).count();
        for word in 0..said {
            if before[word] != fill[word] && words[word] != before[word] && before[word] != 0 {
                torn.push(format!("word {word} of the sector at {offset} of segment {:#x} changed", self.base));
            }
        }
        let written = (0..WORDS).fold(0, |bits, word| bits | u64::from(words[word] != fill[word]) << word);
        let sector = self.content.entry(offset).or_insert(Sector { words: fill, written: Vec::new() });
        sector.words = *words;
        sector.written.push(written);
    }

    fn word(&self, offset: u64) -> Option<u64> {
        let sector = self.content.get(&(offset & !(SECTOR as u64 - 1)))?;
        Some(sector.words[usize::try_from(offset % SECTOR as u64).ok()? / 8])
    }

    fn is_fill(&self, offset: u64) -> bool {
        self.word(offset).is_none_or(|word| word == self.fill_at(offset, 0))
    }

    /// Walks the frames of the segment as it was written last.
    fn check_frames(&self, audit: &mut Audit) {
        let mut at = SECTOR as u64;
        while at + FRAME_HEADER <= self.size && !self.is_fill(at) {
            let Some(length) = self.word(at + 24).map(|word| word & u64::from(u32::MAX)) else { return };
            let end = at + FRAME_HEADER + length.next_multiple_of(8);
            if self.word(at + 8) != Some(self.base + end) {
                return;
            }
            if let Some(valid) = self.is_valid(at, end, length) {
                audit.frames += 1;
                if !valid {
                    audit.torn.push(format!("the frame at {at} of segment {:#x} has another checksum", self.base));
                }
            }
            audit.partly_written += self.partly_written(at, end);
            at = end;
        }
    }

    /// `None` if not all of it was written.
    fn is_valid(&self, at: u64, end: u64, length: u64) -> Option<bool> {
        let mut bytes = Vec::new();
        for word in (at..end).step_by(8) {
            if self.is_fill(word) {
                return None;
            }
            bytes.extend_from_slice(&self.word(word)?.to_le_bytes());
        }
        let (header, payload) = bytes.split_at(usize::try_from(FRAME_HEADER).ok()?);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.identity);
        hasher.update(&header[4..]);
        let payload = crc32fast::hash(payload.get(..usize::try_from(length).ok()?)?);
        Some(header[..4] == hasher.finalize().to_le_bytes() && header[4..8] == payload.to_le_bytes())
    }

    /// How many writes of a sector held some words of this frame and fill in the others.
    fn partly_written(&self, at: u64, end: u64) -> u64 {
        let first = at & !(SECTOR as u64 - 1);
        let sectors = (first..end).step_by(SECTOR).filter_map(|offset| Some((offset, self.content.get(&offset)?)));
        let partly = sectors.map(|(offset, sector)| {
            let inside = |word: u64| (at..end).contains(&(offset + word * 8));
            let frame = (0..WORDS as u64).fold(0, |bits, word| bits | u64::from(inside(word)) << word);
            sector.written.iter().filter(|written| **written & frame != 0 && **written & frame != frame).count()
        });
        partly.sum::<usize>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::image::Image;

    const SIZE: u64 = 4096;

    /// A header and the fill of a segment, as its writer puts them down.
    fn fresh() -> (Vec<u8>, Segment) {
        let mut header = vec![0; SECTOR];
        header[..8].copy_from_slice(MAGIC);
        header[32..72].fill(5);
        header[80..88].copy_from_slice(&SIZE.to_le_bytes());
        let crc = crc32fast::hash(&header[12..]);
        header[8..12].copy_from_slice(&crc.to_le_bytes());
        let before = Image::new(1 << 16);
        let write = Event::Write { offset: 0, data: header.clone().into() };
        let segment = segments(&Recording { before, events: vec![write] }).pop().expect("a segment");
        let mut bytes = header;
        for offset in (512..SIZE).step_by(8) {
            bytes.extend_from_slice(&segment.fill_at(offset, 0).to_le_bytes());
        }
        (bytes, segment)
    }

    /// The frame that goes to `at`.
    fn frame(segment: &Segment, at: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        let length = payload.len().next_multiple_of(8);
        bytes[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
        bytes[8..16].copy_from_slice(&(segment.base + at + 32 + length as u64).to_le_bytes());
        bytes[24..28].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        bytes[28] = 1;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&segment.identity);
        hasher.update(&bytes[4..]);
        bytes[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(32 + length, 0);
        bytes
    }

    /// Writes the segment, then its first two sectors of frames as `change` leaves them.
    fn audited(change: impl Fn(&mut [u8], &Segment) -> Vec<usize>) -> Audit {
        let (mut bytes, segment) = fresh();
        let mut events = vec![Event::Write { offset: 8192, data: bytes.clone().into() }];
        for end in change(&mut bytes, &segment) {
            let mut seen = fresh().0;
            seen[..end].copy_from_slice(&bytes[..end]);
            events.push(Event::Write { offset: 8192 + 512, data: seen[512..1536].into() });
        }
        audit(&Recording { before: Image::new(1 << 16), events }, true)
    }

    #[test]
    fn the_inverse_is_one() {
        for value in [0, 1, 42, u64::MAX, 0x1234_5678_9ABC_DEF0] {
            assert_eq!(unmix(mix(value)), value);
        }
    }

    #[test]
    fn whole_frames_and_partly_written_ones_are_told_apart() {
        let put = |bytes: &mut [u8], segment: &Segment| {
            let frame = frame(segment, 512, &[9; 600]);
            bytes[512..512 + frame.len()].copy_from_slice(&frame);
        };
        let whole = audited(|bytes, segment| {
            put(bytes, segment);
            vec![1536]
        });
        assert_eq!((whole.frames, whole.partly_written, whole.torn.len()), (1, 0, 0), "{:?}", whole.torn);
        let partly = audited(|bytes, segment| {
            put(bytes, segment);
            vec![512 + 40, 1536]
        });
        assert_eq!((partly.frames, partly.partly_written, partly.torn.len()), (1, 1, 0), "{:?}", partly.torn);
    }

    #[test]
    fn a_word_that_is_neither_is_noticed() {
        let torn = audited(|bytes, segment| {
            let frame = frame(segment, 512, &[9; 600]);
            bytes[512..512 + frame.len()].copy_from_slice(&frame);
            bytes[900] ^= 1;
            vec![1536]
        });
        assert_eq!((torn.frames, torn.torn.len()), (1, 1));
    }
}
