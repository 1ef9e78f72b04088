use super::*;
use crate::import::temporary;

/// Compared with the plain search, for every way in which up to seven rows can have up to seven hashes, all in one partition.
#[test]
fn the_pair_with_the_earliest_second_row_is_found_in_any_number_of_passes() {
    const ROWS: u32 = 7;
    let mut words: Vec<Vec<u64>> = vec![Vec::new()];
    for _ in 0..ROWS {
        // Each row has the hash of an earlier one, or the next new one: every other way is one of these with other names.
        let longer = words.iter().flat_map(|word| {
            let new = word.iter().max().map_or(0, |most| most + 1);
            (0..=new).map(move |hash| [&word[..], &[hash]].concat())
        });
        words = longer.collect();
    }
    for word in &words {
        let mut spill = Spill::new(temporary::create().unwrap(), 0);
        for (row, hash) in (1..).zip(word) {
            spill.add(Hash(1, *hash), row).unwrap();
        }
        let plain = word.iter().enumerate().find_map(|(second, hash)| {
            let first = word[..second].iter().position(|earlier| earlier == hash)?;
            Some(Twice { first: first as u64 + 1, second: second as u64 + 1 })
        });
        for most in 1..=ROWS as usize {
            assert_eq!(spill.first_twice(most).unwrap(), plain, "{word:?}, {most} in memory");
        }
    }
}

#[test]
fn partitions_do_not_mix_and_chunks_come_back_in_order() {
    let mut spill = Spill::new(temporary::create().unwrap(), 100 << PARTITION_BITS);
    for row in 0..100_000 {
        spill.add(Hash(row << 54, row), row).unwrap();
    }
    let mut rows = 0;
    for index in 0..spill.partitions.len() {
        let mut next = index as u64;
        spill
            .each(index, |hash, row| {
                assert_eq!((hash, row), (Hash(row << 54, row), next));
                (next, rows) = (next + 1024, rows + 1);
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert_eq!(rows, 100_000);
}
