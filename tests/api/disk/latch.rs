//! The fail-stop latch.

use super::*;

fn latched(bytes: &[u8]) -> (SimDisk, FailStop, Arc<dyn DiskFile>) {
    let (disk, _) = with_file(bytes);
    let stop = FailStop::new(Arc::new(disk.clone()));
    let file = stop.open("f".as_ref(), Access::Write).unwrap();
    (disk, stop, file)
}

#[test]
fn first_failure_is_final() {
    type Action = fn(&FailStop, &dyn DiskFile) -> io::Result<()>;
    let failures: [(OpKind, Action); 6] = [
        (OpKind::Write, |_, file| file.write_at(b"x", 0).map(drop)),
        (OpKind::SetLen, |_, file| file.set_len(9)),
        (OpKind::StartWriteback, |_, file| file.start_writeback()),
        (OpKind::Sync, |_, file| file.sync_data()),
        (OpKind::SyncDir, |disk, _| disk.sync()),
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
        stop.child("d".as_ref(), Access::Create).unwrap_err();
        stop.remove_child("d".as_ref()).unwrap_err();
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

/// An EBUSY, or a temporary file that another program had removed, stopped everything for good.
#[test]
fn a_refused_rename_does_not_latch_and_one_that_the_medium_failed_does() {
    let codes = |errors: &[FaultKind], is_final: bool| {
        for error in errors {
            for call in [FailStop::rename, FailStop::rename_new] {
                let (disk, stop, file) = latched(b"old");
                disk.inject(Fault::once(OpSelector::of(OpKind::Rename), error.clone()));
                call(&stop, "f".as_ref(), "g".as_ref()).unwrap_err();
                assert_eq!(stop.failure().is_some(), is_final, "{error:?}");
                assert_eq!(file.sync_data().is_err(), is_final, "{error:?}");
                assert_eq!(call(&stop, "f".as_ref(), "g".as_ref()).is_err(), is_final, "{error:?}");
            }
        }
    };
    // ENOENT, ENOMEM, EACCES, EBUSY, EEXIST, EXDEV, ENOTDIR, EISDIR, EINVAL, ENFILE, EMFILE, ETXTBSY, ENOSPC, EROFS, EMLINK.
    let refusals = [1, 2, 12, 13, 16, 17, 18, 20, 21, 22, 23, 24, 26, 28, 30, 31];
    codes(&refusals.map(FaultKind::Errno), false);
    use io::ErrorKind::*;
    codes(&[NotFound, AlreadyExists, IsADirectory, PermissionDenied, ResourceBusy].map(FaultKind::Error), false);
    // EIO, ENXIO, ENODEV.
    codes(&[5, 6, 19].map(FaultKind::Errno), true);
    #[cfg(target_os = "linux")]
    codes(&[74, 107, 110, 113, 116, 117].map(FaultKind::Errno), true);
    codes(&[Other, TimedOut, StaleNetworkFileHandle, NotConnected].map(FaultKind::Error), true);
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
