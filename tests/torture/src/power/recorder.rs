//! The recorder: a block device's content, and the journal of everything that was written to it, flushed, and told to
//! clients, in one order.

use std::sync::{Mutex, MutexGuard};

use super::image::{Image, SECTOR};

/// Something that happened to the device, or that a client was told.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Whole sectors.
    Write { offset: u64, data: Box<[u8]> },
    /// A discarded or zeroed range.
    Zero { offset: u64, length: u64 },
    /// A flush was completed; it covers the first so many events.
    Flush { covers: usize },
    /// A line of the ledger: what it says was known from here on.
    Mark(String),
}

/// A device before a workload, and the journal of what the workload did to it.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    pub(super) before: Image,
    pub(super) events: Vec<Event>,
}

#[derive(Debug)]
struct Tape {
    image: Image,
    /// `None` while nothing is recorded.
    recording: Option<Recording>,
}

/// A device that is being written to.
#[derive(Debug)]
pub(super) struct Recorder(Mutex<Tape>);

impl Recorder {
    pub(super) fn new(image: Image) -> Self {
        Recorder(Mutex::new(Tape { image, recording: None }))
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.0.lock().expect("nobody panics with the tape in hand")
    }

    /// Puts another content on the device, of the same size. Nobody may have it open but the loop driver.
    pub(super) fn load(&self, image: Image) {
        *self.tape() = Tape { image, recording: None };
    }

    /// From here on everything is recorded.
    pub(super) fn start(&self) {
        let mut tape = self.tape();
        tape.recording = Some(Recording { before: tape.image.clone(), events: Vec::new() });
    }

    /// Nothing is recorded any more.
    pub(super) fn stop(&self) -> Option<Recording> {
        self.tape().recording.take()
    }

    pub(super) fn image(&self) -> Image {
        self.tape().image.clone()
    }

    /// How many events were recorded so far.
    pub(super) fn events(&self) -> usize {
        self.tape().recording.as_ref().map_or(0, |recording| recording.events.len())
    }

    pub(super) fn mark(&self, line: &str) {
        self.tape().record(|| Event::Mark(line.to_owned()));
    }

    pub(super) fn size(&self) -> u64 {
        self.tape().image.len()
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.tape().image.read(offset, buffer);
    }

    /// `false` if these are not whole sectors of the device.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> bool {
        let mut tape = self.tape();
        let fits = is_within(&tape.image, offset, data.len() as u64);
        if fits {
            tape.image.write(offset, data);
            tape.record(|| Event::Write { offset, data: data.into() });
        }
        fits
    }

    /// `false` if these are not whole sectors of the device.
    pub(super) fn zero(&self, offset: u64, length: u64) -> bool {
        let mut tape = self.tape();
        let fits = is_within(&tape.image, offset, length);
        if fits {
            for sector in sectors(offset, length) {
                tape.image.write_sector(sector, &[0; SECTOR]);
            }
            tape.record(|| Event::Zero { offset, length });
        }
        fits
    }

    /// Completes a flush that covers the first `covers` events.
    pub(super) fn flush(&self, covers: usize) {
        self.tape().record(|| Event::Flush { covers });
    }
}

impl Tape {
    fn record(&mut self, event: impl FnOnce() -> Event) {
        if let Some(recording) = &mut self.recording {
            recording.events.push(event());
        }
    }
}

fn is_within(image: &Image, offset: u64, length: u64) -> bool {
    let whole = offset.is_multiple_of(SECTOR as u64) && length.is_multiple_of(SECTOR as u64);
    whole && offset.checked_add(length).is_some_and(|end| end <= image.len())
}

/// The numbers of the sectors in a range.
pub(super) fn sectors(offset: u64, length: u64) -> std::ops::Range<u64> {
    offset / SECTOR as u64..(offset + length) / SECTOR as u64
}
