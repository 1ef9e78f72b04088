use super::{LARGE, LargePages, LargeVec, give_back_unused};

const ITEM: usize = 4 << 10;

fn filled(count: usize) -> LargeVec<[u8; ITEM]> {
    let mut items = LargeVec::new_in(LargePages);
    for number in 0..count {
        items.push([u8::try_from(number % 251).expect("a byte"); ITEM]);
    }
    items
}

fn holds(items: &[[u8; ITEM]], count: usize) -> bool {
    items.len() == count
        && items.iter().enumerate().all(|(number, item)| item.iter().all(|b| usize::from(*b) == number % 251))
}

#[test]
fn a_large_vector_begins_at_a_large_page_and_keeps_its_items_while_it_grows_and_shrinks() {
    let large = LARGE / ITEM;
    for count in [1, large - 1, large, large + 1, 5 * large + 7] {
        let mut items = filled(count);
        assert!(holds(&items, count), "{count}");
        if items.capacity() * ITEM >= LARGE {
            assert_eq!(items.as_ptr().addr() % LARGE, 0, "{count}");
        }
        items.truncate(count / 3);
        items.shrink_to_fit();
        assert!(holds(&items, count / 3), "{count}");
    }
}

#[test]
fn what_lies_behind_the_items_is_given_back_and_can_be_used_again() {
    let large = LARGE / ITEM;
    let mut items = filled(4 * large);
    items.truncate(large + 1);
    give_back_unused(&mut items);
    assert!(holds(&items, large + 1));
    for number in large + 1..4 * large {
        items.push([u8::try_from(number % 251).expect("a byte"); ITEM]);
    }
    assert!(holds(&items, 4 * large));
}
