//! Databases that builds before tables wrote: their first checkpoint, cut off at each of its calls. Whatever is left opens with
//! everything. A build before tables either refuses it by name, or has everything in the log.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crashkit::{DB, open_on};
use forelog::sim::{self, CrashPoint, Granularity, Loss, Persona, SimDisk};
use forelog::{Checkpoints, Engine, LossBudget, Options, ReadOnlyOptions};
use forelog_sim::faults::tables::reference::Reference;

use script::{FIXTURES, Fixture, SEGMENT_BYTES, State, checkout, root};

#[path = "../format/script.rs"]
#[allow(dead_code, reason = "its writer is another test's")]
mod script;

const HISTORY: &str = "db/HISTORY";
const MANIFEST: &str = "db/table/MANIFEST";

/// What a build says of a HISTORY that knows no bit, in the order of its checks (DECISIONS.md, section 1, F6): the bits that it does
/// not know.
fn refused_before_tables(history: &[u8]) -> Option<u64> {
    let number = |at: usize| u32::from_le_bytes(history[at..at + 4].try_into().unwrap());
    assert_eq!(history[..8], *b"forehist");
    assert_eq!(number(8), crc32fast::hash(&history[12..]));
    assert_eq!(number(12), 1, "the version");
    let bits = u64::from_le_bytes(history[24..32].try_into().unwrap());
    (bits != 0).then_some(bits)
}

fn options() -> Options {
    let hour = Duration::from_secs(3600);
    let budget = LossBudget::default().max_age(hour);
    let options = Options::new().create(false).checkpoints(Checkpoints::OnRequest);
    options.segment_bytes(SEGMENT_BYTES).flush_interval(hour).loss_budget(budget)
}

fn loaded(fixture: &Fixture) -> SimDisk {
    let disk = SimDisk::new();
    for entry in std::fs::read_dir(root().join(fixture.name)).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        disk.write_file(Path::new(DB).join(path.file_name().unwrap()), &bytes).unwrap();
    }
    disk
}

fn state_of(engine: &Engine) -> State {
    let snapshot = engine.snapshot().unwrap();
    let entries_of = |name: &String| {
        let keyspace = snapshot.keyspace(name).unwrap().unwrap();
        let entries = || snapshot.iter(&keyspace).unwrap().map(Result::unwrap);
        let there: Vec<_> = entries().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let back: Vec<_> = entries().rev().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert!(there.iter().rev().eq(&back));
        let is_there =
            |(key, value): &(Vec<u8>, Vec<u8>)| snapshot.get(&keyspace, key).unwrap().as_deref() == Some(value);
        assert!(there.iter().all(is_there));
        there.into_iter().collect()
    };
    let names = snapshot.keyspace_names().unwrap();
    names.iter().map(|name| (name.clone(), entries_of(name))).collect()
}

/// Opens the fixture, and makes its first checkpoint. The disk at each change of that, and behind the last one.
fn cuts_of(fixture: &Fixture) -> Vec<CrashPoint> {
    let disk = loaded(fixture);
    let cuts: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
    let noted = Arc::clone(&cuts);
    disk.on_op(move |disk, _| noted.lock().unwrap().push(disk.crash_point()));
    sim::run(1, || {
        let engine = open_on(&disk, options()).unwrap();
        engine.checkpoint().unwrap();
        assert!(state_of(&engine) == fixture.state(), "{}", fixture.name);
        disk.clear_on_op();
        cuts.lock().unwrap().push(disk.crash_point());
    });
    std::mem::take(&mut *cuts.lock().unwrap())
}

/// What a kill and power losses leave.
fn images(cut: &CrashPoint, number: u64) -> Vec<SimDisk> {
    let losses =
        [Loss::Everything, Loss::Nothing].into_iter().chain((0..2).map(|seed| Loss::Seeded(number * 2 + seed)));
    let lost = losses.zip(Persona::ALL.iter().cycle());
    let lost = lost.map(|(loss, persona)| cut.power_loss_on(persona, &loss, Granularity::Sector));
    [cut.process_kill()].into_iter().chain(lost).collect()
}

/// Opens what is left, in this build and as a build before tables would; says whether that one refuses it.
fn check(image: &SimDisk, fixture: &Fixture, what: &str) -> bool {
    let expected = fixture.state();
    let copy = || image.crash_point().process_kill();
    let unknown = refused_before_tables(&image.read_file(HISTORY).unwrap());
    if unknown.is_none() {
        // It leaves `table/` alone, and needs the whole log.
        let without = copy();
        let of_tables = without.files().into_iter().map(|(path, _)| path).filter(|path| path.starts_with("db/table"));
        of_tables.for_each(|path| without.delete(path).unwrap());
        let engine = open_on(&without, options()).unwrap_or_else(|error| panic!("{what}, from the log alone: {error}"));
        assert!(state_of(&engine) == expected, "{what}, from the log alone");
    } else {
        assert_eq!(unknown, Some(1), "{what}: the bit of tables alone");
    }
    ReadOnlyOptions::new().verify_on(Arc::new(copy()), DB).unwrap_or_else(|error| panic!("{what}: {error}"));
    let opened = copy();
    let engine = open_on(&opened, options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(state_of(&engine) == expected, "{what}");
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open_on(&opened, options()).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert!(state_of(&engine) == expected, "{what}, again");
    unknown.is_some()
}

#[test]
fn the_first_checkpoint_of_a_database_of_version_1_may_be_cut_off_at_each_call() {
    for fixture in &FIXTURES {
        let cuts = cuts_of(fixture);
        let (mut seen, mut refused) = (HashSet::new(), 0);
        for (number, cut) in cuts.iter().enumerate() {
            for image in images(cut, number as u64) {
                if seen.insert(image.image_hash()) {
                    let what = format!("{}, cut at {number} of {}", fixture.name, cuts.len());
                    refused += u32::from(check(&image, fixture, &what));
                }
            }
        }
        println!("{}: {} cuts, {} images, {refused} have the bit", fixture.name, cuts.len(), seen.len());
        let done = cuts.last().unwrap().process_kill();
        let has_table = done.read_file(MANIFEST).is_ok();
        // Without a record there is nothing to put into a table, and the old build goes on.
        assert_eq!(has_table, fixture.name != "empty");
        assert_eq!(refused_before_tables(&done.read_file(HISTORY).unwrap()), has_table.then_some(1));
        assert!(!has_table || (refused > 0 && (refused as usize) < seen.len()), "{}: {refused}", fixture.name);
    }
}

/// The tables fixture: all files of the reference that has every kind of file, layer, block and entry, and beside them each entry
/// with the length and the checksum of its value.
#[test]
#[ignore = "writes the fixture again: what a later build would write in its place proves nothing about the earlier one"]
fn write_the_fixture_of_tables() {
    let reference = Reference::of_every_kind();
    let root = checkout().join("tests/fixtures/v1-tables");
    for (path, bytes) in reference.disk.files() {
        let components = path.components().skip(1);
        let to = root.join("kinds").join(components.collect::<PathBuf>());
        if to.ends_with("LOCK") {
            continue;
        }
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let mut lines = String::new();
    for (name, entries) in &reference.state {
        lines += &format!("{name}\n");
        for (key, value) in entries {
            let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            lines += &format!("  {key} {} {:08x}\n", value.len(), crc32fast::hash(value));
        }
    }
    std::fs::write(root.join("kinds.entries"), lines).unwrap();
}
