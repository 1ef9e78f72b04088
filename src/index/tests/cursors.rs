use super::*;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn numbers(entries: impl Iterator<Item = (Key, Value)>) -> Vec<u32> {
    entries.map(|(key, _)| u32::from_be_bytes(key.as_ref().try_into().unwrap())).collect()
}

/// The keys `0..count`.
fn filled(count: u32) -> (Fixture, Arc<Tree>) {
    let (mut fixture, tree) = Fixture::with_keyspace();
    fixture.commit(|batch| (0..count).for_each(|number| batch.put(1, &key(number), b"value").unwrap()));
    (fixture, tree)
}

#[test]
fn a_cursor_keeps_to_its_range_in_both_directions() {
    let (fixture, tree) = filled(10);
    let at = fixture.index.visible();
    let (low, high) = (key(3), key(6));
    let cases: [(KeyRange<'_>, &[u32]); 8] = [
        (ALL, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ((Bound::Included(&low), Bound::Included(&high)), &[3, 4, 5, 6]),
        ((Bound::Included(&low), Bound::Excluded(&high)), &[3, 4, 5]),
        ((Bound::Excluded(&low), Bound::Included(&high)), &[4, 5, 6]),
        ((Bound::Excluded(&low), Bound::Unbounded), &[4, 5, 6, 7, 8, 9]),
        ((Bound::Included(&high), Bound::Excluded(&low)), &[]),
        ((Bound::Excluded(&low), Bound::Excluded(&low)), &[]),
        ((Bound::Included(&low), Bound::Included(&low)), &[3]),
    ];
    for (range, expected) in cases {
        let cursor = entries(Arc::clone(&tree), range, at);
        assert_eq!(numbers(cursor.clone()), expected, "{range:?}");
        assert!(numbers(cursor.rev()).iter().eq(expected.iter().rev()), "{range:?} backward");
    }
}

#[test]
fn a_cursor_can_be_used_from_both_ends() {
    let (fixture, tree) = filled(1000);
    let mut cursor = entries(tree, ALL, fixture.index.visible());
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for step in 0.. {
        let (end, entry) = if step % 3 == 0 { (&mut back, cursor.next_back()) } else { (&mut front, cursor.next()) };
        let Some(entry) = entry else { break };
        end.push(entry);
    }
    assert_eq!(cursor.next(), None);
    assert_eq!(cursor.next_back(), None);
    assert!(back.len() > 300 && front.len() > 600);
    front.extend(back.into_iter().rev());
    assert!(numbers(front.into_iter()).into_iter().eq(0..1000));
}

#[test]
fn a_cursor_passes_over_more_tombstones_than_one_piece_holds() {
    let (mut fixture, tree) = filled(5000);
    let before = fixture.index.hold();
    fixture.commit(|batch| (1..4999).for_each(|number| batch.delete(1, &key(number)).unwrap()));
    fixture.prune();
    let cursor = entries(Arc::clone(&tree), ALL, fixture.index.visible());
    assert_eq!(numbers(cursor.clone()), [0, 4999]);
    assert_eq!(numbers(cursor.rev()), [4999, 0]);
    assert_eq!(scan(&tree, ALL, before.lsn()).len(), 5000);
}

#[test]
fn a_cursor_goes_on_while_everything_around_it_changes() {
    let (mut fixture, tree) = filled(600);
    let hold = fixture.index.hold();
    let mut forward = entries(Arc::clone(&tree), ALL, hold.lsn());
    let mut backward = forward.clone().rev();
    for number in 0..600 {
        fixture.delete(&key(number));
        fixture.delete(&key(599 - number));
        fixture.put(&key(number + 1000), b"new");
        assert_eq!(numbers(forward.next().into_iter()), [number]);
        assert_eq!(numbers(backward.next().into_iter()), [599 - number]);
    }
    assert_eq!(forward.next(), None);
    assert_eq!(backward.next(), None);
}
