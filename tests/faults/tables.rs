//! Damage in `table/`: whatever it is, `verify` and an open refuse it or give what was there; and a salvage gives of no key
//! an older state than the newest one that was acknowledged, without a report that covers it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crashkit::{DB, Random, open_on, wait_until};
use forelog::salvage::{Completeness, LossCause, Salvaged};
use forelog::scrub::ScrubOptions;
use forelog::sim::{self, CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, SimDisk};
use forelog::{
    Checkpoints, CommitMode, DamageCause, Engine, Error, ErrorKind, LossBudget, Options, ReadOnly, ReadOnlyOptions,
};

mod bounds;
mod proof;
mod scrub;

const TO: &str = "saved";

fn options() -> Options {
    let hour = Duration::from_secs(3600);
    let budget = LossBudget::default().max_age(hour);
    // A request does the merges that are due before it returns.
    let checkpoints = Checkpoints::OnRequest;
    Options::new().segment_bytes(8192).checkpoints(checkpoints).flush_interval(hour).loss_budget(budget)
}

/// Keyspace and key.
type Place = (String, Vec<u8>);
/// The newest write to each place: its LSN, and the value unless it was deleted.
type Newest = BTreeMap<Place, (u64, Option<Vec<u8>>)>;
type State = BTreeMap<Place, Vec<u8>>;

/// A database that is written, and what was written.
struct Work {
    disk: SimDisk,
    engine: Engine,
    newest: Newest,
    /// The names of keyspaces by their ids.
    names: BTreeMap<u32, String>,
}

impl Work {
    fn new() -> Self {
        let disk = SimDisk::new();
        let engine = open_on(&disk, options()).unwrap();
        Work { disk, engine, newest: Newest::new(), names: BTreeMap::new() }
    }

    fn create(&mut self, name: &str) {
        self.engine.create_keyspace(name).unwrap();
        let id = u32::try_from(self.names.len()).unwrap() + 1;
        self.names.insert(id, name.to_owned());
    }

    fn drop_keyspace(&mut self, name: &str) {
        self.engine.drop_keyspace(name).unwrap();
        self.newest.retain(|(keyspace, _), _| keyspace != name);
    }

    fn write(&mut self, name: &str, key: impl AsRef<[u8]>, value: Option<Vec<u8>>) {
        let keyspace = self.engine.open_keyspace(name).unwrap();
        let mut batch = self.engine.batch().unwrap();
        match &value {
            Some(value) => batch.put(&keyspace, key.as_ref(), value).unwrap(),
            None => batch.delete(&keyspace, key.as_ref()).unwrap(),
        }
        let lsn = batch.commit_with(CommitMode::Sync).unwrap().lsn().get();
        self.newest.insert((name.to_owned(), key.as_ref().to_vec()), (lsn, value));
    }

    /// What a kill leaves.
    fn finish(self) -> Reference {
        self.left(|crash| crash.process_kill())
    }

    fn left(self, crash: impl FnOnce(CrashPoint) -> SimDisk) -> Reference {
        let state = contents(&self.engine);
        let disk = crash(self.disk.crash_point());
        drop(self.engine);
        let reference = Reference { disk, newest: self.newest, names: self.names };
        assert!(reference.state() == state);
        reference
    }
}

fn contents(engine: &Engine) -> State {
    try_contents(engine).unwrap()
}

fn try_contents(engine: &Engine) -> Result<State, Error> {
    let snapshot = engine.snapshot()?;
    let mut all = State::new();
    for name in snapshot.keyspace_names()? {
        let keyspace = snapshot.keyspace(&name)?.unwrap();
        for entry in snapshot.iter(&keyspace)? {
            let (key, value) = entry?;
            all.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    Ok(all)
}

/// All that was read without an open.
fn read_all(seen: &ReadOnly) -> Result<State, Error> {
    let mut all = State::new();
    for name in seen.keyspace_names()? {
        for entry in seen.iter(&name)? {
            let (key, value) = entry?;
            all.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    Ok(all)
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash_point().process_kill()
}

/// What a salvage saved, under the names that the keyspaces had.
fn saved(disk: &SimDisk, salvaged: &Salvaged, names: &BTreeMap<u32, String>) -> State {
    let engine = Options::new().create(false).open_on(Arc::new(disk.clone()), TO).unwrap();
    let old = |name: String| {
        let renamed = salvaged.renamed.iter().find(|renamed| renamed.name == name);
        renamed.map_or(name, |renamed| names[&renamed.id].clone())
    };
    contents(&engine).into_iter().map(|((name, key), value)| ((old(name), key), value)).collect()
}

struct Reference {
    disk: SimDisk,
    newest: Newest,
    names: BTreeMap<u32, String>,
}

impl Reference {
    fn state(&self) -> State {
        let alive = self.newest.iter().filter_map(|(place, (_, value))| Some((place.clone(), value.clone()?)));
        alive.collect()
    }

    /// The files in `table/`.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let table = Path::new(DB).join("table");
        self.disk.files().into_iter().filter(|(path, _)| path.starts_with(&table)).collect()
    }

    fn file(&self, suffix: &str) -> Vec<PathBuf> {
        let paths = self.files().into_iter().map(|(path, _)| path);
        paths.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
    }

    fn damaged(&self, harm: impl FnOnce(&SimDisk)) -> SimDisk {
        let disk = copy(&self.disk);
        harm(&disk);
        disk
    }

    /// A reading of all without an open and in one, and a look at everything: a refusal that is typed, or the state as it was.
    /// What can be read is right all the same.
    fn check_open(&self, disk: &SimDisk, what: &str) -> bool {
        let verified = ReadOnlyOptions::new().verify_on(Arc::new(disk.clone()), DB);
        let seen = Engine::read_only_on(Arc::new(disk.clone()), DB).and_then(|seen| {
            let found = read_all(&seen)?;
            assert!(found == self.state(), "{what}: read another state");
            Ok(seen)
        });
        assert!(verified.is_err() || seen.is_ok(), "{what}: sound, and cannot be read: {seen:?}");
        let opened = open_on(&copy(disk), options());
        let opened = opened.and_then(|engine| {
            self.check_reads(&engine, what);
            try_contents(&engine)
        });
        match (seen, opened) {
            (Ok(_), Ok(found)) => {
                assert!(found == self.state(), "{what}: opened with another state");
                true
            }
            (Err(seen), Err(opened)) => {
                assert_eq!(seen.kind(), opened.kind(), "{what}: {seen}, {opened}");
                assert!(matches!(seen.kind(), ErrorKind::Damaged | ErrorKind::Io), "{what}: {seen:?}");
                // Before HISTORY names a MANIFEST, what is missed without one is the log.
                let misses_log = seen.damage().is_some_and(|damage| damage.cause == DamageCause::MissingSegment);
                assert!(misses_log || seen.to_string().contains("table"), "{what}: {seen}");
                assert!(seen.kind() != ErrorKind::Damaged || seen.to_string().contains("forelog salvage"), "{seen}");
                false
            }
            (seen, opened) => panic!("{what}: read only {:?}, open {:?}", seen.err(), opened.err()),
        }
    }

    /// Each key is as it was, or cannot be read, with the reason.
    fn check_reads(&self, engine: &Engine, what: &str) {
        let snapshot = engine.snapshot().unwrap();
        for ((name, key), (_, value)) in &self.newest {
            let Some(keyspace) = snapshot.keyspace(name).unwrap() else { continue };
            match snapshot.get(&keyspace, key) {
                Ok(found) => assert_eq!(found.as_deref(), value.as_deref(), "{what}: {name} {key:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {name} {key:?}: {error}"),
            }
        }
    }

    /// Salvages, and returns what was saved with the places of which it is not the newest.
    fn salvage(&self, disk: &SimDisk, what: &str) -> (Salvaged, Vec<Place>) {
        let before: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with(DB)).collect();
        let salvaged = Engine::salvage_on(Arc::new(disk.clone()), DB, TO);
        let salvaged = salvaged.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let after: Vec<_> = disk.files().into_iter().filter(|(path, _)| path.starts_with(DB)).collect();
        assert!(before == after, "{what}: salvage changed what it read");
        let mut found = saved(disk, &salvaged, &self.names);
        let mut lost = Vec::new();
        for (place, (lsn, value)) in &self.newest {
            if found.remove(place) != *value {
                assert!(is_told(&salvaged, place, *lsn), "{what}: {place:?} of {lsn} is not told: {salvaged:?}");
                lost.push(place.clone());
            }
        }
        for (name, key) in found.keys() {
            let is_renamed = salvaged.renamed.iter().any(|renamed| self.names[&renamed.id] == *name);
            assert!(is_renamed, "{what}: {name} {key:?} was dropped: {salvaged:?}");
        }
        if salvaged.is_complete() {
            assert!(lost.is_empty() && salvaged.completeness != Completeness::Holes, "{what}: {salvaged:?}");
        }
        (salvaged, lost)
    }
}

fn is_told(salvaged: &Salvaged, (name, key): &Place, lsn: u64) -> bool {
    let in_log = salvaged.lost.iter().any(|lost| lost.from.get() < lsn && lost.to.is_none_or(|to| lsn <= to.get()));
    let in_tables = salvaged.lost_keys.iter().any(|lost| {
        let is_there = lost.keyspace.as_ref().is_none_or(|keyspace| keyspace == name);
        let is_in = lost.first <= *key && lost.end.as_ref().is_none_or(|end| key < end);
        is_there && is_in && lost.from.get() < lsn && lsn <= lost.to.get()
    });
    in_log || in_tables
}

/// Two layers, several keyspaces, one of them dropped before and one behind the newer layer; deletions; and log above.
fn reference() -> Reference {
    sim::run(1, || {
        let mut work = Work::new();
        for name in ["a", "gone", "b", "later gone"] {
            work.create(name);
        }
        for number in 0..120_u32 {
            for name in ["a", "b"] {
                work.write(name, number.to_be_bytes(), Some(vec![1; 150]));
            }
        }
        for number in 0..5_u32 {
            work.write("gone", number.to_be_bytes(), Some(vec![1; 10]));
            work.write("later gone", number.to_be_bytes(), Some(vec![1; 10]));
        }
        work.engine.checkpoint().unwrap();
        work.drop_keyspace("gone");
        work.create("c");
        for number in (0..120_u32).step_by(4) {
            work.write("a", number.to_be_bytes(), Some(vec![2; 100]));
            work.write("b", (number + 1).to_be_bytes(), None);
            work.write("c", number.to_be_bytes(), Some(vec![2; 150]));
        }
        work.engine.checkpoint().unwrap();
        work.drop_keyspace("later gone");
        work.create("d");
        for number in (0..120_u32).step_by(9) {
            work.write("b", number.to_be_bytes(), Some(vec![3; 20]));
            work.write("c", number.to_be_bytes(), None);
            work.write("d", number.to_be_bytes(), Some(vec![3; 20]));
        }
        work.finish()
    })
}

#[test]
fn a_database_with_layers_is_saved_as_a_whole() {
    let reference = reference();
    assert_eq!(reference.file(".run").len(), 2);
    let disk = copy(&reference.disk);
    assert!(reference.check_open(&disk, "whole"));
    let (salvaged, lost) = reference.salvage(&disk, "whole");
    assert!(lost.is_empty() && salvaged.is_complete() && salvaged.renamed.is_empty(), "{salvaged:?}");
    assert_eq!(salvaged.completeness, Completeness::Prefix);
    assert!(salvaged.entries > 200 && salvaged.commits > 0, "{salvaged:?}");
}

#[test]
fn a_flipped_bit_in_a_file_of_the_tables_costs_at_most_a_block() {
    let reference = reference();
    let mut random = Random::new(7);
    for (path, bytes) in reference.files() {
        let length = bytes.len() as u64;
        let is_run = path.extension().is_some_and(|extension| extension == "run");
        let ends = (0..512).chain(length.saturating_sub(700)..length).step_by(9);
        let sample: Vec<u64> =
            if is_run { ends.chain((0..length).step_by(331)).collect() } else { (0..length).step_by(3).collect() };
        for at in sample {
            let what = format!("{} at {at} of {length}", path.display());
            let disk = reference.damaged(|disk| disk.flip_bit(&path, at * 8 + random.next() % 8).unwrap());
            let opens = reference.check_open(&disk, &what);
            let (salvaged, lost) = reference.salvage(&disk, &what);
            assert!(!salvaged.is_complete() || opens, "{what}: silent");
            assert!(lost.len() <= 60, "{what}: {} places are lost", lost.len());
            assert!(is_run || lost.is_empty(), "{what}: {lost:?}");
        }
    }
}

#[test]
fn a_file_of_the_tables_that_is_gone_cut_or_replaced_is_told() {
    let reference = reference();
    let other = {
        let mut work = Work::new();
        work.create("a");
        work.write("a", "key", Some(vec![9; 9000]));
        work.engine.checkpoint().unwrap();
        work.finish()
    };
    let files = reference.files();
    let mut random = Random::new(8);
    for (path, bytes) in &files {
        let name = path.display();
        let is_needed = {
            let disk = reference.damaged(|disk| disk.delete(path).unwrap());
            let opens = reference.check_open(&disk, &format!("{name} deleted"));
            let (salvaged, lost) = reference.salvage(&disk, &format!("{name} deleted"));
            assert!(opens || !salvaged.is_complete(), "{name} deleted: silent");
            let is_run = path.extension().is_some_and(|extension| extension == "run");
            assert_eq!(is_run, !lost.is_empty(), "{name} deleted: {lost:?}");
            !opens
        };
        for _ in 0..15 {
            let length = random.below(bytes.len());
            let what = format!("{name} cut to {length}");
            let disk = reference.damaged(|disk| disk.truncate(path, length as u64).unwrap());
            assert_eq!(reference.check_open(&disk, &what), !is_needed, "{what}");
            let (salvaged, _) = reference.salvage(&disk, &what);
            assert!(!is_needed || !salvaged.is_complete(), "{what}: silent");
        }
        let mut contents = vec![("longer", [bytes.as_slice(), &[0; 4096]].concat()), ("zeros", vec![0; bytes.len()])];
        contents.extend(files.iter().filter(|(is, _)| is != path).map(|(_, bytes)| ("another", bytes.clone())));
        contents.extend(other.files().into_iter().map(|(_, bytes)| ("another database's", bytes)));
        for (kind, content) in contents {
            let what = format!("{name} replaced by {kind}");
            let disk = reference.damaged(|disk| disk.write_file(path, &content).unwrap());
            assert_eq!(reference.check_open(&disk, &what), !is_needed, "{what}");
            let (salvaged, lost) = reference.salvage(&disk, &what);
            assert!(!is_needed || !salvaged.is_complete(), "{what}: silent");
            assert!(kind != "longer" || lost.is_empty(), "{what}: {lost:?}");
        }
    }
}

#[test]
fn runs_under_each_others_names_are_used() {
    let reference = reference();
    let runs = reference.file(".run");
    let disk = reference.damaged(|disk| {
        for (from, to) in [(0, 1), (1, 0)] {
            disk.write_file(&runs[to], &reference.disk.read_file(&runs[from]).unwrap()).unwrap();
        }
    });
    assert!(!reference.check_open(&disk, "swapped"));
    let (salvaged, lost) = reference.salvage(&disk, "swapped");
    assert!(lost.is_empty() && salvaged.bad_files.len() == 2, "{salvaged:?}");
}

#[test]
fn without_manifest_the_runs_say_what_they_are() {
    let reference = reference();
    let manifest = Path::new(DB).join("table/MANIFEST");
    for history in [true, false] {
        let disk = reference.damaged(|disk| {
            disk.delete(&manifest).unwrap();
            if !history {
                disk.delete(format!("{DB}/HISTORY")).unwrap();
            }
        });
        let what = format!("no MANIFEST, history {history}");
        let (salvaged, lost) = reference.salvage(&disk, &what);
        assert!(lost.is_empty() && salvaged.renamed.is_empty(), "{what}: {lost:?}, {salvaged:?}");
        assert_eq!(salvaged.completeness, Completeness::Unproven, "{what}: {salvaged:?}");
        for run in reference.file(".run") {
            let disk = emptied(&disk);
            disk.delete(&run).unwrap();
            let what = format!("{what}, no {}", run.display());
            let (salvaged, lost) = reference.salvage(&disk, &what);
            assert!(!lost.is_empty() && salvaged.completeness == Completeness::Holes, "{what}: {salvaged:?}");
        }
    }
}

/// A copy without what a salvage has made.
fn emptied(disk: &SimDisk) -> SimDisk {
    let disk = copy(disk);
    let made = disk.files().into_iter().filter(|(path, _)| path.starts_with(TO));
    made.for_each(|(path, _)| disk.delete(&path).unwrap());
    disk
}

#[test]
fn without_history_the_tables_are_used() {
    let reference = reference();
    let disk = reference.damaged(|disk| disk.delete(format!("{DB}/HISTORY")).unwrap());
    let (salvaged, lost) = reference.salvage(&disk, "no HISTORY");
    assert!(lost.is_empty() && salvaged.lost.is_empty() && salvaged.lost_keys.is_empty(), "{salvaged:?}");
    assert_eq!((salvaged.completeness, salvaged.bad_files.len()), (Completeness::Unproven, 1));
    // The log gone as well: what the layers have is left.
    let disk = emptied(&disk);
    let logs = disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "log"));
    logs.for_each(|(path, _)| disk.delete(&path).unwrap());
    let salvaged = Engine::salvage_on(Arc::new(disk.clone()), DB, TO).unwrap();
    assert!(salvaged.entries > 200 && salvaged.commits == 0, "{salvaged:?}");
    assert_eq!(salvaged.completeness, Completeness::Unproven);
}

/// A merge's inputs and its output, all there at once, as a power loss leaves them: what the merge dropped must not come
/// back.
#[test]
fn leftover_inputs_beside_the_output_of_their_merge_bring_nothing_back() {
    let reference = sim::run(2, || {
        let mut work = Work::new();
        work.create("a");
        for number in 0..40_u32 {
            work.write("a", number.to_be_bytes(), Some(vec![1; 60]));
        }
        work.engine.checkpoint().unwrap();
        for number in 0..40_u32 {
            work.write("a", number.to_be_bytes(), if number % 2 == 0 { None } else { Some(vec![2; 60]) });
        }
        work.engine.checkpoint().unwrap();
        work.left(|crash| crash.power_loss(&Loss::Everything, Granularity::Sector))
    });
    let runs = reference.file(".run");
    let [first, second, output] = runs.as_slice() else { panic!("{runs:?}") };
    let logs = reference
        .disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.extension().is_some_and(|end| end == "log"));
    let logs: Vec<_> = logs.collect();
    let salvage = |without: &[&PathBuf], manifest: bool| {
        let disk = reference.damaged(|disk| {
            without.iter().copied().chain(&logs).for_each(|path| disk.delete(path).unwrap());
            if !manifest {
                disk.delete(format!("{DB}/table/MANIFEST")).unwrap();
            }
        });
        let (salvaged, lost) = reference.salvage(&disk, &format!("without {without:?}, MANIFEST {manifest}"));
        (salvaged.entries, lost.len(), salvaged.lost_keys.len())
    };
    assert_eq!(salvage(&[], true), (20, 0, 0));
    // The list is older than the layers, and the log behind it is gone: keyspaces may have come and gone since.
    assert_eq!(salvage(&[], false), (20, 0, 1));
    // The one with the deletions is gone. What it deleted lives in the other, which the output covers.
    assert_eq!(salvage(&[second], false), (20, 0, 1));
    assert_eq!(salvage(&[first], false), (20, 0, 1));
    assert_eq!(salvage(&[first, second], false), (20, 0, 1));
    // The inputs say the same as the output.
    assert_eq!(salvage(&[output], false), (20, 0, 1));
    // MANIFEST knows the output only, whose inputs say the same where it is silent.
    assert_eq!(salvage(&[output], true), (20, 0, 0));
    assert_eq!(salvage(&[first, output], true), (20, 0, 1));
    assert_eq!(salvage(&[second, output], false), (40, 40, 0), "the log is lost behind it");
    assert_eq!(salvage(&[first, output], false), (20, 0, 2), "of this keyspace, and of any that no list knows");
}

/// The list of keyspaces is an older one, and the log still has what came since.
#[test]
fn keyspaces_that_no_list_has_are_known_from_the_log() {
    let reference = sim::run(4, || {
        let mut work = Work::new();
        work.create("a");
        work.create("gone");
        for number in 0..100_u32 {
            work.write("a", number.to_be_bytes(), Some(vec![1; 200]));
        }
        work.write("gone", "key", Some(vec![1]));
        work.engine.checkpoint().unwrap();
        work.create("c");
        work.drop_keyspace("gone");
        work.write("c", "key", Some(vec![2; 100]));
        work.engine.checkpoint().unwrap();
        work.write("c", "another", Some(vec![3]));
        // The removals are not durable: all segments are there, and both lists.
        work.left(|crash| crash.power_loss(&Loss::Everything, Granularity::Sector))
    });
    let lists = reference.file(".keys");
    let first =
        reference.disk.files().into_iter().map(|(path, _)| path).find(|path| path.ends_with("0000000000000000.log"));
    let disk = reference.damaged(|disk| {
        disk.delete(first.unwrap()).unwrap();
        disk.delete(lists.last().unwrap()).unwrap();
        disk.delete(format!("{DB}/table/MANIFEST")).unwrap();
    });
    assert_eq!(lists.len(), 2);
    let (salvaged, lost) = reference.salvage(&disk, "an older list");
    assert!(lost.is_empty() && salvaged.renamed.is_empty() && salvaged.lost_keys.is_empty(), "{salvaged:?}");
    let saved = Options::new().create(false).open_on(Arc::new(disk), TO).unwrap();
    assert_eq!(saved.keyspace_names().unwrap(), ["a", "c"]);
}

/// A checkpoint that was cut off has left a run, and the log has everything: nothing is missed.
#[test]
fn a_checkpoint_that_was_cut_off_hides_nothing_that_the_log_has() {
    let cuts = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&cuts);
    let newest = sim::run(3, || {
        let mut work = Work::new();
        for name in ["a", "gone"] {
            work.create(name);
        }
        for number in 0..60_u32 {
            work.write("a", number.to_be_bytes(), (number % 3 != 0).then(|| vec![1; 60]));
        }
        work.write("gone", "key", Some(vec![1]));
        work.drop_keyspace("gone");
        work.disk.on_op(move |disk, op| {
            if op.kind.mutates() {
                noted.lock().unwrap().push(disk.crash_point());
            }
        });
        work.engine.checkpoint().unwrap();
        work.disk.clear_on_op();
        (work.newest.clone(), work.names.clone())
    });
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    assert!(cuts.len() > 10);
    for (number, cut) in cuts.into_iter().enumerate() {
        let disk = cut.process_kill();
        let (newest, names) = newest.clone();
        let reference = Reference { disk: copy(&disk), newest, names };
        let what = format!("cut at {number}");
        assert!(reference.check_open(&disk, &what), "{what}");
        let (salvaged, lost) = reference.salvage(&disk, &what);
        assert!(lost.is_empty() && salvaged.is_complete() && salvaged.renamed.is_empty(), "{what}: {salvaged:?}");
        assert_eq!(salvaged.completeness, Completeness::Prefix, "{what}: {salvaged:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told_as_that() {
    let reference = reference();
    for path in reference.file(".run") {
        let length = reference.disk.read_file(&path).unwrap().len() as u64;
        for sector in (0..length).step_by(1536) {
            let disk = copy(&reference.disk);
            let bad = OpSelector::of(OpKind::Read).on(path.to_str().unwrap()).touching(sector..sector + 512);
            disk.inject(Fault::lasting(bad, FaultKind::Errno(5)));
            let what = format!("{} at {sector}", path.display());
            let (salvaged, _) = reference.salvage(&disk, &what);
            let unreadable = LossCause::Unreadable { os_error: Some(5) };
            assert!(salvaged.bad_files.iter().all(|bad| bad.file == path && bad.cause == unreadable), "{salvaged:?}");
            assert!(!salvaged.is_complete(), "{what}: silent");
        }
    }
}

/// A file of any length, most of which is a hole.
#[test]
fn a_file_made_very_long_is_no_reason_to_read_or_to_allocate_for_ever() {
    let reference = reference();
    for (path, bytes) in reference.files() {
        let disk = reference.damaged(|disk| {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + (64 << 20), 0);
            disk.write_file(&path, &longer).unwrap();
        });
        let what = format!("{} much longer", path.display());
        reference.check_open(&disk, &what);
        let (_, lost) = reference.salvage(&disk, &what);
        assert!(lost.is_empty(), "{what}: {lost:?}");
    }
}

fn fast() -> ScrubOptions {
    ScrubOptions::default().bytes_per_second(u64::MAX)
}

/// The reference, open, with its disk.
fn opened(reference: &Reference) -> (SimDisk, Engine) {
    let disk = copy(&reference.disk);
    let engine = open_on(&disk, options()).unwrap();
    (disk, engine)
}

#[test]
fn a_scrub_reads_the_tables_too() {
    let reference = reference();
    let (disk, engine) = opened(&reference);
    let before = disk.files();
    let progress = engine.scrub(fast()).unwrap().wait();
    assert_eq!((progress.findings, progress.stopped, progress.bytes), (0, false, progress.total_bytes));
    let runs = reference.file(".run").into_iter().map(|path| disk.read_file(path).unwrap().len() as u64);
    assert!(progress.total_bytes > runs.sum() && progress.blocks > 10, "{progress:?}");
    assert!(disk.files() == before, "a scrub changes nothing");
    for (path, _) in reference.files() {
        // The open has written MANIFEST again, and removed what it does not name.
        let Ok(bytes) = disk.read_file(&path) else { continue };
        let is_run = path.extension().is_some_and(|extension| extension == "run");
        for at in (0..bytes.len() as u64).step_by(if is_run { 397 } else { 11 }) {
            disk.flip_bit(&path, at * 8 + 1).unwrap();
            let scrub = engine.scrub(fast()).unwrap();
            let progress = scrub.wait();
            disk.flip_bit(&path, at * 8 + 1).unwrap();
            let what = format!("{} at {at}: {:?}", path.display(), scrub.findings());
            assert!(progress.findings == 1 && scrub.findings()[0].file == path, "{what}");
            assert!(scrub.findings()[0].offset.is_none_or(|offset| offset <= at), "{what}");
            assert_eq!(progress.bytes, progress.total_bytes, "{what}");
        }
        disk.delete(&path).unwrap();
        let scrub = engine.scrub(fast()).unwrap();
        assert_eq!(scrub.wait().findings, 1);
        assert_eq!((&scrub.findings()[0].file, scrub.findings()[0].cause), (&path, DamageCause::MissingTable));
        disk.write_file(&path, &bytes).unwrap();
        let read = OpSelector::of(OpKind::Read).on(path.to_str().unwrap());
        disk.inject(Fault::lasting(read, FaultKind::Errno(5)));
        let scrub = engine.scrub(fast()).unwrap();
        scrub.wait();
        assert!(scrub.findings().iter().all(|found| found.file == path && found.cause == DamageCause::Unreadable));
        assert!(!scrub.findings().is_empty());
        disk.clear_faults();
    }
    let scrub = engine.scrub(fast()).unwrap();
    assert_eq!(scrub.wait().findings, 0, "{:?}", scrub.findings());
}

#[test]
fn checkpoints_and_merges_go_on_under_a_scrub_and_take_no_file_from_it() {
    for seed in 0..8 {
        let (stayed, progress, findings, went, slow) = sim::run(seed, || {
            let mut work = Work::new();
            work.create("a");
            let round = |work: &mut Work, value: u8| {
                for number in 0..30_u32 {
                    work.write("a", number.to_be_bytes(), Some(vec![value; 200]));
                }
                work.engine.checkpoint().unwrap();
            };
            round(&mut work, 1);
            let is_run = |path: &PathBuf| path.extension().is_some_and(|end| end == "run");
            let held: Vec<_> = work.disk.files().into_iter().map(|(path, _)| path).filter(is_run).collect();
            let scrub = work.engine.scrub(ScrubOptions::default().bytes_per_second(2000)).unwrap();
            for value in 2..6 {
                sim::sleep(Duration::from_millis(100));
                round(&mut work, value);
            }
            let stayed = !scrub.progress().ended && held.iter().all(|path| work.disk.read_file(path).is_ok());
            let progress = scrub.wait();
            round(&mut work, 6);
            let went = held.iter().all(|path| work.disk.read_file(path).is_err());
            let slow = work.engine.scrub(ScrubOptions::default().bytes_per_second(1)).unwrap();
            work.engine.close().unwrap();
            (stayed, progress, scrub.findings(), went, slow.progress())
        });
        assert_eq!((progress.findings, progress.bytes), (0, progress.total_bytes), "{findings:?}");
        assert!(stayed, "a file was removed under the scrub");
        assert!(went, "they stay for ever");
        assert!(slow.ended && slow.stopped, "a close ends it");
    }
}

#[test]
fn what_is_in_memory_is_saved_whatever_became_of_the_tables() {
    let reference = reference();
    let (disk, engine) = opened(&reference);
    wait_until(|| engine.table_stats().all_in_memory);
    for path in reference.file(".run") {
        disk.flip_bit(&path, 1000 * 8).unwrap();
    }
    engine.checkpoint().ok();
    let copied = engine.save_to_on(Arc::new(disk.clone()), TO).unwrap();
    assert_eq!((copied.entries, copied.keyspaces), (reference.state().len() as u64, 4));
    let healed = Options::new().create(false).open_on(Arc::new(disk), TO).unwrap();
    assert!(contents(&healed) == reference.state());
    assert_eq!(healed.keyspace_names().unwrap(), ["a", "b", "c", "d"]);
}
