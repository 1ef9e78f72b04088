//! How many files a salvage has open at once.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use forelog::unstable::disk::{Access, DirCall, Disk, DiskFile, FileLayer, Layer, Layered, LayeredFile};

use super::*;

/// A process that may have so many files open.
#[derive(Clone, Debug)]
struct Limit {
    open: Arc<AtomicUsize>,
    most: usize,
}

impl Layer for Limit {
    fn before(&self, call: DirCall<'_>) -> io::Result<()> {
        match call {
            DirCall::Open(..) if self.open.load(SeqCst) >= self.most => Err(io::Error::from_raw_os_error(24)),
            _ => Ok(()),
        }
    }

    fn file(&self, _: &OsStr, _: Access, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        self.open.fetch_add(1, SeqCst);
        Arc::new(LayeredFile::new(file, Counted { open: Arc::clone(&self.open) }))
    }
}

#[derive(Debug)]
struct Counted {
    open: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

impl FileLayer for Counted {}

#[test]
fn a_salvage_opens_runs_one_after_the_other() {
    let reference = reference();
    let run = reference.disk.read_file(&reference.file(".run")[0]).unwrap();
    let disk = reference.damaged(|disk| {
        disk.delete(format!("{DB}/table/MANIFEST")).unwrap();
        for number in 100..140 {
            disk.write_file(format!("{DB}/table/{number:016x}.run"), &run).unwrap();
        }
    });
    let limit = Limit { open: Arc::default(), most: 20 };
    let limited = Layered::new(Arc::new(disk.clone()) as Arc<dyn Disk>, limit);
    let salvaged = Engine::salvage_on(Arc::new(limited), DB, TO).unwrap();
    let unreadable = salvaged.bad_files.iter().filter(|bad| matches!(bad.cause, LossCause::Unreadable { .. }));
    assert_eq!(unreadable.count(), 0, "{salvaged:?}");
    assert!(saved(&disk, &salvaged, &reference.names) == reference.state());
}
