//! What was done, by kind.

use crate::figures::{Figure, Wanted};

/// Declares the counters of a kind, their names, and what all of them come to.
macro_rules! counters {
    ($($field:ident: $name:literal, $kind:ident;)+) => {
        /// How often each kind of operation was done, and each event forced.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counts {
            $(pub $field: u64,)+
        }

        impl Counts {
            /// Each counter with its name.
            pub fn all(&self) -> Vec<(&'static str, Kind, u64)> {
                vec![$(($name, Kind::$kind, self.$field),)+]
            }

            pub fn add(&mut self, other: &Counts) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

/// What a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Calls of the engine that the model has a part in.
    Operation,
    /// Events that are forced, each of which must occur.
    Event,
    /// Answers, each of which must occur.
    Answer,
    /// Told alone.
    Told,
}

counters! {
    puts: "puts", Operation;
    deletes: "deletions", Operation;
    range_deletes: "range deletions", Operation;
    batches: "batches", Operation;
    transactions: "transactions begun", Operation;
    commits: "transactions that tried to commit", Operation;
    gets: "gets", Operation;
    forward: "scans forward", Operation;
    backward: "scans backward", Operation;
    both_ends: "scans from both ends", Operation;
    prefixes: "scans of a prefix", Operation;
    snapshots: "snapshots taken", Operation;
    creates: "keyspaces created", Operation;
    drops: "keyspaces dropped", Operation;
    flushes: "flushes", Operation;
    checkpoints: "checkpoints asked for", Event;
    beside: "checkpoints beside the client", Event;
    automatic: "checkpoints of the engine's own accord", Event;
    merges: "merges", Event;
    merge_steps: "steps of merges", Event;
    forgets: "times that memory was forgotten", Event;
    fills: "times that memory was filled", Event;
    complete_fills: "times that it was filled to the end", Event;
    closes: "closes, and opens", Event;
    kills: "ends of the process", Event;
    power_cuts: "power cuts", Event;
    inside_table: "crashes inside a forced event", Event;
    inside_open: "crashes inside an open", Event;
    crowds: "times that more than 64 snapshots were held", Event;
    healed: "times that rot was healed from memory", Event;
    healed_above: "times that it was while layers had more", Event;
    conflicts: "conflicts", Answer;
    lost_commits: "commits that a crash took", Answer;
    in_layers: "reads while not all was in memory", Answer;
    old_reads: "reads of a snapshot older than the last checkpoint", Answer;
    spurious: "conflicts for what was forgotten alone", Told;
    ballast: "writes that only take memory", Told;
    cases: "cases", Told;
    forgetful: "cases in which memory was forgotten", Told;
}

impl Counts {
    /// Calls of the engine that the model has a part in.
    pub fn operations(&self) -> u64 {
        self.all().iter().filter(|(_, kind, _)| *kind == Kind::Operation).map(|(.., count)| count).sum()
    }

    /// What must have occurred and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        let must = |kind: Kind| kind != Kind::Told;
        self.all().into_iter().filter(|(_, kind, count)| must(*kind) && *count == 0).map(|(name, ..)| name).collect()
    }

    pub fn figures(&self, part: &'static str) -> Vec<Figure> {
        let wanted = |kind| if kind == Kind::Told { Wanted::Any } else { Wanted::AtLeast(1) };
        self.all().into_iter().map(|(name, kind, count)| Figure::new(part, name, count, wanted(kind))).collect()
    }
}
