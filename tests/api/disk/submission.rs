//! A write and the sync behind it in one submission.

use forelog::unstable::disk::write_and_sync;

use forelog::unstable::disk::{DiskLock, FileStatus};

use super::*;

/// The kinds of the operations on a disk from now on; syncs in flight are not counted.
fn watch(disk: &SimDisk) -> Arc<Mutex<Vec<OpKind>>> {
    let seen: Arc<Mutex<Vec<OpKind>>> = Arc::default();
    let kinds = Arc::clone(&seen);
    disk.on_op(move |_, op| {
        if op.phase == Phase::Before {
            kinds.lock().unwrap().push(op.kind);
        }
    });
    seen
}

fn submit(file: &dyn DiskFile, bytes: &[u8]) -> (io::Result<()>, Option<Vec<u8>>) {
    let mut written = None;
    let result = write_and_sync(file, bytes.to_vec(), 0, &mut |bytes| {
        assert!(written.replace(bytes).is_none(), "told twice");
    });
    (result, written)
}

#[test]
fn the_sync_covers_what_was_written_before_it_was_submitted_and_nothing_later() {
    let (disk, file) = with_file(b"......");
    let before = Mutex::new(None);
    write_and_sync(&*file, b"one".to_vec(), 0, &mut |bytes| {
        assert_eq!(bytes, b"one");
        *before.lock().unwrap() = Some(lose_all(&disk));
        write_all_at(&*file, b"two", 3).unwrap();
    })
    .unwrap();
    assert_eq!(
        before.into_inner().unwrap().unwrap().read_file("f").unwrap(),
        b"......",
        "not durable when it is written"
    );
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"one...");
    assert_eq!(keep_all(&disk).read_file("f").unwrap(), b"onetwo");
}

#[test]
fn what_a_short_write_left_out_is_written_before_the_sync_that_it_cancelled() {
    for taken in 0..4 {
        let (disk, file) = with_file(b"....");
        disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::ShortWrite(taken)));
        let seen = watch(&disk);
        let (result, written) = submit(&*file, b"abcd");
        result.unwrap();
        assert_eq!(written.unwrap(), b"abcd");
        assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"abcd");
        assert_eq!(*seen.lock().unwrap(), [OpKind::Write, OpKind::Write, OpKind::Sync]);
    }
}

#[test]
fn an_interrupted_write_is_done_again() {
    let (disk, file) = with_file(b"....");
    disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::Error(io::ErrorKind::Interrupted)));
    let (result, written) = submit(&*file, b"abcd");
    result.unwrap();
    assert_eq!(written.unwrap(), b"abcd");
    assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"abcd");
}

#[test]
fn a_write_that_failed_is_told_to_nobody_as_written_and_is_final() {
    let (disk, _) = with_file(b"....");
    let latched = FailStop::new(Arc::new(disk.clone()));
    let file = latched.open("f".as_ref(), Access::Write).unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::FailedWrite(2)));
    let seen = watch(&disk);
    let (result, written) = submit(&*file, b"abcd");
    assert_eq!((result.unwrap_err().raw_os_error(), written), (Some(EIO), None));
    assert!(latched.failure().is_some());
    assert!(submit(&*file, b"abcd").0.is_err());
    assert_eq!(*seen.lock().unwrap(), [OpKind::Write]);
}

#[test]
fn the_rest_of_a_short_write_can_fail_too() {
    let (disk, _) = with_file(b"....");
    let latched = FailStop::new(Arc::new(disk.clone()));
    let file = latched.open("f".as_ref(), Access::Write).unwrap();
    disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::ShortWrite(2)));
    disk.inject(Fault::once(OpSelector::of(OpKind::Write), FaultKind::FailedWrite(1)));
    let seen = watch(&disk);
    let (result, written) = submit(&*file, b"abcd");
    assert_eq!((result.unwrap_err().raw_os_error(), written), (Some(EIO), None));
    assert!(latched.failure().is_some());
    assert_eq!(*seen.lock().unwrap(), [OpKind::Write, OpKind::Write]);
}

#[test]
fn a_sync_that_failed_is_final() {
    for pages in [Pages::KeepNew, Pages::RevertOld] {
        let (disk, _) = with_file(b"....");
        let latched = FailStop::new(Arc::new(disk.clone()));
        let file = latched.open("f".as_ref(), Access::Write).unwrap();
        disk.inject(Fault::once(OpSelector::of(OpKind::Sync), FaultKind::SyncFails { pages }));
        let seen = watch(&disk);
        let (result, written) = submit(&*file, b"abcd");
        assert_eq!(result.unwrap_err().raw_os_error(), Some(EIO));
        assert_eq!(written.unwrap(), b"abcd", "it was written, and only then lost");
        assert!(latched.failure().is_some() && file.sync_data().is_err());
        assert_eq!(*seen.lock().unwrap(), [OpKind::Write, OpKind::Sync], "the sync was done again");
        assert_eq!(lose_all(&disk).read_file("f").unwrap(), b"....");
    }
}

/// A file that answers a submission as it is told to, and counts what follows.
#[derive(Debug)]
struct Told {
    taken: usize,
    sync: io::Result<bool>,
    syncs: AtomicU64,
    bytes: Mutex<Vec<u8>>,
}

impl Told {
    fn new(taken: usize, sync: io::Result<bool>) -> Self {
        Told { taken, sync, syncs: AtomicU64::new(0), bytes: Mutex::default() }
    }
}

impl DiskFile for Told {
    fn status(&self) -> io::Result<FileStatus> {
        unreachable!("no one asks")
    }

    fn lock(&self, _: LockMode) -> io::Result<Option<Box<dyn DiskLock>>> {
        unreachable!("no one locks it")
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut all = self.bytes.lock().unwrap();
        assert_eq!(all.len() as u64, offset);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn submit(&self, bytes: Vec<u8>, offset: u64, wrote: &mut dyn FnMut(Vec<u8>, usize)) -> io::Result<bool> {
        self.write_at(&bytes[..self.taken], offset)?;
        wrote(bytes, self.taken);
        match &self.sync {
            Ok(done) => Ok(*done),
            Err(error) => Err(error.kind().into()),
        }
    }
}

#[test]
fn a_sync_that_ran_before_all_was_written_is_done_again_and_one_that_failed_is_not() {
    for (taken, sync, succeeds, further_syncs) in [
        (4, Ok(true), true, 0),
        (4, Ok(false), true, 1),
        (2, Ok(true), true, 1),
        (2, Ok(false), true, 1),
        (4, Err(io::ErrorKind::Other.into()), false, 0),
        (2, Err(io::ErrorKind::Other.into()), false, 0),
    ] {
        let what = format!("{taken} bytes, {sync:?}");
        let file = Told::new(taken, sync);
        let (result, written) = submit(&file, b"abcd");
        assert_eq!(result.is_ok(), succeeds, "{what}");
        assert_eq!(written.unwrap(), b"abcd", "{what}");
        assert_eq!(*file.bytes.lock().unwrap(), b"abcd", "{what}");
        assert_eq!(file.syncs.load(Ordering::Relaxed), further_syncs, "{what}");
    }
}
