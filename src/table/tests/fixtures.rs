//! The files of the fixtures are what this build writes of what is in them, byte for byte: the format has not moved.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory_dir;
use crate::base::error::Error;
use crate::disk::{Access, Dir, Disk, OsDisk, read_exact_at};
use crate::format::history::History;
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{Manifest, Role};
use crate::table::dir::TableFile;
use crate::table::gate::Gate;
use crate::table::run::read::{Part, Run};
use crate::table::run::write::RunWriter;

/// The package that is tested may be `tests/sim`.
fn fixtures() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = |dir: &Path| dir.join("tests/fixtures");
    package.ancestors().map(fixtures).find(|dir| dir.is_dir()).expect("a package of the checkout")
}

fn bytes_of(dir: &dyn Dir, name: &OsStr) -> Vec<u8> {
    let file = dir.open(name, Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

/// What a writer makes of all that is in a run.
fn written_again(path: &Path, name: &OsStr) -> Vec<u8> {
    let from = OsDisk.open_dir(path).unwrap();
    let run = Run::open(from.open(name, Access::Read).unwrap(), &path.join(name)).unwrap();
    let to = memory_dir();
    let file = to.open(name, Access::Create).unwrap();
    let file = TableFile::new(file, PathBuf::from(name), Arc::new(Gate::new(|| Ok(()))));
    let mut writer = RunWriter::new(file, Arc::default(), run.footer.header);
    run.walk(|part| match part {
        Part::Entry(key, version) => writer.push(key, *version),
        Part::Bad(error) => Err::<(), Error>(error.clone()),
        Part::Partition(_) | Part::Block(_) => Ok(()),
    })
    .unwrap();
    writer.push_ranges(run.range_tombstones.iter().cloned());
    writer.finish(run.root.range.clone(), run.root.reach.clone(), run.root.witnesses.clone()).unwrap();
    bytes_of(&*to, name)
}

#[test]
fn files_of_tables_are_written_as_they_were() {
    let path = fixtures().join("v1-tables/kinds/table");
    let dir = OsDisk.open_dir(&path).unwrap();
    let (mut runs, mut lists) = (0, 0);
    for name in dir.list().unwrap() {
        let bytes = bytes_of(&*dir, &name);
        let again = match name.to_str().unwrap().rsplit_once('.') {
            Some((_, "run")) => {
                runs += 1;
                written_again(&path, &name)
            }
            Some((_, "keys")) => {
                lists += 1;
                Keyspaces::decode(&bytes).unwrap().to_bytes()
            }
            _ => {
                assert_eq!(name, "MANIFEST");
                let manifest = Manifest::decode(&bytes).unwrap();
                assert!(manifest.layers.iter().any(|layer| matches!(layer.role, Role::Output { .. })));
                manifest.to_bytes()
            }
        };
        assert!(again == bytes, "{name:?} is written in another way");
    }
    assert!(runs > 3 && lists == 1, "{runs} runs, {lists} lists");
}

#[test]
fn histories_are_written_as_they_were() {
    let mut found = 0;
    for version in ["v1", "v1-tables"] {
        let root = OsDisk.open_dir(&fixtures().join(version)).unwrap();
        for name in root.list().unwrap() {
            let Ok(dir) = root.child(&name, Access::Read) else { continue };
            let bytes = bytes_of(&*dir, OsStr::new("HISTORY"));
            let history = History::decode(&bytes).unwrap();
            assert!(history.to_bytes() == bytes, "{name:?}");
            let names_one = history.tables.is_some_and(|tables| tables.names.is_some());
            assert_eq!(names_one, version == "v1-tables", "{name:?}");
            found += 1;
        }
    }
    assert!(found >= 9, "{found}");
}
