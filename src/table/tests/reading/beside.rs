//! Readers beside installs, in schedules drawn from a seed.

use super::*;
use crate::disk::sim::SimDisk;
use crate::rt::schedule;
use crate::rt::sync::{self, Mutex};
use crate::table::tests::work::{DIR, Told, Work};

/// Memory forgets what an installed layer has: whoever asks afterwards must get a stack that has it. The first question may
/// come at any moment.
#[test]
fn a_reader_gets_what_was_installed_before_it_asked() {
    let mut first_seen = [0; 5];
    for seed in 0..200 {
        let first = schedule::run(seed, move || run(seed)).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        first_seen[usize::try_from(first.get() / 8).unwrap()] += 1;
    }
    assert!(first_seen.iter().filter(|count| **count > 3).count() > 2, "{first_seen:?}");
}

/// Returns up to where the first layers reached that a reader got.
fn run(seed: u64) -> std::result::Result<Lsn, String> {
    let disk = SimDisk::new();
    disk.make_dir(DIR).unwrap();
    let dir = disk.open_dir(Path::new(DIR)).unwrap();
    // They live as long as the test: threads have them.
    let store: &'static Arc<OnceLock<Store>> = Box::leak(Box::default());
    let limits = Limits { open_runs: 2, open_run_bytes: 1 << 20, partition_bytes: 5000 };
    let reading: &'static Reading = Box::leak(Box::new(Reading::new(Arc::clone(store), limits)));
    let told: &'static Mutex<Told> = Box::leak(Box::default());
    let first: &'static Mutex<Option<Lsn>> = Box::leak(Box::default());
    let wrong: &'static Mutex<Option<String>> = Box::leak(Box::default());
    let writes = move || {
        assert!(store.set(new_store(&dir)).is_ok());
        let mut work = Work::new(store.get().unwrap(), told);
        for _ in 0..4 {
            work.checkpoint().unwrap();
            work.merge().unwrap();
            store.get().unwrap().remove_needless().unwrap();
        }
    };
    let reads = move || {
        (0..seed % 200).for_each(|_| sync::yield_now());
        for _ in 0..6 {
            let durable = told.lock().durable;
            let layers = reading.installed();
            let to = layers.to();
            assert!(to >= durable, "{to} < {durable}");
            if to > Lsn::ZERO {
                first.lock().get_or_insert(to);
            }
            // Each checkpoint overwrites key 0, and puts its own.
            let number = u8::try_from(to.get() / 8).unwrap();
            let found = layers.get(0, &[0], to).unwrap().map(|value| value.to_vec());
            assert_eq!(found, (number > 0).then(|| vec![number]));
            sync::yield_now();
            let (entries, ended) = scan(&layers, 0, ALL, Direction::Backward, to);
            ended.unwrap();
            assert_eq!(entries.len(), usize::from(number) + usize::from(number > 0));
        }
    };
    let spawn = |body: Box<dyn FnOnce() + Send>| {
        let body = move || {
            if let Err(panicked) = crate::rt::guard::contain(body) {
                *wrong.lock() = Some(panicked.message);
            }
        };
        sync::spawn("part", body).unwrap()
    };
    let threads = [spawn(Box::new(writes)), spawn(Box::new(reads)), spawn(Box::new(reads))];
    threads.into_iter().for_each(sync::Thread::join);
    assert_eq!(reading.installed().to(), told.lock().durable);
    let wrong = wrong.lock().take();
    wrong.map_or_else(|| Ok(first.lock().unwrap_or_default()), Err)
}
