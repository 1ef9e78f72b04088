//! The content of a block device, in memory: sparse, and cheap to copy, because copies share the pages that neither of
//! them has changed.

use std::sync::Arc;

use crashkit::mix;

/// What a device writes whole or not at all (specification, A1).
pub(super) const SECTOR: usize = 512;
const PAGE: usize = 4096;

type Page = [u8; PAGE];

/// A device's content. Pages never written read as zeros.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pages: Vec<Option<Arc<Page>>>,
    /// The exclusive or of a hash of every sector with its place: two images with the same one are taken as the same.
    fingerprint: u64,
}

impl Image {
    /// A device of so many bytes, a multiple of 4096.
    pub(super) fn new(bytes: u64) -> Self {
        let pages = usize::try_from(bytes).expect("a device fits the address space") / PAGE;
        Image { pages: vec![None; pages], fingerprint: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The sector with this number.
    pub(super) fn sector(&self, number: u64) -> &[u8] {
        const ZEROS: [u8; SECTOR] = [0; SECTOR];
        let (page, offset) = place(number * SECTOR as u64);
        match self.pages.get(page) {
            Some(Some(page)) => &page[offset..offset + SECTOR],
            _ => &ZEROS,
        }
    }

    /// Reads what there is; what lies behind the end reads as zeros.
    pub(super) fn read(&self, mut offset: u64, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let (page, within) = place(offset);
            let (part, rest) = buffer.split_at_mut(buffer.len().min(PAGE - within));
            match self.pages.get(page) {
                Some(Some(page)) => part.copy_from_slice(&page[within..within + part.len()]),
                _ => part.fill(0),
            }
            offset += part.len() as u64;
            buffer = rest;
        }
    }

    /// Writes whole sectors.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, sector) in (offset / SECTOR as u64..).zip(bytes.chunks_exact(SECTOR)) {
            self.write_sector(number, sector);
        }
    }

    pub(super) fn write_sector(&mut self, number: u64, bytes: &[u8]) {
        let old = self.sector(number);
        if old == bytes {
            return;
        }
        self.fingerprint ^= hash(number, old) ^ hash(number, bytes);
        let (page, offset) = place(number * SECTOR as u64);
        if let Some(page) = self.pages.get_mut(page) {
            let page = Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE])));
            page[offset..offset + SECTOR].copy_from_slice(bytes);
        }
    }
}

fn place(offset: u64) -> (usize, usize) {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    (offset / PAGE, offset % PAGE)
}

/// Spreads a sector and its number over 64 bits.
pub(super) fn hash(number: u64, bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(mix(number), |hash, word| mix(hash ^ u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_was_and_the_fingerprint_follows_the_content() {
        let mut image = Image::new(1 << 20);
        let empty = image.clone();
        image.write(4096 + 512, &[7; 1024]);
        let mut bytes = [1; 2048];
        image.read(4096, &mut bytes);
        assert_eq!((bytes[..512].to_vec(), bytes[512..1536].to_vec()), (vec![0; 512], vec![7; 1024]));
        assert_eq!((empty.sector(9)[0], image.sector(9)[0]), (0, 7));
        assert_ne!(image.fingerprint(), empty.fingerprint());
        let mut other = empty.clone();
        other.write(5120, &[7; 512]);
        other.write(4608, &[7; 512]);
        assert_eq!(other.fingerprint(), image.fingerprint());
        other.write(4608, &[0; 1024]);
        assert_eq!(other.fingerprint(), empty.fingerprint());
    }
}
