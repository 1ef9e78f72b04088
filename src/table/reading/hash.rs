//! The hash of the tables in memory, whose keys are numbers of our own: the step of splitmix64, one for each number.

use std::hash::{BuildHasherDefault, Hasher};

use crate::format::fill::mix;

pub(super) type Mixed = BuildHasherDefault<Mix>;

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
