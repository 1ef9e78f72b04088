//! The list of keyspaces.

use super::*;
use crate::format::batch::BatchBuilder;

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
        list.drops(Lsn::new(100)).iter().map(|one| (id(&one.start), id(&one.end), one.lsn.get())).collect()
    };
    let mut list = list(&HISTORY);
    assert_eq!(told(&list), [(1, 2, 32)]);
    // Nobody can ask for it any more, and its entries go all the same.
    list.prune(&retain(40, &[]));
    assert_eq!(told(&list), [(1, 2, 100)]);
    list.by_id.remove(&0);
    list.by_id.remove(&2);
    assert_eq!(told(&list), [(0, 3, 100)]);
}
