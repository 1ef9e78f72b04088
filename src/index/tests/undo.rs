use super::super::undo::Undo;
use super::super::version::{Content, Seq, Version};
use super::*;

fn version(lsn: u64, older: Seq, content: Content<'_>) -> Version<'_> {
    Version { lsn: Lsn::new(lsn), older, content }
}

/// Writes to two keys in turn, with pruning in between.
#[test]
fn an_old_version_is_found_among_many_in_few_steps() {
    const COUNT: u64 = 100_000;
    let mut undo = Undo::default();
    let mut newest = [Seq::NONE; 2];
    for lsn in 1..=COUNT {
        let key = usize::from(lsn % 2 == 0);
        let value = lsn.to_le_bytes();
        newest[key] = undo.push(
            &[b'a', b'0' + u8::from(key == 1)],
            &version(lsn, newest[key], Content::InPlace(&value)),
            Lsn::new(lsn + 2),
            false,
        );
        if lsn % 10 == 0 {
            undo.pop_front();
        }
    }
    let oldest = COUNT / 10 + 1;
    assert_eq!(undo.versions() as u64, COUNT - COUNT / 10);
    for (key, newest) in newest.into_iter().enumerate() {
        for at in (1..=COUNT).step_by(37) {
            let (found, steps) = undo.find_in_steps(newest, Lsn::new(at));
            let expected = at - u64::from(at % 2 == u64::from(key == 1));
            assert_eq!(found.map(|record| record.lsn.get()), (expected >= oldest).then_some(expected), "at {at}");
            let value = found.and_then(|record| undo.value(record));
            assert_eq!(value, found.map(|_| Value::from(&expected.to_le_bytes())));
            assert!(steps < 64, "{steps} steps to {at}");
        }
    }
}

#[test]
fn keys_and_values_are_whole_across_the_end_of_the_memory() {
    let mut undo = Undo::default();
    let large = Value::from(vec![9; 5000]);
    let content = |number: u64| match number % 5 {
        0 => Content::Deleted,
        1 => Content::Shared(&large),
        _ => Content::InPlace(&[7; 1024][..usize::try_from(number * 31 % 1024).unwrap()]),
    };
    for number in 1..5000_u64 {
        let key = vec![1; usize::try_from(number * 7 % 300).unwrap()];
        undo.push(&key, &version(number, Seq::NONE, content(number)), Lsn::new(number + 1), false);
        if let Some(first) = number.checked_sub(40) {
            let record = undo.front().unwrap();
            assert_eq!(record.lsn.get(), first.max(1));
            assert_eq!(undo.key(record), vec![1; usize::try_from(first.max(1) * 7 % 300).unwrap()]);
            assert_eq!(undo.value(record), content(first.max(1)).value());
            if first > 0 {
                undo.pop_front();
            }
        }
    }
}
