//! Files of the tables whose checksums hold, and whose contents are any bytes: a reader must refuse what cannot be, and
//! never panic, hang, or take its word for a length.

use std::sync::Arc;

use forelog::ErrorKind;
use forelog::sim::SimDisk;
use forelog::unstable::inspect::verify_table_file_on;

/// Offset of the checksum in a preamble, and of the first byte that it covers.
const CRC: usize = 8;
const COVERED: usize = 12;
const PREAMBLE: usize = 32;
const SECTOR: usize = 512;
const BLOCK_HEADER: usize = 16;
const IDENTITY: [u8; 32] = [5; 32];

pub fn target(bytes: &[u8]) {
    let Some((&what, rest)) = bytes.split_first() else { return };
    let (name, content) = match what % 3 {
        0 => ("db/MANIFEST", list(b"foremani", rest)),
        1 => ("db/list", list(b"forekeys", rest)),
        _ => ("db/run", run(&mut Input(rest))),
    };
    let disk = SimDisk::new();
    disk.write_file(name, &content).expect("a file");
    if let Err(error) = verify_table_file_on(&*Arc::new(disk), name) {
        assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported), "{error:?}");
    }
}

/// A preamble of this kind, and behind it any bytes.
fn list(magic: &[u8; 8], rest: &[u8]) -> Vec<u8> {
    let mut content = preamble(magic);
    content.extend_from_slice(rest);
    seal(&mut content);
    content
}

fn preamble(magic: &[u8; 8]) -> Vec<u8> {
    let mut content = vec![0; PREAMBLE];
    content[..8].copy_from_slice(magic);
    content[COVERED] = 1;
    content
}

fn seal(content: &mut [u8]) {
    let crc = crc32fast::hash(&content[COVERED..]);
    content[CRC..COVERED].copy_from_slice(&crc.to_le_bytes());
}

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// A length, and at most that number of bytes.
    fn field(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (field, rest) = self.0.split_at(length);
        self.0 = rest;
        field
    }
}

/// Appends a block with any count and content; its position, length and checksum.
fn block(file: &mut Vec<u8>, kind: u8, count: u8, content: &[u8]) -> [u8; 16] {
    let position = file.len();
    let length = (BLOCK_HEADER + content.len()).next_multiple_of(8);
    let in_header = u32::try_from(length).expect("it is small").to_le_bytes();
    file.resize(position + BLOCK_HEADER, 0);
    file.extend_from_slice(content);
    file.resize(position + length, 0);
    let block = &mut file[position..];
    block[4..8].copy_from_slice(&in_header);
    block[8] = kind;
    block[12] = count;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&IDENTITY);
    hasher.update(&(position as u64).to_le_bytes());
    hasher.update(&block[4..]);
    let crc = hasher.finalize().to_le_bytes();
    block[..4].copy_from_slice(&crc);
    let mut known = [0; 16];
    known[..8].copy_from_slice(&(position as u64).to_le_bytes());
    known[8..12].copy_from_slice(&in_header);
    known[12..].copy_from_slice(&crc);
    known
}

/// A run of up to three data blocks in one partition. What leads from one block to the next is right; the rest is any bytes.
fn run(input: &mut Input<'_>) -> Vec<u8> {
    let mut header = preamble(b"forerun\x1a");
    header.extend_from_slice(&IDENTITY);
    let interval = [input.byte(), input.byte()].map(|word| u64::from(word) * 8);
    header.extend_from_slice(&interval[0].to_le_bytes());
    header.extend_from_slice(&interval[1].to_le_bytes());
    header.extend_from_slice(&[1; 16]);
    let fields = header[PREAMBLE..].to_vec();
    let mut file = header;
    file.resize(SECTOR, 0);
    seal(&mut file);

    let blocks = input.byte() % 4;
    let first = file.len() as u64;
    let mut index = [first.to_le_bytes().as_slice(), &1_u32.to_le_bytes(), &[0; 4], &[0xFF; 64]].concat();
    let mut separator = &[][..];
    for _ in 0..blocks {
        let (count, content) = (input.byte(), input.field());
        let known = block(&mut file, 1, count, content);
        separator = input.field();
        index.extend_from_slice(separator);
        index.push(known[8]);
        index.extend_from_slice(&known[12..]);
    }
    let mut root: Vec<u8> = (0..4).flat_map(|_| sized(input.field())).collect();
    if blocks > 0 {
        let known = block(&mut file, 2, blocks, &index);
        root.extend_from_slice(separator);
        root.extend_from_slice(&known);
    }
    root.extend_from_slice(input.field());
    let (count, ranges) = (input.byte(), input.field());
    let ranges = if count > 0 { block(&mut file, 3, count, ranges) } else { [0; 16] };
    let root = block(&mut file, 4, u8::from(blocks > 0), &root);

    let mut footer = preamble(b"forefoot");
    footer.extend_from_slice(&fields);
    footer.extend_from_slice(&((file.len() + SECTOR) as u64).to_le_bytes());
    footer.extend_from_slice(&root);
    footer.extend_from_slice(&ranges);
    footer.extend_from_slice(&[0; 16]);
    for unit in [1, 1, 1, 8, 8, 1, 1] {
        footer.extend_from_slice(&(u64::from(input.byte()) * unit).to_le_bytes());
    }
    footer.resize(SECTOR, 0);
    seal(&mut footer);
    file.extend_from_slice(&footer);
    file
}

fn sized(field: &[u8]) -> Vec<u8> {
    let length = u8::try_from(field.len().min(127)).expect("at most 127");
    [&[length], &field[..usize::from(length)]].concat()
}
