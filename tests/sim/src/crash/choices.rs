//! What may be lost at a crash point: the choices of atoms that are tried.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use forelog::sim::{Atom, AtomKind, CrashPoint, Granularity, Loss, Persona};

use super::case::Depth;
use super::check::{Crash, Power};
use crashkit::Random;

/// How a crash point is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// A flush in flight, and three or more clients committing in mixed modes.
    Crowded,
    /// A flush in flight, bytes written and not synced, or an open or a recovery under way.
    Busy,
    /// A segment is being prepared, and nothing else: many atoms and little to learn from.
    Quiet,
}

/// Up to this many independent atoms every subset of them is tried.
const fn exhaustive(depth: Depth) -> usize {
    match depth {
        Depth::Sampled => 6,
        Depth::Full => 12,
    }
}

/// The atoms of a crash point, in groups that land or not as one. Alone in its group is every atom but those of files
/// that are still being prepared, which nothing reads: one group for the lengths of such a file, one for its bytes.
pub struct Groups {
    atoms: usize,
    /// In the order in which their first atoms were submitted.
    groups: Vec<Vec<usize>>,
}

impl Groups {
    pub fn of(point: &CrashPoint, unit: Granularity) -> Self {
        let atoms = point.pending(unit);
        let mut groups: Vec<(u64, Vec<usize>)> = Vec::new();
        let mut unread: BTreeMap<(&OsStr, bool), usize> = BTreeMap::new();
        for (at, atom) in atoms.iter().enumerate() {
            if atom.kind == AtomKind::Name || !is_unread(atom) {
                groups.push((atom.moment, vec![at]));
                continue;
            }
            let next = groups.len();
            let group = *unread.entry((&*atom.name, atom.kind == AtomKind::Length)).or_insert(next);
            if group == next {
                groups.push((atom.moment, Vec::new()));
            }
            groups[group].1.push(at);
        }
        groups.sort_by_key(|(moment, _)| *moment);
        Groups { atoms: atoms.len(), groups: groups.into_iter().map(|(_, group)| group).collect() }
    }

    fn len(&self) -> usize {
        self.groups.len()
    }

    /// The loss of all groups but those that `lands`.
    pub fn loss(&self, lands: impl Fn(usize) -> bool) -> Loss {
        let mut landed = vec![false; self.atoms];
        for (_, group) in self.groups.iter().enumerate().filter(|(at, _)| lands(*at)) {
            group.iter().for_each(|atom| landed[*atom] = true);
        }
        Loss::AllBut(landed)
    }
}

fn is_unread(atom: &Atom) -> bool {
    atom.name.as_encoded_bytes().ends_with(b".tmp")
}

fn power(persona: Persona, unit: Granularity, loss: Loss) -> Crash {
    Crash::Power(Power { persona, unit, loss })
}

/// What is tried at a crash point of a life, besides the loss of everything pending.
pub fn in_life(point: &CrashPoint, interest: Interest, depth: Depth, random: &mut Random) -> Vec<Crash> {
    let mut crashes = vec![Crash::Kill];
    let [posix, garbage, others @ ..] = &Persona::ALL;
    let sectors = Groups::of(point, Granularity::Sector);
    if sectors.len() == 0 {
        return crashes;
    }
    let mut add = |losses: Vec<Loss>, unit| crashes.extend(losses.into_iter().map(|loss| power(*posix, unit, loss)));
    if sectors.len() <= exhaustive(depth) {
        add(subsets(&sectors), Granularity::Sector);
    } else if depth == Depth::Full {
        add(structured(&sectors, random), Granularity::Sector);
    }
    let (missing, seeded) = match (interest, depth) {
        (Interest::Quiet, _) => (1, 1),
        (Interest::Busy, Depth::Sampled) => (3, 2),
        (Interest::Crowded, Depth::Sampled) => (12, 30),
        (Interest::Busy, Depth::Full) => (24, 12),
        (Interest::Crowded, Depth::Full) => (48, 64),
    };
    if sectors.len() > exhaustive(depth) && depth == Depth::Sampled {
        add(vec![Loss::Nothing], Granularity::Sector);
        add(some_missing(&sectors, missing, random), Granularity::Sector);
        add(some_prefixes(&sectors, missing / 2, random), Granularity::Sector);
        add(some_seeded(seeded, random), Granularity::Sector);
    }
    let words = Groups::of(point, Granularity::Word);
    add(some_missing(&words, missing, random), Granularity::Word);
    add(some_prefixes(&words, missing / 2, random), Granularity::Word);
    add(some_seeded(seeded, random), Granularity::Word);
    add(some_seeded(2, random), Granularity::Page);
    if depth == Depth::Full && interest == Interest::Crowded && random.one_in(16) {
        add(structured(&words, random), Granularity::Word);
    }
    crashes.extend(some_seeded(1, random).into_iter().map(|loss| power(*garbage, Granularity::Sector, loss)));
    for persona in others {
        let unit = persona.unit(random.pick(&[Granularity::Word, Granularity::Sector]));
        crashes.extend(some_seeded(1, random).into_iter().map(|loss| power(*persona, unit, loss)));
    }
    crashes
}

/// What is tried at an operation of a recovery.
pub fn in_recovery(point: &CrashPoint, all: bool, random: &mut Random) -> Vec<Crash> {
    let posix = Persona::ALL[0];
    let mut crashes = vec![Crash::Kill, Crash::everything_lost()];
    let sectors = Groups::of(point, Granularity::Sector);
    if sectors.len() == 0 {
        return crashes;
    }
    let losses = match sectors.len() {
        few if few <= if all { 8 } else { 2 } => subsets(&sectors),
        _ => some_missing(&sectors, 2, random).into_iter().chain(some_seeded(1, random)).collect(),
    };
    crashes.extend(losses.into_iter().map(|loss| power(posix, Granularity::Sector, loss)));
    crashes.extend(some_seeded(1, random).into_iter().map(|loss| power(posix, Granularity::Word, loss)));
    crashes
}

/// Tears at any byte.
pub fn torn_anywhere(point: &CrashPoint, count: usize, random: &mut Random) -> Vec<Crash> {
    let atoms = point.atoms(Granularity::Byte);
    let run = |random: &mut Random| {
        let (from, to) = (random.below(atoms + 1), random.below(atoms + 1));
        let lands = random.one_in(2);
        (0..atoms).map(|atom| (from.min(to)..from.max(to)).contains(&atom) == lands).collect()
    };
    let torn = |_| match random.one_in(4) {
        true => Loss::Seeded(random.next()),
        false => Loss::AllBut(run(random)),
    };
    let losses: Vec<Loss> = (0..if atoms == 0 { 0 } else { count }).map(torn).collect();
    losses.into_iter().map(|loss| power(Persona::PARANOID, Granularity::Byte, loss)).collect()
}

fn subsets(groups: &Groups) -> Vec<Loss> {
    (1..1_usize << groups.len()).map(|chosen| groups.loss(|at| chosen & (1 << at) != 0)).collect()
}

/// All, each one missing, each one present, every prefix, every suffix, all pairs missing, 64 at random.
fn structured(groups: &Groups, random: &mut Random) -> Vec<Loss> {
    let count = groups.len();
    let mut losses = vec![Loss::Nothing];
    for one in 0..count {
        losses.push(groups.loss(|at| at != one));
        losses.push(groups.loss(|at| at == one));
        losses.push(groups.loss(|at| at <= one));
        losses.push(groups.loss(|at| at >= one));
    }
    // Of words there are hundreds of thousands of pairs.
    if count <= 40 {
        for one in 0..count {
            losses.extend((one + 1..count).map(|other| groups.loss(|at| at != one && at != other)));
        }
    }
    losses.extend(some_seeded(64, random));
    losses
}

fn some_missing(groups: &Groups, count: usize, random: &mut Random) -> Vec<Loss> {
    let one = |_| {
        let missing = random.below(groups.len());
        groups.loss(|at| at != missing)
    };
    (0..count).map(one).collect()
}

/// Writes that land in the order of their submission.
fn some_prefixes(groups: &Groups, count: usize, random: &mut Random) -> Vec<Loss> {
    let one = |_| {
        let reached = random.below(groups.len());
        groups.loss(|at| at < reached)
    };
    (0..count).map(one).collect()
}

fn some_seeded(count: usize, random: &mut Random) -> Vec<Loss> {
    (0..count).map(|_| Loss::Seeded(random.next())).collect()
}
