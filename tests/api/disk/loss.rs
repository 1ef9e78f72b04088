//! The simulated disk: what is lost and what stays.

use super::*;

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
    let dir = disk.child("db".as_ref(), Access::Create).unwrap();
    let file = create(&*dir, "a");
    write_all_at(&*file, b"bytes", 0).unwrap();
    file.sync_all().unwrap();
    assert!(lose_all(&disk).files().is_empty(), "a synced file without a name is gone");
    disk.sync().unwrap();
    assert!(lose_all(&disk).files().is_empty(), "that was another directory");
    disk.open_dir("./db/".as_ref()).unwrap().sync().unwrap();
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
    disk.sync().unwrap();
    assert_eq!(lose_all(&disk).files(), [(PathBuf::from("f"), b"new".to_vec())]);
}

#[test]
fn rename_before_sync_may_show_an_empty_file() {
    let disk = SimDisk::new();
    disk.write_file("f", b"old").unwrap();
    write_all_at(&*create(&disk, "tmp"), b"new", 0).unwrap();
    disk.rename("tmp".as_ref(), "f".as_ref()).unwrap();
    disk.sync().unwrap();
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
    disk.sync().unwrap();
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
    disk.write_file("LOCK", b"").unwrap();
    let lock = |disk: &SimDisk, mode| {
        let both = [disk.open("LOCK".as_ref(), Access::Read).unwrap().lock(mode).unwrap(), disk.lock(mode).unwrap()];
        assert_eq!(both[0].is_some(), both[1].is_some());
        both[0].is_some().then_some(both)
    };
    let held = lock(&disk, LockMode::Exclusive).expect("free");
    assert!(lock(&disk, LockMode::Exclusive).is_none() && lock(&disk, LockMode::Shared).is_none());
    assert!(lock(&disk.crash_point().process_kill(), LockMode::Exclusive).is_some());
    drop(held);
    let readers = [lock(&disk, LockMode::Shared), lock(&disk, LockMode::Shared)].map(|lock| lock.expect("shared"));
    assert!(lock(&disk, LockMode::Exclusive).is_none());
    drop(readers);
    assert!(lock(&disk, LockMode::Exclusive).is_some());
}

#[test]
fn access_and_names_are_checked() {
    let (disk, _) = with_file(b"old");
    let kind = |result: io::Result<Arc<dyn DiskFile>>| result.unwrap_err().kind();
    assert_eq!(kind(disk.open("f".as_ref(), Access::Create)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.open("g".as_ref(), Access::Write)), io::ErrorKind::NotFound);
    for name in ["no/f", "", ".", "..", "f/", "./f", "/f", "../f"] {
        assert_eq!(kind(disk.open(name.as_ref(), Access::Create)), io::ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(disk.rename("f".as_ref(), name.as_ref()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    let reader = disk.open("f".as_ref(), Access::Read).unwrap();
    assert_eq!(reader.write_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(reader.read_at(&mut [0; 8], 3).unwrap(), 0);
    let error = read_exact_at(&*reader, &mut [0; 8], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    disk.make_dir("x/y").unwrap();
    assert_eq!(disk.open_dir("x".as_ref()).unwrap().list().unwrap(), ["y"]);
    assert_eq!(disk.list().unwrap().len(), 2);
}
