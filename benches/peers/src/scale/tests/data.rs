use std::collections::HashSet;

use crate::scale::data::{Keys, Order, fill_value};

#[test]
fn an_order_visits_each_number_once() {
    for size in [1, 2, 3, 10, 1000, 4097] {
        let order = Order::new(size, 7);
        let numbers: HashSet<u64> = (0..size).map(|place| order.at(place)).collect();
        assert_eq!(numbers.len() as u64, size);
        assert!(numbers.iter().all(|number| *number < size));
    }
    let first = |seed| (0..20).map(|place| Order::new(1000, seed).at(place)).collect::<Vec<_>>();
    assert_ne!(first(1), first(2));
}

#[test]
fn keys_are_ordered_as_their_ranks_and_an_absent_one_lies_beside_each() {
    for count in [1, 2, 1000] {
        let keys = Keys::new(count);
        let all: Vec<_> = (0..count).map(|rank| keys.key(rank)).collect();
        assert!(all.is_sorted_by(|one, other| one < other), "{count}");
        assert!((0..count).all(|rank| all.binary_search(&keys.absent(rank)).is_err()), "{count}");
    }
}

#[test]
fn values_differ_by_key_and_by_writing() {
    let value = |rank, writing| {
        let mut value = [0; 21];
        fill_value(&mut value, rank, writing);
        value
    };
    let values: HashSet<_> = (0..10).flat_map(|rank| (0..10).map(move |writing| value(rank, writing))).collect();
    assert_eq!(values.len(), 100);
    assert_eq!(value(3, 4), value(3, 4));
}
