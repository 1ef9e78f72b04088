//! The legal crash states of a recording.
//!
//! Between two flushes the device holds for certain what the last of them covers; of the writes after that, each
//! sector is there or not, in any combination, and of several writes to one sector the later wins. The states of such
//! an *epoch* are judged by all that was told until its end: whatever was promised earlier is promised still, and
//! writes that had come to the device in a part of the epoch are a combination like any other.

use std::collections::HashSet;

use super::image::{Image, SECTOR};
use super::recorder::{Event, Recording, sectors};
use crashkit::Random;
use crashkit::mix;

/// With so few sectors every combination is tried.
const EXHAUSTIVE: usize = 12;

impl Recording {
    /// What was told, in order.
    pub(super) fn marks(&self) -> Vec<String> {
        let mark = |event: &Event| if let Event::Mark(line) = event { Some(line.clone()) } else { None };
        self.events.iter().filter_map(mark).collect()
    }

    /// The same device, had it ignored all but every `kept`-th flush.
    pub(super) fn lying(mut self, kept: usize) -> Self {
        let mut flushes = 0;
        // Replaced rather than removed: the flushes name events by number.
        for event in &mut self.events {
            if let Event::Flush { covers } = event {
                flushes += 1;
                if flushes % kept != 0 {
                    *covers = 0;
                }
            }
        }
        self
    }

    /// Every epoch, with the device as it is for certain. Sectors in `ours` are preferred.
    pub(super) fn epochs<'a>(&'a self, ours: &'a HashSet<u64>) -> Epochs<'a> {
        Epochs { recording: self, ours, base: self.before.clone(), covered: 0, next: 0, marks: 0, ended: false }
    }
}

/// Walks a recording from flush to flush.
pub(super) struct Epochs<'a> {
    recording: &'a Recording,
    ours: &'a HashSet<u64>,
    base: Image,
    /// Events that the last flush covers.
    covered: usize,
    /// The first event that was not looked at.
    next: usize,
    marks: usize,
    ended: bool,
}

/// The time between two completed flushes.
pub(super) struct Epoch<'a> {
    pub(super) base: Image,
    /// How many marks there were at its end.
    pub(super) marks: usize,
    atoms: Vec<Atom<'a>>,
    writes: usize,
}

/// One sector of one write that may be there or not.
struct Atom<'a> {
    /// Counts the writes of the epoch.
    write: usize,
    /// Counts the sectors of that write.
    within: usize,
    sector: u64,
    data: &'a [u8],
    /// Whether it is of the subject's own files, rather than the file system's.
    ours: bool,
}

impl<'a> Iterator for Epochs<'a> {
    type Item = Epoch<'a>;

    fn next(&mut self) -> Option<Epoch<'a>> {
        let events = &self.recording.events;
        while !self.ended {
            let covered = self.covered;
            let end = self.next;
            match events.get(end) {
                Some(Event::Flush { covers }) => self.covered = covered.max(*covers),
                Some(Event::Mark(_)) => self.marks += 1,
                Some(_) => {}
                None => self.ended = true,
            }
            self.next += 1;
            if self.ended || self.covered > covered {
                let epoch = Epoch::new(self, &events[covered..end]);
                for (sector, data) in events[covered..self.covered].iter().flat_map(contents) {
                    self.base.write_sector(sector, data);
                }
                return Some(epoch);
            }
        }
        None
    }
}

/// The sectors that an event writes, and what it writes to them.
fn contents(event: &Event) -> impl Iterator<Item = (u64, &[u8])> {
    const ZEROS: &[u8] = &[0; SECTOR];
    let (written, zeroed) = match event {
        Event::Write { offset, data } => (Some((offset / SECTOR as u64, data)), None),
        Event::Zero { offset, length } => (None, Some(sectors(*offset, *length))),
        Event::Flush { .. } | Event::Mark(_) => (None, None),
    };
    let written = written.into_iter().flat_map(|(first, data)| (first..).zip(data.chunks_exact(SECTOR)));
    written.chain(zeroed.into_iter().flatten().map(|sector| (sector, ZEROS)))
}

impl<'a> Epoch<'a> {
    fn new(at: &Epochs<'a>, events: &'a [Event]) -> Self {
        let mut epoch = Epoch { base: at.base.clone(), marks: at.marks, atoms: Vec::new(), writes: 0 };
        let mut changed = HashSet::new();
        for event in events {
            let first = epoch.atoms.len();
            for (sector, data) in contents(event) {
                // One that already is what is written to it makes no difference, unless it was written otherwise before.
                if epoch.base.sector(sector) != data || changed.contains(&sector) {
                    changed.insert(sector);
                    let (write, within) = (epoch.writes, epoch.atoms.len() - first);
                    epoch.atoms.push(Atom { write, within, sector, data, ours: at.ours.contains(&sector) });
                }
            }
            epoch.writes += usize::from(epoch.atoms.len() > first);
        }
        epoch
    }

    /// Whether `limit` plans are all there are.
    pub(super) fn is_exhausted(&self, limit: usize) -> bool {
        self.atoms.len() <= EXHAUSTIVE && 1 << self.atoms.len() <= limit
    }

    /// At most so many ways to lose something, the two extremes among them.
    pub(super) fn plans(&self, limit: usize, random: &mut Random) -> Vec<Plan> {
        let atoms = self.atoms.len();
        let mut plans = Vec::new();
        if atoms <= EXHAUSTIVE {
            plans.extend((0..1_u64 << atoms).map(Plan::Mask));
            random.shuffle(&mut plans);
        } else {
            plans.extend((1..self.writes).flat_map(|at| [Plan::Prefix(at), Plan::Suffix(at)]));
            plans.extend((0..self.writes).flat_map(|write| [Plan::Without(write), Plan::Only(write)]));
            plans.extend(
                (0..atoms).flat_map(|atom| [Plan::WithoutSector(atom), Plan::OnlySector(atom), Plan::Torn(atom)]),
            );
            random.shuffle(&mut plans);
            // Subsets and tears of the log's own sectors find most: half of the places are theirs.
            let (ours, theirs): (Vec<_>, Vec<_>) = plans.iter().partition(|plan| self.is_of_ours(plan));
            let drawn = (0..limit).map(|_| Plan::draw(random, self.atoms.iter().any(|atom| atom.ours)));
            plans = interleave(&[ours, drawn.collect(), theirs]);
            plans.splice(0..0, [Plan::Suffix(0), Plan::Prefix(0)]);
        }
        plans.truncate(limit.max(2));
        plans
    }

    fn is_of_ours(&self, plan: &Plan) -> bool {
        match *plan {
            Plan::WithoutSector(atom) | Plan::OnlySector(atom) | Plan::Torn(atom) => self.atoms[atom].ours,
            _ => false,
        }
    }

    /// The device after a power cut that left what the plan says.
    pub(super) fn image(&self, plan: &Plan) -> Image {
        let mut image = self.base.clone();
        for (index, atom) in self.atoms.iter().enumerate() {
            if plan.keeps(index, atom, &self.atoms) {
                image.write_sector(atom.sector, atom.data);
            }
        }
        image
    }
}

/// One from each in turn.
fn interleave(lists: &[Vec<Plan>]) -> Vec<Plan> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|at| lists.iter().filter_map(move |list| list.get(at).copied())).collect()
}

/// Which of the sectors that may be lost are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Plan {
    /// Those whose bit is set.
    Mask(u64),
    /// Those of the first so many writes.
    Prefix(usize),
    /// Those of all writes but the first so many.
    Suffix(usize),
    /// All but those of one write.
    Without(usize),
    /// Those of one write.
    Only(usize),
    WithoutSector(usize),
    OnlySector(usize),
    /// Those before this one in its write, and all earlier writes.
    Torn(usize),
    /// Each with a probability of so many in 8.
    Drawn {
        seed: u64,
        eighths: u64,
    },
    /// The file system's all or none; the log's as drawn.
    DrawnOfOurs {
        seed: u64,
        eighths: u64,
        others: bool,
    },
}

impl Plan {
    fn draw(random: &mut Random, ours: bool) -> Self {
        let (seed, eighths) = (random.next(), [1, 4, 4, 7][random.below(4)]);
        if ours && random.below(2) == 0 {
            return Plan::DrawnOfOurs { seed, eighths, others: random.below(4) > 0 };
        }
        Plan::Drawn { seed, eighths }
    }

    fn keeps(&self, index: usize, atom: &Atom<'_>, atoms: &[Atom<'_>]) -> bool {
        let drawn = |seed: u64, eighths: u64| mix(seed ^ index as u64) % 8 < eighths;
        match *self {
            Plan::Mask(mask) => mask >> index & 1 == 1,
            Plan::Prefix(writes) => atom.write < writes,
            Plan::Suffix(writes) => atom.write >= writes,
            Plan::Without(write) => atom.write != write,
            Plan::Only(write) => atom.write == write,
            Plan::WithoutSector(sector) => index != sector,
            Plan::OnlySector(sector) => index == sector,
            Plan::Torn(sector) => {
                let torn = &atoms[sector];
                atom.write < torn.write || atom.write == torn.write && atom.within < torn.within
            }
            Plan::Drawn { seed, eighths } => drawn(seed, eighths),
            Plan::DrawnOfOurs { seed, eighths, others } => {
                if atom.ours {
                    drawn(seed, eighths)
                } else {
                    others
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn write(sector: u64, bytes: &[u8]) -> Event {
        let data: Vec<u8> = bytes.iter().flat_map(|byte| [*byte; SECTOR]).collect();
        Event::Write { offset: sector * SECTOR as u64, data: data.into() }
    }

    fn recording(events: Vec<Event>) -> Recording {
        Recording { before: Image::new(1 << 16), events }
    }

    /// The first bytes of the first four sectors, in every state of every epoch.
    fn states(recording: &Recording) -> Vec<BTreeSet<Vec<u8>>> {
        let first = |image: &Image| (0..4).map(|sector| image.sector(sector)[0]).collect();
        let of = |epoch: Epoch<'_>| {
            let plans = epoch.plans(5000, &mut Random::new(1));
            plans.iter().map(|plan| first(&epoch.image(plan))).collect()
        };
        recording.epochs(&HashSet::new()).map(of).collect()
    }

    #[test]
    fn what_a_flush_covers_stays_and_the_rest_comes_in_any_combination() {
        let events = vec![write(0, &[1, 2]), Event::Flush { covers: 1 }, write(2, &[3])];
        let states = states(&recording(events));
        let all = |lists: &[[u8; 4]]| lists.iter().map(|list| list.to_vec()).collect::<BTreeSet<_>>();
        assert_eq!(states[0], all(&[[0; 4], [1, 0, 0, 0], [0, 2, 0, 0], [1, 2, 0, 0]]));
        assert_eq!(states[1], all(&[[1, 2, 0, 0], [1, 2, 3, 0]]));
    }

    #[test]
    fn a_write_that_was_in_flight_when_the_flush_was_issued_may_be_lost() {
        let events = vec![write(0, &[1]), write(1, &[2]), Event::Flush { covers: 1 }];
        let after_the_flush = &states(&recording(events))[1];
        assert_eq!(after_the_flush, &BTreeSet::from([vec![1, 0, 0, 0], vec![1, 2, 0, 0]]));
    }

    #[test]
    fn of_two_writes_to_a_sector_the_later_wins() {
        let only = &states(&recording(vec![write(0, &[1]), write(0, &[2])]))[0];
        assert_eq!(only, &BTreeSet::from([vec![0; 4], vec![1, 0, 0, 0], vec![2, 0, 0, 0]]));
        let back = &states(&recording(vec![write(0, &[1]), write(0, &[0])]))[0];
        assert_eq!(back.len(), 2, "a sector that gets its old content back may still be seen between");
    }

    #[test]
    fn a_device_that_lies_keeps_only_what_it_likes() {
        let events = vec![write(0, &[1]), Event::Flush { covers: 1 }, write(1, &[1]), Event::Flush { covers: 3 }];
        assert_eq!(states(&recording(events).lying(2))[0].len(), 4);
    }

    #[test]
    fn many_sectors_are_sampled_with_both_extremes() {
        let ours = (0..20).collect();
        let recording = recording(vec![write(0, &[1; 40]), write(50, &[2; 10])]);
        let epoch = recording.epochs(&ours).next().expect("one epoch");
        let plans = epoch.plans(100, &mut Random::new(7));
        let images: BTreeSet<u64> = plans.iter().map(|plan| epoch.image(plan).fingerprint()).collect();
        assert_eq!(plans.len(), 100);
        assert!(images.len() > 75, "{}", images.len());
        assert!(images.contains(&recording.before.fingerprint()));
    }
}
