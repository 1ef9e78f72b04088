//! Each engine, one after the other, with each set of data.

use std::path::Path;

use super::cgroup::{Controller, Group};
use super::cli::Arguments;
use super::event::{Data, Part, Request};
use super::report::{Configured, Kind, Run, ScaleReport};
use super::usage::evict;
use super::watch::Watch;
use crate::common::KEY_BYTES;
use crate::peer::{Peer, Shares};
use crate::place::Place;
use crate::report::Machine;
use crate::runner::{Scratch, fresh, sync_all};

/// Measures everything that is asked for. `save` is given what there is after each engine.
pub fn run(arguments: &Arguments, save: impl Fn(&ScaleReport) -> Result<(), String>) -> Result<ScaleReport, String> {
    let dir = arguments.dir.as_deref().ok_or("name a directory with --dir")?;
    let (kind, peers, all_data) = (kind(arguments), arguments.peers()?, all_data(arguments));
    Place::of(dir, 0)?;
    let place =
        Place::of(dir, room(&all_data)).map_err(|told| format!("{told}; fewer or smaller records need less"))?;
    let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
    let memory = arguments.memory.unwrap_or(if kind == Kind::Few { 256 << 20 } else { 1 << 30 });
    let controller = if arguments.no_cgroup { None } else { Some(Controller::find()?) };
    if let Some(controller) = &controller {
        // Better to know before anything is measured.
        drop(Group::new(controller, &group_name(), memory)?);
    }
    if place.memory {
        eprintln!("{} lies in memory ({}): nothing outgrows it there", dir.display(), place.file_system);
    }
    let mut report = ScaleReport {
        kind,
        machine: Machine::this(),
        place,
        memory,
        limited_by: controller.as_ref().map(|it| format!("a memory control group (version {:?})", it.version)),
        seconds: arguments.minutes * 60.0,
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        peers: peers.iter().map(|peer| configured(peer, memory)).collect(),
        runs: Vec::new(),
    };
    let scratch = Scratch::new(&dir)?;
    for data in all_data {
        for peer in &peers {
            if report.peers.iter().any(|other| other.name == peer.name && other.missing.is_some()) {
                continue;
            }
            eprintln!("{}: {} keys of {} bytes", peer.name, data.keys, data.record_bytes());
            let run = measure(&report, controller.as_ref(), peer, data, &scratch.0.join("measured"))?;
            report.runs.push(run);
            save(&report)?;
        }
    }
    Ok(report)
}

fn kind(arguments: &Arguments) -> Kind {
    match () {
        () if arguments.opens => Kind::Opens,
        () if arguments.overwrites_of_few => Kind::Few,
        () if arguments.steady => Kind::Steady,
        () => Kind::Phases,
    }
}

fn all_data(arguments: &Arguments) -> Vec<Data> {
    let data = |keys, value_bytes, writes| Data { keys, value_bytes, writes, seed: arguments.seed };
    let Arguments { keys, value_bytes, open_keys, record_bytes, few_overwrites, .. } = arguments;
    match kind(arguments) {
        Kind::Phases | Kind::Steady => vec![data(*keys, *value_bytes as usize, *keys)],
        Kind::Few => vec![data(10, *value_bytes as usize, *few_overwrites)],
        Kind::Opens => open_keys
            .iter()
            .flat_map(|keys| record_bytes.iter().map(|bytes| data(*keys, *bytes as usize - KEY_BYTES, *keys)))
            .collect(),
    }
}

/// Bytes of the disk that the largest database may take, with what merges write beside it, and logs.
fn room(all_data: &[Data]) -> u64 {
    const TIMES: u64 = 4;
    let largest = all_data.iter().map(|data| data.keys.saturating_mul(data.record_bytes())).max();
    (2 << 30) + largest.unwrap_or(0).saturating_mul(TIMES)
}

fn group_name() -> String {
    format!("forelog-scale-{}", std::process::id())
}

fn configured(peer: &Peer, memory: u64) -> Configured {
    let version = peer.version();
    if let Err(missing) = &version {
        eprintln!("{} is skipped: {missing}", peer.name);
    }
    Configured {
        name: peer.name.to_owned(),
        missing: version.as_ref().err().map(ToString::to_string),
        version: version.unwrap_or_default(),
        configuration: peer.limited.map_or(String::new(), |told| told(Shares::of(memory))),
    }
}

/// One engine with one set of data: a process that loads, one that is killed, and one that goes on. All are in one control
/// group, so that what the page cache holds of the first counts as memory of the others.
fn measure(
    report: &ScaleReport,
    controller: Option<&Controller>,
    peer: &Peer,
    data: Data,
    dir: &Path,
) -> Result<Run, String> {
    fresh(dir)?;
    let group = controller.map(|controller| Group::new(controller, &group_name(), report.memory)).transpose()?;
    let mut request = Request {
        peer: peer.name.to_owned(),
        dir: dir.to_owned(),
        memory: report.memory,
        group: group.as_ref().map(Group::members),
        data,
        part: if report.kind == Kind::Steady { Part::Steady } else { Part::Load },
        loaded: 0,
        seconds: report.seconds,
    };
    let mut watch = Watch::new(Run::new(peer.name, data), dir, group.as_ref());
    watch.process(&request);
    request.loaded = watch.run.loaded();
    if request.loaded > 0 && report.kind != Kind::Steady {
        let last = if report.kind == Kind::Phases { Part::OpenAndGoOn } else { Part::Open };
        for part in [Part::OpenAndDie, last] {
            evict(dir)?;
            request.part = part;
            watch.process(&request);
        }
    }
    let run = watch.run;
    std::fs::remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // What was deleted is not left for the next one's fsyncs to pay.
    sync_all();
    Ok(run)
}
