use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;

fn told(told: impl Fn() + Send + Sync + 'static) -> Wanted {
    let bell = Arc::new(Bell::default());
    bell.set_told(told);
    Wanted::new(bell)
}

#[test]
fn a_key_is_wanted_when_it_is_read_again_soon() {
    let (bell, told) = (Arc::new(Bell::default()), Arc::new(AtomicUsize::new(0)));
    let wanted = Wanted::new(Arc::clone(&bell));
    wanted.note(1, b"before anybody asks");
    wanted.note(1, b"before anybody asks");
    let tells = Arc::clone(&told);
    bell.set_told(move || _ = tells.fetch_add(1, Ordering::Relaxed));
    (0..100_000_u32).for_each(|key| wanted.note(1, &key.to_be_bytes()));
    assert_eq!(wanted.take(), [], "each was read once");
    for key in [&b"a"[..], b"a", b"b", b"a\0", b"b", b"a"] {
        wanted.note(7, key);
    }
    wanted.note(8, b"a\0");
    assert_eq!((wanted.take(), told.load(Ordering::Relaxed)), (vec![(7, Key::from(b"a")), (7, Key::from(b"b"))], 1));
}

#[test]
fn no_more_keys_wait_than_can_be_brought_in_soon() {
    let wanted = told(|| ());
    (0..1000_u32).flat_map(|key| [key, key]).for_each(|key| wanted.note(1, &key.to_be_bytes()));
    assert_eq!(wanted.take().len(), MOST);
}

/// Two whose hashes lead to the same place took it from each other, and stayed in tables however often they were read.
#[test]
fn keys_that_are_read_by_turns_are_all_wanted() {
    let keys: Vec<_> = (0..200_u32).map(u32::to_be_bytes).collect();
    for (number, one) in keys.iter().enumerate() {
        for other in &keys[..number] {
            let wanted = told(|| ());
            for key in [one, other, one, other] {
                wanted.note(1, key);
            }
            assert_eq!(wanted.take().len(), 2, "{one:?} and {other:?}");
        }
    }
}
