//! What files of the tables and segments prove of one another, when one of them is gone, older, or of another database.

use super::*;

fn logs(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let is_log = |path: &Path| path.extension().is_some_and(|end| end == "log");
    disk.files().into_iter().filter(|(path, _)| path.starts_with(DB) && is_log(path)).collect()
}

type Harm<'h> = &'h dyn Fn(&SimDisk);

fn at(name: &str) -> PathBuf {
    Path::new(DB).join(name)
}

fn is_bad(salvaged: &Salvaged, file: &str) -> bool {
    salvaged.bad_files.iter().any(|bad| bad.file == at(file))
}

/// A key is overwritten in the segment in which it was put, and a checkpoint takes both in. Then the segment is as it was
/// before: the newer records have never landed.
#[test]
fn a_log_that_ends_below_the_tables_brings_no_older_value_back() {
    let (reference, old) = sim::run(5, || {
        let mut work = Work::new();
        work.create("a");
        for number in 0..10_u32 {
            work.write("a", number.to_be_bytes(), Some(vec![1; 50]));
        }
        let old = logs(&work.disk);
        for number in 0..10_u32 {
            work.write("a", number.to_be_bytes(), (number % 3 != 0).then(|| vec![2; 50]));
        }
        work.engine.checkpoint().unwrap();
        (work.finish(), old)
    });
    let run = reference.file(".run").remove(0);
    let harms: [(&str, Harm<'_>); 5] = [
        ("a block is bad", &|disk| disk.flip_bit(&run, 600 * 8).unwrap()),
        ("the run is gone", &|disk| disk.delete(&run).unwrap()),
        ("the run and MANIFEST are gone, and the list of keyspaces is there", &|disk| {
            disk.delete(&run).unwrap();
            disk.delete(at("table/MANIFEST")).unwrap();
        }),
        ("MANIFEST is gone", &|disk| disk.delete(at("table/MANIFEST")).unwrap()),
        ("MANIFEST and HISTORY are gone", &|disk| {
            disk.delete(at("table/MANIFEST")).unwrap();
            disk.delete(at("HISTORY")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let disk = reference.damaged(|disk| {
            old.iter().for_each(|(path, bytes)| disk.write_file(path, bytes).unwrap());
            harm(disk);
        });
        let (salvaged, lost) = reference.salvage(&disk, what);
        assert_eq!(lost.is_empty(), what.starts_with("MANIFEST"), "{what}: {salvaged:?}");
        assert_ne!(salvaged.completeness, Completeness::Prefix, "{what}: {salvaged:?}");
        assert!(!salvaged.is_complete(), "{what}: {salvaged:?}");
    }
}

/// Before the first MANIFEST, HISTORY and newer segments have the bit, and nothing is missing.
#[test]
fn a_first_checkpoint_that_failed_has_lost_nothing() {
    let reference = sim::run(6, || {
        let mut work = Work::new();
        work.create("a");
        let round = |work: &mut Work| (0..60_u32).for_each(|n| work.write("a", n.to_be_bytes(), Some(vec![1; 200])));
        round(&mut work);
        work.disk.inject(Fault::lasting(OpSelector::of(OpKind::Write).on(".run"), FaultKind::Errno(28)));
        work.engine.checkpoint().unwrap_err();
        work.disk.clear_faults();
        round(&mut work);
        work.finish()
    });
    assert!(reference.file("MANIFEST").is_empty() && reference.file(".run").is_empty(), "{:?}", reference.files());
    assert!(logs(&reference.disk).iter().any(|(_, bytes)| bytes[24] & 1 != 0), "no segment has the bit");
    let disk = copy(&reference.disk);
    assert!(reference.check_open(&disk, "no MANIFEST yet"));
    let (salvaged, lost) = reference.salvage(&disk, "no MANIFEST yet");
    assert!(lost.is_empty() && salvaged.is_complete(), "{salvaged:?}");
    assert_eq!(salvaged.completeness, Completeness::Prefix);
}

/// What segments prove is told also if something of the tables is left that tells nothing.
#[test]
fn tables_that_are_gone_with_history_are_missed() {
    let reference = reference();
    for left in ["nothing", "a list", "a bad MANIFEST", "a directory that cannot be read"] {
        let disk = reference.damaged(|disk| {
            disk.delete(at("HISTORY")).unwrap();
            reference.file(".run").iter().for_each(|run| disk.delete(run).unwrap());
            if left != "a list" {
                reference.file(".keys").iter().for_each(|list| disk.delete(list).unwrap());
            }
            match left {
                "a bad MANIFEST" => disk.flip_bit(at("table/MANIFEST"), 8 * 60).unwrap(),
                "a directory that cannot be read" => {
                    disk.inject(Fault::lasting(
                        OpSelector::of(OpKind::List).on(format!("{DB}/table")),
                        FaultKind::Errno(5),
                    ));
                }
                _ => disk.delete(at("table/MANIFEST")).unwrap(),
            }
        });
        let (salvaged, lost) = reference.salvage(&disk, left);
        assert!(!lost.is_empty() && salvaged.completeness == Completeness::Holes, "{left}: {salvaged:?}");
        let is_unknown = left == "a directory that cannot be read";
        assert_eq!(
            (is_bad(&salvaged, "table/MANIFEST"), is_bad(&salvaged, "table")),
            (!is_unknown, is_unknown),
            "{left}"
        );
        let gap = salvaged.lost.iter().find(|gap| gap.file == at("table/MANIFEST")).unwrap();
        assert_eq!(matches!(gap.cause, LossCause::Unreadable { os_error: Some(5) }), is_unknown, "{left}: {gap:?}");
    }
}

/// A HISTORY from before the bit was put back, and MANIFEST is gone: the runs count.
#[test]
fn runs_count_beside_a_history_that_is_older_than_they_are() {
    let (reference, history) = sim::run(7, || {
        let mut work = Work::new();
        work.create("a");
        let history = work.disk.read_file(at("HISTORY")).unwrap();
        for value in [1, 2] {
            (0..60_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![value; 200])));
            work.engine.checkpoint().unwrap();
        }
        (0..60_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![3; 200])));
        work.write("a", 3_u32.to_be_bytes(), None);
        (work.finish(), history)
    });
    let disk = reference.damaged(|disk| {
        disk.write_file(at("HISTORY"), &history).unwrap();
        disk.delete(at("table/MANIFEST")).unwrap();
    });
    let (salvaged, lost) = reference.salvage(&disk, "an old HISTORY");
    assert!(lost.is_empty() && salvaged.entries > 0, "{salvaged:?}");
    assert!(is_bad(&salvaged, "HISTORY") && salvaged.completeness != Completeness::Prefix, "{salvaged:?}");
}

#[test]
fn a_segment_of_another_database_proves_no_tables_of_this_one() {
    let other = reference();
    let reference = sim::run(8, || {
        let mut work = Work::new();
        work.create("a");
        work.write("a", "key", Some(vec![1]));
        work.finish()
    });
    let (stray, bytes) = logs(&other.disk).pop().unwrap();
    let disk = reference.damaged(|disk| disk.write_file(&stray, &bytes).unwrap());
    let (salvaged, lost) = reference.salvage(&disk, "a stray segment");
    assert!(lost.is_empty() && salvaged.lost.is_empty(), "{salvaged:?}");
    assert_eq!(salvaged.bad_files.len(), 1, "{salvaged:?}");
    assert_eq!((&salvaged.bad_files[0].file, salvaged.bad_files[0].cause), (&stray, LossCause::Foreign));
}

/// The log is read from the tables' end on, and its first segments are gone with HISTORY.
#[test]
fn all_segments_that_are_gone_above_the_tables_are_told() {
    let reference = sim::run(9, || {
        let mut work = Work::new();
        work.create("a");
        (0..200_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![1; 20])));
        work.engine.checkpoint().unwrap();
        (0..200_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![2; 250])));
        work.finish()
    });
    let logs = logs(&reference.disk);
    assert!(logs.len() >= 6);
    let disk = reference.damaged(|disk| {
        disk.delete(at("HISTORY")).unwrap();
        logs.iter().take(3).for_each(|(path, _)| disk.delete(path).unwrap());
    });
    let (_, lost) = reference.salvage(&disk, "three segments and HISTORY are gone");
    assert!(lost.len() > 50 && lost.len() < 150, "{}", lost.len());
}

/// Which keyspaces there are is a part of the state: without a list of them nothing is said to be whole.
#[test]
fn keyspaces_that_nothing_tells_of_are_told() {
    let unnamed = |salvaged: &Salvaged| salvaged.lost_keys.iter().filter(|lost| lost.keyspace.is_none()).count();
    let reference = reference();
    let disk = reference.damaged(|disk| reference.file(".keys").iter().for_each(|list| disk.delete(list).unwrap()));
    let (salvaged, _) = reference.salvage(&disk, "no list");
    assert!(!salvaged.renamed.is_empty() && unnamed(&salvaged) == 1, "{salvaged:?}");
    assert_eq!(salvaged.completeness, Completeness::Unproven, "{salvaged:?}");

    // Dropped and made again, under its own name; the list and the log of that are gone, and an older list is there.
    let (reference, older) = sim::run(10, || {
        let mut work = Work::new();
        work.create("a");
        work.write("a", "old", Some(vec![1; 200]));
        work.engine.checkpoint().unwrap();
        let is_list = |path: &Path| path.extension().is_some_and(|end| end == "keys");
        let older = work.disk.files().into_iter().find(|(path, _)| is_list(path)).unwrap();
        work.drop_keyspace("a");
        work.create("a");
        work.write("a", "new", Some(vec![2; 100]));
        work.engine.checkpoint().unwrap();
        (work.finish(), older)
    });
    let disk = reference.damaged(|disk| {
        reference.file(".keys").iter().for_each(|list| disk.delete(list).unwrap());
        disk.write_file(&older.0, &older.1).unwrap();
        disk.delete(at("table/MANIFEST")).unwrap();
        logs(disk).iter().for_each(|(path, _)| disk.delete(path).unwrap());
    });
    let salvaged = Engine::salvage_on(Arc::new(disk.clone()), DB, TO).unwrap();
    assert_eq!(unnamed(&salvaged), 1, "{salvaged:?}");
    assert_ne!(salvaged.completeness, Completeness::Prefix);
}

/// MANIFEST of an earlier generation, which HISTORY does not know to be old: what it names is gone, and the runs that took its
/// place are whole.
#[test]
fn whole_runs_count_beside_a_manifest_that_is_older_than_they_are() {
    let (reference, manifests) = sim::run(11, || {
        let mut work = Work::new();
        work.create("a");
        let mut manifests = Vec::new();
        for round in 1..6 {
            for number in 0..100_u32 {
                let value = (number % 5 != u32::from(round)).then(|| vec![round; 100]);
                work.write("a", number.to_be_bytes(), value);
            }
            work.engine.checkpoint().unwrap();
            manifests.push(work.disk.read_file(at("table/MANIFEST")).unwrap());
        }
        (work.finish(), manifests)
    });
    let newest = manifests.len() - 1;
    for (number, manifest) in manifests.iter().enumerate() {
        let disk = reference.damaged(|disk| disk.write_file(at("table/MANIFEST"), manifest).unwrap());
        let what = format!("MANIFEST {number}");
        let (salvaged, lost) = reference.salvage(&disk, &what);
        assert!(
            lost.is_empty() && salvaged.lost_keys.iter().all(|lost| lost.keyspace.is_none()),
            "{what}: {salvaged:?}"
        );
        assert_eq!(salvaged.is_complete(), number == newest, "{what}: {salvaged:?}");
        assert_eq!(salvaged.completeness == Completeness::Prefix, number == newest, "{what}: {salvaged:?}");
    }
}

/// Nothing tells which of two copies that both went on is meant. The error says what to do, and not to do what is being done.
#[test]
fn two_branches_without_history_and_manifest_are_refused() {
    let (one, other) = sim::run(12, || {
        let mut work = Work::new();
        work.create("a");
        work.write("a", "key", Some(vec![1; 100]));
        work.engine.close().unwrap();
        let go_on = |value: u8| {
            let disk = copy(&work.disk);
            let engine = open_on(&disk, options()).unwrap();
            let keyspace = engine.open_keyspace("a").unwrap();
            let mut batch = engine.batch().unwrap();
            batch.put(&keyspace, "key", vec![value; 100]).unwrap();
            batch.commit_with(CommitMode::Sync).unwrap();
            engine.checkpoint().unwrap();
            copy(&disk)
        };
        (go_on(2), go_on(3))
    });
    for name in ["HISTORY", "table/MANIFEST"] {
        one.delete(at(name)).unwrap();
    }
    logs(&one).iter().for_each(|(path, _)| one.delete(path).unwrap());
    let is_run = |path: &Path| path.extension().is_some_and(|end| end == "run");
    let (_, run) = other.files().into_iter().find(|(path, _)| is_run(path)).unwrap();
    one.write_file(at("table/00000000000000ff.run"), &run).unwrap();
    let refused = Engine::salvage_on(Arc::new(one), DB, TO).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged);
    let told = refused.to_string();
    assert!(told.contains("salvage again") && !told.contains("forelog salvage"), "{told}");
}

/// A checkpoint was cut off before its MANIFEST, and then a segment behind the layers is gone. Its run has all records of
/// the segment, if it is whole; if not, it takes nothing from what the log and MANIFEST have.
#[test]
fn a_run_that_a_checkpoint_left_fills_a_hole_of_the_log() {
    let cut = Arc::new(std::sync::Mutex::new(None));
    let noted = Arc::clone(&cut);
    let (newest, names) = sim::run(13, || {
        let mut work = Work::new();
        work.create("a");
        let write = |work: &mut Work, value: u8| {
            (0..150_u32).for_each(|number| work.write("a", number.to_be_bytes(), Some(vec![value; 150])));
        };
        write(&mut work, 1);
        work.engine.checkpoint().unwrap();
        write(&mut work, 2);
        work.disk.on_op(move |disk, op| {
            if op.kind == OpKind::Rename && op.path.ends_with("MANIFEST.tmp") {
                noted.lock().unwrap().get_or_insert_with(|| disk.crash_point());
            }
        });
        work.engine.checkpoint().unwrap();
        work.disk.clear_on_op();
        (work.newest.clone(), work.names.clone())
    });
    let disk = cut.lock().unwrap().take().unwrap().process_kill();
    let reference = Reference { disk, newest, names };
    let runs = reference.file(".run");
    let [_, left] = runs.as_slice() else { panic!("{runs:?}") };
    let segments = logs(&reference.disk);
    let gone = &segments[segments.len() - 3].0;
    let lost = |what: &str, harm: Harm<'_>| {
        let disk = reference.damaged(|disk| {
            disk.delete(gone).unwrap();
            harm(disk);
        });
        let (salvaged, lost) = reference.salvage(&disk, what);
        assert_ne!(salvaged.completeness, Completeness::Prefix, "{what}: {salvaged:?}");
        lost.len()
    };
    let without = lost("without the run", &|disk| disk.delete(left).unwrap());
    assert!((10..100).contains(&without), "{without}");
    assert_eq!(lost("with a bad block", &|disk| disk.flip_bit(left, 600 * 8).unwrap()), without);
    assert_eq!(lost("with the run", &|_| ()), 0);
}
