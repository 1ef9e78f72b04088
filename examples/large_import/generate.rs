//! Rows that follow from a seed and their number, and can be told from their keys.

use std::io::Write;

use serde_json::{Map, Value};

use crate::common::{Random, Result, mix};

pub(crate) const HEADER: [&str; 7] = ["id", "name", "note", "place", "amount", "ratio", "count"];

const NAMES: [&str; 8] = ["Amina", "Björn", "Chloé", "Dmitri", "Emeka", "Fatima", "Gröning", "Hana"];
const PLACES: [&str; 8] = ["Lagos", "Łódź", "東京", "São Paulo", "Oslo", "Paris, Texas", "Montréal", "Perth"];
const WORDS: [&str; 16] = [
    "river", "stone", "early", "market", "signal", "north", "copper", "window", "seven", "letter", "garden", "quiet",
    "orbit", "paper", "lantern", "field",
];
/// What readers of CSV get wrong.
const ODD: [&str; 6] = ["said \"no\"", "a, b", "two\nlines", "naïve 🙂", "\"", ",,"];

/// Makes rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generator {
    seed: u64,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Generator { seed }
    }

    /// The key of a row, as 16 digits. Keys of different rows differ, and their order is not that of the rows.
    fn key(self, row: u64) -> String {
        let (mut left, mut right) = halves(row);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.scramble(round, right));
        }
        format!("{left:08x}{right:08x}")
    }

    /// The row that has this key.
    pub(crate) fn row_of(self, key: &str) -> Option<u64> {
        let (mut left, mut right) = halves(u64::from_str_radix(key, 16).ok()?);
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.scramble(round, left), left);
        }
        Some(u64::from(left) << 32 | u64::from(right))
    }

    fn scramble(self, round: u32, half: u32) -> u32 {
        halves(mix(self.seed ^ mix(u64::from(round) << 32 | u64::from(half)))).0
    }

    /// The fields of a row, in the order of the header.
    fn fields(self, row: u64) -> [String; HEADER.len()] {
        let mut random = Random(mix(self.seed.rotate_left(32) ^ row));
        let name = format!("{} {}", one_of(&mut random, &NAMES), one_of(&mut random, &WORDS));
        let words: Vec<_> = (0..=random.below(4)).map(|_| *one_of(&mut random, &WORDS)).collect();
        let mut note = words.join(" ");
        if random.below(10) == 0 {
            note = format!("{note} {}", one_of(&mut random, &ODD));
        }
        let place = (*one_of(&mut random, &PLACES)).to_owned();
        let amount = format!("{}.{:02}", random.below(1_000_000), random.below(100));
        let ratio = format!("0.{:012}", random.below(1_000_000_000_000));
        [self.key(row), name, note, place, amount, ratio, random.below(1 << 32).to_string()]
    }

    /// The line that `scan --json` prints for a row, and the bytes that its key and value take in the database.
    pub(crate) fn scanned(self, row: u64) -> (String, u64) {
        let fields = self.fields(row);
        let key = fields[0].clone();
        let object: Map<_, _> = HEADER.into_iter().map(str::to_owned).zip(fields.map(Value::from)).collect();
        let value = Value::Object(object).to_string();
        (format!("{{\"key\":\"{key}\",\"value\":{value}}}"), (key.len() + value.len()) as u64)
    }

    /// Writes a file of so many rows.
    pub(crate) fn write(self, rows: u64, to: impl Write) -> Result<()> {
        let mut writer = csv::Writer::from_writer(to);
        writer.write_record(HEADER)?;
        for row in 0..rows {
            writer.write_record(self.fields(row))?;
        }
        Ok(writer.flush()?)
    }

    /// About how many bytes a file of so many rows has.
    pub(crate) fn file_bytes(self, rows: u64) -> Result<u64> {
        const SAMPLE: u64 = 10_000;
        let mut bytes = Vec::new();
        self.write(SAMPLE, &mut bytes)?;
        Ok((bytes.len() as u64).saturating_mul(rows) / SAMPLE)
    }
}

const ROUNDS: u32 = 4;

fn halves(word: u64) -> (u32, u32) {
    let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default();
    (half(word >> 32), half(word))
}

fn one_of<'a, T>(random: &mut Random, all: &'a [T]) -> &'a T {
    let index = random.below(all.len() as u64);
    &all[usize::try_from(index).unwrap_or_default()]
}
