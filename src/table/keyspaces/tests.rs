//! The list of keyspaces.

use super::*;
use crate::format::batch::BatchBuilder;
use crate::table::tests::{BRANCH, memory_dir, new_store};

fn list(ops: &[(u64, Op<'_>)]) -> KeyspaceList {
    let mut list = KeyspaceList::default();
    for (lsn, op) in ops {
        let mut batch = BatchBuilder::new();
        batch.push(op).unwrap();
        list.add(Lsn::new(*lsn), &batch.batch());
    }
    list
}

const HISTORY: [(u64, Op<'static>); 5] = [
    (8, Op::CreateKeyspace { keyspace: 0, name: "a" }),
    (16, Op::CreateKeyspace { keyspace: 1, name: "b" }),
    (24, Op::Put { keyspace: 1, key: b"key", value: b"value" }),
    (32, Op::DropKeyspace { keyspace: 1 }),
    (40, Op::CreateKeyspace { keyspace: 2, name: "b" }),
];

fn ids(list: &KeyspaceList) -> Vec<u32> {
    list.iter().map(|one| one.id).collect()
}

fn retain(floor: u64, held: &[u64]) -> Retain {
    Retain { floor: Lsn::new(floor), held: held.iter().map(|lsn| Lsn::new(*lsn)).collect(), is_last: false }
}

#[test]
fn a_dropped_keyspace_is_listed_while_a_reader_can_ask_for_it() {
    for (floor, held, there) in [
        (31, &[][..], true),
        (32, &[], false),
        (40, &[31], true),
        (40, &[16], true),
        (40, &[15], false),
        (40, &[32], false),
    ] {
        let mut list = list(&HISTORY);
        list.prune(&retain(floor, held));
        assert_eq!(ids(&list), if there { vec![0, 1, 2] } else { vec![0, 2] }, "{floor} {held:?}");
        assert_eq!(list.next_id(), 3);
    }
}

#[test]
fn what_was_dropped_is_deleted_as_a_whole() {
    let told = |list: &KeyspaceList| -> Vec<_> {
        let id = |bound: &[u8]| u32::from_be_bytes(bound.try_into().unwrap());
        list.drops().iter().map(|one| (id(&one.start), id(&one.end), one.lsn.get())).collect()
    };
    let mut list = list(&HISTORY);
    assert_eq!(told(&list), [(1, 2, 32)]);
    assert_eq!(list.gone().listed, [0, 1, 2].into());
    // Nobody can ask for it any more, and its entries go all the same.
    list.prune(&retain(40, &[]));
    assert_eq!(told(&list), []);
    assert_eq!((list.gone().next_id, list.gone().listed), (3, [0, 2].into()));
}

/// No LSN shows it, and no list may have it.
#[test]
fn a_keyspace_that_one_record_creates_and_drops_is_not_listed() {
    let mut list = KeyspaceList::default();
    let mut batch = BatchBuilder::new();
    batch.create_keyspace(u32::MAX - 1, "last").unwrap();
    batch.drop_keyspace(u32::MAX - 1).unwrap();
    list.add(Lsn::new(8), &batch.batch());
    assert_eq!(list.drops().len(), 1, "the highest id has a bound behind it");
    list.prune(&retain(0, &[]));
    assert_eq!((ids(&list), list.next_id()), (vec![], u32::MAX));
    let store = new_store(&memory_dir());
    store.begin().write_keyspaces(&list, Lsn::new(8), BRANCH).unwrap();
}
