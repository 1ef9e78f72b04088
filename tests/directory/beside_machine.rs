//! The steps of `beside_model`: a writer's, one for each change that a reader can see, and a reader's, one for each call.
//!
//! Positions are counted in commits: commit n is the frame from n to n + 1, and a segment has two of them. A frame is written
//! in two halves, the first of which is its header.

use std::collections::{BTreeMap, BTreeSet};

/// What a writer does, each in several steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Act {
    Commit,
    /// Two commits by one write call.
    Pair,
    Sync,
    /// The next segment.
    Prepare,
    Mark,
    /// Of all that is durable.
    Checkpoint,
    /// Of all layers.
    Merge,
    Close,
    /// The next open, up to its first commit.
    Begin,
}

/// One change that a reader can see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    Half(u8),
    Whole(u8),
    Acknowledge(u8),
    Synced,
    Segment,
    Marked,
    Run,
    Manifest,
    RemoveSegments,
    MergedRun,
    MergedManifest,
    RemoveRuns,
    EndInHistory,
    Unprepare,
    Cut,
    FirstSegment,
    Unmark,
    BeginInHistory,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Frame {
    Fill,
    Half,
    Whole,
}

/// What a reader takes a frame for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Look {
    Unwritten,
    Torn,
    Rotten,
    Whole,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Incarnation {
    begin: u8,
    /// Where it ended, and where its segments did.
    end: Option<(u8, u8)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Manifest {
    to: u8,
    runs: BTreeSet<u8>,
}

const FRAMES: u8 = 10;
const ROOM: u8 = 2;

/// The directory, and what the writer knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    history: Vec<Incarnation>,
    manifest: Option<Manifest>,
    runs: BTreeSet<u8>,
    /// By base: the number of the incarnation.
    segments: BTreeMap<u8, usize>,
    /// Segments are cut there.
    cut: Option<u8>,
    mark: Option<(usize, u8)>,
    frames: [Frame; FRAMES as usize],
    /// What each header says was durable.
    says: [u8; FRAMES as usize],
    pub(super) rotten: Option<u8>,
    appended: u8,
    durable: u8,
    pub(super) acknowledged: u8,
    next_run: u8,
    steps: Vec<Step>,
}

impl World {
    /// A database whose first incarnation has begun.
    pub(super) fn new(script: &[Act]) -> Self {
        let mut world = World {
            history: vec![Incarnation { begin: 0, end: None }],
            manifest: None,
            runs: BTreeSet::new(),
            segments: BTreeMap::from([(0, 1)]),
            cut: None,
            mark: None,
            frames: [Frame::Fill; FRAMES as usize],
            says: [0; FRAMES as usize],
            rotten: None,
            appended: 0,
            durable: 0,
            acknowledged: 0,
            next_run: 1,
            steps: Vec::new(),
        };
        world.go_on_with(script);
        world
    }

    pub(super) fn go_on_with(&mut self, script: &[Act]) {
        let mut next = self.appended;
        let limit = |world: &World| world.segments.keys().next_back().map_or(0, |base| base + ROOM);
        let mut prepared = limit(self);
        for act in script {
            let steps: Vec<Step> = match act {
                Act::Commit => vec![Step::Half(next), Step::Whole(next), Step::Acknowledge(next + 1)],
                Act::Pair => vec![
                    Step::Half(next),
                    Step::Whole(next),
                    Step::Half(next + 1),
                    Step::Whole(next + 1),
                    Step::Acknowledge(next + 2),
                ],
                Act::Sync => vec![Step::Synced],
                Act::Prepare => vec![Step::Segment],
                Act::Mark => vec![Step::Marked],
                Act::Checkpoint => vec![Step::Run, Step::Manifest, Step::RemoveSegments],
                Act::Merge => vec![Step::MergedRun, Step::MergedManifest, Step::RemoveRuns],
                Act::Close => vec![Step::EndInHistory, Step::Unprepare, Step::Cut],
                Act::Begin => vec![Step::FirstSegment, Step::Unmark, Step::BeginInHistory],
            };
            next += match act {
                Act::Commit => 1,
                Act::Pair => 2,
                _ => 0,
            };
            prepared += if *act == Act::Prepare { ROOM } else { 0 };
            if *act == Act::Begin {
                next = prepared;
                prepared += ROOM;
            }
            self.steps.extend(steps);
        }
        self.steps.reverse();
    }

    pub(super) fn is_over(&self) -> bool {
        self.steps.is_empty()
    }

    fn limit(&self) -> u8 {
        self.segments.keys().next_back().map_or(0, |base| base + ROOM)
    }

    pub(super) fn step(&mut self) {
        let Some(step) = self.steps.pop() else { return };
        let number = self.history.len();
        match step {
            Step::Half(frame) => {
                self.frames[usize::from(frame)] = Frame::Half;
                self.says[usize::from(frame)] = self.durable;
            }
            Step::Whole(frame) => {
                self.frames[usize::from(frame)] = Frame::Whole;
                self.appended = frame + 1;
            }
            Step::Acknowledge(to) => self.acknowledged = to,
            Step::Synced => self.durable = self.appended,
            Step::Segment => drop(self.segments.insert(self.limit(), number)),
            Step::Marked => self.mark = Some((number, self.durable)),
            Step::Run | Step::MergedRun => {
                self.runs.insert(self.next_run);
                self.next_run += 1;
            }
            Step::Manifest => {
                let mut runs = self.manifest.take().map(|manifest| manifest.runs).unwrap_or_default();
                runs.insert(self.next_run - 1);
                self.manifest = Some(Manifest { to: self.durable, runs });
            }
            Step::RemoveSegments => {
                let to = self.manifest.as_ref().map_or(0, |manifest| manifest.to);
                self.segments.retain(|base, _| base + ROOM > to);
            }
            Step::MergedManifest => {
                let to = self.manifest.as_ref().map_or(0, |manifest| manifest.to);
                self.manifest = Some(Manifest { to, runs: BTreeSet::from([self.next_run - 1]) });
            }
            Step::RemoveRuns => {
                let named = self.manifest.as_ref().map(|manifest| manifest.runs.clone()).unwrap_or_default();
                self.runs.retain(|run| named.contains(run));
            }
            Step::EndInHistory => {
                let end = Some((self.durable, self.limit()));
                self.history.last_mut().expect("it is open").end = end;
            }
            Step::Unprepare => {
                let end = self.durable;
                self.segments.retain(|base, _| *base < end);
            }
            Step::Cut => self.cut = Some(self.durable),
            Step::FirstSegment => drop(self.segments.insert(self.next_begin(), number + 1)),
            Step::Unmark => self.mark = None,
            Step::BeginInHistory => self.history.push(Incarnation { begin: self.next_begin(), end: None }),
        }
    }

    fn next_begin(&self) -> u8 {
        self.history.last().and_then(|last| last.end).map_or(0, |(_, prepared)| prepared)
    }

    fn is_cut(&self, frame: u8) -> bool {
        self.cut.is_some_and(|cut| frame >= cut && frame / ROOM == (cut - 1) / ROOM)
    }

    fn look(&self, frame: u8) -> Look {
        match self.frames[usize::from(frame)] {
            _ if self.rotten == Some(frame) => Look::Rotten,
            Frame::Fill => Look::Unwritten,
            Frame::Half => Look::Torn,
            Frame::Whole => Look::Whole,
        }
    }

    /// What the header of a frame says was durable, if it is there.
    fn header(&self, frame: u8) -> Option<u8> {
        let index = usize::from(frame);
        (self.frames[index] != Frame::Fill && self.rotten != Some(frame)).then_some(self.says[index])
    }
}

/// The rules that can be left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) gone_is_unlisted: bool,
    pub(super) between_by_name: bool,
    pub(super) behind_by_name: bool,
    pub(super) second_look: bool,
    pub(super) third_look: bool,
    pub(super) look_after: bool,
}

pub(super) const ALL: Rules = Rules {
    gone_is_unlisted: true,
    between_by_name: true,
    behind_by_name: true,
    second_look: true,
    third_look: true,
    look_after: true,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum End {
    /// The effect of the log up to here.
    Answer(u8),
    Refused(&'static str),
    TooQuick,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    HeadHistory,
    HeadManifest,
    /// Whether the segment with this base is listed.
    Names(u8),
    History,
    Manifest,
    Runs,
    Mark,
    /// The header of the segment with this base.
    Header(u8),
    Chain,
    /// The frame where the walk stands; then, with what it was at the begin of the call, the end of that call.
    Walk(u8),
    Walked(u8, Look),
    /// The headers above the frame at which the walk ended.
    Evidence(u8, u8),
    Second(u8),
    SecondRead(u8, Look),
    Third(u8, Look),
    ThirdRead(u8, Look, Look),
    Verdict(u8, Look),
    After(&'static str),
}

/// How often all is read. No script replaces more files.
const TRIES: u8 = 7;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reader {
    /// What was, when it began.
    pub(super) acknowledged: u8,
    downwards: bool,
    tries: u8,
    at: At,
    head: (Vec<Incarnation>, Option<Manifest>),
    history: Vec<Incarnation>,
    manifest: Option<Manifest>,
    mark: Option<(usize, u8)>,
    listed: BTreeSet<u8>,
    /// The segments that are open.
    segments: BTreeMap<u8, usize>,
    durable: u8,
    highest: u8,
    /// What the walk ended at.
    first: Look,
    /// Up to here the walk goes on over frames that were being written.
    followed_to: Option<u8>,
    pub(super) end: Option<End>,
}

impl Reader {
    pub(super) fn new(acknowledged: u8, downwards: bool) -> Self {
        Reader {
            acknowledged,
            downwards,
            tries: 0,
            at: At::HeadHistory,
            head: Default::default(),
            history: Vec::new(),
            manifest: None,
            mark: None,
            listed: BTreeSet::new(),
            segments: BTreeMap::new(),
            durable: 0,
            highest: 0,
            first: Look::Unwritten,
            followed_to: None,
            end: None,
        }
    }

    /// Up to where the layers have everything.
    pub(super) fn known_to(&self) -> u8 {
        self.manifest.as_ref().map_or(0, |manifest| manifest.to)
    }

    /// What it may be after its next step.
    pub(super) fn steps(&self, world: &World, rules: Rules) -> Vec<Reader> {
        let mut next = self.clone();
        match self.at {
            At::HeadHistory => {
                next.head.0.clone_from(&world.history);
                next.at = At::HeadManifest;
            }
            At::HeadManifest => {
                next.head.1.clone_from(&world.manifest);
                (next.durable, next.highest) = (0, 0);
                next.at = next.first_name();
            }
            At::History => {
                next.history.clone_from(&world.history);
                next.at = At::Manifest;
            }
            At::Manifest => {
                next.manifest.clone_from(&world.manifest);
                next.at = At::Runs;
            }
            At::Runs => {
                let is_there = self.manifest.iter().all(|manifest| manifest.runs.is_subset(&world.runs));
                next.at = if is_there { At::Mark } else { At::After("a run is missing") };
            }
            At::Names(base) => {
                if world.segments.contains_key(&base) {
                    next.listed.insert(base);
                }
                next.at = next.next_name(base, At::History);
            }
            At::Mark => {
                next.mark = world.mark;
                next.at = match world.mark {
                    Some((number, _)) if number > self.history.len() => At::After("MARK is of a later incarnation"),
                    _ => next.next_header(),
                };
            }
            At::Header(base) => {
                next.listed.remove(&base);
                next.at = match world.segments.get(&base) {
                    Some(number) => {
                        next.segments.insert(base, *number);
                        let is_used = || (base..base + ROOM).any(|frame| world.header(frame).is_some());
                        if *number > self.history.len() && is_used() {
                            At::After("a segment of an incarnation that is not listed is used")
                        } else {
                            next.next_header()
                        }
                    }
                    None if rules.gone_is_unlisted => next.next_header(),
                    None => At::After("a segment that was listed cannot be opened"),
                };
            }
            At::Chain => next.chain(world, rules),
            At::Walk(_) | At::Walked(..) => return self.walk(world, rules),
            At::Evidence(frame, above) => next.evidence(world, rules, frame, above),
            At::Second(_) | At::SecondRead(..) | At::Third(..) | At::ThirdRead(..) => return self.look(world, rules),
            At::Verdict(frame, look) => next.decide(world, rules, frame, look),
            At::After(why) => next.look_after(world, rules, why),
        }
        vec![next]
    }

    fn first_name(&mut self) -> At {
        self.listed.clear();
        At::Names(if self.downwards { LAST } else { 0 })
    }

    fn next_name(&self, base: u8, behind: At) -> At {
        match (self.downwards, base) {
            (true, 0) | (false, LAST) => behind,
            (true, _) => At::Names(base - ROOM),
            (false, _) => At::Names(base + ROOM),
        }
    }

    fn next_header(&self) -> At {
        self.listed.first().map_or(At::Chain, |base| At::Header(*base))
    }

    fn last(&self) -> Option<Incarnation> {
        self.history.last().copied()
    }

    /// The segments of the last incarnation, from the one that holds `to` on.
    fn needed(&self) -> Vec<u8> {
        let from = self.last().map_or(0, |last| last.begin).max(self.known_to());
        let own = self.segments.iter().filter(|(base, number)| **number == self.history.len() && **base + ROOM > from);
        let end = self.last().and_then(|last| last.end).map_or(u8::MAX, |(end, _)| end);
        own.map(|(base, _)| *base).filter(|base| *base < end).collect()
    }

    /// Where the walk begins.
    fn begin(&self) -> u8 {
        self.last().map_or(0, |last| last.begin).max(self.known_to())
    }

    fn chain(&mut self, world: &World, rules: Rules) {
        let earlier = self.history.len().checked_sub(2).and_then(|index| self.history.get(index)).copied();
        let needs = |from: u8, to: u8| (from..to).all(|frame| self.segments.contains_key(&(frame / ROOM * ROOM)));
        if let Some(Incarnation { begin, end: Some((end, _)) }) = earlier
            && !needs(begin.max(self.known_to()), end)
        {
            self.at = At::After("a segment of an earlier incarnation is missing");
            return;
        }
        let needed = self.needed();
        let from = self.begin();
        let end = self.last().and_then(|last| last.end);
        if end.is_none() && rules.between_by_name {
            for pair in needed.windows(2).filter(|pair| pair[0] + ROOM < pair[1]) {
                let between = pair[0] + ROOM;
                if world.segments.get(&between) == Some(&self.history.len()) {
                    self.segments.insert(between, self.history.len());
                    // Its next call.
                    return;
                }
            }
        }
        let has_hole = needed.windows(2).any(|pair| pair[0] + ROOM != pair[1]);
        let is_covered = match end {
            Some((end, _)) => needs(from, end),
            None => needed.first().is_some_and(|first| *first <= from),
        };
        self.durable = self.known_to();
        if let (Some((number, lsn)), None) = (self.mark, end)
            && number == self.history.len()
        {
            self.durable = self.durable.max(lsn);
        }
        self.at = if has_hole || !is_covered { At::After("a segment is missing") } else { At::Walk(from) };
    }

    /// The end of the segments that are open.
    fn limit(&self) -> u8 {
        self.needed().last().map_or(0, |base| base + ROOM)
    }

    fn walk(&self, world: &World, rules: Rules) -> Vec<Reader> {
        let mut next = self.clone();
        let ended = self.last().and_then(|last| last.end).map(|(end, _)| end);
        let (At::Walk(frame) | At::Walked(frame, _)) = self.at else { return Vec::new() };
        if ended.is_some_and(|end| frame >= end) {
            next.end = Some(End::Answer(frame));
            return vec![next];
        }
        if frame == self.limit() {
            let has_next = rules.behind_by_name && world.segments.get(&frame) == Some(&self.history.len());
            match has_next {
                true => next.end = Some(End::Answer(frame)),
                false => next.at = At::After("the segment behind the last one is missing"),
            }
            return vec![next];
        }
        let At::Walked(_, before) = self.at else {
            next.at =
                if world.is_cut(frame) { At::After("a segment is cut") } else { At::Walked(frame, world.look(frame)) };
            return vec![next];
        };
        looks(before, world.look(frame))
            .into_iter()
            .map(|look| {
                let mut next = self.clone();
                match look {
                    Look::Whole => {
                        next.durable = next.durable.max(world.says[usize::from(frame)]);
                        next.highest = frame + 1;
                        next.at = At::Walk(frame + 1);
                    }
                    _ if ended.is_some() => next.at = At::After("a frame of an incarnation that has ended"),
                    look => {
                        // Not part of what it remembers, unless that decides.
                        next.first = if rules.second_look { Look::Unwritten } else { look };
                        next.at = At::Evidence(frame, frame);
                    }
                }
                next
            })
            .collect()
    }

    fn evidence(&mut self, world: &World, rules: Rules, frame: u8, above: u8) {
        if above < self.limit() {
            if let Some(durable) = world.header(above) {
                self.durable = self.durable.max(durable);
                self.highest = self.highest.max(above + 1);
            }
            self.at = At::Evidence(frame, above + 1);
        } else {
            self.at = if rules.second_look { At::Second(frame) } else { At::Verdict(frame, self.first) };
        }
    }

    fn look(&self, world: &World, rules: Rules) -> Vec<Reader> {
        let go_on = |at: At| {
            let mut next = self.clone();
            next.at = at;
            next
        };
        let (At::Second(frame) | At::SecondRead(frame, _) | At::Third(frame, _) | At::ThirdRead(frame, ..)) = self.at
        else {
            return Vec::new();
        };
        if world.is_cut(frame) {
            return vec![go_on(At::After("a segment is cut"))];
        }
        let now = world.look(frame);
        match self.at {
            At::Second(_) => vec![go_on(At::SecondRead(frame, now))],
            At::SecondRead(_, before) => looks(before, now)
                .into_iter()
                .map(|look| match look {
                    Look::Rotten if frame >= self.durable && rules.third_look => go_on(At::Third(frame, now)),
                    look => go_on(At::Verdict(frame, look)),
                })
                .collect(),
            At::Third(_, bytes) => vec![go_on(At::ThirdRead(frame, bytes, now))],
            At::ThirdRead(_, bytes, before) => looks(before, now)
                .into_iter()
                // With the same bytes behind both looks nothing has changed between them. Else it is being written.
                .map(|look| if bytes == now { look } else { Look::Whole })
                .map(|look| go_on(At::Verdict(frame, look)))
                .collect(),
            _ => Vec::new(),
        }
    }

    fn decide(&mut self, world: &World, rules: Rules, frame: u8, look: Look) {
        let is_damage = look == Look::Rotten || (look != Look::Whole && frame < self.durable);
        if is_damage {
            self.at = At::After("a frame is damaged");
            return;
        }
        if look == Look::Whole && frame < *self.followed_to.get_or_insert(self.durable) {
            self.at = At::Walk(frame);
            return;
        }
        let limit = self.limit();
        let is_past_midpoint = self.highest == limit;
        let has_next = rules.behind_by_name && world.segments.get(&limit) == Some(&self.history.len());
        if is_past_midpoint && !has_next {
            self.at = At::After("the segment behind the last one is missing");
            return;
        }
        self.end = Some(End::Answer(frame));
    }

    fn look_after(&mut self, world: &World, rules: Rules, why: &'static str) {
        let is_same = self.head == (world.history.clone(), world.manifest.clone());
        self.tries += 1;
        if is_same || !rules.look_after {
            self.end = Some(End::Refused(why));
        } else if self.tries == TRIES {
            self.end = Some(End::TooQuick);
        } else {
            let (acknowledged, tries) = (self.acknowledged, self.tries);
            *self = Reader { tries, ..Reader::new(acknowledged, self.downwards) };
        }
    }
}

/// The last segment that a script can make.
const LAST: u8 = FRAMES - ROOM;

/// What a call may take a frame for that was `before` when it began, and is `after` at its end. While a frame changes, a word
/// may be read that was never there.
fn looks(before: Look, after: Look) -> Vec<Look> {
    if before == after { vec![after] } else { vec![before, Look::Torn, Look::Rotten, after] }
}
