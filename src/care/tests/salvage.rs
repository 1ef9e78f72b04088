//! Salvage of logs whose first part was retired: what is gone on purpose is not missed.

use std::sync::Arc;

use crate::base::error::Result;
use crate::base::types::CommitMode::Sync;
use crate::base::types::Lsn;
use crate::care::salvage::{Completeness, Found, Listed, Save, salvage};
use crate::disk::DirHandle;
use crate::disk::sim::SimDisk;
use crate::log::tests::support::*;

fn salvaged(disk: &SimDisk) -> (Records, Found) {
    let mut shown = Shown(Records::new());
    let found = salvage(Arc::new(DirHandle::open(disk, DIR.as_ref()).unwrap()), &mut shown);
    (shown.0, found.unwrap())
}

struct Shown(Records);

impl Save for Shown {
    fn keyspaces(&mut self, _: Listed) -> Result<()> {
        unreachable!("there are no tables")
    }

    fn entry(&mut self, _: u32, _: &[u8], _: &[u8]) -> Result<()> {
        unreachable!("there are no tables")
    }

    fn record(&mut self, lsn: Lsn, payload: &[u8]) -> Result<bool> {
        self.0.push((lsn, payload.to_vec()));
        Ok(true)
    }
}

#[test]
fn what_was_retired_is_not_missed_and_does_not_come_back() {
    let disk = SimDisk::new();
    closed_session(&disk, 80, &[(2000, Sync), (2500, Sync), (3000, Sync)]);
    let second = closed_session(&disk, 81, &[(1000, Sync), (3000, Sync), (9000, Sync), (1000, Sync)]);
    let before = copy(&disk);
    let (all, found) = salvaged(&before);
    assert_eq!((all.len(), found.lost.len(), found.completeness(all[6].0)), (7, 0, Completeness::Prefix));
    for (index, issued) in second.issued.iter().enumerate() {
        let disk = copy(&disk);
        let opened = open(&disk).unwrap();
        opened.log.retire(issued.token.lsn).unwrap();
        opened.log.close().unwrap();
        drop(opened);
        let expected = second.records()[index + 1..].to_vec();
        let (records, found) = salvaged(&disk);
        assert_same(&records, &expected, &format!("retired up to record {index}"));
        assert!(found.lost.is_empty() && found.bad_files.is_empty(), "{found:?}");
        // The removal of the retired segments was cut off.
        for (path, bytes) in files(&before).into_iter().filter(|(path, _)| !path.ends_with("HISTORY")) {
            disk.write_file(path, &bytes).unwrap();
        }
        let (records, found) = salvaged(&disk);
        assert_same(&records, &expected, &format!("retired up to record {index}, and still there"));
        assert!(found.lost.is_empty(), "{found:?}");
    }
}
