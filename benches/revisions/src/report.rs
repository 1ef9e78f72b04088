//! What the blocks of a row say: rates, times, and ratios within the blocks.

use crate::common::stats::{Latency, Spread};
use crate::slices::Slice;

/// One block: the slices of each side together.
pub(crate) struct Block {
    pub(crate) new: Slice,
    pub(crate) old: Slice,
    /// The old revision again, on a database of its own.
    pub(crate) again: Slice,
}

/// A ratio of two sides, and of the old revision to itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Pair {
    pub(crate) change: Spread,
    pub(crate) chance: Spread,
}

/// What is said of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Better,
    /// Within three hundredths, or within what the old revision differs from itself.
    Even,
    Worse,
}

const TOLERANCE: f64 = 0.03;

impl Pair {
    /// `None` where a side told nothing in any block.
    pub(crate) fn of(blocks: &mut [Block], figure: impl Fn(&mut Slice) -> Option<f64>) -> Option<Pair> {
        let all: Vec<[f64; 3]> = blocks
            .iter_mut()
            .filter_map(|Block { new, old, again }| Some([figure(new)?, figure(old)?, figure(again)?]))
            .collect();
        let change = Spread::of(all.iter().map(|[new, old, _]| new / old))?;
        let chance = Spread::of(all.iter().map(|[_, old, again]| again / old))?;
        Some(Pair { change, chance })
    }

    /// Of figures of which more are better.
    pub(crate) fn verdict(&self) -> Verdict {
        let (ratio, chance) = (self.change.median, self.chance);
        match ratio {
            _ if (chance.low..=chance.high).contains(&ratio) => Verdict::Even,
            _ if ratio < 1.0 - TOLERANCE => Verdict::Worse,
            _ if ratio > 1.0 + TOLERANCE => Verdict::Better,
            _ => Verdict::Even,
        }
    }

    fn columns(pair: Option<Pair>) -> [String; 2] {
        let told = |Spread { median, low, high }: Spread| format!("{median:.3} ({low:.3} to {high:.3})");
        pair.map_or(["-", "-"].map(str::to_owned), |pair| [told(pair.change), told(pair.chance)])
    }
}

pub(crate) const HEAD: &str = "\
| row | old/s | p50 us | p99.9 us | new/s | p50 us | p99.9 us | rate, new/old | rate, old/old | p99.9, new/old | p99.9, old/old | |
|---|---|---|---|---|---|---|---|---|---|---|---|";

/// The line of a row: rates are medians of the blocks, times those of all blocks together.
pub(crate) fn line(name: &str, blocks: &mut [Block]) -> String {
    let rate = |of: fn(&Block) -> &Slice| {
        Spread::of(blocks.iter().map(|block| of(block).rate()))
            .map_or("-".to_owned(), |rate| format!("{:.0}", rate.median))
    };
    let times = |of: fn(&Block) -> &Slice| {
        let Latency { p50, p999, .. } =
            Latency::of(&mut blocks.iter().flat_map(|block| of(block).times.clone()).collect::<Vec<_>>());
        [p50, p999].map(|time| time.map_or("-".to_owned(), |time| format!("{time:.1}")))
    };
    let (old, new) = (rate(|block| &block.old), rate(|block| &block.new));
    let ([old_p50, old_p999], [new_p50, new_p999]) = (times(|block| &block.old), times(|block| &block.new));
    let rates = Pair::of(blocks, |slice| Some(slice.rate()));
    let tails = Pair::of(blocks, |slice| Latency::of(&mut slice.times).p999);
    let verdict = match rates.map(|pair| pair.verdict()) {
        Some(Verdict::Better) => "better",
        Some(Verdict::Even) => "even",
        Some(Verdict::Worse) => "**worse**",
        None => "",
    };
    let ([change, chance], [tail, tail_chance]) = (Pair::columns(rates), Pair::columns(tails));
    format!(
        "| {name} | {old} | {old_p50} | {old_p999} | {new} | {new_p50} | {new_p999} | {change} | {chance} | {tail} | \
         {tail_chance} | {verdict} |"
    )
}
