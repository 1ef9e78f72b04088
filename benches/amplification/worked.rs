//! The worked figures of `benches/SCALE.md`: a load of all keys, then as many overwrites.

use crate::model::{Data, Merging, Writes, merging};
use crate::{BATCH, CHECKPOINT, KEY};

/// Of the memory of an engine, partitions may take this much (`engine/memory.rs`): half of what records have, which is 7/8 of all but
/// what is set aside and what sorting takes, 1/32 and 3/32.
const SHARE: f64 = 0.5 * 0.875 * 0.875;

fn data(bytes: f64, value: f64) -> Data {
    Data { keys: (bytes / (KEY + value)).floor(), key: KEY, value, batch: BATCH as f64, checkpoint: CHECKPOINT }
}

/// A figure as text: to three digits.
pub(crate) fn short(figure: f64) -> String {
    let (scaled, unit) = match figure {
        1e12.. => (figure / 1e12, " T"),
        1e9.. => (figure / 1e9, " G"),
        1e6.. => (figure / 1e6, " M"),
        1e4.. => (figure / 1e3, " k"),
        _ => (figure, ""),
    };
    let digits = 2_usize.saturating_sub(scaled.max(1.0).log10() as usize);
    format!("{scaled:.digits$}{unit}")
}

/// Prints them.
pub(crate) fn table() {
    let sizes = [1e10, 1e11, 1e12].into_iter().flat_map(|bytes| [100.0, 1024.0].map(|value| data(bytes, value)));
    let cases: Vec<_> = sizes.map(|data| (data, Worked::of(data))).collect();
    let row = |name: &str, figure: &dyn Fn(&Data, &Worked) -> f64| {
        let figures: Vec<_> = cases.iter().map(|(data, worked)| short(figure(data, worked))).collect();
        println!("| {name} | {} |", figures.join(" | "));
    };
    let of = |data: &Data| format!("{}B of {} B", short(data.bytes()), data.value);
    println!("| | {} |", cases.iter().map(|(data, _)| of(data)).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---:|".repeat(cases.len()));
    row("keys", &|data, _| data.keys);
    row("log and fill, for a byte of data", &|_, worked| worked.log);
    row("checkpoints", &|_, worked| worked.checkpoints);
    row("merges of a load, for a byte of checkpoints", &|_, worked| worked.load.written);
    row("merges of overwrites, for a byte of checkpoints", &|_, worked| worked.overwrites.written);
    row("**write amplification of the load**", &|_, worked| worked.all(worked.load));
    row("**of overwrites**", &|_, worked| worked.all(worked.overwrites));
    row("**space of layers**, of the data, at most", &|data, worked| worked.space(data));
    row("layers while overwriting, mean", &|_, worked| worked.overwrites.mean_layers);
    row("layers, at most", &|_, worked| worked.overwrites.most_layers);
    row("checkpoints of the load", &|data, _| data.keys / data.puts_of_a_checkpoint());
    row("bytes of a run", &|data, _| data.run());
    row("runs", &|data, _| data.runs());
    row("bytes of MANIFEST", &|data, _| data.manifest());
    row("bytes of a step of a merge", &|data, _| data.step());
    row("partitions, bytes", &|data, _| data.keys * data.partition());
    row("memory that holds all partitions", &|data, _| data.keys * data.partition() / SHARE);
    row("leaves of all data, bytes", &|data, _| data.keys * data.memory().1);
    row("bytes of leaves a key, filled", &|data, _| data.memory().1);
    row("bytes of leaves a key, written in any order", &|data, _| data.memory().0);
    println!("\nfalse positives of a filter, in the lowest layer and above, at least: {:.4?}", Data::false_positives());
}

/// What the formulas say of some data.
pub(crate) struct Worked {
    pub(crate) log: f64,
    pub(crate) checkpoints: f64,
    pub(crate) load: Merging,
    pub(crate) overwrites: Merging,
}

impl Worked {
    pub(crate) fn of(data: Data) -> Self {
        let puts = data.puts_of_a_checkpoint();
        let (part, of) = (puts / data.keys, (data.keys / puts).ceil().max(1.0) as usize);
        let written = data.key + data.value;
        Worked {
            log: 2.0 * data.log() / written,
            checkpoints: data.entry(puts, puts * data.log()) / written,
            load: merging(of, part, data.layers(), Writes::New),
            overwrites: merging(of, part, data.layers(), Writes::Any),
        }
    }

    pub(crate) fn all(&self, merging: Merging) -> f64 {
        self.log + self.checkpoints * (1.0 + merging.written)
    }

    fn space(&self, data: &Data) -> f64 {
        self.overwrites.space * data.layers() / data.bytes()
    }
}
