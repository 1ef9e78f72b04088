//! Bits of tables: the sample that every test run takes. Each is flipped in a copy, which is then verified, read without an
//! open, and opened: every key is asked for, every keyspace is read in both directions, all of it is scrubbed, backed up and
//! merged, and then read again. Each answer is right, or an error that names the file.
//!
//! | outcome | |
//! |---|---|
//! | refused at open | nobody can read it, and not a byte was changed |
//! | damaged on reading | some call said so, and all others gave the right answer |
//! | right answers | no reader needs what is damaged; `verify`, a scrub and a backup find it |

use std::collections::BTreeMap;
use std::path::Path;

use crashkit::{Random, TempDir, seed};
use forelog::unstable::inspect::{TableField, TableItem, dump_table_file};
use forelog_sim::faults::name_of;
use forelog_sim::faults::tables::flips::{self, Bit, OUTCOMES, REFUSED, anywhere, of_each_region, sweep};
use forelog_sim::faults::tables::reference::{REGIONS, Reference};

#[test]
fn a_sample_of_flipped_bits_of_tables_is_refused_or_told() {
    let mut random = Random::new(seed(0x7AB1E));
    let reference = Reference::of_every_kind();
    let matrix = sweep(&reference, &of_each_region(&reference, 6, &mut random));
    matrix.assert_clean("flipped bits of tables");
    for region in REGIONS {
        assert!(matrix.row_total(region) > 0, "{region}");
        let is_list = ["MANIFEST", "keyspaces"].contains(&region);
        assert_eq!(matrix.count_of(region, REFUSED) > 0, is_list, "{region}");
    }
    let [[_, _, lost], [_, passed_by, _]] = OUTCOMES;
    assert!(matrix.total(lost) > 50);
    assert!(matrix.total(passed_by) > 0, "the inputs of the job have something below its cursor");
}

#[test]
fn a_sample_of_flipped_bits_of_a_long_run_is_told() {
    let mut random = Random::new(seed(0x7AB1E));
    let reference = Reference::run();
    let mut bits = anywhere(&reference, 20, &mut random);
    bits.extend(of_partitions(&reference, &mut random));
    let matrix = sweep(&reference, &bits);
    matrix.assert_clean("flipped bits of a long run");
    assert!(matrix.row_total("partition") >= 4 && matrix.row_total("data") > 10);
}

/// A bit of each partition, of which there are few.
fn of_partitions(reference: &Reference, random: &mut Random) -> Vec<Bit> {
    let bits = of_each_region(reference, 1, random);
    bits.into_iter().filter(|bit| reference.region(bit.file, bit.bit) == "partition").collect()
}

/// `FORELOG_FLIP=reference/file/bit`, as a failure prints it.
#[test]
fn one_bit_of_tables() {
    let Ok(case) = std::env::var("FORELOG_FLIP") else { return };
    let mut parts = case.split('/');
    let reference = parts.next().and_then(Reference::named).expect("kinds, run or full-run");
    let name = parts.next().expect("a file");
    let file = reference.files.iter().position(|(path, _)| name_of(path) == name).expect("a file in table/");
    let bit = parts.next().and_then(|bit| bit.parse().ok()).expect("the number of a bit");
    match flips::verdict(&reference, &reference.disk.crash_point(), Bit { file, bit }) {
        Ok(outcome) => println!("{}: {outcome}", reference.region(file, bit)),
        Err(violation) => panic!("{violation}"),
    }
}

/// What is in the tables of a reference, as the engine shows it.
fn dumped(reference: &Reference) -> Vec<TableItem> {
    let dir = TempDir::new("table-flips");
    let mut all = Vec::new();
    for (path, bytes) in &reference.files {
        let file = dir.join(name_of(path));
        std::fs::write(&file, bytes).unwrap();
        let shown = dump_table_file(Path::new(&file), |item| {
            all.push(item.clone());
            Ok::<(), forelog::Error>(())
        });
        shown.unwrap();
    }
    all
}

fn field<'i>(item: &'i TableItem, name: &str) -> Option<&'i TableField> {
    item.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| field)
}

/// A sweep says little about what is not there.
#[test]
fn the_reference_tables_have_every_kind_of_block_and_entry() {
    let reference = Reference::of_every_kind();
    let bytes = reference.bits() / 8;
    assert!((20 << 10..64 << 10).contains(&bytes), "{bytes} bytes");
    let items = dumped(&reference);
    let text = |text: &str| Some(TableField::Text(text.to_owned()));
    let count = |what: &str, name: &str, has: &dyn Fn(Option<&TableField>) -> bool| {
        items.iter().filter(|item| item.what == what && has(field(item, name))).count()
    };
    let number_above =
        |least: u64| move |field: Option<&TableField>| matches!(field, Some(TableField::Number(is)) if *is > least);
    let is = |value: Option<TableField>| move |field: Option<&TableField>| field == value.as_ref();
    let roles = ["whole", "input", "output"].map(|role| count("layer", "role", &is(text(role))));
    assert_eq!(roles, [2, 2, 1]);
    assert_eq!(count("keyspace", "dropped", &|dropped| dropped.is_some()), 2);
    assert!(count("keyspace", "dropped", &|dropped| dropped.is_none()) >= 3);
    assert!(count("run", "reach_low", &|reach| reach.is_some()) >= 6);
    assert!(count("range_tombstone", "start", &|start| start.is_some()) >= 5);
    assert!(count("entry", "value", &is(text("tombstone"))) >= 6);
    assert!(count("entry", "value", &number_above(4096)) > 0 && count("block", "length", &number_above(4096)) > 0);
    assert_eq!(count("damage", "error", &|_| true), 0);
    // Older versions follow the newest one.
    let is_same = |pair: &[TableItem]| {
        let key = |item: &TableItem| (field(item, "keyspace").cloned(), field(item, "key").cloned());
        pair.iter().all(|item| item.what == "entry") && key(&pair[0]) == key(&pair[1])
    };
    assert!(items.windows(2).filter(|pair| is_same(pair)).count() >= 8, "versions");
    // A run of several blocks, and an input run on both sides of the cursor.
    let mut blocks: BTreeMap<usize, usize> = BTreeMap::new();
    let mut partition = 0;
    for item in &items {
        partition += usize::from(item.what == "partition");
        *blocks.entry(partition).or_default() += usize::from(item.what == "block");
    }
    assert!(blocks.values().any(|blocks| *blocks >= 3), "{blocks:?}");
    let output = items.iter().find(|item| field(item, "role") == text("output").as_ref()).unwrap();
    let Some(TableField::Bytes(cursor)) = field(output, "cursor") else { panic!("{output:?}") };
    let straddles = |item: &&TableItem| {
        let bound = |name| match field(item, name) {
            Some(TableField::Bytes(bound)) => bound.clone(),
            _ => Vec::new(),
        };
        let (low, high) = (bound("low"), bound("high"));
        low < *cursor && (high.is_empty() || *cursor < high)
    };
    let begin = items.iter().position(|item| field(item, "role") == text("input").as_ref()).unwrap();
    let inputs = items[begin..].iter().take_while(|item| field(item, "role") != text("output").as_ref());
    assert!(inputs.filter(|item| item.what == "run").filter(straddles).count() >= 2);
}

#[test]
fn a_long_run_has_several_partitions() {
    let reference = Reference::run();
    let count = |what| reference.regions.iter().filter(|region| region.what == what).count();
    assert_eq!((count("run header"), count("root")), (1, 1));
    assert!(count("partition") >= 4 && count("data") >= 4 * 64, "{} {}", count("partition"), count("data"));
}
