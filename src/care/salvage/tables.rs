//! Which runs a salvage uses: those of MANIFEST if it is whole, and otherwise those that say that they belong to this log
//! (`format/TABLES.md`, section 4).

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::Path;
use std::sync::Arc;

use super::cover::{self, Piece, Speaker};
use super::files::{Belongs, Origin, TableFiles, unless_newer};
use super::{BadFile, LossCause};
use crate::base::error::{DamageCause, Error, Result};
use crate::base::types::{Incarnation, LogId, Lsn};
use crate::format::table::data::Interval;
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{FILE_NAME, Layer, Manifest, NamedRun, Role};
use crate::format::table::range_tombstones::RangeTombstone;
use crate::format::table::root::Range;
use crate::format::table::run::RunHeader;
use crate::format::table::{FileKind, file_name};
use crate::table::fragments::fragment;
use crate::table::run::rescue::{Bad, Remains, RemainsCursor, Survey};

/// The runs that are used, and the keyspaces.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) files: TableFiles,
    pub(super) speakers: Vec<Speaker>,
    /// What the speakers say, if they have anything to say.
    contents: Vec<Option<Content>>,
    /// The end of the newest layer; zero if there is none.
    pub(super) to: Lsn,
    /// MANIFEST decides: there is nothing else.
    pub(super) is_decided: bool,
    /// HISTORY is older than they are.
    pub(super) is_history_old: bool,
    pub(super) keyspaces: Option<Keyspaces>,
    /// Of all that are used.
    pub(super) range_tombstones: Vec<RangeTombstone>,
}

/// Where the entries of a speaker are.
#[derive(Debug)]
struct Content {
    name: String,
    named: Option<NamedRun>,
}

impl Tables {
    /// Who answers for what, up to `begin`, where the readable log begins.
    pub(super) fn pieces(&self, begin: Lsn) -> Vec<Piece> {
        cover::pieces(&self.speakers, &fragment(self.range_tombstones.clone()), begin)
    }

    /// Chooses what is used, and reads all of it. What is wrong with a file is noted in `bad`. `log_has` says whether the log
    /// has all records of an interval.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a newer version wrote one of them;
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) if two branches are mixed, and nothing tells which is meant.
    pub(super) fn choose(
        mut files: TableFiles,
        origin: Origin<'_>,
        bad: &mut Vec<BadFile>,
        log_has: &dyn Fn(Interval) -> Result<bool>,
    ) -> Result<Self> {
        let manifest = files.manifest.take();
        let (speakers, contents, keyspaces, range_tombstones) = Default::default();
        let (to, is_decided, is_history_old) = (Lsn::ZERO, false, false);
        let tables = Tables { files, speakers, contents, to, is_decided, is_history_old, keyspaces, range_tombstones };
        let mut choice = Choice { tables, origin, bad, by_content: None };
        match manifest {
            Some(Ok((manifest, crc))) => match choice.is_ours(&manifest, crc)? {
                true => {
                    choice.by_manifest(&manifest)?;
                    choice.beside(&manifest, log_has)?;
                }
                false => {
                    choice.note_as(FILE_NAME, LossCause::Damaged(DamageCause::ForeignTable));
                    choice.without_manifest()?;
                }
            },
            Some(Err(error)) => {
                choice.note(FILE_NAME, &error);
                choice.without_manifest()?;
            }
            None => choice.without_manifest()?,
        }
        Ok(choice.tables)
    }

    /// The entries of a speaker; `None` if there are none.
    ///
    /// # Errors
    /// Those of its file.
    pub(super) fn entries(&self, speaker: usize) -> Result<Option<RemainsCursor>> {
        let Some(Content { name, named }) = &self.contents[speaker] else { return Ok(None) };
        let run = self.files.run(name, named.as_ref())?;
        Ok(Some(RemainsCursor::new(run, self.speakers[speaker].unreadable.clone())))
    }

    /// A record ended here that was durable: a layer does, or a list of keyspaces was written behind it.
    pub(super) fn evidence(&self) -> Lsn {
        match &self.keyspaces {
            Some(list) if self.to == Lsn::ZERO => list.to,
            _ => self.to,
        }
    }

    fn add(&mut self, speaker: Speaker, content: Option<Content>) {
        self.to = self.to.max(speaker.interval.to);
        self.speakers.push(speaker);
        self.contents.push(content);
    }
}

struct Choice<'h, 'b> {
    tables: Tables,
    origin: Origin<'h>,
    bad: &'b mut Vec<BadFile>,
    /// The names of runs by the numbers and nonces in them, once they were asked for.
    by_content: Option<BTreeMap<(u64, u64), String>>,
}

impl Choice<'_, '_> {
    fn note(&mut self, name: &str, error: &Error) {
        let cause = error.damage().map_or(DamageCause::BadTable, |damage| damage.cause);
        self.note_as(name, LossCause::of(error, cause));
    }

    fn note_as(&mut self, name: &str, cause: LossCause) {
        let file = self.tables.files.path.join(name);
        if self.bad.iter().all(|bad| bad.file != file) {
            self.bad.push(BadFile { file, cause });
        }
    }

    /// Whether a MANIFEST is of this log, and not older than HISTORY says.
    fn is_ours(&mut self, manifest: &Manifest, crc: u32) -> Result<bool> {
        let names = self.origin.history.and_then(|history| history.tables).and_then(|tables| tables.names);
        let is_older = names.is_some_and(|(generation, named)| {
            manifest.generation < generation || (manifest.generation == generation && named != crc)
        });
        let belongs = self.origin.judge(manifest.log_id, manifest.branch, manifest.to);
        if is_older || belongs != Belongs::Yes {
            return Ok(false);
        }
        self.origin.log_id = Some(manifest.log_id);
        self.tables.is_history_old |= self.origin.is_older_than(manifest.branch);
        Ok(true)
    }

    fn by_manifest(&mut self, manifest: &Manifest) -> Result<()> {
        self.tables.is_decided = true;
        self.tables.to = manifest.to;
        for (number, layer) in manifest.layers.iter().enumerate() {
            let output = manifest.layers[number..].iter().find_map(|layer| match &layer.role {
                Role::Output { cursor } => Some(cursor.clone()),
                Role::Whole | Role::Input => None,
            });
            let counts = match &layer.role {
                Role::Whole => Range::default(),
                Role::Input => Range { low: output.unwrap_or_default(), high: Vec::new() },
                Role::Output { cursor } => Range { low: Vec::new(), high: cursor.clone() },
            };
            self.layer(manifest.log_id, layer, counts)?;
        }
        let named = manifest.keyspaces;
        let name = file_name(named.number, FileKind::Keyspaces);
        let is_named = |list: &Keyspaces, crc| (list.identity.nonce, crc) == (named.nonce, named.crc);
        let read = unless_newer(self.tables.files.keyspaces(&name))?;
        let found = match read {
            Ok((list, crc)) if is_named(&list, crc) => Some(list),
            read => {
                let foreign = || Error::bad_file(&self.tables.files.path.join(&name), DamageCause::ForeignTable);
                let error = read.err().unwrap_or_else(foreign);
                self.note(&name, &error);
                let all = self.tables.files.keyspaces.iter();
                let others = all.filter_map(|name| self.tables.files.keyspaces(name).ok());
                others.into_iter().find(|(list, crc)| is_named(list, *crc)).map(|(list, _)| list)
            }
        };
        self.tables.keyspaces = found;
        Ok(())
    }

    /// A layer of MANIFEST, as far as it counts. Outside of the ranges of its runs it says that there was nothing.
    fn layer(&mut self, log_id: LogId, layer: &Layer, counts: Range) -> Result<()> {
        let interval = layer.interval;
        let Range { mut low, high: end } = counts;
        for run in &layer.runs {
            let reach = Range { low, high: run.range.high.clone() };
            low = run.range.high.clone();
            let speaker = Speaker { interval, number: run.file.number, reach, bad: Vec::new(), unreadable: Vec::new() };
            match self.named_run(log_id, layer, run)? {
                Ok((name, survey)) => {
                    let content = Content { name, named: Some(run.clone()) };
                    let bad = survey.bad.iter().filter_map(|bad| within(bad, &run.range)).collect();
                    self.tables.add(Speaker { bad, unreadable: survey.unreadable, ..speaker }, Some(content));
                }
                Err(error) => {
                    let bad = vec![Bad { range: run.range.clone(), error, older: None }];
                    self.tables.add(Speaker { bad, ..speaker }, None);
                }
            }
        }
        if layer.runs.last().is_none_or(|last| last.range.high != end) {
            let reach = Range { low, high: end };
            self.tables.add(Speaker { interval, number: 0, reach, bad: Vec::new(), unreadable: Vec::new() }, None);
        }
        Ok(())
    }

    /// The run that MANIFEST names, under its name or another.
    fn named_run(&mut self, log_id: LogId, layer: &Layer, run: &NamedRun) -> Result<Result<(String, Survey)>> {
        let name = file_name(run.file.number, FileKind::Run);
        let open = |files: &TableFiles, name: &str| {
            let remains = files.run(name, Some(run))?;
            let RunHeader { interval, identity, .. } = remains.header;
            let lies_within = layer.interval.from <= interval.from && interval.to <= layer.interval.to;
            let is_it = identity.log_id == log_id && lies_within;
            let foreign = || Error::bad_file(&files.path.join(name), DamageCause::ForeignTable);
            if is_it { Ok(remains) } else { Err(foreign()) }
        };
        let (found, remains) = match unless_newer(open(&self.tables.files, &name))? {
            Ok(remains) => (name, remains),
            Err(error) => {
                self.note(&name, &error);
                let files = &self.tables.files;
                let names = self.by_content.get_or_insert_with(|| files.names_by_content());
                let other = names.get(&(run.file.number, run.file.nonce)).filter(|other| **other != name);
                match other.map(|other| (other.clone(), open(files, other))) {
                    Some((other, Ok(remains))) => (other, remains),
                    _ => return Ok(Err(error)),
                }
            }
        };
        let survey = self.survey(&found, &remains)?;
        Ok(Ok((found, survey)))
    }

    /// Reads all of a run.
    fn survey(&mut self, name: &str, run: &Arc<Remains>) -> Result<Survey> {
        let survey = run.survey()?;
        if let Some(error) = &survey.fault {
            self.note(name, error);
        }
        self.tables.range_tombstones.extend(run.range_tombstones.iter().cloned());
        Ok(survey)
    }

    /// Runs that MANIFEST does not name. If they have everything up to an end behind it, and the log has not, it is older
    /// than they are. Where what it names is missing, they may say the same: inputs of a merge whose output is gone, or the
    /// output.
    fn beside(&mut self, manifest: &Manifest, log_has: &dyn Fn(Interval) -> Result<bool>) -> Result<()> {
        let runs = manifest.layers.iter().flat_map(|layer| &layer.runs);
        let named: BTreeSet<_> = runs.map(|run| (run.file.number, run.file.nonce)).collect();
        let mut others = Vec::new();
        for (name, header) in self.headers(false)? {
            let RunHeader { identity, branch, interval } = header;
            let is_named = named.contains(&(identity.number, identity.nonce));
            if !is_named && self.origin.judge(identity.log_id, branch, interval.to) == Belongs::Yes {
                others.push((name, header));
            }
        }
        let newest = others.iter().map(|(_, header)| header.interval.to).max().unwrap_or(Lsn::ZERO);
        let is_behind = newest > manifest.to && !log_has(Interval { from: manifest.to, to: newest })?;
        if is_behind && self.use_all_up_to(newest) {
            return Ok(());
        }
        let misses = self.misses_up_to(manifest.to);
        others.retain(|(_, header)| misses && header.interval.to <= manifest.to);
        let mut seen = BTreeSet::new();
        for (name, header) in others {
            if seen.insert((header.identity.number, header.identity.nonce)) {
                self.speak(name, header)?;
            }
        }
        Ok(())
    }

    fn misses_up_to(&self, to: Lsn) -> bool {
        self.tables.pieces(to).iter().any(|piece| !piece.missing.is_empty())
    }

    /// Uses all runs in the place of MANIFEST, unless they miss something up to `to`. Returns whether it does.
    fn use_all_up_to(&mut self, to: Lsn) -> bool {
        let noted = self.bad.len();
        let tables = &mut self.tables;
        let decided = (
            mem::take(&mut tables.speakers),
            mem::take(&mut tables.contents),
            mem::take(&mut tables.range_tombstones),
            tables.keyspaces.take(),
            mem::take(&mut tables.to),
        );
        tables.is_decided = false;
        // Of two branches MANIFEST tells which is meant, so that an error here is no refusal.
        if self.without_manifest().is_ok() && !self.misses_up_to(to) {
            self.note_as(FILE_NAME, LossCause::Damaged(DamageCause::ForeignTable));
            return true;
        }
        self.bad.truncate(noted);
        let tables = &mut self.tables;
        (tables.speakers, tables.contents, tables.range_tombstones, tables.keyspaces, tables.to) = decided;
        tables.is_decided = true;
        false
    }

    /// The headers of all runs. Whether a file that cannot be read is noted.
    fn headers(&mut self, notes: bool) -> Result<Vec<(String, RunHeader)>> {
        // A database has more runs than a process may have files open: they are read one after the other.
        let mut headers = Vec::new();
        for name in self.tables.files.runs.clone() {
            match unless_newer(self.tables.files.run(&name, None))? {
                Ok(run) => headers.push((name, run.header)),
                Err(error) if notes => self.note(&name, &error),
                Err(_) => {}
            }
        }
        Ok(headers)
    }

    /// Adds a run that no MANIFEST names.
    fn speak(&mut self, name: String, header: RunHeader) -> Result<()> {
        let run = match unless_newer(self.tables.files.run(&name, None))? {
            Ok(run) => run,
            Err(error) => {
                self.note(&name, &error);
                return Ok(());
            }
        };
        let Survey { reach, bad, unreadable, .. } = self.survey(&name, &run)?;
        let (interval, number) = (header.interval, header.identity.number);
        self.tables.add(Speaker { interval, number, reach, bad, unreadable }, Some(Content { name, named: None }));
        Ok(())
    }

    fn without_manifest(&mut self) -> Result<()> {
        let headers = self.headers(true)?;
        let ids = headers.iter().map(|(_, header)| header.identity.log_id);
        self.origin.log_id = self.origin.log_id.or(most_common(ids));
        let mut seen = BTreeSet::new();
        for (name, header) in headers {
            if !self.belongs(&name, header.identity.log_id, header.branch, header.interval.to)? {
                continue;
            }
            if name != file_name(header.identity.number, FileKind::Run) {
                self.note_as(&name, LossCause::Damaged(DamageCause::ForeignTable));
            }
            if !seen.insert((header.identity.number, header.identity.nonce)) {
                continue;
            }
            self.speak(name, header)?;
        }
        self.newest_keyspaces()
    }

    fn newest_keyspaces(&mut self) -> Result<()> {
        for name in self.tables.files.keyspaces.clone() {
            let list = match unless_newer(self.tables.files.keyspaces(&name))? {
                Ok((list, _)) => list,
                Err(error) => {
                    self.note(&name, &error);
                    continue;
                }
            };
            if !self.belongs(&name, list.identity.log_id, list.branch, list.to)? {
                continue;
            }
            let newer = |known: &Keyspaces| (known.to, known.identity.number) < (list.to, list.identity.number);
            if self.tables.keyspaces.as_ref().is_none_or(newer) {
                self.tables.keyspaces = Some(list);
            }
        }
        Ok(())
    }

    /// Whether a file that no MANIFEST names is of this log.
    fn belongs(&mut self, name: &str, log_id: LogId, branch: Incarnation, to: Lsn) -> Result<bool> {
        match self.origin.judge(log_id, branch, to) {
            Belongs::Yes => {
                self.tables.is_history_old |= self.origin.is_older_than(branch);
                Ok(true)
            }
            Belongs::No => {
                self.note_as(name, LossCause::Foreign);
                Ok(false)
            }
            Belongs::Unknown => Err(mixed(&self.tables.files.path.join(name))),
        }
    }
}

/// It does not advise a salvage, as other errors of damage do: this is one.
fn mixed(file: &Path) -> Error {
    Error::bad_file_with(
        file,
        DamageCause::ForeignTable,
        "Two branches of a copied database are mixed here, and neither MANIFEST nor HISTORY is there to tell which one is \
         meant: move the files of the other one out of this directory, and salvage again",
    )
}

/// The part of `bad` in `range`.
fn within(bad: &Bad, range: &Range) -> Option<Bad> {
    bad.range.part_in(range).map(|range| Bad { range, ..bad.clone() })
}

fn most_common(ids: impl Iterator<Item = LogId>) -> Option<LogId> {
    let mut counts: BTreeMap<[u8; 16], usize> = BTreeMap::new();
    ids.for_each(|id| *counts.entry(id.0).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(id, _)| LogId(id))
}
