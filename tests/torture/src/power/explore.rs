//! Records workloads, cuts the power in every way that is legal, and has each state judged; for some states the power
//! is cut again while the next life begins.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::audit::{Audit, audit};
use super::image::Image;
use super::matrix::FileSystem;
use super::recorder::{Event, Recording};
use super::session::{Lost, Session};
use super::states::{Epoch, Plan};
use super::subject::{Subject, seed_in_turn};
use super::traced::trace;
use super::worker::Verdict;
use super::xfs_log;
use crate::output::Failure;
use crashkit::Random;

/// What is explored, and how far.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) file_system: FileSystem,
    pub(super) subject: Subject,
    /// The device ignores most flushes.
    pub(super) lying: bool,
    pub(super) seed: u64,
    /// Distinct states after which it is enough.
    pub(super) states: usize,
    pub(super) time: Duration,
    /// A control that is to be caught: enough is one finding that begins so.
    pub(super) until: Option<&'static str>,
    /// Where images that broke a promise are kept.
    pub(super) keep: Option<PathBuf>,
}

impl Job {
    /// Why it cannot be done here, if it cannot.
    pub(super) fn missing(&self) -> Option<String> {
        self.file_system.missing().or_else(|| self.subject.missing())
    }
}

/// What was found.
#[derive(Clone, Default, Debug)]
pub(super) struct Tally {
    pub(super) recordings: u64,
    pub(super) writes: u64,
    pub(super) flushes: u64,
    pub(super) epochs: u64,
    /// Epochs all of whose states were tried.
    pub(super) exhausted: u64,
    /// Distinct images, those of a second power cut included.
    pub(super) states: u64,
    /// Of these, after a second power cut.
    pub(super) second: u64,
    /// The same by the modes of the last life that committed; a state that came of two of them counts for both.
    pub(super) states_of: BTreeMap<&'static str, u64>,
    pub(super) opened: u64,
    pub(super) refused: u64,
    pub(super) broken: u64,
    pub(super) file_system: u64,
    /// See [`Audit`].
    pub(super) log_sectors: u64,
    pub(super) partly_written: u64,
    pub(super) frames: u64,
    pub(super) torn_words: u64,
    /// Recordings in which the file system's own log came to its end, and began anew.
    pub(super) wrapped: u64,
    /// Of a traced workload: its operations, the sectors that its syncs covered, and those of them not flushed then.
    pub(super) operations: Vec<String>,
    pub(super) synced_sectors: u64,
    pub(super) unflushed_sectors: u64,
    pub(super) time: Duration,
    /// What a control is to be caught for was found.
    pub(super) caught: bool,
    /// The first of what went wrong, in words.
    pub(super) stories: Vec<String>,
}

const STORIES: usize = 10;
/// Faults of the file system shall not crowd out the others.
const FILE_SYSTEM_STORIES: u64 = 3;
/// So many states of each recording at most, and of so many recordings at least.
const STATES_PER_RECORDING: usize = 400;
const RECORDINGS: usize = 3;
/// One in so many states gets a second power cut, which is tried in so many states.
const SECOND_IN: usize = 20;
const STATES_OF_SECOND: usize = 6;
/// A device that lies completes one in so many flushes.
const LYING: usize = 6;

impl Tally {
    fn story(&mut self, text: impl FnOnce() -> String) {
        if self.stories.len() < STORIES {
            self.stories.push(text());
        }
    }
}

/// A state on its way to be judged.
struct State<'a> {
    image: Image,
    /// So many marks count.
    marks: usize,
    recording: u64,
    epoch: usize,
    plan: &'a Plan,
    modes: Option<&'static str>,
}

pub(super) struct Explorer<'a> {
    job: &'a Job,
    session: Session,
    random: Random,
    tally: Tally,
    judged: HashSet<(u64, usize)>,
    distinct: HashSet<u64>,
    distinct_of: HashSet<(&'static str, u64)>,
    /// First lives recorded.
    explored: u64,
    end: Instant,
}

impl<'a> Explorer<'a> {
    /// Runs a job in `dir`, an empty directory.
    pub(super) fn run(job: &'a Job, dir: &Path) -> Result<Tally, Failure> {
        let begin = Instant::now();
        let session = Session::start(dir, &job.file_system, job.subject)?;
        let fresh = session.recorder.image();
        let mut explorer = Explorer {
            job,
            session,
            random: Random::new(job.seed),
            tally: Tally::default(),
            judged: HashSet::new(),
            distinct: HashSet::new(),
            distinct_of: HashSet::new(),
            explored: 0,
            end: begin + job.time,
        };
        if let Err(Lost(why)) = explorer.run_all(&fresh) {
            // A hang or a death of the process that opens is a broken promise, and the end of this job.
            explorer.tally.broken += 1;
            explorer.tally.story(|| why);
        }
        explorer.tally.time = begin.elapsed();
        Ok(explorer.tally)
    }

    fn run_all(&mut self, fresh: &Image) -> Result<(), Lost> {
        if self.job.subject == Subject::Traced {
            return self.trace(fresh);
        }
        while !self.is_enough() {
            self.explore(fresh)?;
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.distinct.len() >= self.job.states || Instant::now() >= self.end || self.tally.caught
    }

    /// One traced workload: what its syncs cover is on the device.
    fn trace(&mut self, fresh: &Image) -> Result<(), Lost> {
        let recording = self.record(fresh.clone(), 0, 0)?;
        let trace = trace(&recording, self.job.file_system.least_file());
        self.tally.synced_sectors = trace.synced;
        self.tally.unflushed_sectors = trace.missing.len() as u64;
        for missing in &trace.missing {
            self.tally.story(|| missing.clone());
        }
        self.tally.operations = trace.operations;
        Ok(())
    }

    /// One workload on a fresh file system, and the states in which it may leave it.
    fn explore(&mut self, fresh: &Image) -> Result<(), Lost> {
        self.explored += 1;
        let seed = seed_in_turn(self.random.next(), self.explored - 1);
        let recording = self.record(fresh.clone(), 0, seed)?;
        let audit = audit(&recording, self.job.file_system.in_place);
        self.count(&recording, &audit);
        let recording = if self.job.lying { recording.lying(LYING) } else { recording };
        let marks = recording.marks();
        self.session.give(&marks)?;
        let states = STATES_PER_RECORDING.min(self.job.states / RECORDINGS);
        let limit = (states / recording.epochs(&audit.ours).count()).max(2);
        for (number, epoch) in recording.epochs(&audit.ours).enumerate() {
            self.tally.epochs += 1;
            self.tally.exhausted += u64::from(epoch.is_exhausted(limit));
            // Until something was told there is nothing to be judged.
            for plan in epoch.plans(limit, &mut self.random).iter().filter(|_| epoch.marks > 0) {
                if self.is_enough() {
                    return Ok(());
                }
                let state = self.state(&epoch, number, plan, &marks[..epoch.marks]);
                if self.judge(&state, false)? == Some(Verdict::Fine) && self.random.below(SECOND_IN) == 0 {
                    self.cut_again(state, &marks)?;
                    self.session.give(&marks)?;
                }
            }
        }
        Ok(())
    }

    /// With the marks that were made until the power was cut.
    fn state<'p>(&self, epoch: &Epoch<'_>, number: usize, plan: &'p Plan, marks: &[String]) -> State<'p> {
        State {
            image: epoch.image(plan),
            marks: marks.len(),
            recording: self.tally.recordings,
            epoch: number,
            plan,
            modes: self.job.subject.modes(marks),
        }
    }

    /// Lets the subject work on a device that holds `image`, after so many marks of the ledger.
    fn record(&mut self, image: Image, marks: usize, seed: u64) -> Result<Recording, Lost> {
        self.session.recorder.load(image);
        self.session.recorder.start();
        match self.session.tell(&format!("work {marks} {seed}")) {
            Ok(Verdict::Fine) => {}
            Ok(other) => return Err(Lost(format!("the workload failed: {other:?}"))),
            Err(Lost(why)) => return Err(Lost(format!("at work with seed {seed}: {why}"))),
        }
        self.tally.recordings += 1;
        self.session.recorder.stop().ok_or_else(|| Lost("nothing was recorded".to_owned()))
    }

    fn count(&mut self, recording: &Recording, audit: &Audit) {
        for event in &recording.events {
            match event {
                Event::Write { .. } | Event::Zero { .. } => self.tally.writes += 1,
                Event::Flush { .. } => self.tally.flushes += 1,
                Event::Mark(_) => {}
            }
        }
        let wraps = |event: &Event| matches!(event, Event::Write { data, .. } if xfs_log::has_wrapped(data));
        self.tally.wrapped += u64::from(self.job.file_system.wraps && recording.events.iter().any(wraps));
        self.tally.log_sectors += audit.sectors;
        self.tally.partly_written += audit.partly_written;
        self.tally.frames += audit.frames;
        self.tally.torn_words += audit.torn.len() as u64;
        if audit.partly_written > 0 {
            self.tally.story(|| format!("on the device: {} sectors with a frame in part", audit.partly_written));
        }
        for torn in &audit.torn {
            self.tally.story(|| format!("on the device: {torn}"));
        }
    }

    /// The next life on this state is recorded, and the power is cut in it.
    fn cut_again(&mut self, state: State<'_>, marks: &[String]) -> Result<(), Lost> {
        let before = state.marks;
        let seed = self.random.next();
        let recording = self.record(state.image, before, seed)?;
        let marks: Vec<String> = marks[..before].iter().cloned().chain(recording.marks()).collect();
        self.session.give(&marks)?;
        let ours = audit(&recording, false).ours;
        let epochs: Vec<Epoch<'_>> = recording.epochs(&ours).collect();
        for _ in 0..STATES_OF_SECOND {
            let number = self.random.below(epochs.len());
            let plans = epochs[number].plans(16, &mut self.random);
            let plan = &plans[self.random.below(plans.len())];
            let state = self.state(&epochs[number], number, plan, &marks[..before + epochs[number].marks]);
            self.judge(&state, true)?;
        }
        Ok(())
    }

    /// `None` if this state was judged before.
    fn judge(&mut self, state: &State<'_>, second: bool) -> Result<Option<Verdict>, Lost> {
        let fingerprint = state.image.fingerprint();
        if !self.judged.insert((fingerprint, state.marks)) {
            return Ok(None);
        }
        let new = self.distinct.insert(fingerprint);
        self.tally.states += u64::from(new);
        self.tally.second += u64::from(new && second);
        if let Some(modes) = state.modes.filter(|modes| self.distinct_of.insert((modes, fingerprint))) {
            *self.tally.states_of.entry(modes).or_default() += 1;
        }
        self.session.recorder.load(state.image.clone());
        let verdict = match self.session.tell(&format!("check {}", state.marks)) {
            Ok(verdict) => verdict,
            Err(Lost(why)) => {
                self.tell_of(state, second, &why);
                return Err(Lost(why));
            }
        };
        let told = match &verdict {
            Verdict::Fine => {
                self.tally.opened += 1;
                return Ok(Some(verdict));
            }
            Verdict::Refused(why) => {
                self.tally.refused += 1;
                format!("refused: {why}")
            }
            Verdict::Broken(why) => {
                self.tally.broken += 1;
                why.clone()
            }
            Verdict::FileSystem(why) => {
                self.tally.file_system += 1;
                format!("the file system's: {why}")
            }
        };
        self.tally.caught |= self.job.until.is_some_and(|until| told.starts_with(until));
        let of_file_system = matches!(verdict, Verdict::FileSystem(_));
        if !of_file_system || self.tally.file_system <= FILE_SYSTEM_STORIES {
            self.tell_of(state, second, &told);
        }
        Ok(Some(verdict))
    }

    fn tell_of(&mut self, state: &State<'_>, second: bool, told: &str) {
        let which = if second { "second cut, " } else { "" };
        let place = format!("recording {}, epoch {}, {:?}", state.recording, state.epoch, state.plan);
        let keep_it = self.job.keep.as_deref().filter(|_| self.job.until.is_none());
        let kept = keep_it.and_then(|dir| keep(&state.image, dir, &self.job.file_system));
        let kept = kept.map_or_else(String::new, |path| format!("; kept as {}", path.display()));
        self.tally.story(|| format!("{which}{place}: {told}{kept}"));
    }
}

/// Writes an image that broke a promise to a sparse file.
fn keep(image: &Image, dir: &Path, file_system: &FileSystem) -> Option<PathBuf> {
    let name = format!("{}-{:016x}.img", file_system.name.replace([' ', '='], "-"), image.fingerprint());
    let path = dir.join(name);
    let file = File::create(&path).ok()?;
    file.set_len(image.len()).ok()?;
    let mut piece = vec![0; 1 << 16];
    for offset in (0..image.len()).step_by(piece.len()) {
        image.read(offset, &mut piece);
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(&piece, offset).ok()?;
        }
    }
    Some(path)
}
