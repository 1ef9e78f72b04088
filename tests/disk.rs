//! The seam to the medium: what the simulated disk loses and keeps, what the real one does, and the latch between.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forelog::disk::{Access, Disk, DiskFile, FailStop, OsDisk, read_exact_at, write_all_at};
use forelog::sim::{self, CrashPoint, Fault, FaultKind, Granularity, Loss, OpKind, OpSelector, Pages, Phase, SimDisk};

const EIO: i32 = 5;

fn create(disk: &dyn Disk, path: impl AsRef<Path>) -> Arc<dyn DiskFile> {
    disk.open(path.as_ref(), Access::Create).unwrap()
}

/// A disk with one durable file `f`, open for writing.
fn with_file(bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    disk.write_file("f", bytes).unwrap();
    let file = disk.open("f".as_ref(), Access::Write).unwrap();
    (disk, file)
}

fn lose_all(disk: &SimDisk) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Everything, Granularity::Sector)
}

fn keep_all(disk: &SimDisk) -> SimDisk {
    disk.crash_point().power_loss(&Loss::Nothing, Granularity::Sector)
}

/// What `f` may hold after a power loss; `None` where it does not exist.
fn all_states(crash: &CrashPoint, granularity: Granularity) -> BTreeSet<Option<Vec<u8>>> {
    let atoms = crash.atoms(granularity);
    assert!(atoms <= 12, "{atoms} atoms are too many to try all choices");
    let choice = |bits: u32| Loss::AllBut((0..atoms).map(|atom| bits >> atom & 1 == 1).collect());
    (0..1 << atoms).map(|bits| crash.power_loss(&choice(bits), granularity).read_file("f").ok()).collect()
}

fn fill(parts: &[(u8, usize)]) -> Option<Vec<u8>> {
    Some(parts.iter().flat_map(|&(byte, count)| std::iter::repeat_n(byte, count)).collect())
}

// ---- the simulated disk: what is lost and what stays

#[test]
fn unsynced_write_is_visible_and_lost() {
    let (disk, file) = with_file(b"old");
    write_all_at(&*file, b"new", 0).unwrap();
    let mut buffer = [0; 3];
    read_exact_at(&*file, &mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"new");
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"old");
    assert_eq!(keep_all(&disk).read_file("f").unwrap(), b"new");
}

#[test]
fn synced_write_stays() {
    let (disk, file) = with_file(b"old");
    write_all_at(&*file, b"newer", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.crash_point().atoms(Granularity::Word), 0);
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"newer");
}

#[test]
fn process_kill_keeps_everything_but_proves_nothing() {
    let (disk, file) = with_file(b"old");
    write_all_at(&*file, b"new", 0).unwrap();
    let next = disk.crash_point().process_kill();
    assert_eq!(next.read_file("f").unwrap(), b"new");
    assert_eq!(lose_all(&next).read_file("f").unwrap(), b"old", "still pending");
    next.open("f".as_ref(), Access::Read).unwrap().sync_all().unwrap();
    assert_eq!(lose_all(&next).read_file("f").unwrap(), b"new");
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"old", "the first disk is another one");
}

#[test]
fn sync_in_flight_does_not_cover_later_writes() {
    sim::run(1, || {
        let (disk, file) = with_file(&[b'o'; 1024]);
        disk.set_sync_latency(Duration::from_millis(1));
        write_all_at(&*file, &[b'a'; 512], 0).unwrap();
        let syncing = Arc::clone(&file);
        let syncer = sim::start("syncer", move || syncing.sync_data().unwrap());
        sim::sleep(Duration::from_micros(500));
        write_all_at(&*file, &[b'b'; 512], 512).unwrap();
        assert_eq!(lose_all(&disk).read_file("f").unwrap(), [b'o'; 1024], "nothing is durable before the sync ends");
        syncer.join();
        assert_eq!(lose_all(&disk).read_file("f").ok(), fill(&[(b'a', 512), (b'o', 512)]));
        assert_eq!(keep_all(&disk).read_file("f").ok(), fill(&[(b'a', 512), (b'b', 512)]));
    });
}

#[test]
fn any_subset_of_sectors_lands() {
    let (disk, file) = with_file(&[b'o'; 1024]);
    write_all_at(&*file, &[b'n'; 600], 200).unwrap();
    let (a, b) = (&[(b'o', 200), (b'n', 312)], &[(b'n', 288), (b'o', 224)]);
    let expected = BTreeSet::from([
        fill(&[(b'o', 1024)]),
        fill(&[a[0], a[1], (b'o', 512)]),
        fill(&[(b'o', 512), b[0], b[1]]),
        fill(&[a[0], a[1], b[0], b[1]]),
    ]);
    assert_eq!(all_states(&disk.crash_point(), Granularity::Sector), expected);
    let whole_page = BTreeSet::from([fill(&[(b'o', 1024)]), fill(&[a[0], a[1], b[0], b[1]])]);
    assert_eq!(all_states(&disk.crash_point(), Granularity::Page), whole_page);
}

#[test]
fn words_tear_inside_a_sector() {
    let (disk, file) = with_file(&[b'o'; 32]);
    write_all_at(&*file, &[b'n'; 12], 4).unwrap();
    let expected = BTreeSet::from([
        fill(&[(b'o', 32)]),
        fill(&[(b'o', 4), (b'n', 4), (b'o', 24)]),
        fill(&[(b'o', 8), (b'n', 8), (b'o', 16)]),
        fill(&[(b'o', 4), (b'n', 12), (b'o', 16)]),
    ]);
    assert_eq!(all_states(&disk.crash_point(), Granularity::Word), expected);
}

#[test]
fn versions_of_one_sector_land_in_order() {
    let (disk, file) = with_file(&[b'o'; 512]);
    for (offset, byte) in [(0, b'1'), (100, b'2'), (50, b'3')] {
        write_all_at(&*file, &[byte; 100], offset).unwrap();
    }
    let expected = BTreeSet::from([
        fill(&[(b'o', 512)]),
        fill(&[(b'1', 100), (b'o', 412)]),
        fill(&[(b'1', 100), (b'2', 100), (b'o', 312)]),
        fill(&[(b'1', 50), (b'3', 100), (b'2', 50), (b'o', 312)]),
    ]);
    assert_eq!(all_states(&disk.crash_point(), Granularity::Sector), expected);
}

#[test]
fn length_and_bytes_land_apart() {
    let (disk, file) = with_file(b"");
    write_all_at(&*file, &[b'n'; 5000], 0).unwrap();
    let states = all_states(&disk.crash_point(), Granularity::Page);
    let expected = BTreeSet::from([
        fill(&[]),
        fill(&[(0, 4096)]),
        fill(&[(b'n', 4096)]),
        fill(&[(0, 5000)]),
        fill(&[(b'n', 4096), (0, 904)]),
        fill(&[(0, 4096), (b'n', 904)]),
        fill(&[(b'n', 5000)]),
    ]);
    assert_eq!(states, expected);
}

#[test]
fn cut_bytes_do_not_come_back_with_the_length() {
    let (disk, file) = with_file(&[b'o'; 1024]);
    file.set_len(512).unwrap();
    file.set_len(1024).unwrap();
    let expected = BTreeSet::from([fill(&[(b'o', 1024)]), fill(&[(b'o', 512)]), fill(&[(b'o', 512), (0, 512)])]);
    assert_eq!(all_states(&disk.crash_point(), Granularity::Sector), expected);
}

#[test]
fn name_is_lost_without_sync_dir() {
    let disk = SimDisk::new();
    disk.create_dir("db".as_ref()).unwrap();
    let file = create(&disk, "db/a");
    write_all_at(&*file, b"bytes", 0).unwrap();
    file.sync_all().unwrap();
    assert!(lose_all(&disk).files().is_empty(), "a synced file without a name is gone");
    disk.sync_dir("".as_ref()).unwrap();
    assert!(lose_all(&disk).files().is_empty(), "that was another directory");
    disk.sync_dir("./db/".as_ref()).unwrap();
    assert_eq!(lose_all(&disk).files(), [(PathBuf::from("db/a"), b"bytes".to_vec())]);
}

#[test]
fn rename_is_atomic_and_pending() {
    let disk = SimDisk::new();
    disk.write_file("f", b"old").unwrap();
    let file = create(&disk, "tmp");
    write_all_at(&*file, b"new", 0).unwrap();
    file.sync_all().unwrap();
    disk.rename("tmp".as_ref(), "f".as_ref()).unwrap();
    let crash = disk.crash_point();
    assert_eq!(crash.atoms(Granularity::Sector), 2, "the creation and the rename");
    let expected = BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]);
    assert_eq!(all_states(&crash, Granularity::Sector), expected);
    disk.sync_dir("".as_ref()).unwrap();
    assert_eq!(lose_all(&disk).files(), [(PathBuf::from("f"), b"new".to_vec())]);
}

#[test]
fn rename_before_sync_may_show_an_empty_file() {
    let disk = SimDisk::new();
    disk.write_file("f", b"old").unwrap();
    write_all_at(&*create(&disk, "tmp"), b"new", 0).unwrap();
    disk.rename("tmp".as_ref(), "f".as_ref()).unwrap();
    disk.sync_dir("".as_ref()).unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"");
}

#[test]
fn removed_file_may_come_back_until_sync_dir() {
    let (disk, file) = with_file(b"old");
    write_all_at(&*file, b"new", 0).unwrap();
    disk.remove("f".as_ref()).unwrap();
    assert!(disk.read_file("f").is_err());
    let expected = BTreeSet::from([None, Some(b"old".to_vec()), Some(b"new".to_vec())]);
    assert_eq!(all_states(&disk.crash_point(), Granularity::Sector), expected);
    disk.sync_dir("".as_ref()).unwrap();
    assert_eq!(disk.crash_point().atoms(Granularity::Sector), 0, "what was pending on it is gone too");
    write_all_at(&*file, b"open", 0).unwrap();
    assert_eq!(file.len().unwrap(), 4, "whoever has it open keeps it");
}

#[test]
fn names_of_one_directory_land_in_any_order() {
    let disk = SimDisk::new();
    for name in ["a", "b", "c"] {
        create(&disk, name);
    }
    let crash = disk.crash_point();
    let only_c = crash.power_loss(&Loss::AllBut(vec![false, false, true]), Granularity::Sector);
    assert_eq!(only_c.files(), [(PathBuf::from("c"), vec![])]);
    assert_eq!(crash.power_loss(&Loss::AllBut(vec![true]), Granularity::Sector).files().len(), 1);
}

#[test]
fn lock_is_exclusive_and_gone_after_a_crash() {
    let disk = SimDisk::new();
    let held = disk.lock("LOCK".as_ref()).unwrap().expect("free");
    assert!(disk.clone().lock("LOCK".as_ref()).unwrap().is_none());
    assert!(disk.crash_point().process_kill().lock("LOCK".as_ref()).unwrap().is_some());
    drop(held);
    assert!(disk.lock("LOCK".as_ref()).unwrap().is_some());
}

#[test]
fn access_and_names_are_checked() {
    let (disk, _) = with_file(b"old");
    let kind = |result: io::Result<Arc<dyn DiskFile>>| result.unwrap_err().kind();
    assert_eq!(kind(disk.open("f".as_ref(), Access::Create)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("g".as_ref(), Access::Write)), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.open("no/f".as_ref(), Access::Create)), io::ErrorKind::NotFound);
    let reader = disk.open("f".as_ref(), Access::Read).unwrap();
    assert_eq!(reader.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(reader.read_at(&mut [0; 8], 3).unwrap(), 0);
    let error = read_exact_at(&*reader, &mut [0; 8], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    disk.create_dir("x/y".as_ref()).unwrap();
    assert_eq!(disk.list("x".as_ref()).unwrap(), ["y"]);
    assert_eq!(disk.list("".as_ref()).unwrap().len(), 2);
}

// ---- the simulated disk: faults

#[test]
fn failed_sync_keeps_pages_readable_and_never_writes_them() {
    let (disk, file) = with_file(&[b'o'; 8]);
    write_all_at(&*file, &[b'n'; 16], 0).unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages: Pages::KeepNew }));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    file.sync_data().expect("the kernel reports it once");
    let next = disk.crash_point().process_kill();
    assert_eq!(next.read_file("f").unwrap(), [b'n'; 16], "a new process reads it");
    assert_eq!(keep_all(&next).read_file("f").unwrap(), [b'o'; 8], "and it was never there");
    next.drop_caches();
    assert_eq!(next.read_file("f").unwrap(), [b'o'; 8]);

    write_all_at(&*file, &[b'm'; 4], 12).unwrap();
    file.sync_data().unwrap();
    let expected = fill(&[(b'o', 8), (0, 4), (b'm', 4)]);
    assert_eq!(lose_all(&disk).read_file("f").ok(), expected, "what is written again is durable");
}

#[test]
fn failed_sync_reverts_pages() {
    let (disk, file) = with_file(b"old");
    write_all_at(&*file, b"newer", 0).unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync).on("f"), FaultKind::SyncFails { pages: Pages::RevertOld }));
    file.sync_all().unwrap_err();
    assert_eq!(disk.read_file("f").unwrap(), b"old");
    assert_eq!(keep_all(&disk).read_file("f").unwrap(), b"old");
}

#[test]
fn failed_sync_spares_writes_that_it_did_not_cover() {
    let (disk, file) = with_file(b"");
    write_all_at(&*file, &[b'a'; 512], 0).unwrap();
    let late = Arc::clone(&file);
    disk.on_op(move |_, op| {
        if op.phase == Phase::InFlight {
            late.write_at(&[b'b'; 8], 0).unwrap();
        }
    });
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages: Pages::RevertOld }));
    file.sync_data().unwrap_err();
    disk.clear_on_op();
    assert_eq!(disk.read_file("f").unwrap(), [b'b'; 8]);
    file.sync_data().unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), [b'b'; 8]);
}

#[test]
fn failed_directory_sync_loses_the_name() {
    for (pages, visible) in [(Pages::KeepNew, 1), (Pages::RevertOld, 0)] {
        let disk = SimDisk::new();
        create(&disk, "f");
        disk.inject(Fault::once(OpSelector::of(OpKind::SyncDir), FaultKind::SyncFails { pages }));
        disk.sync_dir("".as_ref()).unwrap_err();
        disk.sync_dir("".as_ref()).unwrap();
        assert_eq!(disk.files().len(), visible);
        assert!(keep_all(&disk).files().is_empty());
    }
}

#[test]
fn faults_hit_the_operation_they_are_for() {
    let (disk, file) = with_file(b"0123456789");
    disk.inject(Fault::once(OpSelector::of(OpKind::Write).skip(1), FaultKind::Errno(28)));
    file.write_at(b"a", 0).unwrap();
    assert_eq!(file.write_at(b"b", 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.write_at(b"c", 2).unwrap();
    assert_eq!(disk.fault_hits(), 1);

    disk.inject(Fault::lasting(OpSelector::any().on(".log"), FaultKind::Errno(EIO)));
    disk.inject(Fault::lasting(OpSelector::of(OpKind::Read).touching(4..5), FaultKind::Errno(EIO)));
    disk.open("a.log".as_ref(), Access::Create).unwrap_err();
    assert_eq!(file.read_at(&mut [0; 4], 0).unwrap(), 4);
    file.read_at(&mut [0; 4], 1).unwrap_err();
    file.read_at(&mut [0; 1], 4).unwrap_err();
    disk.clear_faults();
    create(&disk, "a.log");
    assert_eq!(disk.read_file("f").unwrap(), b"a1c3456789");
}

#[test]
fn short_and_interrupted_calls_are_completed_by_the_helpers() {
    let (disk, file) = with_file(b"");
    for kind in [OpKind::Write, OpKind::Read] {
        disk.inject(Fault::once(OpSelector::of(kind), FaultKind::Error(io::ErrorKind::Interrupted)));
        disk.inject(Fault::once(OpSelector::of(kind), FaultKind::ShortWrite(3)));
        disk.inject(Fault::once(OpSelector::of(kind), FaultKind::ShortRead(1)));
    }
    write_all_at(&*file, b"whole", 0).unwrap();
    let mut buffer = [0; 5];
    read_exact_at(&*file, &mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"whole");
    assert_eq!(disk.fault_hits(), 4, "a write cannot be hit by a short read, nor the other way round");

    disk.inject(Fault::once(OpSelector::any(), FaultKind::FailedWrite(2)));
    assert_eq!(file.write_at(b"WHOLE", 0).unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(disk.read_file("f").unwrap(), b"WHole");
    disk.inject(Fault::lasting(OpSelector::any(), FaultKind::ShortWrite(0)));
    assert_eq!(write_all_at(&*file, b"x", 0).unwrap_err().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn stall_takes_simulated_time() {
    sim::run(7, || {
        let (disk, file) = with_file(b"");
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::Stall(Duration::from_secs(60))));
        let before = sim::now().unwrap();
        file.sync_data().unwrap();
        assert!(sim::now().unwrap().since(before) >= Duration::from_secs(60));
    });
}

#[test]
fn every_operation_can_fail() {
    let replace = |disk: &SimDisk| -> io::Result<()> {
        disk.create_dir("db".as_ref())?;
        let _lock = disk.lock("db/LOCK".as_ref())?;
        let file = disk.open("db/tmp".as_ref(), Access::Create)?;
        file.set_len(3)?;
        write_all_at(&*file, b"new", 0)?;
        file.sync_all()?;
        read_exact_at(&*file, &mut [0; 3], 0)?;
        disk.rename("db/tmp".as_ref(), "db/f".as_ref())?;
        disk.sync_dir("db".as_ref())?;
        disk.list("db".as_ref())?;
        disk.open("db/f".as_ref(), Access::Read)?;
        disk.remove("db/f".as_ref())
    };
    for n in 0.. {
        let disk = SimDisk::new();
        disk.inject(Fault::once(OpSelector::any().skip(n), FaultKind::Errno(EIO)));
        let result = replace(&disk);
        if disk.fault_hits() == 0 {
            assert_eq!((n, disk.ops()), (12, 12));
            return result.unwrap();
        }
        assert_eq!(result.unwrap_err().raw_os_error(), Some(EIO), "operation {n}");
    }
}

// ---- the simulated disk: watching and damaging

#[test]
fn observer_takes_crash_points_before_and_during_operations() {
    let disk = SimDisk::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.on_op(move |disk, op| {
        let (all, none) = (keep_all(disk).read_file("f").ok(), lose_all(disk).read_file("f").ok());
        log.lock().unwrap().push((op.number, op.kind, op.phase, all, none));
    });
    let file = create(&disk, "f");
    disk.sync_dir("".as_ref()).unwrap();
    write_all_at(&*file, b"x", 0).unwrap();
    file.read_at(&mut [0], 0).unwrap();
    file.sync_data().unwrap();
    let (empty, full) = (Some(vec![]), Some(b"x".to_vec()));
    let expected = [
        (0, OpKind::Create, Phase::Before, None, None),
        (1, OpKind::SyncDir, Phase::Before, empty.clone(), None),
        (1, OpKind::SyncDir, Phase::InFlight, empty.clone(), None),
        (2, OpKind::Write, Phase::Before, empty.clone(), empty.clone()),
        (4, OpKind::Sync, Phase::Before, full.clone(), empty.clone()),
        (4, OpKind::Sync, Phase::InFlight, full, empty),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn seeds_decide_everything() {
    let crash = |seed| {
        let disk = sim::run(seed, || {
            let disk = SimDisk::new();
            disk.set_sync_latency(Duration::from_micros(100));
            let clients = (0..3_u8).map(|client| {
                let disk = disk.clone();
                sim::start("client", move || {
                    let file = create(&disk, client.to_string());
                    for n in 0..8_u8 {
                        write_all_at(&*file, &[client * 16 + n; 700], u64::from(n) * 700).unwrap();
                        if n == client {
                            file.sync_all().unwrap();
                            disk.sync_dir("".as_ref()).unwrap();
                        }
                    }
                })
            });
            let clients = clients.collect::<Vec<_>>();
            sim::sleep(Duration::from_micros(60));
            let crash = disk.crash_point();
            clients.into_iter().for_each(sim::Simulated::join);
            crash
        });
        disk.power_loss(&Loss::Seeded(seed), Granularity::Word).image_hash()
    };
    let hashes: Vec<u64> = (0..20).map(crash).collect();
    assert_eq!(hashes, (0..20).map(crash).collect::<Vec<_>>());
    assert!(hashes.iter().collect::<BTreeSet<_>>().len() > 15, "{hashes:x?}");
}

#[test]
fn seeded_losses_reach_every_state() {
    let (disk, file) = with_file(&[b'o'; 1536]);
    write_all_at(&*file, &[b'n'; 1536], 0).unwrap();
    let crash = disk.crash_point();
    let states = (0..500).map(|seed| crash.power_loss(&Loss::Seeded(seed), Granularity::Sector).image_hash());
    assert_eq!(states.collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn media_faults_hit_what_is_durable() {
    let (disk, _) = with_file(b"0123456789");
    let clean = disk.image_hash();
    disk.flip_bit("f", 9).unwrap();
    assert_ne!(disk.image_hash(), clean);
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"0323456789");
    disk.flip_bit("f", 9).unwrap();
    assert_eq!(disk.image_hash(), clean);
    disk.overwrite("f", 8, b"xy").unwrap();
    disk.overwrite("f", 9, b"xy").unwrap_err();
    disk.flip_bit("f", 80).unwrap_err();
    disk.truncate("f", 9).unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"01234567x");
    let file = disk.open("f".as_ref(), Access::Write).unwrap();
    write_all_at(&*file, b"zz", 7).unwrap();
    disk.truncate("f", 2).unwrap();
    file.sync_all().unwrap();
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"01\0\0\0\0\0zz", "what is pending lands on what is left");
    disk.delete("f").unwrap();
    assert!(keep_all(&disk).files().is_empty());
}

#[test]
fn hash_tells_apart_what_only_the_cache_holds() {
    let (disk, file) = with_file(b"old");
    let durable = disk.image_hash();
    write_all_at(&*file, b"new", 0).unwrap();
    assert_ne!(disk.image_hash(), durable);
    write_all_at(&*file, b"old", 0).unwrap();
    assert_eq!(disk.image_hash(), durable);
    assert_eq!(lose_all(&disk).image_hash(), durable);
}

// ---- the latch

fn latched(bytes: &[u8]) -> (SimDisk, FailStop, Arc<dyn DiskFile>) {
    let (disk, _) = with_file(bytes);
    let stop = FailStop::new(Arc::new(disk.clone()));
    let file = stop.open("f".as_ref(), Access::Write).unwrap();
    (disk, stop, file)
}

#[test]
fn first_failure_is_final() {
    type Action = fn(&FailStop, &dyn DiskFile) -> io::Result<()>;
    let failures: [(OpKind, Action); 5] = [
        (OpKind::Write, |_, file| file.write_at(b"x", 0).map(drop)),
        (OpKind::SetLen, |_, file| file.set_len(9)),
        (OpKind::Sync, |_, file| file.sync_data()),
        (OpKind::SyncDir, |disk, _| disk.sync_dir("".as_ref())),
        (OpKind::Rename, |disk, _| disk.rename("f".as_ref(), "g".as_ref())),
    ];
    for (kind, action) in failures {
        let (disk, stop, file) = latched(b"old");
        disk.inject(Fault::once(OpSelector::of(kind), FaultKind::Errno(EIO)));
        action(&stop, &*file).unwrap_err();
        assert_eq!(stop.failure().expect("latched").raw_os_error(), Some(EIO));
        let before = disk.ops();
        for (other, action) in failures {
            assert_eq!(action(&stop, &*file).unwrap_err().raw_os_error(), Some(EIO), "{other:?} after {kind:?}");
        }
        stop.open("h".as_ref(), Access::Create).unwrap_err();
        stop.remove("f".as_ref()).unwrap_err();
        stop.create_dir("d".as_ref()).unwrap_err();
        assert_eq!(disk.ops(), before, "nothing reached the disk after a failed {kind:?}");
        read_exact_at(&*file, &mut [0; 3], 0).unwrap();
        stop.open("f".as_ref(), Access::Read).unwrap();
    }
}

#[test]
fn harmless_failures_do_not_latch() {
    let (disk, stop, file) = latched(b"old");
    disk.inject(Fault::once(OpSelector::of(OpKind::Read), FaultKind::Errno(EIO)));
    disk.inject(Fault::once(OpSelector::of(OpKind::Remove), FaultKind::Errno(EIO)));
    disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::Error(io::ErrorKind::Interrupted)));
    file.read_at(&mut [0], 0).unwrap_err();
    stop.remove("f".as_ref()).unwrap_err();
    write_all_at(&*file, b"new", 0).unwrap();
    assert!(stop.failure().is_none());
}

#[test]
fn write_that_takes_nothing_is_a_failure() {
    let (disk, stop, file) = latched(b"old");
    disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::ShortWrite(0)));
    assert_eq!(file.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert_eq!(stop.failure().unwrap().kind(), io::ErrorKind::WriteZero);
}

#[test]
fn fresh_file_fails_alone_until_it_is_synced() {
    let (disk, stop, old) = latched(b"old");
    let full = || Fault::once(OpSelector::of(OpKind::Write).on("fresh"), FaultKind::Errno(28));
    let fresh = create(&stop, "fresh");
    disk.inject(full());
    assert_eq!(fresh.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(fresh.sync_all().unwrap_err().kind(), io::ErrorKind::StorageFull, "that file is done for");
    assert!(stop.failure().is_none());
    old.sync_data().unwrap();

    stop.remove("fresh".as_ref()).unwrap();
    let fresh = create(&stop, "fresh");
    fresh.sync_all().unwrap();
    disk.inject(full());
    fresh.write_at(b"x", 0).unwrap_err();
    assert_eq!(stop.failure().unwrap().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn no_sync_succeeds_after_one_that_failed() {
    for seed in 0..100 {
        sim::run(seed, || {
            let (disk, _, file) = latched(b"");
            disk.set_sync_latency(Duration::from_micros(10));
            file.write_at(b"x", 0).unwrap();
            let fault = FaultKind::SyncFails { pages: Pages::KeepNew };
            disk.inject(Fault::once(OpSelector::of(OpKind::Sync), fault));
            let succeeded = Arc::new(AtomicU64::new(0));
            let syncers = [0; 3].map(|_| {
                let (file, succeeded) = (Arc::clone(&file), Arc::clone(&succeeded));
                sim::start("syncer", move || {
                    let ok = file.sync_data().is_ok();
                    succeeded.fetch_add(u64::from(ok), Ordering::Relaxed);
                })
            });
            syncers.into_iter().for_each(sim::Simulated::join);
            assert_eq!(succeeded.load(Ordering::Relaxed), 0, "seed {seed}");
        });
    }
}

// ---- the operating system's disk

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forelog-disk-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        OsDisk.create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new("modes");
    create(&OsDisk, dir.path("file"));
    OsDisk.create_dir(&dir.path("a/b")).unwrap();
    OsDisk.create_dir(&dir.path("a/b")).unwrap();
    let _lock = OsDisk.lock(&dir.path("LOCK")).unwrap().unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.path("file")), mode(dir.path("LOCK"))), (0o600, 0o600));
    assert_eq!((mode(dir.0.clone()), mode(dir.path("a")), mode(dir.path("a/b"))), (0o700, 0o700, 0o700));
}

#[cfg(unix)]
#[test]
fn create_follows_no_link_and_cuts_no_file() {
    let dir = Scratch::new("create");
    write_all_at(&*create(&OsDisk, dir.path("file")), b"bytes", 0).unwrap();
    std::os::unix::fs::symlink(dir.path("target"), dir.path("link")).unwrap();
    for name in ["file", "link"] {
        let error = OsDisk.open(&dir.path(name), Access::Create).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    assert!(!dir.path("target").exists());
    assert_eq!(std::fs::read(dir.path("file")).unwrap(), b"bytes");
    assert_eq!(OsDisk.open(&dir.0, Access::Read).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn second_lock_is_refused_until_the_first_is_dropped() {
    let dir = Scratch::new("lock");
    let held = OsDisk.lock(&dir.path("LOCK")).unwrap().expect("free");
    assert!(OsDisk.lock(&dir.path("LOCK")).unwrap().is_none());
    drop(held);
    assert!(OsDisk.lock(&dir.path("LOCK")).unwrap().is_some());
    assert!(dir.path("LOCK").exists(), "the file stays");
}

#[test]
fn reads_stop_at_the_end_and_mappings_check_their_bounds() {
    let dir = Scratch::new("read");
    let file = create(&OsDisk, dir.path("file"));
    let mut buffer = [0; 8];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 0);
    write_all_at(&*file, b"bytes", 3).unwrap();
    assert_eq!(file.len().unwrap(), 8);
    assert_eq!(file.read_at(&mut buffer, 6).unwrap(), 2);
    assert_eq!(file.read_at(&mut buffer, 8).unwrap(), 0);
    read_exact_at(&*file, &mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"\0\0\0bytes");

    let map = file.map().unwrap().expect("the operating system maps files");
    buffer = [0; 8];
    assert!(map.copy_to(&mut buffer[..5], 3));
    assert_eq!(&buffer[..5], b"bytes");
    for offset in [4, 9, u64::MAX] {
        assert!(!map.copy_to(&mut buffer[..5], offset));
    }
    file.set_len(0).unwrap();
    assert!(!file.map().unwrap().unwrap().copy_to(&mut buffer, 0), "an empty file maps too");
}

#[test]
fn read_access_does_not_write() {
    let dir = Scratch::new("access");
    create(&OsDisk, dir.path("file"));
    assert!(OsDisk.open(&dir.path("file"), Access::Read).unwrap().write_at(b"x", 0).is_err());
    assert_eq!(OsDisk.open(&dir.path("none"), Access::Write).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn names_are_listed_renamed_and_removed() {
    let dir = Scratch::new("names");
    write_all_at(&*create(&OsDisk, dir.path("a")), b"a", 0).unwrap();
    create(&OsDisk, dir.path("b")).sync_all().unwrap();
    OsDisk.rename(&dir.path("a"), &dir.path("b")).unwrap();
    OsDisk.sync_dir(&dir.0).unwrap();
    assert_eq!(OsDisk.list(&dir.0).unwrap(), ["b"]);
    assert_eq!(std::fs::read(dir.path("b")).unwrap(), b"a");
    OsDisk.remove(&dir.path("b")).unwrap();
    assert!(OsDisk.list(&dir.0).unwrap().is_empty());
}

#[test]
fn relative_and_odd_paths_work() {
    OsDisk.sync_dir("".as_ref()).expect("the parent of a bare name");
    assert!(OsDisk.list("".as_ref()).unwrap().iter().any(|name| name == "Cargo.toml"));
    OsDisk.create_dir("".as_ref()).unwrap();
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let dir = Scratch::new("odd");
        let name = std::ffi::OsStr::from_bytes(b"not \xFF UTF-8");
        create(&OsDisk, dir.0.join(name));
        assert_eq!(OsDisk.list(&dir.0).unwrap(), [name]);
    }
}
