//! Tables (DECISIONS.md, section 2): the startup table, as data; and every state that two builds, kills, power losses
//! and failed fsyncs can reach from the first checkpoint on. None of them may be refused, misread or short of data.

use std::collections::{HashSet, VecDeque};

use crate::names::{self, Dir, Names, must_be_caught, reach};

// ---- the startup table

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manifest {
    Absent,
    /// Without our magic: of another program, unless the bit says that it was ours.
    Foreign,
    /// CRC or fields do not check.
    Bad,
    /// Of a newer version, or with an unknown bit.
    Newer,
    /// Another log, or `to` in an incarnation that HISTORY does not have.
    OtherBranch,
    /// HISTORY's `oldest` is above its `to`: what lies between is nowhere.
    Retired,
    /// Below the generation that HISTORY names, or that generation with another CRC.
    Older,
    /// The one that HISTORY names.
    Known,
    /// Above it.
    Later,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// As version 1; with the bit from HISTORY's `oldest` on.
    OpenLog,
    /// Layers and the log above them; nothing is written.
    OpenTable,
    /// The same, after the manifest was written again.
    OpenTableWritten,
    Damage,
    Unsupported,
}

/// A row: bit, whether HISTORY names a generation, manifest, all files that it names are there, all of the log that is
/// needed is there. `None` is any.
type Row = (Option<bool>, Option<bool>, Option<Manifest>, Option<bool>, Option<bool>, Verdict);

const TABLE: [Row; 23] = {
    use Manifest as M;
    use Verdict as V;
    const NO: Option<bool> = Some(false);
    const YES: Option<bool> = Some(true);
    [
        (NO, None, Some(M::Absent), None, YES, V::OpenLog),
        (NO, None, Some(M::Absent), None, NO, V::Damage),
        (NO, None, Some(M::Foreign), None, YES, V::OpenLog),
        (NO, None, Some(M::Foreign), None, NO, V::Damage),
        (NO, None, Some(M::Bad), None, None, V::Damage),
        (NO, None, Some(M::Newer), None, None, V::Damage),
        (NO, None, Some(M::OtherBranch), None, None, V::Damage),
        (NO, None, Some(M::Retired), None, None, V::Damage),
        (NO, None, Some(M::Older), None, None, V::Damage),
        (NO, None, Some(M::Known), None, None, V::Damage),
        (NO, None, Some(M::Later), None, None, V::Damage),
        (YES, NO, Some(M::Absent), None, YES, V::OpenLog),
        (YES, NO, Some(M::Absent), None, NO, V::Damage),
        (YES, YES, Some(M::Absent), None, None, V::Damage),
        (YES, None, Some(M::Foreign), None, None, V::Damage),
        (YES, None, Some(M::Bad), None, None, V::Damage),
        (YES, None, Some(M::Newer), None, None, V::Unsupported),
        (YES, None, Some(M::OtherBranch), None, None, V::Damage),
        (YES, None, Some(M::Retired), None, None, V::Damage),
        (YES, None, Some(M::Older), None, None, V::Damage),
        (YES, None, Some(M::Known), YES, YES, V::OpenTable),
        (YES, None, Some(M::Later), YES, YES, V::OpenTableWritten),
        // What is left: a file that the manifest names, or a piece of the log, is missing.
        (YES, None, None, None, None, V::Damage),
    ]
};

/// The first row that applies.
fn row(bit: bool, known: bool, manifest: Manifest, files: bool, log: bool) -> usize {
    let is = |wanted: Option<bool>, found| wanted.is_none_or(|wanted| wanted == found);
    let matches = |row: &Row| {
        is(row.0, bit)
            && is(row.1, known)
            && row.2.is_none_or(|wanted| wanted == manifest)
            && is(row.3, files)
            && is(row.4, log)
    };
    TABLE.iter().position(matches).expect("a row for each combination")
}

#[test]
fn the_startup_table_has_a_row_for_each_combination() {
    use Manifest::{Absent, Bad, Foreign, Known, Later, Newer, Older, OtherBranch, Retired};
    let mut used = HashSet::new();
    for combination in 0..16 {
        let fact = |bit: u32| combination >> bit & 1 == 1;
        let (bit, known, files, log) = (fact(0), fact(1), fact(2), fact(3));
        for manifest in [Absent, Foreign, Bad, Newer, OtherBranch, Retired, Older, Known, Later] {
            let row = row(bit, known, manifest, files, log);
            used.insert(row);
            if matches!(TABLE[row].5, Verdict::Damage | Verdict::Unsupported) {
                continue;
            }
            let what = format!("{bit} {known} {manifest:?} {files} {log}");
            let none = manifest == Absent || (!bit && manifest == Foreign);
            assert!(bit || none, "a manifest without the bit opens: {what}");
            assert!(!(bit && known && manifest == Absent), "a manifest that is gone is not missed: {what}");
            assert!(none || matches!(manifest, Known | Later), "a bad manifest opens: {what}");
            assert!(log && (files || none), "what is missing is not missed: {what}");
        }
    }
    assert_eq!(used.len(), TABLE.len(), "a row that never applies");
}

// ---- the states that can be reached

/// The rules of the page, each of which can be left out.
#[derive(Clone, Copy)]
struct Rules {
    /// F1: the bit is in HISTORY, durably, before the first manifest.
    bit_first: bool,
    /// F1: a bit that was found is relied on only after this open has replaced HISTORY: it may be in the cache alone.
    replaced_by_this_open: bool,
    /// Step 2 is done with the bit found as well: its fsync covers the name of the new `table/`.
    named: bool,
    /// Step 1: a `table/` without a manifest is made anew, for its name may be in the cache alone.
    made_anew: bool,
    /// Step 3: runs have their names durably before a manifest names them.
    runs_first: bool,
    /// T3: nothing is removed but for a manifest that is known durable.
    removed_after: bool,
    /// T4: a manifest that is not known durable is written again.
    written_again: bool,
    /// T5: after a failed attempt the files of both generations stay until a later one is durable.
    both_stay: bool,
    /// T5: no attempt takes the name of a run that an earlier one of this open may have left.
    fresh_names: bool,
}

const ALL: Rules = Rules {
    bit_first: true,
    replaced_by_this_open: true,
    named: true,
    made_anew: true,
    runs_first: true,
    removed_after: true,
    written_again: true,
    both_stay: true,
    fresh_names: true,
};

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Name {
    History,
    /// The directory `table/`.
    Table,
    /// The log's part with this number, from 1.
    Segment(u8),
    Manifest,
    Run(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Layers {
    generation: u8,
    /// The log up to this part is in the run.
    to: u8,
    run: u8,
    /// The generation that made the run: a name that is used twice does not tell them apart.
    made: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Content {
    Empty,
    History { bit: bool, known: Option<Layers> },
    Manifest(Layers),
    Run { made: u8 },
}

type Disk = Names<Dir, Name, Content>;
type Step = names::Step<Dir, Name, Content>;
type State = names::State<Dir, Name, Content>;

/// The log's parts; and how much may go wrong.
const PARTS: u8 = 3;
const FAILURES: u8 = 3;

struct View {
    bit: bool,
    known: Option<Layers>,
    found: Option<Layers>,
}

fn view(disk: &Disk) -> View {
    let Some(&Content::History { bit, known }) = disk.get(Dir::Database, &Name::History) else {
        panic!("HISTORY is always there")
    };
    let found = match disk.get(Dir::Table, &Name::Manifest) {
        Some(&Content::Manifest(layers)) => Some(layers),
        _ => None,
    };
    View { bit, known, found }
}

fn log_is_there(disk: &Disk, from: u8) -> bool {
    (from + 1..=PARTS).all(|part| disk.get(Dir::Database, &Name::Segment(part)).is_some())
}

fn decide(disk: &Disk) -> Verdict {
    let View { bit, known, found } = view(disk);
    let generation = known.map_or(0, |known| known.generation);
    let manifest = match found {
        None => Manifest::Absent,
        Some(layers) if Some(layers) == known => Manifest::Known,
        Some(layers) if layers.generation <= generation => Manifest::Older,
        Some(_) => Manifest::Later,
    };
    let named =
        |layers: Layers| disk.get(Dir::Table, &Name::Run(layers.run)) == Some(&Content::Run { made: layers.made });
    let files = found.is_none_or(named);
    let log = log_is_there(disk, found.map_or(0, |layers| layers.to));
    TABLE[row(bit, known.is_some(), manifest, files, log)].5
}

fn set_history(bit: bool, known: Option<Layers>) -> [Step; 2] {
    [Step::Set(Dir::Database, Name::History, Some(Content::History { bit, known })), Step::Sync(Dir::Database)]
}

fn set_manifest(layers: Layers) -> [Step; 2] {
    [Step::Set(Dir::Table, Name::Manifest, Some(Content::Manifest(layers))), Step::Sync(Dir::Table)]
}

/// Removes what the layers make needless, among `names` of the database and of its table.
fn removals(disk: &Disk, layers: Option<Layers>, also: Option<u8>) -> Vec<Step> {
    let Some(layers) = layers else { return Vec::new() };
    let segments =
        disk.list(Dir::Database).into_iter().filter(|name| matches!(name, Name::Segment(n) if *n <= layers.to));
    let mut runs = disk.list(Dir::Table);
    runs.extend(also.map(Name::Run));
    let runs = runs.into_iter().filter(|name| matches!(name, Name::Run(run) if *run != layers.run));
    let segments = segments.map(|name| Step::Set(Dir::Database, name, None));
    segments.chain(runs.map(|name| Step::Set(Dir::Table, name, None))).collect()
}

/// An open of the new build that begins a life and makes a checkpoint.
fn new_build(disk: &Disk, rules: Rules) -> Result<VecDeque<Step>, String> {
    let View { bit, mut known, found } = view(disk);
    let verdict = decide(disk);
    if matches!(verdict, Verdict::Damage | Verdict::Unsupported) {
        return Err(format!("a legal state is refused: {disk:?}"));
    }
    let mut steps = VecDeque::new();
    if !rules.removed_after {
        steps.extend(removals(disk, found, None));
    }
    if let (Verdict::OpenTableWritten, Some(layers)) = (verdict, found) {
        known = Some(layers);
        if rules.written_again {
            let again = Layers { generation: layers.generation + 1, ..layers };
            steps.extend(set_manifest(again));
            known = Some(again);
        }
    }
    // The life begins: HISTORY is replaced anyway.
    if rules.replaced_by_this_open || !bit {
        steps.extend(set_history(bit, known));
    }
    steps.extend(removals(disk, known, None));
    if known.map_or(0, |layers| layers.to) == PARTS {
        return Ok(steps);
    }
    if known.is_none() {
        if rules.made_anew || disk.get(Dir::Database, &Name::Table).is_none() {
            steps.push_back(Step::Set(Dir::Database, Name::Table, Some(Content::Empty)));
        }
        // Its fsync makes the name of `table/` durable as well.
        if !bit || !rules.replaced_by_this_open {
            let [set, sync] = set_history(rules.bit_first, None);
            steps.extend((!bit).then_some(set));
            steps.push_back(sync);
        } else if rules.named {
            steps.extend(set_history(rules.bit_first, None));
        }
    }
    steps.extend(checkpoint(disk, known, known.map_or(0, |layers| layers.generation) + 1, rules));
    if !rules.bit_first {
        steps.extend(set_history(true, None));
    }
    Ok(steps)
}

/// Steps 3 to 6, over the layers that are known durable.
fn checkpoint(disk: &Disk, known: Option<Layers>, generation: u8, rules: Rules) -> VecDeque<Step> {
    let used =
        disk.list(Dir::Table).into_iter().filter_map(|name| if let Name::Run(run) = name { Some(run) } else { None });
    let used = used.filter(|_| rules.fresh_names).chain(known.map(|layers| layers.run));
    let run = used.max().unwrap_or(0) + 1;
    let mut steps = VecDeque::from([Step::Set(Dir::Table, Name::Run(run), Some(Content::Run { made: generation }))]);
    if rules.runs_first {
        steps.push_back(Step::Sync(Dir::Table));
    }
    let next = Layers { generation, to: known.map_or(0, |layers| layers.to) + 1, run, made: generation };
    let [set, sync] = set_manifest(next);
    steps.push_back(set);
    let removals = removals(disk, Some(next), known.map(|layers| layers.run));
    if rules.removed_after {
        steps.push_back(sync);
        steps.extend(removals);
    } else {
        steps.extend(removals);
        steps.push_back(sync);
    }
    steps
}

/// What the open does after a failed fsync in `table/`, `steps` being what it had still to do: another attempt, if the
/// failed one was of a checkpoint. The failure closes an open that was still writing its manifest again.
fn another_attempt(disk: &Disk, steps: &VecDeque<Step>, rules: Rules) -> Option<VecDeque<Step>> {
    if steps.iter().any(|step| matches!(step, Step::Set(Dir::Database, Name::History, _))) {
        return None;
    }
    let View { known, found, .. } = view(disk);
    let mut next = VecDeque::new();
    if !rules.both_stay {
        next.extend(removals(disk, known, None));
    }
    let generation = [known, found].into_iter().flatten().map(|layers| layers.generation).max().unwrap_or(0) + 1;
    next.extend(checkpoint(disk, known, generation, rules));
    Some(next)
}

/// The old build refuses by the bit, or has to find the whole log.
fn old_build(disk: &Disk) -> Result<(), String> {
    if view(disk).bit || log_is_there(disk, 0) { Ok(()) } else { Err(format!("the old build misreads: {disk:?}")) }
}

fn power_losses(disk: &Disk) -> Vec<Disk> {
    let mut states = disk.power_losses();
    for state in &mut states {
        if state.get(Dir::Database, &Name::Table).is_none() {
            state.clear(Dir::Table);
        }
    }
    states
}

fn successors(state: &State, rules: Rules) -> Result<Vec<State>, String> {
    let mut next = Vec::new();
    let idle = |disk: Disk| state.failed(disk);
    let may_fail = state.failures < FAILURES;
    if may_fail {
        next.push(idle(state.disk.clone()));
        next.extend(power_losses(&state.disk).into_iter().map(idle));
    }
    let Some(step) = state.steps.front() else {
        old_build(&state.disk)?;
        let steps = new_build(&state.disk, rules)?;
        // With all in the table a session only replaces HISTORY by itself.
        if view(&state.disk).found.is_none_or(|layers| layers.to < PARTS || layers.generation < PARTS + FAILURES) {
            next.push(State { steps, ..state.clone() });
        }
        return Ok(next);
    };
    let mut done = state.clone();
    done.steps.pop_front();
    match step {
        Step::Set(dir, name, content) => {
            if *name == Name::Table {
                done.disk.clear(Dir::Table);
            }
            done.disk.set(*dir, name.clone(), content.clone());
        }
        Step::Sync(dir) => {
            if may_fail {
                let mut failed = idle(state.disk.clone());
                failed.disk.fail_to_sync(*dir);
                let again = another_attempt(&failed.disk, &done.steps, rules).filter(|_| *dir == Dir::Table);
                next.extend(again.map(|steps| State { steps, ..failed.clone() }));
                next.push(failed);
            }
            done.disk.sync(*dir);
        }
    }
    next.push(done);
    Ok(next)
}

fn explore(rules: Rules) -> Result<HashSet<State>, String> {
    let mut disk = Disk::new();
    disk.set(Dir::Database, Name::History, Some(Content::History { bit: false, known: None }));
    (1..=PARTS).for_each(|part| disk.set(Dir::Database, Name::Segment(part), Some(Content::Empty)));
    disk.sync(Dir::Database);
    reach(State::new(disk), |state| successors(state, rules))
}

#[test]
fn no_crash_of_a_checkpoint_leaves_a_state_that_is_refused_or_misread() {
    let states = explore(ALL).unwrap().len();
    println!("{states} states");
    assert!(states > 1000);
}

#[test]
fn each_rule_of_the_introduction_is_necessary() {
    let without = [
        ("F1", Rules { bit_first: false, ..ALL }),
        ("F1, a bit that was found", Rules { replaced_by_this_open: false, ..ALL }),
        ("step 2, with the bit found", Rules { named: false, ..ALL }),
        ("step 1", Rules { made_anew: false, ..ALL }),
        ("step 3", Rules { runs_first: false, ..ALL }),
        ("T3", Rules { removed_after: false, ..ALL }),
        ("T4", Rules { written_again: false, ..ALL }),
        ("T5, both generations", Rules { both_stay: false, ..ALL }),
        ("T5, names of runs", Rules { fresh_names: false, ..ALL }),
    ];
    for (rule, rules) in without {
        must_be_caught(rule, explore(rules));
    }
}
