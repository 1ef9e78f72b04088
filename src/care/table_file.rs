//! One file of the tables on its own: what is in it, and whether all of it checks. Whether a database needs the file, and
//! whether it is the right one, only its MANIFEST tells.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::{Incarnation, Lsn};
use crate::disk::{Access, Disk, DiskFile, OsDisk};
use crate::format::table::block::Indexed;
use crate::format::table::data::{Found, Interval};
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{Layer, Manifest, NamedFile, Role};
use crate::format::table::range_tombstones::{RangeTombstone, Says};
use crate::format::table::run::RunHeader;
use crate::format::table::{FileIdentity, number_of, split_full_key};
use crate::table::list::{magic, read_list};
use crate::table::run::read::{Part, Run};

/// One thing in a file of the tables.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TableItem {
    /// What it is, such as `run`, `layer` or `entry`.
    pub what: &'static str,
    /// What there is to say about it, in the order of the format.
    pub fields: Vec<(&'static str, TableField)>,
}

/// A field of a [`TableItem`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TableField {
    /// A number, or a length in bytes.
    Number(u64),
    /// A position in the log.
    Lsn(Lsn),
    /// A checksum or a number of an identity, which means nothing as a quantity.
    Hex(u64),
    /// A key, or the end of a range.
    Bytes(Vec<u8>),
    /// Words.
    Text(String),
}

use TableField::{Bytes, Hex, Number, Text};

/// What is done with each thing in a file.
type Show<'a, E> = &'a mut dyn FnMut(&TableItem) -> Result<(), E>;

fn item<const N: usize>(what: &'static str, fields: [(&'static str, TableField); N]) -> TableItem {
    TableItem { what, fields: fields.into() }
}

/// Reads and checks all of the file in `path`, changing nothing, and shows each thing in it. What is damaged is shown as
/// an item `damage`, and what lies behind it goes on to be shown.
///
/// # Errors
/// [`ErrorKind::NotADatabase`] if the file is none of the tables'; [`ErrorKind::Damaged`], [`ErrorKind::Unsupported`] and
/// [`ErrorKind::Io`] if nothing of it can be shown; and whatever `show` returns, which ends it.
pub fn dump_table_file<E: From<Error>>(
    path: impl AsRef<Path>,
    mut show: impl FnMut(&TableItem) -> Result<(), E>,
) -> Result<(), E> {
    let damage = |error: Error| Ok(item("damage", [("error", Text(error.to_string()))]));
    walk(&OsDisk, path.as_ref(), &mut show, damage)
}

/// Reads and checks all of the file in `path`, changing nothing. Returns what the file says of itself.
///
/// # Errors
/// As [`dump_table_file`]; and the first damage.
pub fn verify_table_file(path: impl AsRef<Path>) -> Result<TableItem> {
    verify_table_file_on(&OsDisk, path)
}

/// [`verify_table_file`] on a disk of your own.
///
/// # Errors
/// As [`verify_table_file`].
pub fn verify_table_file_on(disk: &dyn Disk, path: impl AsRef<Path>) -> Result<TableItem> {
    let mut head = None;
    let mut first = |item: &TableItem| {
        head.get_or_insert_with(|| item.clone());
        Ok(())
    };
    walk(disk, path.as_ref(), &mut first, Err)?;
    Ok(head.expect("the file itself is the first item"))
}

/// `bad` decides whether to go on behind damage, with an item in its place.
fn walk<E: From<Error>>(
    disk: &dyn Disk,
    path: &Path,
    show: Show<'_, E>,
    bad: impl Fn(Error) -> Result<TableItem, E>,
) -> Result<(), E> {
    let file = open(disk, path)?;
    let named = path.file_name().and_then(OsStr::to_str).and_then(number_of).map(|(number, _)| number);
    // A file of ours under another number is not the one that its name says.
    let check = |identity: FileIdentity| match named {
        Some(number) if number != identity.number => Err(Error::bad_table(path, IDENTITY)),
        _ => Ok(()),
    };
    let refused = |refusal: crate::format::Refusal| refusal.error(path, || Error::bad_table(path, 0));
    match magic(&*file, path)? {
        Some(Manifest::MAGIC) => {
            let manifest = Manifest::decode(&read_list(&*file, path, Manifest::begin_check)?).map_err(refused)?;
            manifest_items(&manifest, show)
        }
        Some(Keyspaces::MAGIC) => {
            let keyspaces = Keyspaces::decode(&read_list(&*file, path, Keyspaces::begin_check)?).map_err(refused)?;
            check(keyspaces.identity)?;
            keyspaces_items(&keyspaces, show)
        }
        Some(RunHeader::MAGIC) => {
            let run = Run::open(file, path)?;
            check(run.footer.header.identity)?;
            run_items(&run, show)?;
            run.walk(|part| match part {
                Part::Bad(error) => show(&bad(error.clone())?),
                Part::Partition(partition) => show(&block("partition", partition)),
                Part::Block(indexed) => show(&block("block", indexed)),
                Part::Entry(key, version) => show(&entry(key, *version)),
            })
        }
        _ => {
            let message =
                format!("{} is no MANIFEST, no file of keyspaces and no run of a forelog database", path.display());
            Err(Error::new(ErrorKind::NotADatabase, message).into())
        }
    }
}

/// Where the number is in a file that has an identity.
const IDENTITY: u64 = 48;

fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>> {
    let Some(name) = path.file_name() else {
        return Err(Error::invalid_input(format!("{} names no file", path.display())));
    };
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = disk.open_dir(above).and_then(|dir| dir.open(name, Access::Read));
    opened.map_err(|error| Error::io("open", path, error))
}

fn manifest_items<E>(manifest: &Manifest, show: Show<'_, E>) -> Result<(), E> {
    let Manifest { log_id, generation, to, branch, oldest, next_number, written, layers, aside, .. } = manifest;
    show(&item(
        "manifest",
        [
            ("log", Text(log_id.to_string())),
            ("generation", Number(*generation)),
            ("to", TableField::Lsn(*to)),
            ("incarnation", incarnation(*branch)),
            ("oldest", TableField::Lsn(*oldest)),
            ("next_number", Number(*next_number)),
            ("layers", Number(layers.len() as u64)),
            ("log_read", Number(written.log_read)),
            ("by_checkpoints", Number(written.by_checkpoints)),
            ("by_merges", Number(written.by_merges)),
            ("lists", Number(written.lists)),
        ],
    ))?;
    show(&named("keyspaces", manifest.keyspaces, Vec::new()))?;
    for layer in layers {
        layer_items(layer, show)?;
    }
    aside.iter().try_for_each(|file| show(&named("aside", *file, Vec::new())))
}

fn layer_items<E>(layer: &Layer, show: Show<'_, E>) -> Result<(), E> {
    let Interval { from, to } = layer.interval;
    let (role, cursor) = match &layer.role {
        Role::Whole => ("whole", None),
        Role::Input => ("input", None),
        Role::Output { cursor } => ("output", Some(cursor.clone())),
    };
    let mut shown = item(
        "layer",
        [
            ("from", TableField::Lsn(from)),
            ("to", TableField::Lsn(to)),
            ("role", Text(role.into())),
            ("runs", Number(layer.runs.len() as u64)),
        ],
    );
    shown.fields.extend(cursor.map(|cursor| ("cursor", Bytes(cursor))));
    show(&shown)?;
    layer.runs.iter().try_for_each(|run| {
        let more = vec![
            ("entries", Number(run.entries)),
            ("tombstones", Number(run.tombstones)),
            ("range_tombstones", Number(run.range_tombstones)),
            ("newest", TableField::Lsn(run.newest)),
            ("low", Bytes(run.range.low.clone())),
            ("high", Bytes(run.range.high.clone())),
        ];
        show(&named("run", run.file, more))
    })
}

fn named(what: &'static str, file: NamedFile, more: Vec<(&'static str, TableField)>) -> TableItem {
    let NamedFile { number, nonce, length, crc } = file;
    let mut named = item(
        what,
        [("number", Number(number)), ("nonce", Hex(nonce)), ("length", Number(length)), ("crc", Hex(crc.into()))],
    );
    named.fields.extend(more);
    named
}

fn keyspaces_items<E>(keyspaces: &Keyspaces, show: Show<'_, E>) -> Result<(), E> {
    let Keyspaces { identity, to, branch, next_id, list } = keyspaces;
    show(&item(
        "keyspaces",
        [
            ("log", Text(identity.log_id.to_string())),
            ("number", Number(identity.number)),
            ("nonce", Hex(identity.nonce)),
            ("to", TableField::Lsn(*to)),
            ("incarnation", incarnation(*branch)),
            ("next_id", Number((*next_id).into())),
            ("count", Number(list.len() as u64)),
        ],
    ))?;
    list.iter().try_for_each(|one| {
        let mut shown = item(
            "keyspace",
            [
                ("id", Number(one.id.into())),
                ("name", Text(one.name.clone())),
                ("created", TableField::Lsn(one.created)),
            ],
        );
        shown.fields.extend(one.dropped.map(|dropped| ("dropped", TableField::Lsn(dropped))));
        show(&shown)
    })
}

fn run_items<E>(run: &Run, show: Show<'_, E>) -> Result<(), E> {
    let (footer, root) = (&run.footer, &run.root);
    let RunHeader { identity, interval, branch } = footer.header;
    let counts = footer.counts;
    show(&item(
        "run",
        [
            ("log", Text(identity.log_id.to_string())),
            ("number", Number(identity.number)),
            ("nonce", Hex(identity.nonce)),
            ("from", TableField::Lsn(interval.from)),
            ("to", TableField::Lsn(interval.to)),
            ("incarnation", incarnation(branch)),
            ("length", Number(footer.length)),
            ("entries", Number(counts.entries)),
            ("tombstones", Number(counts.tombstones)),
            ("range_tombstones", Number(counts.range_tombstones)),
            ("oldest", TableField::Lsn(counts.oldest)),
            ("newest", TableField::Lsn(counts.newest)),
            ("key_bytes", Number(counts.key_bytes)),
            ("value_bytes", Number(counts.value_bytes)),
            ("low", Bytes(root.range.low.clone())),
            ("high", Bytes(root.range.high.clone())),
            ("reach_low", Bytes(root.reach.low.clone())),
            ("reach_high", Bytes(root.reach.high.clone())),
        ],
    ))?;
    for witness in &root.witnesses {
        show(&item(
            "witness",
            [
                ("number", Number(witness.number)),
                ("nonce", Hex(witness.nonce)),
                ("low", Bytes(witness.range.low.clone())),
                ("high", Bytes(witness.range.high.clone())),
            ],
        ))?;
    }
    run.range_tombstones.iter().try_for_each(|tombstone| show(&range_tombstone(tombstone)))
}

fn block(what: &'static str, Indexed { separator, block }: &Indexed) -> TableItem {
    item(
        what,
        [
            ("position", Number(block.position)),
            ("length", Number(block.length.into())),
            ("crc", Hex(block.crc.into())),
            ("last", Bytes(separator.clone())),
        ],
    )
}

fn range_tombstone(tombstone: &RangeTombstone) -> TableItem {
    let mut shown = item(
        "range_tombstone",
        [
            ("start", Bytes(tombstone.start.clone())),
            ("end", Bytes(tombstone.end.clone())),
            ("lsn", TableField::Lsn(tombstone.lsn)),
        ],
    );
    if let Says::LostAbove(above) = tombstone.says {
        shown.fields.push(("lost_above", TableField::Lsn(above)));
    }
    shown
}

fn entry(full_key: &[u8], version: Found<'_>) -> TableItem {
    let (id, key) = split_full_key(full_key).expect("the block was checked");
    let value = version.value.map_or(Text("tombstone".into()), |value| Number(value.len() as u64));
    item(
        "entry",
        [
            ("keyspace", Number(id.into())),
            ("key", Bytes(key.to_vec())),
            ("lsn", TableField::Lsn(version.lsn)),
            ("value", value),
        ],
    )
}

fn incarnation(incarnation: Incarnation) -> TableField {
    Number(incarnation.number)
}
