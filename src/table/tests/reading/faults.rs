//! Damage, disks that fail, and files that are gone.

use super::*;
use crate::base::error::DamageCause;
use crate::disk::sim::{Fault, FaultKind, OpKind, OpSelector, SimDisk};
use crate::disk::{read_exact_at, write_all_at};
use crate::format::table::block::Indexed;
use crate::format::table::{FileKind, file_name};
use crate::table::run::read::Part;

const KEYS: u32 = 600;
/// Nothing is kept, so that a change of a file is seen.
const NONE: Limits = Limits { open_runs: 0, open_run_bytes: 0, partition_bytes: 0 };

/// Two layers: the older one has every even key, the newer one every fourth. No odd key is there.
fn written(dir: &Arc<dyn Dir>, limits: Limits) -> Tables {
    let mut tables = Tables::new(dir, limits);
    for (step, run_bytes) in [(2, 90_000), (4, u64::MAX)] {
        let lsn = Lsn::new(tables.model.to.get() + 8);
        let keys = (0..KEYS).step_by(step).map(|key| full(1, &key.to_be_bytes()));
        let versions = keys.map(|key| (key, lsn, Some(vec![b'v'; 500]))).collect();
        tables.checkpoint(1, versions, Vec::new(), run_bytes);
    }
    tables
}

fn runs(tables: &Tables) -> Vec<String> {
    let stack = tables.store().stack().unwrap();
    let runs = stack.manifest.layers.iter().flat_map(|layer| &layer.runs);
    runs.map(|run| file_name(run.file.number, FileKind::Run)).collect()
}

/// The keys of which the answer is the model's; of each other one it is damage in this file.
fn readable(tables: &Tables, name: &str) -> Vec<u32> {
    let layers = tables.reading.installed();
    let is_right = |key: &u32| match layers.get(1, &key.to_be_bytes(), tables.model.to) {
        Ok(value) => {
            assert_eq!(value.is_some(), key.is_multiple_of(2), "key {key}");
            true
        }
        Err(error) => {
            check_damage(&error, name);
            false
        }
    };
    (0..KEYS).filter(is_right).collect()
}

fn check_damage(error: &crate::base::error::Error, name: &str) {
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.damage().unwrap().file.ends_with(name), "{error}");
}

/// Scans in both directions give out what lies before the damage, if they come to it. Whether they did.
fn check_scans(tables: &Tables, name: &str) -> bool {
    let layers = tables.reading.installed();
    let ended = [Direction::Forward, Direction::Backward].map(|direction| {
        let (entries, ended) = scan(&layers, 1, ALL, direction, tables.model.to);
        let (from, end) = (full(1, b""), full(2, b""));
        let all = tables.model.scan(&from, &end, direction, tables.model.to).0;
        assert!(entries.len() <= all.len() && entries == all[..entries.len()]);
        match ended {
            Ok(()) => assert_eq!(entries.len(), all.len()),
            Err(error) => {
                check_damage(&error, name);
                return true;
            }
        }
        false
    });
    assert_eq!(ended[0], ended[1]);
    ended[0]
}

#[test]
fn a_flipped_block_is_damage_to_its_keys_alone() {
    let dir = memory_dir();
    let tables = written(&dir, NONE);
    let stack = tables.store().stack().unwrap();
    let mut seen = (0, 0);
    for layer in &stack.manifest.layers {
        for named in &layer.runs {
            let name = file_name(named.file.number, FileKind::Run);
            let (mut blocks, mut partitions) = (Vec::<Indexed>::new(), Vec::<Indexed>::new());
            let run = tables.store().open_run(named, layer.interval).unwrap();
            let gather = |part: &Part<'_>| {
                match part {
                    Part::Partition(partition) => partitions.push((*partition).clone()),
                    Part::Block(block) => blocks.push((*block).clone()),
                    Part::Entry(..) | Part::Bad(_) => {}
                }
                Ok::<(), ()>(())
            };
            run.walk(gather).unwrap();
            seen = (seen.0 + blocks.len(), seen.1 + partitions.len());
            for (number, block) in blocks.iter().chain(&partitions).enumerate() {
                let is_partition = number >= blocks.len();
                let places = [0, 5, 8, 20, u64::from(block.block.length) / 2, u64::from(block.block.length) - 1];
                for at in places.map(|at| block.block.position + at) {
                    flip(&dir, &name, at, 4);
                    let right = readable(&tables, &name);
                    let all = KEYS as usize;
                    // A block has eight keys, some of which the newer layer may answer for.
                    let is_newest = layer.interval.to == tables.model.to;
                    assert!(right.len() < all || !(is_newest || is_partition), "{number} {at}");
                    assert!(is_partition || right.len() > all - 20, "{number} {at}: {}", right.len());
                    if is_partition {
                        // A filter that does not check never says "not there".
                        assert!(right.iter().filter(|key| *key % 2 == 1).count() < all / 2);
                    }
                    assert!(check_scans(&tables, &name), "{number} {at}");
                    flip(&dir, &name, at, 4);
                }
            }
        }
    }
    assert!(seen.0 > 30 && seen.1 >= 3, "{seen:?}");
    assert_eq!(readable(&tables, "").len(), KEYS as usize);
}

#[test]
fn a_run_that_is_missing_or_cut_is_damage_to_its_range_alone() {
    let dir = memory_dir();
    let tables = written(&dir, NONE);
    for name in runs(&tables) {
        let (path, away) = (OsStr::new(&name), OsStr::new("away"));
        dir.rename(path, away).unwrap();
        let layers = tables.reading.installed();
        let error = (0..KEYS).find_map(|key| layers.get(1, &key.to_be_bytes(), tables.model.to).err()).unwrap();
        assert_eq!(error.damage().unwrap().cause, DamageCause::MissingTable);
        let right = readable(&tables, &name).len();
        // The newer layer is one run.
        assert!(right < KEYS as usize && (right > 0) == (name != runs(&tables)[0]), "{name}: {right}");
        assert!(check_scans(&tables, &name));
        dir.rename(away, path).unwrap();
        let file = dir.open(path, Access::Write).unwrap();
        let length = file.len().unwrap();
        let mut end = vec![0; 100];
        read_exact_at(&*file, &mut end, length - 100).unwrap();
        file.set_len(length - 100).unwrap();
        assert!(readable(&tables, &name).len() < KEYS as usize);
        write_all_at(&*file, &end, length - 100).unwrap();
        assert_eq!(readable(&tables, &name).len(), KEYS as usize);
    }
}

/// Runs that are open, and partitions in memory, are read no more: but a block is.
#[test]
fn an_error_of_the_disk_is_no_damage_and_is_forgotten() {
    for limits in [NONE, Limits::default()] {
        let disk = SimDisk::new();
        disk.make_dir("db/table").unwrap();
        let dir = disk.open_dir(Path::new("db/table")).unwrap();
        let tables = written(&dir, limits);
        let layers = tables.reading.installed();
        let get = |key: u32| layers.get(1, &key.to_be_bytes(), tables.model.to);
        let (mut failed, mut scans_failed) = (0, 0);
        for number in 0..12 {
            for kind in [OpKind::Read, OpKind::Open] {
                disk.inject(Fault::once(OpSelector::of(kind).skip(number), FaultKind::Errno(5)));
                for key in [2, 3, 4, 402] {
                    match get(key) {
                        Ok(value) => assert_eq!(value.is_some(), key % 2 == 0),
                        Err(error) => {
                            assert_eq!((error.kind(), error.damage()), (ErrorKind::Io, None), "{error}");
                            failed += 1;
                        }
                    }
                    // It fails once: what it left must not be taken for anything.
                    disk.clear_faults();
                    assert_eq!(get(key).unwrap().is_some(), key % 2 == 0);
                    disk.inject(Fault::once(OpSelector::of(kind).skip(number), FaultKind::Errno(5)));
                }
                disk.clear_faults();
                for direction in [Direction::Forward, Direction::Backward] {
                    disk.inject(Fault::once(OpSelector::of(kind).skip(number), FaultKind::Errno(5)));
                    let (entries, ended) = scan(&layers, 1, ALL, direction, tables.model.to);
                    disk.clear_faults();
                    scans_failed += usize::from(ended.is_err());
                    assert!(ended.is_ok() == (entries.len() == 300));
                    if let Err(error) = ended {
                        assert_eq!((error.kind(), error.damage()), (ErrorKind::Io, None), "{error}");
                    }
                    assert_eq!(scan(&layers, 1, ALL, direction, tables.model.to).0.len(), 300);
                }
            }
        }
        assert!(failed > 2 && scans_failed > 20, "{failed} {scans_failed}");
    }
}

/// A scan that has failed has ended.
#[test]
fn a_scan_does_not_go_on_behind_an_error() {
    let dir = memory_dir();
    let tables = written(&dir, NONE);
    let name = runs(&tables).pop().unwrap();
    flip(&dir, &name, 600, 4);
    for direction in [Direction::Forward, Direction::Backward] {
        let mut scan = tables.reading.installed().scan(1, ALL, direction, tables.model.to);
        while let Ok(true) = scan.advance() {}
        assert!(!scan.advance().unwrap());
    }
}
