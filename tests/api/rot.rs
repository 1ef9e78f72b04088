//! Rot in tables of more data than memory: merges go round it, all else is read as ever, and there is a way out.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crashkit::{TempDir, error_of};
use forelog::{Checkpoints, CommitMode, DamageCause, Engine, ErrorKind, Keyspace, Options};

const COUNT: u32 = 80_000;

type Model = BTreeMap<[u8; 4], Vec<u8>>;

fn options() -> Options {
    let options = Options::new().memory_bytes(16 << 20).checkpoint_bytes(256 << 10).commit_mode(CommitMode::Written);
    options.checkpoints(Checkpoints::OnRequest)
}

fn put(engine: &Engine, keyspace: &Keyspace, model: &mut Model, keys: impl Iterator<Item = u32>, version: u8) {
    let keys: Vec<_> = keys.collect();
    for keys in keys.chunks(500) {
        let mut batch = engine.batch().unwrap();
        for key in keys {
            let value = vec![version; 100];
            batch.put(keyspace, key.to_be_bytes(), &value).unwrap();
            model.insert(key.to_be_bytes(), value);
        }
        batch.commit().unwrap();
    }
}

/// The keys that cannot be read. Each other one is as the model has it.
fn lost(engine: &Engine, keyspace: &Keyspace, model: &Model) -> Vec<[u8; 4]> {
    let snapshot = engine.snapshot().unwrap();
    let is_lost = |key: &&[u8; 4]| match snapshot.get(keyspace, key) {
        Ok(value) => {
            assert_eq!(value.as_deref(), Some(model[*key].as_slice()));
            false
        }
        Err(error) => {
            assert_eq!(error.damage().unwrap().cause, DamageCause::Lost, "{error}");
            true
        }
    };
    model.keys().filter(is_lost).copied().collect()
}

fn longest_run(db: &Path) -> PathBuf {
    let runs = fs::read_dir(db.join("table")).unwrap().map(|entry| entry.unwrap().path());
    let runs = runs.filter(|path| path.extension().is_some_and(|run| run == "run"));
    runs.max_by_key(|path| (fs::metadata(path).unwrap().len(), path.clone())).unwrap()
}

fn flip(file: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[!byte[0]], middle).unwrap();
}

#[test]
fn a_rotten_block_costs_its_keys_and_no_merge_ends_for_it() {
    let dir = TempDir::new("rot");
    let db = dir.join("db");
    let mut model = Model::new();
    let engine = options().open(&db).unwrap();
    let keyspace = engine.create_keyspace("k").unwrap();
    put(&engine, &keyspace, &mut model, 0..COUNT, 1);
    engine.checkpoint().unwrap();
    engine.close().unwrap();
    let rotten = longest_run(&db);
    flip(&rotten);

    let engine = options().open(&db).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    put(&engine, &keyspace, &mut model, (0..COUNT).step_by(7), 2);
    engine.compact().unwrap();
    let stats = engine.table_stats();
    assert!(!stats.all_in_memory && stats.healed == 0, "{stats:?}");
    assert_eq!((stats.set_aside, stats.layers, stats.last_failure.is_none()), (1, 1, true), "{stats:?}");
    assert_eq!(stats.last_rot.unwrap().file(), Some(&*rotten));
    assert!(rotten.exists(), "it is kept");
    let lost_keys = lost(&engine, &keyspace, &model);
    assert!((10..100).contains(&lost_keys.len()), "{}", lost_keys.len());
    let scanned = engine.snapshot().unwrap().iter(&keyspace).unwrap().map_while(Result::ok).count();
    let before = model.range(..lost_keys[0]).count();
    assert!((before - 200..=before).contains(&scanned), "it ends where it would miss a key: {scanned}, {before}");
    // A copy of it would be none to rely on.
    let error = error_of(engine.backup(dir.join("backup")));
    assert_eq!((error.kind(), error.damage().unwrap().cause), (ErrorKind::Damaged, DamageCause::Lost));
    engine.close().unwrap();
    assert_eq!(error_of(Engine::verify(&db)).damage().unwrap().cause, DamageCause::Lost);

    let salvaged = Engine::salvage(&db, dir.join("saved")).unwrap();
    assert!(!salvaged.lost_keys.is_empty() && salvaged.lost.is_empty());
    let saved = options().open(dir.join("saved")).unwrap();
    let keyspace = saved.open_keyspace("k").unwrap();
    assert_eq!(saved.snapshot().unwrap().iter(&keyspace).unwrap().count(), model.len() - lost_keys.len());
    saved.close().unwrap();

    // Whoever needs the room removes the file: nothing asks for it.
    fs::remove_file(&rotten).unwrap();
    let engine = options().open(&db).unwrap();
    let keyspace = engine.open_keyspace("k").unwrap();
    assert_eq!(lost(&engine, &keyspace, &model), lost_keys);
    let [first, last] = [lost_keys[0], *lost_keys.last().unwrap()].map(u32::from_be_bytes);
    let mut batch = engine.batch().unwrap();
    batch.delete_range(&keyspace, (first - 10).to_be_bytes()..=(last + 10).to_be_bytes()).unwrap();
    batch.commit().unwrap();
    put(&engine, &keyspace, &mut model, first - 10..=last + 10, 3);
    engine.compact().unwrap();
    assert_eq!(lost(&engine, &keyspace, &model), Vec::<[u8; 4]>::new());
    assert_eq!(engine.snapshot().unwrap().iter(&keyspace).unwrap().map(Result::unwrap).count(), model.len());
    engine.backup(dir.join("backup")).unwrap();
    engine.close().unwrap();
    Engine::verify(&db).unwrap();
}
