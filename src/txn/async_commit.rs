//! Commits of async programs: `ASYNC.md` has the states and the rules.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::helper::{Ask, Job};
use super::pipeline::{Check, Pipeline, Placed};
use crate::base::error::{Error, Result};
use crate::base::types::{CommitMode, Lsn, Token};
use crate::format::batch::{Batch, BatchBuilder};
use crate::log::{Prepared, Receipt, Refused, Stall, WaitLimit};
use crate::rt::sync::{Guard, Mutex};

/// A larger commit is done by the helper: to copy and apply it takes the processor for long.
const LARGE: usize = 1 << 20;

/// A commit that an async program waits for: see [`Transaction::commit_async`](crate::Transaction::commit_async).
///
/// It completes when the commit has what its mode promises. Nothing happens before the first poll. Dropped before the commit has its
/// place, nothing is committed, then or later; dropped after that, it is committed, and becomes durable as its mode has it.
#[must_use = "nothing is committed before it is polled"]
pub struct CommitFuture {
    commit: Arc<Commit>,
    /// Once only durability is waited for.
    receipt: Option<Receipt>,
}

/// What is to be committed.
pub(crate) struct Request {
    pub(crate) ops: BatchBuilder,
    pub(crate) check: Box<dyn Check + Send>,
}

struct Commit {
    pipeline: Arc<Pipeline>,
    mode: CommitMode,
    state: Mutex<State>,
}

struct State {
    step: Step,
    /// Once it has its place.
    lsn: Option<Lsn>,
    waker: Option<Waker>,
}

enum Step {
    New(Request),
    /// `None` while it is in hand.
    Queued(Option<Request>),
    /// It has its place, and is not visible yet.
    Applying,
    Placed(Write),
    GivenUp,
    /// `None` once it was handed out.
    Over(Option<Result<Receipt>>),
}

/// How far the write is that the helper makes for a commit in the mode `Written`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    NotAsked,
    Asked,
    /// Or it will not be made.
    Made,
}

type Tried<'p> = std::result::Result<std::result::Result<Placed<'p>, Stall>, Refused>;

/// What a poll does next.
enum Next {
    Wait,
    /// For the helper.
    Ask(Ask),
    WaitUntilDurable(Lsn),
    HandOut(Result<Receipt>),
}

impl CommitFuture {
    pub(crate) fn new(pipeline: &Arc<Pipeline>, mode: CommitMode, request: Request) -> Self {
        CommitFuture::at(pipeline, mode, Step::New(request))
    }

    /// One that has its result.
    pub(super) fn over(pipeline: &Arc<Pipeline>, mode: CommitMode, result: Result<Receipt>) -> Self {
        CommitFuture::at(pipeline, mode, Step::Over(Some(result)))
    }

    fn at(pipeline: &Arc<Pipeline>, mode: CommitMode, step: Step) -> Self {
        let state = Mutex::new(State { step, lsn: None, waker: None });
        CommitFuture { commit: Arc::new(Commit { pipeline: Arc::clone(pipeline), mode, state }), receipt: None }
    }

    /// The name of the commit, once it has its place: it is visible then, and may not be durable.
    pub fn token(&self) -> Option<Token> {
        let log = &self.commit.pipeline.log;
        // In a forked child the lock may be held by a thread that was not copied.
        let lsn = if log.is_of_this_process() { self.commit.state.lock().lsn } else { None };
        lsn.map(|lsn| log.token(lsn))
    }
}

impl Future for CommitFuture {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Receipt>> {
        let CommitFuture { commit, receipt } = self.get_mut();
        commit.pipeline.log.check_process()?;
        loop {
            if let Some(waiting) = receipt {
                let durable = std::task::ready!(Pin::new(&mut *waiting).poll(context));
                let receipt = receipt.take().expect("it was there");
                commit.state.lock().step = Step::Over(None);
                return Poll::Ready(durable.map(|()| receipt));
            }
            match commit.go_on(context.waker()) {
                Next::Wait => return Poll::Pending,
                Next::Ask(ask) => {
                    let asked = commit.pipeline.helper.ask(&commit.pipeline.log, ask, Arc::clone(commit) as _);
                    match asked {
                        Ok(()) => return Poll::Pending,
                        Err(error) => commit.not_asked(error),
                    }
                }
                Next::WaitUntilDurable(lsn) => *receipt = Some(commit.receipt(lsn)),
                Next::HandOut(result) => return Poll::Ready(result),
            }
        }
    }
}

impl Drop for CommitFuture {
    fn drop(&mut self) {
        if !self.commit.pipeline.log.is_of_this_process() {
            return;
        }
        // What is let go of is dropped without the lock: a waker is a user's code.
        let (_request, _waker) = {
            let mut state = self.commit.state.lock();
            let request = match mem::replace(&mut state.step, Step::GivenUp) {
                Step::New(request) => Some(request),
                Step::Queued(request) => request,
                // It stands.
                step => {
                    state.step = step;
                    None
                }
            };
            (request, state.waker.take())
        };
    }
}

impl Commit {
    fn receipt(&self, lsn: Lsn) -> Receipt {
        Receipt::new(&self.pipeline.log, lsn)
    }

    /// One step of a poll.
    fn go_on(&self, waker: &Waker) -> Next {
        let newest = waker.clone();
        let mut state = self.state.lock();
        let lsn = state.lsn;
        let next = match &mut state.step {
            Step::New(_) => return self.begin(state, newest),
            Step::Queued(_) | Step::Applying => Next::Wait,
            Step::Placed(write) => self.behind_its_place(lsn.expect("it has its place"), write),
            Step::Over(result) => Next::HandOut(result.take().expect("polled after it was ready")),
            Step::GivenUp => unreachable!("a future that was dropped is not polled"),
        };
        if matches!(next, Next::HandOut(_)) {
            state.step = Step::Over(None);
        }
        // The last one counts. What it replaces is dropped without the lock.
        let replaced = if matches!(next, Next::Wait | Next::Ask(_)) { state.waker.replace(newest) } else { None };
        drop(state);
        drop(replaced);
        next
    }

    /// What a commit that has its place waits for.
    fn behind_its_place(&self, lsn: Lsn, write: &mut Write) -> Next {
        let log = &self.pipeline.log;
        match self.mode {
            CommitMode::Async | CommitMode::Within(_) => Next::HandOut(Ok(self.receipt(lsn))),
            CommitMode::Sync => Next::WaitUntilDurable(lsn),
            CommitMode::Written if log.positions().written() >= lsn.get() => {
                if log.is_overdue() {
                    Next::WaitUntilDurable(lsn)
                } else {
                    Next::HandOut(Ok(self.receipt(lsn)))
                }
            }
            CommitMode::Written => match *write {
                Write::NotAsked => {
                    *write = Write::Asked;
                    Next::Ask(Ask::Write)
                }
                Write::Asked => Next::Wait,
                // The verdict on it comes with that on its durability.
                Write::Made => Next::WaitUntilDurable(lsn),
            },
        }
    }

    /// The first poll: it tries by itself, if nothing is in the way.
    fn begin<'p>(&'p self, mut state: Guard<'p, State>, waker: Waker) -> Next {
        let Step::New(request) = mem::replace(&mut state.step, Step::Queued(None)) else {
            unreachable!("nobody else has it yet")
        };
        let (pipeline, batch) = (&self.pipeline, request.ops.batch());
        let mut state = Some(state);
        if !pipeline.helper.has_places() && batch.bytes().len() <= LARGE && !pipeline.is_held_up(&batch) {
            let record = pipeline.check_open().and_then(|()| pipeline.log.prepare(batch.bytes()));
            let tried = match &record {
                Ok(record) => self.take_place(&mut state, record, &request),
                Err(error) => Err(error.clone().into()),
            };
            if !matches!(tried, Ok(Err(_))) {
                drop(state);
                self.end_place(tried, &batch);
                return self.go_on(&waker);
            }
        }
        let mut state = state.expect("it has no place");
        state.step = Step::Queued(Some(request));
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Next::Ask(Ask::Place)
    }

    /// Asks for the place, under the lock of the state (A1), which is let go of once the LSN is there: what follows may take long.
    fn take_place<'p>(
        &'p self,
        state: &mut Option<Guard<'p, State>>,
        record: &Prepared<'_>,
        request: &Request,
    ) -> Tried<'p> {
        let Request { ops, check } = request;
        let note = |lsn| {
            if let Some(mut state) = state.take() {
                (state.step, state.lsn) = (Step::Applying, Some(lsn));
            }
        };
        self.pipeline.take_place(record, &ops.batch(), (self.mode, WaitLimit::Never), &**check, note)
    }

    /// What is left to do without a lock, once it has its place or was refused.
    fn end_place(&self, tried: Tried<'_>, batch: &Batch<'_>) {
        let ended = match tried {
            Ok(Ok(placed)) => {
                if self.mode == CommitMode::Sync {
                    // Now: nobody may ever poll again (A2).
                    self.pipeline.log.ask_for_flush(placed.lsn());
                }
                self.pipeline.go_on_behind(placed, batch).map(drop)
            }
            Ok(Err(_)) => unreachable!("it waits for room"),
            Err(refused) => Err(refused.raise(&*self.pipeline.log)),
        };
        // Unless it was dropped meanwhile without a place.
        let mut state = self.state.lock();
        if !matches!(state.step, Step::GivenUp) {
            state.step = match ended {
                Ok(()) => Step::Placed(Write::NotAsked),
                Err(error) => Step::Over(Some(Err(error))),
            };
        }
    }

    /// The helper does not do it. What has its place is over when that is durable (A7).
    fn not_asked(&self, error: Error) {
        let mut state = self.state.lock();
        let (step, _request) = match mem::replace(&mut state.step, Step::GivenUp) {
            Step::Queued(request) => (Step::Over(Some(Err(error))), request),
            Step::Placed(_) => (Step::Placed(Write::Made), None),
            step => (step, None),
        };
        state.step = step;
        drop(state);
    }

    /// Wakes the task that polled last; while the engine closes, once the lock on the directory was given up (A6).
    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            self.pipeline.wake(waker);
        }
    }

    fn is_given_up(&self) -> bool {
        matches!(self.state.lock().step, Step::GivenUp)
    }

    /// On the helper: everything up to the place, as long as somebody waits for it.
    ///
    /// # Errors
    /// What refuses it, without a place.
    fn place(&self, request: &Request) -> Result<()> {
        let (pipeline, batch) = (&self.pipeline, request.ops.batch());
        pipeline.check_open()?;
        pipeline.announce(&batch)?;
        let mut record = pipeline.log.prepare(batch.bytes())?;
        // Once (A9).
        pipeline.pass(&batch, WaitLimit::Forever, || self.is_given_up())?;
        loop {
            let mut state = Some(self.state.lock());
            if matches!(state.as_deref(), Some(State { step: Step::GivenUp, .. })) {
                return Ok(());
            }
            let tried = self.take_place(&mut state, &record, request);
            drop(state);
            match tried {
                Ok(Err(stall)) => pipeline.wait_for_room(stall, &mut record, &batch, WaitLimit::Forever)?,
                tried => {
                    self.end_place(tried, &batch);
                    return Ok(());
                }
            }
        }
    }

    /// On the helper: the write of what has its place.
    fn write(&self) {
        let lsn = match *self.state.lock() {
            State { step: Step::Placed(_), lsn: Some(lsn), .. } => lsn,
            _ => return,
        };
        // A failure stops the log: the verdict says so.
        let _ = self.pipeline.log.write_to(lsn);
        let mut state = self.state.lock();
        if let Step::Placed(write) = &mut state.step {
            *write = Write::Made;
        }
    }
}

impl Job for Commit {
    fn run(&self) {
        let request = match &mut self.state.lock().step {
            Step::Queued(request) => request.take(),
            _ => None,
        };
        if let Some(request) = request
            && let Err(error) = self.place(&request)
        {
            self.not_asked(error);
        }
        if self.mode == CommitMode::Written {
            self.write();
        }
    }

    fn end(&self) {
        self.wake();
    }

    fn refuse(&self) {
        let log = &self.pipeline.log;
        self.not_asked(log.refusal());
        let mut state = self.state.lock();
        // The helper died of it. It has its place, so that the log has a verdict on it.
        if let (Step::Applying, Some(lsn)) = (&state.step, state.lsn) {
            let verdict = log.verdict_on(lsn.get());
            state.step = Step::Over(Some(verdict.map(|()| self.receipt(lsn))));
        }
        drop(state);
        self.wake();
    }
}

impl fmt::Debug for CommitFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitFuture").field("mode", &self.commit.mode).finish_non_exhaustive()
    }
}
