//! Every interleaving of a reader's steps with those of a writer that does not know of it ("A reader beside a writer" in
//! `src/disk/LOCK.md`). Each rule can be left out, and must be missed. `beside_machine` has the steps.
//!
//! The answer must be a prefix of the commit order that has everything which was acknowledged before the reading began. A
//! refusal is wrong if nothing is rotten, and an answer is wrong that leaves out a rotten frame.

use std::collections::HashSet;

use super::beside_machine::{ALL, Act, End, Reader, Rules, World};
use Act::{Begin, Checkpoint, Close, Commit, Mark, Merge, Pair, Prepare, Sync};

/// What the writer does. Each segment has room for two commits, and no commit takes the second place before the next
/// segment is there (O2).
const SCRIPTS: [&[Act]; 7] = [
    &[Commit, Sync, Prepare, Commit, Commit, Sync, Prepare, Commit, Sync],
    &[Prepare, Pair, Sync, Mark, Prepare, Pair, Sync],
    &[Prepare, Commit, Commit, Sync, Checkpoint, Commit, Prepare, Commit, Sync],
    &[Commit, Sync, Checkpoint, Prepare, Commit, Sync, Checkpoint, Merge, Commit],
    &[Commit, Prepare, Sync, Mark, Close, Begin, Commit, Sync, Mark],
    &[Commit, Sync, Checkpoint, Close, Begin, Commit, Sync, Checkpoint, Prepare, Commit],
    &[Prepare, Commit, Commit, Sync, Checkpoint, Prepare, Commit, Commit, Sync, Checkpoint, Merge],
];

/// Frames that are rotten from the begin on, with all that a writer had done before.
const ROTTEN: [(u8, &[Act], &[Act]); 3] = [
    (0, &[Commit, Sync, Prepare, Commit], &[Sync, Commit, Prepare, Commit]),
    (1, &[Prepare, Pair, Sync, Commit, Sync], &[Prepare, Commit, Sync]),
    (1, &[Prepare, Pair, Sync], &[Mark, Commit]),
];

/// Walks through every interleaving of the script with a reader that begins after any of its steps; returns how many states
/// there are, or what is wrong in one of them.
fn explore(world: &World, rules: Rules) -> Result<usize, String> {
    let (mut seen, mut begun) = (HashSet::new(), world.clone());
    let mut open = Vec::new();
    loop {
        for downwards in [false, true] {
            open.push((begun.clone(), Reader::new(begun.acknowledged, downwards)));
        }
        if begun.is_over() {
            break;
        }
        begun.step();
    }
    while let Some(state) = open.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        let (world, reader) = state;
        match reader.end {
            Some(end) => check(&world, &reader, end).map_err(|what| format!("{what}: {world:?}, {reader:?}"))?,
            None => open.extend(reader.steps(&world, rules).into_iter().map(|next| (world.clone(), next))),
        }
        if reader.end.is_none() && !world.is_over() {
            let mut next = world;
            next.step();
            open.push((next, reader));
        }
    }
    Ok(seen.len())
}

fn check(world: &World, reader: &Reader, end: End) -> Result<(), &'static str> {
    match end {
        End::Answer(_) if world.rotten.is_some_and(|rotten| rotten >= reader.known_to()) => Err("rot was passed over"),
        End::Answer(to) if to < reader.acknowledged => Err("an acknowledged commit is missing"),
        End::Answer(to) if to < reader.known_to() => Err("the log ends below the layers"),
        End::Refused(why) if world.rotten.is_none() => Err(why),
        End::TooQuick => Err("it gave up"),
        End::Answer(_) | End::Refused(_) => Ok(()),
    }
}

fn everything(rules: Rules) -> Result<usize, String> {
    let mut states = 0;
    for script in SCRIPTS {
        states += explore(&World::new(script), rules)?;
    }
    for (rotten, before, script) in ROTTEN {
        let mut world = World::new(before);
        while !world.is_over() {
            world.step();
        }
        world.rotten = Some(rotten);
        world.go_on_with(script);
        states += explore(&world, rules)?;
    }
    Ok(states)
}

#[test]
fn a_reader_beside_a_writer_has_a_prefix_and_never_calls_it_damage() {
    let states = everything(ALL).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("a reader beside a writer: {states} states");
    assert!(states > 50_000, "{states} states");
}

#[test]
fn each_rule_for_a_reader_beside_a_writer_is_needed() {
    let without: [(&str, Rules); 6] = [
        ("B3, what is gone was never listed", Rules { gone_is_unlisted: false, ..ALL }),
        ("B3, between two by its name", Rules { between_by_name: false, ..ALL }),
        ("B3, behind the last by its name", Rules { behind_by_name: false, ..ALL }),
        ("B5, a second look", Rules { second_look: false, ..ALL }),
        ("B6, a third look", Rules { third_look: false, ..ALL }),
        ("B7, a refusal counts if nothing was replaced", Rules { look_after: false, ..ALL }),
    ];
    for (rule, rules) in without {
        let wrong = everything(rules).err().unwrap_or_else(|| panic!("without rule {rule} nothing goes wrong"));
        let what = wrong.split(':').next().unwrap_or_default();
        println!("without rule {rule}: {what}");
    }
}
