//! What the clients of a faulty disk were told, kept outside the engine.

use std::sync::{Arc, Mutex, MutexGuard};

use forelog::sim::SimDisk;
use forelog::{CommitMode, Error, ErrorKind, Lsn, Receipt, Result, Token};

use crashkit::model::{History, Placed, Write};

/// Which call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Open,
    Commit,
    Flush,
    Wait,
    Close,
    Retire,
}

#[derive(Default)]
pub struct Book {
    /// In no order; each has its place in the log.
    commits: Vec<Placed>,
    pub tokens: Vec<Token>,
    pub receipts: Vec<Receipt>,
    /// Everything up to here was said to be durable, and that before any fault had struck.
    pub durable_before: Lsn,
    pub durable: Lsn,
    /// A `Written` commit at this LSN was acknowledged.
    pub written: Lsn,
    pub opened: bool,
    /// Callbacks that were asked for and have not come.
    pub callbacks: usize,
    pub errors: Vec<(Call, Error)>,
    /// What must not be.
    pub wrong: Vec<String>,
}

/// Shared by the clients of one run.
#[derive(Clone)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    /// Tells whether a fault has struck.
    disk: SimDisk,
}

impl Ledger {
    pub fn new(disk: &SimDisk) -> Self {
        Ledger { book: Arc::default(), disk: disk.clone() }
    }

    /// Never held while another simulated thread may run.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics with the ledger in hand")
    }

    pub fn opened(&self) {
        self.book().opened = true;
    }

    /// A commit of an earlier run.
    pub fn known(&self, lsn: Lsn, writes: &Arc<[Write]>) {
        self.book().commits.push(Placed { lsn, writes: Arc::clone(writes) });
    }

    /// An open has dropped what lies above: it is lost for ever.
    pub fn forget_above(&self, lsn: Lsn) {
        self.book().commits.retain(|commit| commit.lsn <= lsn);
    }

    pub fn wrong(&self, what: impl Into<String>) {
        self.book().wrong.push(what.into());
    }

    pub fn failed(&self, call: Call, error: &Error) {
        self.book().errors.push((call, error.clone()));
    }

    /// A client was told that everything up to `lsn` is durable.
    pub fn durable(&self, lsn: Lsn) {
        let struck = self.disk.fault_hits() > 0;
        let mut book = self.book();
        book.durable = book.durable.max(lsn);
        if !struck {
            book.durable_before = book.durable;
        }
    }

    /// A commit that has its place, and a receipt if it was acknowledged.
    fn place(&self, lsn: Lsn, token: Option<Token>, writes: &[Write]) {
        let mut book = self.book();
        book.commits.push(Placed { lsn, writes: writes.into() });
        book.tokens.extend(token);
    }

    /// Writes down what became of a commit.
    pub fn commit(&self, mode: CommitMode, writes: &[Write], call: impl FnOnce() -> Result<Receipt>) -> Result<()> {
        match call() {
            Ok(receipt) => {
                self.place(receipt.lsn(), Some(receipt.token()), writes);
                match mode {
                    CommitMode::Sync => self.durable(receipt.lsn()),
                    CommitMode::Written => {
                        let mut book = self.book();
                        book.written = book.written.max(receipt.lsn());
                    }
                    _ => {}
                }
                self.book().receipts.push(receipt);
                Ok(())
            }
            Err(error) => {
                if let Some(token) = error.token() {
                    self.place(token.lsn, Some(token), writes);
                }
                if (error.kind() == ErrorKind::Indeterminate) != error.token().is_some() {
                    self.wrong(format!("a token and its error do not agree: {error:?}"));
                }
                self.failed(Call::Commit, &error);
                Err(error)
            }
        }
    }

    /// Has the last receipt call back.
    pub fn ask_for_a_callback(&self) {
        let Some(receipt) = self.book().receipts.last().cloned() else { return };
        self.book().callbacks += 1;
        let (lsn, ledger) = (receipt.lsn(), self.clone());
        let asked = receipt.on_durable(move |verdict| {
            ledger.book().callbacks -= 1;
            match verdict {
                Ok(()) => ledger.durable(lsn),
                Err(error) if error.kind() == ErrorKind::Indeterminate => ledger.failed(Call::Wait, &error),
                Err(error) => ledger.wrong(format!("a callback was told {error:?}")),
            }
        });
        if let Err(error) = asked {
            self.book().callbacks -= 1;
            self.failed(Call::Wait, &error);
        }
    }

    /// The creation of a keyspace, by the only thread that commits: it has no receipt.
    pub fn create<T>(
        &self,
        name: &'static str,
        call: impl FnOnce() -> Result<T>,
        place: impl FnOnce() -> Lsn,
    ) -> Result<T> {
        let result = call();
        match &result {
            Ok(_) => {
                let lsn = place();
                if !self.book().commits.iter().any(|known| known.lsn == lsn) {
                    self.place(lsn, None, &[Write::Create(name.into())]);
                    self.durable(lsn);
                }
            }
            Err(error) => {
                if let Some(token) = error.token() {
                    self.place(token.lsn, Some(token), &[Write::Create(name.into())]);
                }
                self.failed(Call::Commit, error);
            }
        }
        result
    }

    pub fn note(&self, call: Call, result: Result<()>) {
        if let Err(error) = result {
            self.failed(call, &error);
        }
    }

    /// The commit order, as far as the clients know it: all of it.
    pub fn history(&self) -> History {
        History::of(self.book().commits.clone())
    }
}
