//! The simulated disk: faults.

use super::*;

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
        disk.sync().unwrap_err();
        disk.sync().unwrap();
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
        let dir = disk.child("db".as_ref(), Access::Create)?;
        disk.sync()?;
        disk.open_dir("db".as_ref())?;
        let _lock = dir.lock(LockMode::Exclusive)?;
        let file = dir.open("tmp".as_ref(), Access::Create)?;
        let _locked = file.lock(LockMode::Shared)?;
        file.set_len(3)?;
        write_all_at(&*file, b"new", 0)?;
        file.sync_all()?;
        read_exact_at(&*file, &mut [0; 3], 0)?;
        dir.rename("tmp".as_ref(), "f".as_ref())?;
        dir.sync()?;
        dir.list()?;
        dir.open("f".as_ref(), Access::Read)?;
        dir.remove("f".as_ref())?;
        disk.rename_child("db".as_ref(), "old".as_ref())?;
        disk.remove_child("old".as_ref())
    };
    for n in 0.. {
        let disk = SimDisk::new();
        disk.inject(Fault::once(OpSelector::any().skip(n), FaultKind::Errno(EIO)));
        let result = replace(&disk);
        if disk.fault_hits() == 0 {
            assert_eq!((n, disk.ops()), (17, 17));
            return result.unwrap();
        }
        assert_eq!(result.unwrap_err().raw_os_error(), Some(EIO), "operation {n}");
    }
}

/// POSIX promises nothing about either name after an EIO.
#[test]
fn a_rename_that_failed_may_be_on_the_medium_alone() {
    let disk = SimDisk::new();
    disk.write_file("f", b"old").unwrap();
    let file = create(&disk, "tmp");
    write_all_at(&*file, b"new", 0).unwrap();
    file.sync_all().unwrap();
    disk.inject(Fault::once(OpSelector::any(), FaultKind::RenameOnMedium));
    assert_eq!(disk.rename("tmp".as_ref(), "f".as_ref()).unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!((disk.read_file("f").unwrap(), disk.read_file("tmp").unwrap()), (b"old".to_vec(), b"new".to_vec()));
    assert_eq!(lose_all(&disk).files(), [(PathBuf::from("f"), b"new".to_vec())]);
    // The next change of the name is one more.
    disk.remove("f".as_ref()).unwrap();
    disk.sync().unwrap();
    assert_eq!(lose_all(&disk).files(), []);
}

#[test]
fn a_sync_that_fails_late_lies_once_and_then_says_so() {
    let (disk, file) = with_file(b"old");
    write_all_at(&*file, b"new", 0).unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages: Pages::ReportLate }));
    file.sync_data().expect("it says nothing");
    assert_eq!(disk.read_file("f").unwrap(), b"new");
    assert_eq!(keep_all(&disk).read_file("f").unwrap(), b"old", "and nothing was written");
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    file.sync_data().unwrap();
    assert_eq!(keep_all(&disk).read_file("f").unwrap(), b"old");
}

#[test]
fn reads_give_what_is_not_there_and_writes_leave_out_their_end() {
    let (disk, file) = with_file(&[0xF0; 4]);
    disk.inject(Fault::once(OpSelector::any(), FaultKind::ZeroRead));
    disk.inject(Fault::once(OpSelector::any(), FaultKind::FlippedRead(32 + 9)));
    let read = || {
        let mut buffer = [0xAA; 4];
        read_exact_at(&*file, &mut buffer, 0).unwrap();
        buffer
    };
    assert_eq!([read(), read(), read()], [[0; 4], [0xF0, 0xF2, 0xF0, 0xF0], [0xF0; 4]]);
    disk.inject(Fault::once(OpSelector::any(), FaultKind::ShortWriteBy(1)));
    assert_eq!(file.write_at(b"abcd", 0).unwrap(), 3);
    assert_eq!(disk.read_file("f").unwrap(), b"abc\xF0");
}
