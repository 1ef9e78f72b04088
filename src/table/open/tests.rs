//! The rows of the startup table that `table/` decides.

use std::ffi::OsStr;
use std::path::Path;

use super::*;
use crate::base::error::ErrorKind;
use crate::disk::{Access, Dir, write_all_at};
use crate::format::batch::BatchBuilder;
use crate::format::history::End;
use crate::format::table::data::Interval;
use crate::table::checkpoint::Piece;
use crate::table::merge::Retain;
use crate::table::sort::Sorter;
use crate::table::store::Store;
use crate::table::tests::{BRANCH, LOG_ID, memory_dir, new_store};

const TO: u64 = 4096 + 8;

fn entry(begin: u64, end: Option<u64>) -> Entry {
    let end = end.map(|lsn| End { lsn: Lsn::new(lsn), prepared: Lsn::new(8192), clean: true });
    Entry { incarnation: BRANCH, key: 1, begin: Lsn::new(begin), end }
}

/// A directory with one layer, which ends at [`TO`].
fn one_layer() -> (Arc<dyn Dir>, Store) {
    let dir = memory_dir();
    let store = new_store(&dir);
    let mut batch = BatchBuilder::new();
    batch.create_keyspace(0, "k").unwrap();
    batch.put(0, b"key", b"value").unwrap();
    let (mut sorter, mut keyspaces, to) = (Sorter::default(), KeyspaceList::default(), Lsn::new(TO));
    sorter.add(to, &batch.batch());
    keyspaces.add(to, &batch.batch());
    let (interval, writes) = (Interval { from: Lsn::ZERO, to }, sorter.finish());
    let horizon = Retain { floor: to, ..Retain::default() };
    let piece = Piece { interval, branch: BRANCH, writes, ranges: Vec::new(), keyspaces, horizon, log_bytes: TO };
    store.write_layer(piece, u64::MAX).unwrap().install(|oldest| oldest, |_| ()).unwrap();
    (dir, store)
}

fn known(incarnations: &[Entry]) -> Known<'_> {
    Known { log_id: LOG_ID, has_tables: true, names: None, oldest: Lsn::ZERO, incarnations }
}

fn look(dir: &dyn Dir, known: Known<'_>) -> Result<Option<Layers>> {
    read(Place { dir: Some(dir), path: Path::new("db/table") }, known)
}

#[track_caller]
fn damage(result: Result<Option<Layers>>, file: &str, cause: DamageCause) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    let damage = error.damage().unwrap();
    assert_eq!((damage.file.as_path(), damage.cause), (Path::new(file), cause), "{error}");
}

const MANIFEST: &str = "db/table/MANIFEST";

#[test]
fn layers_are_found_and_told_from_those_that_history_names() {
    let (dir, store) = one_layer();
    let stack = store.stack().unwrap();
    let open = [entry(4096, None)];
    let named = Some((stack.manifest.generation, stack.crc));
    for (names, is_named) in [(None, false), (named, true)] {
        let layers = look(&*dir, Known { names, ..known(&open) }).unwrap().unwrap();
        assert_eq!((layers.is_named, &layers.stack.manifest), (is_named, &stack.manifest));
        assert_eq!(layers.stack.keyspaces, stack.keyspaces);
    }
    // A later one than HISTORY names is written again.
    store.begin().install(|_| Ok(crate::table::store::Chosen::of(&stack)), |_| ()).unwrap();
    assert!(!look(&*dir, Known { names: named, ..known(&open) }).unwrap().unwrap().is_named);
}

#[test]
fn a_manifest_that_need_not_be_there() {
    let (dir, open) = (memory_dir(), [entry(4096, None)]);
    for has_tables in [false, true] {
        let known = Known { has_tables, ..known(&open) };
        assert!(look(&*dir, known).unwrap().is_none());
        assert!(read(Place { dir: None, path: Path::new("db/table") }, known).unwrap().is_none());
    }
    damage(look(&*dir, Known { names: Some((1, 7)), ..known(&open) }), MANIFEST, DamageCause::MissingTable);
    // Another program's, which the bit would make ours.
    let file = dir.open(OsStr::new(FILE_NAME), Access::Create).unwrap();
    for length in [0, 5, 300] {
        write_all_at(&*file, &vec![b'#'; length], 0).unwrap();
        assert!(look(&*dir, Known { has_tables: false, ..known(&open) }).unwrap().is_none(), "{length}");
        damage(look(&*dir, known(&open)), MANIFEST, DamageCause::BadTable);
    }
}

/// A directory in the place of a file is no file of ours, and no error of the system.
#[test]
fn what_is_no_file_is_told_by_row() {
    let (dir, open) = (memory_dir(), [entry(4096, None)]);
    dir.child(OsStr::new(FILE_NAME), Access::Create).unwrap();
    assert!(look(&*dir, Known { has_tables: false, ..known(&open) }).unwrap().is_none());
    damage(look(&*dir, known(&open)), MANIFEST, DamageCause::ForeignTable);
    let (dir, store) = one_layer();
    let name = file_name(store.stack().unwrap().manifest.layers[0].runs[0].file.number, FileKind::Run);
    dir.remove(OsStr::new(&name)).unwrap();
    dir.child(OsStr::new(&name), Access::Create).unwrap();
    damage(look(&*dir, known(&open)), &format!("db/table/{name}"), DamageCause::ForeignTable);
    let stack = store.stack().unwrap();
    let layer = &stack.manifest.layers[0];
    let error = store.open_run(&layer.runs[0], layer.interval).unwrap_err();
    assert_eq!(error.damage().unwrap().cause, DamageCause::ForeignTable);
}

#[test]
fn a_manifest_that_rots_or_is_newer() {
    let open = [entry(4096, None)];
    let change = |at: u64, byte: u8, is_sound: bool| {
        let (dir, _store) = one_layer();
        let file = dir.open(OsStr::new(FILE_NAME), Access::Write).unwrap();
        write_all_at(&*file, &[byte], at).unwrap();
        if is_sound {
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            crate::disk::read_exact_at(&*file, &mut bytes, 0).unwrap();
            write_all_at(&*file, &crc32fast::hash(&bytes[12..]).to_le_bytes(), 8).unwrap();
        }
        look(&*dir, known(&open))
    };
    for at in [8, 20, 50, 120, 260] {
        damage(change(at, 0xA5, false), MANIFEST, DamageCause::BadTable);
    }
    for (at, byte) in [(12, 2), (24, 1)] {
        assert_eq!(change(at, byte, true).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    // HISTORY names one, and there is not even a directory.
    let none = read(Place { dir: None, path: Path::new("db/table") }, Known { names: Some((1, 7)), ..known(&open) });
    damage(none, MANIFEST, DamageCause::MissingTable);
}

#[test]
fn a_manifest_without_the_bit_shows_that_history_is_older() {
    let (dir, _store) = one_layer();
    let open = [entry(4096, None)];
    damage(look(&*dir, Known { has_tables: false, ..known(&open) }), "db/HISTORY", DamageCause::BadHistory);
}

#[test]
fn a_manifest_of_another_branch_or_time_is_refused() {
    let (dir, store) = one_layer();
    let stack = store.stack().unwrap();
    let other = Entry { incarnation: Incarnation { nonce: 10, ..BRANCH }, ..entry(4096, None) };
    for entries in
        [vec![], vec![other], vec![entry(TO, None)], vec![entry(4096, Some(4096))], vec![entry(0, Some(TO - 8))]]
    {
        damage(look(&*dir, known(&entries)), MANIFEST, DamageCause::ForeignTable);
    }
    for entries in [[entry(4096, Some(TO))], [entry(0, None)]] {
        assert!(look(&*dir, known(&entries)).unwrap().is_some());
    }
    let open = [entry(4096, None)];
    damage(look(&*dir, Known { log_id: LogId([8; 16]), ..known(&open) }), MANIFEST, DamageCause::ForeignTable);
    assert!(look(&*dir, Known { oldest: Lsn::new(TO), ..known(&open) }).unwrap().is_some());
    damage(look(&*dir, Known { oldest: Lsn::new(TO + 8), ..known(&open) }), MANIFEST, DamageCause::ForeignTable);
    let generation = stack.manifest.generation;
    for names in [(generation, !stack.crc), (generation + 1, stack.crc)] {
        damage(look(&*dir, Known { names: Some(names), ..known(&open) }), MANIFEST, DamageCause::ForeignTable);
    }
}

#[test]
fn a_file_that_manifest_names_is_there_as_it_was() {
    let open = [entry(4096, None)];
    for kind in [FileKind::Run, FileKind::Keyspaces] {
        let (dir, store) = one_layer();
        let manifest = store.stack().unwrap().manifest.clone();
        let number =
            if kind == FileKind::Run { manifest.layers[0].runs[0].file.number } else { manifest.keyspaces.number };
        let name = file_name(number, kind);
        let path = format!("db/table/{name}");
        let file = dir.open(OsStr::new(&name), Access::Write).unwrap();
        let length = file.len().unwrap();
        file.set_len(length - 1).unwrap();
        damage(look(&*dir, known(&open)), &path, DamageCause::ForeignTable);
        file.set_len(length).unwrap();
        if kind == FileKind::Keyspaces {
            damage(look(&*dir, known(&open)), &path, DamageCause::BadTable);
        } else {
            // The content of runs is looked at when they are used.
            assert!(look(&*dir, known(&open)).unwrap().is_some());
        }
        dir.remove(OsStr::new(&name)).unwrap();
        damage(look(&*dir, known(&open)), &path, DamageCause::MissingTable);
    }
}
