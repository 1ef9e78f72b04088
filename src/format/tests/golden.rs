//! The bytes on disk are those of the specification, field by field, and no flipped bit of a header is accepted.
//!
//! The literals were computed outside this crate, from the specification alone (zlib's `crc32` and its splitmix64).

use crate::base::types::{Incarnation, LogId, Lsn};
use crate::format::Refusal;
use crate::format::features::TABLES;
use crate::format::fill::Fill;
use crate::format::frame::{self, Decoded, Header, Kind};
use crate::format::history::{End, Entry, History, Tables};
use crate::format::identity::Identity;
use crate::format::mark::Mark;
use crate::format::segment::{SegmentHeader, base_of, file_name};

const NONCE: u64 = 0x1122_3344_5566_7788;
const KEY: u64 = 0x99AA_BBCC_DDEE_FF00;

fn identity(base: u64) -> Identity {
    let log_id = LogId(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    Identity { log_id, incarnation: Incarnation { number: 3, nonce: NONCE }, key: KEY, base }
}

/// The bytes of a text of hexadecimal digits and white space.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// The bytes on disk of a frame at `position` of the segment at `base`.
fn frame_bytes(base: u64, position: u64, kind: Kind, payload: &[u8], durable: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(frame::frame_len(payload.len() as u64)).unwrap()];
    let length = u32::try_from(payload.len()).unwrap();
    let payload_crc = frame::payload_crc(payload);
    let lsn = position + bytes.len() as u64;
    Header { payload_crc, lsn, durable: 0, length, kind }.write(&mut bytes);
    bytes[32..32 + payload.len()].copy_from_slice(payload);
    let sealed = frame::seal(&mut bytes, &identity(base).checksum(), durable);
    assert_eq!(sealed, bytes.len() as u64);
    bytes
}

const FULL: &str = "a11d718d 86a61036 2822000000000000 0020000000000000 05000000 01 000000 68656c6c6f 000000";
const FIRST: &str = "e0dd0fed 3c2ea60d 0030000000000000 2822000000000000 28000000 02 000000
    0001020304050607 08090a0b0c0d0e0f 1011121314151617 18191a1b1c1d1e1f 2021222324252627";
const LAST: &str = "4ad811fd b133fc00 2832000000000000 2822000000000000 03000000 04 000000 656e64 0000000000";

#[test]
fn frames_are_the_golden_bytes() {
    let forty: Vec<u8> = (0..40).collect();
    assert_eq!(frame_bytes(8192, 8704, Kind::Full, b"hello", 8192), hex(FULL));
    assert_eq!(frame_bytes(8192, 12216, Kind::First, &forty, 8744), hex(FIRST));
    assert_eq!(frame_bytes(12288, 12800, Kind::Last, b"end", 8744), hex(LAST));
}

#[test]
fn the_frame_that_the_specification_shows_is_the_golden_one() {
    let text = include_str!("../SPECIFICATION.md");
    let (_, rest) = text.split_once("<!-- frame:begin -->\n```text\n").expect("the frame begins");
    let (shown, _) = rest.split_once("```\n<!-- frame:end -->").expect("the frame ends");
    // At least two spaces separate the digits from their meaning.
    let digits: String = shown.lines().filter_map(|line| line.split("  ").next()).collect();
    assert_eq!(hex(&digits), hex(FULL));
}

#[test]
fn a_frame_reads_back_at_its_own_place_only() {
    let bytes = hex(FULL);
    let own = identity(8192).checksum();
    let expected = Header { payload_crc: 0x3610_A686, lsn: 8744, durable: 8192, length: 5, kind: Kind::Full };
    assert_eq!(frame::decode(&bytes, 8704, 12288, &own), Decoded::Valid(expected));
    assert!(frame::payload_is_valid(&expected, &bytes[32..]));
    assert!(frame::may_be_header(&bytes, 8704) && !frame::may_be_header(&bytes, 8712));
    // The checksum still matches; the position does not.
    assert_eq!(frame::decode(&bytes, 8712, 12288, &own), Decoded::Impossible);
    assert_eq!(frame::decode(&bytes, 8704, 8743, &own), Decoded::Impossible);
    // Another segment, incarnation, nonce, key or log.
    let mut strangers = [identity(8192); 5];
    strangers[0].base = 12288;
    strangers[1].incarnation.number = 4;
    strangers[2].incarnation.nonce ^= 1;
    strangers[3].key ^= 1;
    strangers[4].log_id.0[15] ^= 1;
    for stranger in strangers {
        assert_eq!(frame::decode(&bytes, 8704, 12288, &stranger.checksum()), Decoded::Invalid, "{stranger:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_seen() {
    let checksum = identity(8192).checksum();
    let golden = hex(FULL);
    let Decoded::Valid(header) = frame::decode(&golden, 8704, 12288, &checksum) else { panic!("golden is valid") };
    for bit in 0..golden.len() * 8 {
        let mut bytes = golden.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if bit < 32 * 8 {
            assert_eq!(frame::decode(&bytes, 8704, 12288, &checksum), Decoded::Invalid, "bit {bit}");
        } else {
            // No checksum covers the padding, but the check does.
            assert!(!frame::payload_is_valid(&header, &bytes[32..]), "bit {bit}");
        }
    }
}

#[test]
fn a_matching_checksum_does_not_excuse_impossible_fields() {
    let checksum = identity(8192).checksum();
    let reseal = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = hex(FULL);
        change(&mut bytes);
        let mut hasher = checksum.clone();
        hasher.update(&bytes[4..32]);
        bytes[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
        frame::decode(&bytes, 8704, 12288, &checksum)
    };
    assert!(matches!(reseal(&|_| {}), Decoded::Valid(_)));
    assert_eq!(reseal(&|b| b[8] += 8), Decoded::Impossible, "lsn");
    assert_eq!(reseal(&|b| b[16..24].copy_from_slice(&8705_u64.to_le_bytes())), Decoded::Impossible, "durable");
    assert!(matches!(reseal(&|b| b[16..24].copy_from_slice(&8704_u64.to_le_bytes())), Decoded::Valid(_)));
    assert_eq!(reseal(&|b| b[24..28].copy_from_slice(&[0xFF; 4])), Decoded::Impossible, "length");
    assert_eq!(
        reseal(&|b| b[8..16].copy_from_slice(&[0xFF; 8])),
        Decoded::Impossible,
        "lsn at the end of all positions"
    );
    for kind in [0, 5, 255] {
        assert_eq!(reseal(&|b| b[28] = kind), Decoded::Impossible, "kind {kind}");
    }
    for zero in 29..32 {
        assert_eq!(reseal(&|b| b[zero] = 1), Decoded::Impossible, "byte {zero}");
    }
}

/// A segment's header up to its zeros.
const SEGMENT: &str = "666f72656c6f67 1a 5739c337 01000000 0000000000000000 0000000000000000
    000102030405060708090a0b0c0d0e0f 0300000000000000 8877665544332211 00ffeeddccbbaa99 0020000000000000
    0010000000000000 0020000000000000";

fn segment_bytes() -> [u8; 512] {
    let mut bytes = [0; 512];
    bytes[..96].copy_from_slice(&hex(SEGMENT));
    bytes
}

/// The golden header with some bytes changed and the checksum made good.
fn segment_with(offset: usize, field: &[u8]) -> [u8; 512] {
    let mut bytes = segment_bytes();
    bytes[offset..offset + field.len()].copy_from_slice(field);
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_segment_header_is_the_golden_bytes() {
    let header = SegmentHeader { identity: identity(8192), size: 4096, previous: 8192, features: 0 };
    assert_eq!(header.to_bytes(), segment_bytes());
    assert_eq!(SegmentHeader::decode(&segment_bytes()), Ok(header));
    let with_tables = SegmentHeader { features: TABLES, ..header };
    assert_eq!(with_tables.to_bytes(), segment_with(24, &[1]));
    assert_eq!(SegmentHeader::decode(&with_tables.to_bytes()), Ok(with_tables));
    assert_eq!(file_name(8192), "0000000000002000.log");
    assert_eq!(base_of("0000000000002000.log"), Some(8192));
    assert_eq!(base_of("FFFFFFFFFFFFFFFF.log"), None, "one spelling only");
    for not_ours in ["2000.log", "0000000000002000.log.tmp", "+000000000002000.log", "00000000000020000.log", "x.log"] {
        assert_eq!(base_of(not_ours), None, "{not_ours}");
    }
}

#[test]
fn every_flipped_bit_of_a_segment_header_is_refused() {
    for bit in 0..512 * 8 {
        let mut bytes = segment_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { Refusal::Magic } else { Refusal::Checksum };
        assert_eq!(SegmentHeader::decode(&bytes), Err(expected), "bit {bit}");
    }
}

#[test]
fn a_segment_header_of_the_future_is_refused_by_its_own_name() {
    let decode = |offset, field: &[u8]| SegmentHeader::decode(&segment_with(offset, field));
    let golden = SegmentHeader::decode(&segment_bytes());
    assert_eq!(decode(12, &2_u32.to_le_bytes()), Err(Refusal::Version(2)));
    assert_eq!(decode(24, &[0x40]), Err(Refusal::Features(0x40)));
    assert_eq!(decode(24, &[0x41]), Err(Refusal::Features(0x40)), "bit 0 is known");
    assert_eq!(decode(31, &[0x80]), Err(Refusal::Features(1 << 63)));
    assert_eq!(decode(16, &[0xFF; 8]), golden, "compatible features are ignored");
    // A newer version may give every other field another meaning.
    let mut newer = segment_with(12, &9_u32.to_le_bytes());
    newer[24..].fill(0xEE);
    let crc = crc32fast::hash(&newer[12..]);
    newer[8..12].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&newer), Err(Refusal::Version(9)));
}

#[test]
fn a_segment_header_with_impossible_fields_is_refused() {
    let decode = |offset, field: &[u8]| SegmentHeader::decode(&segment_with(offset, field));
    for size in [0, 512, 3584, 4097, 4096 + 8, (1 << 30) + 512, u64::MAX] {
        assert_eq!(decode(80, &size.to_le_bytes()), Err(Refusal::Impossible), "size {size}");
    }
    for base in [8193, 8200, u64::MAX - 511] {
        assert_eq!(decode(72, &u64::to_le_bytes(base)), Err(Refusal::Impossible), "base {base}");
    }
    assert_eq!(decode(88, &8193_u64.to_le_bytes()), Err(Refusal::Impossible), "previous");
    for zero in [96, 300, 511] {
        assert_eq!(decode(zero, &[1]), Err(Refusal::Impossible), "byte {zero}");
    }
    assert!(decode(80, &(1_u64 << 30).to_le_bytes()).is_ok());
}

const HISTORY: &str = "666f726568697374 fa112b9b 01000000 0000000000000000 0000000000000000
    000102030405060708090a0b0c0d0e0f e802000000000000 0200000000000000 0200000000000000
    0200000000000000 aaaa000000000000 bbbb000000000000 0000000000000000 e802000000000000 0020000000000000
    0100000000000000
    0300000000000000 8877665544332211 00ffeeddccbbaa99 0020000000000000 ffffffffffffffff 0000000000000000
    0000000000000000";

fn history() -> History {
    let end = End { lsn: Lsn::new(744), prepared: Lsn::new(8192), clean: true };
    let incarnation = Incarnation { number: 2, nonce: 0xAAAA };
    let ended = Entry { incarnation, key: 0xBBBB, begin: Lsn::ZERO, end: Some(end) };
    let open = Entry { incarnation: identity(0).incarnation, key: KEY, begin: Lsn::new(8192), end: None };
    let log_id = identity(0).log_id;
    History {
        log_id,
        oldest: Lsn::new(744),
        first_number: 2,
        tables: None,
        has_ranges: false,
        entries: vec![ended, open],
    }
}

/// Bit 0, and its block.
const HISTORY_WITH_TABLES: &str = "666f726568697374 06a5ee2f 01000000 0000000000000000 0100000000000000
    000102030405060708090a0b0c0d0e0f e802000000000000 0200000000000000 0200000000000000
    1800000000000000 0700000000000000 ddccbbaa 00000000
    0200000000000000 aaaa000000000000 bbbb000000000000 0000000000000000 e802000000000000 0020000000000000
    0100000000000000
    0300000000000000 8877665544332211 00ffeeddccbbaa99 0020000000000000 ffffffffffffffff 0000000000000000
    0000000000000000";

#[test]
fn a_history_with_tables_is_the_golden_bytes() {
    let history = History { tables: Some(Tables { names: Some((7, 0xAABB_CCDD)) }), ..history() };
    assert_eq!(history.to_bytes(), hex(HISTORY_WITH_TABLES));
    assert_eq!(history.encoded_len(), 72 + 24 + 56 * 2);
    assert_eq!(History::decode(&hex(HISTORY_WITH_TABLES)), Ok(history.clone()));
    let none = History { tables: Some(Tables::default()), entries: Vec::new(), ..history };
    assert_eq!(History::decode(&none.to_bytes()), Ok(none));
    // A wrong length of the block, a CRC without a generation, a generation that is none, what must be zero.
    for (at, field) in [
        (72, &[25_u8, 0, 0, 0][..]),
        (72, &[16, 0, 0, 0]),
        (80, &[0; 8]),
        (80, &[1, 0, 0, 0, 0, 0, 0, 0x80]),
        (92, &[1]),
    ] {
        let mut bytes = hex(HISTORY_WITH_TABLES);
        bytes[at..at + field.len()].copy_from_slice(field);
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(History::decode(&bytes), Err(Refusal::Impossible), "{field:?} at {at}");
    }
}

/// The golden HISTORY with some bytes changed and the checksum made good.
fn history_with(offset: usize, field: &[u8]) -> Vec<u8> {
    let mut bytes = hex(HISTORY);
    bytes[offset..offset + field.len()].copy_from_slice(field);
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_history_is_the_golden_bytes() {
    assert_eq!(history().to_bytes(), hex(HISTORY));
    assert_eq!(history().to_bytes().len(), 72 + 56 * 2);
    assert_eq!(history().encoded_len(), 72 + 56 * 2);
    assert_eq!(History::decode(&hex(HISTORY)), Ok(history()));
    assert_eq!(history().next_number(), 4);
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_history_is_refused() {
    let golden = hex(HISTORY);
    for bit in 0..golden.len() * 8 {
        let mut bytes = golden.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { Refusal::Magic } else { Refusal::Checksum };
        assert_eq!(History::decode(&bytes), Err(expected), "bit {bit}");
    }
    for length in 0..golden.len() {
        let expected = if length < 8 { Refusal::Magic } else { Refusal::Checksum };
        assert_eq!(History::decode(&golden[..length]), Err(expected), "length {length}");
    }
    let longer = [golden.as_slice(), &[0]].concat();
    assert_eq!(History::decode(&longer), Err(Refusal::Checksum));
}

#[test]
fn a_history_of_the_future_is_refused_by_its_own_name() {
    assert_eq!(History::decode(&history_with(12, &2_u32.to_le_bytes())), Err(Refusal::Version(2)));
    assert_eq!(History::decode(&history_with(24, &[2])), Err(Refusal::Features(2)));
    assert_eq!(History::decode(&history_with(24, &[5])), Err(Refusal::Features(4)), "bit 0 is known");
    assert_eq!(History::decode(&history_with(16, &[0xFF; 8])), Ok(history()), "compatible features are ignored");
}

#[test]
fn a_history_that_contradicts_itself_is_refused() {
    let refused = |offset, value: u64| {
        assert_eq!(
            History::decode(&history_with(offset, &value.to_le_bytes())),
            Err(Refusal::Impossible),
            "at {offset}"
        );
    };
    refused(64, 1); // the count
    refused(64, 3);
    refused(56, 1); // the first number
    refused(72, 3); // a number out of row
    refused(72 + 24, 745); // begin above end
    refused(72 + 32, 8193); // end above prepared
    refused(72 + 32, u64::MAX); // open, and not the last
    refused(128 + 24, 8191); // begin below what was prepared before
    // Bits that would be lost when HISTORY is written again.
    refused(72 + 48, 2); // an unknown flag
    refused(72 + 48, 1 << 63);
    refused(128 + 40, 1); // prepared while open
    refused(128 + 48, 1); // closed while open
}

/// The fuzz targets begin with these. The bytes before them tell the target what to do with them.
#[test]
fn the_fuzz_seeds_are_the_golden_bytes() {
    assert_eq!(include_bytes!("../../../fuzz/seeds/decode/history")[1..], hex(HISTORY));
    assert_eq!(include_bytes!("../../../fuzz/seeds/decode/segment")[2..], segment_bytes());
}

/// A slot of MARK up to its zeros.
const MARK: &str = "666f72656d61726b 3bc78944 01000000 0000000000000000 0000000000000000
    000102030405060708090a0b0c0d0e0f 0300000000000000 8877665544332211 0700000000000000 2822000000000000";

fn mark_bytes() -> [u8; 512] {
    let mut bytes = [0; 512];
    bytes[..80].copy_from_slice(&hex(MARK));
    bytes
}

#[test]
fn a_mark_is_the_golden_bytes() {
    let Identity { log_id, incarnation, .. } = identity(0);
    let mark = Mark { log_id, incarnation, count: 7, durable: Lsn::new(8744) };
    assert_eq!(mark.to_bytes(), mark_bytes());
    assert_eq!(Mark::decode(&mark_bytes()), Ok(mark));
    assert_eq!(include_bytes!("../../../fuzz/seeds/decode/mark")[1 + 512..], mark_bytes());
    assert_eq!((mark.offset(), Mark { count: 8, ..mark }.offset()), (512, 0), "the slots are written in turn");
}

#[test]
fn every_flipped_bit_of_a_mark_is_refused() {
    for bit in 0..512 * 8 {
        let mut bytes = mark_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { Refusal::Magic } else { Refusal::Checksum };
        assert_eq!(Mark::decode(&bytes), Err(expected), "bit {bit}");
    }
}

#[test]
fn the_fill_is_the_golden_words() {
    let fill = Fill::new(identity(8192));
    let mut bytes = [0; 24];
    fill.write(&mut bytes, 8704);
    assert_eq!(bytes.as_slice(), hex("c09e2f9bb8863365 7956e40ec1727998 d518c616a7a4ee4f"));
    assert_eq!(fill.word(12280).as_slice(), hex("bad5e575d760f645"));
    assert_eq!(Fill::new(identity(12288)).word(12800).as_slice(), hex("248f4704b92955df"));
    assert_eq!(fill.count(&bytes, 8704), 3);
    assert_eq!(fill.count(&bytes, 8712), 0, "fill in another place is not fill");
    assert_eq!(Fill::new(identity(12288)).count(&bytes, 8704), 0, "nor in another segment");
    bytes[8] ^= 1;
    assert_eq!(fill.count(&bytes, 8704), 2);
}
