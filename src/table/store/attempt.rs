//! One run through the steps of a checkpoint or merge: its files, and the MANIFEST that names them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Stack, Store};
use crate::base::error::{Error, ErrorKind, Result};
use crate::base::types::{Incarnation, Lsn};
use crate::format::table::keyspaces::Keyspaces;
use crate::format::table::manifest::{Layer, Manifest, NamedFile, Written};
use crate::format::table::{FileIdentity, FileKind, MAX_LIST_BYTES, MAX_NUMBER, file_name};
use crate::rt::entropy;
use crate::table::dir::{Name, NotInstalled, TableFile};
use crate::table::keyspaces::KeyspaceList;
use crate::table::pace::Pacer;

/// How many names are tried for a file: a leftover may have one.
const TRIES: usize = 8;

/// Dropped before it has succeeded, it has had no effect: its files are removed, unless a MANIFEST in doubt names them.
#[derive(Debug)]
pub(crate) struct Attempt<'s> {
    store: &'s Store,
    pacer: Arc<Pacer>,
    files: Vec<(u64, FileKind)>,
    /// A MANIFEST of it may be on the medium.
    is_in_doubt: bool,
}

/// What a MANIFEST is to say; the rest of it is the store's.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) to: Lsn,
    /// The incarnation in which `to` lies.
    pub(crate) branch: Incarnation,
    pub(crate) oldest: Lsn,
    pub(crate) keyspaces: Arc<KeyspaceList>,
    /// Where they are.
    pub(crate) file: NamedFile,
    /// But for the bytes of MANIFESTs.
    pub(crate) written: Written,
    /// The newest first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) aside: Vec<NamedFile>,
}

impl Chosen {
    /// What is installed.
    pub(crate) fn of(stack: &Stack) -> Self {
        let Manifest { to, branch, oldest, keyspaces: file, written, layers, aside, .. } = stack.manifest.clone();
        Chosen { to, branch, oldest, keyspaces: Arc::clone(&stack.keyspaces), file, written, layers, aside }
    }
}

impl<'s> Attempt<'s> {
    pub(super) fn new(store: &'s Store, pacer: &Arc<Pacer>) -> Self {
        Attempt { store, pacer: Arc::clone(pacer), files: Vec::new(), is_in_doubt: false }
    }

    /// Creates a file under a new number (steps 5 and 6).
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::DiskFull`], [`ErrorKind::Closed`].
    pub(crate) fn create(&mut self, kind: FileKind) -> Result<(FileIdentity, TableFile)> {
        let mut taken = None;
        for _ in 0..TRIES {
            let number = self.store.next_number()?;
            self.files.push((number, kind));
            match self.store.dir.create(number, kind)? {
                Ok(file) => {
                    let identity = FileIdentity { log_id: self.store.log_id, number, nonce: nonce(file.path())? };
                    return Ok((identity, file));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // It is not this attempt's, and goes with what nothing needs.
                    self.files.pop();
                    self.store.known.lock().under_way.remove(&number);
                    taken = Some((number, error));
                }
                Err(error) => return Err(self.not_created(number, kind, error)),
            }
        }
        let (number, error) = taken.expect("it was tried");
        Err(self.not_created(number, kind, error))
    }

    /// Writes a list of keyspaces as of `to` (step 6).
    ///
    /// # Errors
    /// Those of [`Attempt::create`], and of writing.
    pub(crate) fn write_keyspaces(&mut self, list: &KeyspaceList, to: Lsn, branch: Incarnation) -> Result<NamedFile> {
        let (identity, file) = self.create(FileKind::Keyspaces)?;
        let bytes = list.to_file(identity, to, branch).to_bytes();
        if bytes.len() as u64 > MAX_LIST_BYTES {
            let message =
                "there are more keyspaces than a file of 1 GiB can list: drop some, or give them shorter names";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if Keyspaces::decode(&bytes).is_err() {
            // Better no checkpoint than one that no open takes.
            return Err(Error::bug("a list of keyspaces breaks a rule of its format"));
        }
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        let (number, nonce) = (identity.number, identity.nonce);
        Ok(NamedFile { number, nonce, length: bytes.len() as u64, crc: Keyspaces::crc(&bytes) })
    }

    fn not_created(&self, number: u64, kind: FileKind, error: io::Error) -> Error {
        Error::io("create", &self.store.dir.path_of(&file_name(number, kind)), error)
    }

    /// At what pace its runs are written.
    pub(crate) fn pacer(&self) -> Arc<Pacer> {
        Arc::clone(&self.pacer)
    }

    /// Refuses once nothing may be changed any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.store.dir.check_open()
    }

    /// Makes the names of its files durable (step 7).
    ///
    /// # Errors
    /// A sync failed that counts for one of them: none may be named, ever.
    pub(crate) fn sync_names(&self) -> Result<()> {
        self.store.dir.sync_names(&self.names())
    }

    fn names(&self) -> Vec<Name> {
        self.files.iter().map(|(number, _)| Name::File(*number)).collect()
    }

    /// Replaces MANIFEST by what `choose` makes of the installed stack, durably, and installs it (steps 8 to 11).
    /// `installed` is told before another MANIFEST can be chosen.
    ///
    /// # Errors
    /// Then the stack is as it was.
    pub(crate) fn install(
        &mut self,
        choose: impl FnOnce(Option<&Stack>) -> Result<Chosen>,
        installed: impl FnOnce(&Arc<Stack>),
    ) -> std::result::Result<Arc<Stack>, NotInstalled> {
        let store = self.store;
        store.dir.check_durable(&self.names()).map_err(NotInstalled::Failed)?;
        let mut writing = store.writing.lock();
        let before = store.stack();
        let chosen = choose(before.as_deref()).map_err(NotInstalled::Failed)?;
        let Chosen { to, branch, oldest, keyspaces, file, written, layers, aside } = chosen;
        let manifest = Manifest {
            log_id: store.log_id,
            generation: writing.highest + 1,
            to,
            branch,
            oldest,
            next_number: store.known.lock().next_number,
            keyspaces: file,
            written: Written { lists: written.lists.saturating_add(writing.bytes), ..written },
            layers,
            aside,
        };
        let bytes = check(&manifest).map_err(NotInstalled::Failed)?;
        writing.highest = manifest.generation;
        writing.bytes += bytes.len() as u64;
        // Before it can be on the medium. What it names besides is installed. A refusal takes back what it has brought in,
        // and not what an earlier try, which is in doubt, has.
        let own: Vec<u64> = {
            let mut known = store.known.lock();
            self.files.iter().map(|(number, _)| *number).filter(|number| known.doubt.insert(*number)).collect()
        };
        match store.dir.replace_manifest(&bytes, manifest.generation) {
            Ok(()) => {
                writing.bytes = bytes.len() as u64;
                let stack = Arc::new(Stack { manifest, keyspaces, crc: Manifest::crc(&bytes) });
                self.succeed(&stack);
                if let Some(follower) = store.follower.get() {
                    follower.installed(&stack);
                }
                installed(&stack);
                Ok(stack)
            }
            Err(NotInstalled::Failed(error)) => {
                let mut known = store.known.lock();
                for number in own {
                    known.doubt.remove(&number);
                }
                // On a full disk the way on is this one: its runs are written.
                Err(if self.is_in_doubt { NotInstalled::InDoubt(error) } else { NotInstalled::Failed(error) })
            }
            Err(NotInstalled::InDoubt(error)) => {
                self.is_in_doubt = true;
                Err(NotInstalled::InDoubt(error))
            }
        }
    }

    fn succeed(&mut self, stack: &Arc<Stack>) {
        let mut known = self.store.known.lock();
        for (number, _) in std::mem::take(&mut self.files) {
            known.under_way.remove(&number);
            self.store.dir.forget(Name::File(number));
        }
        if let Some(before) = known.installed.replace(Arc::clone(stack)) {
            known.older.push(Arc::downgrade(&before));
        }
        // Whatever was in doubt: the name was renamed again since, and that is durable.
        known.doubt.clear();
        known.is_settled = true;
        drop(known);
        let layers = &stack.manifest.layers;
        let is_named = |number| layers.iter().flat_map(|layer| &layer.runs).any(|run| run.file.number == number);
        self.store.damaged.retain(is_named);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        if self.store.dir.is_over() {
            return;
        }
        {
            let mut known = self.store.known.lock();
            for (number, _) in &files {
                known.under_way.remove(number);
            }
        }
        if files.is_empty() {
            return;
        }
        let needed = self.store.needed();
        for (number, kind) in files {
            self.store.dir.forget(Name::File(number));
            if !needed.contains(&number) {
                // What cannot be removed now goes with what nothing needs.
                let _ = self.store.dir.remove(&file_name(number, kind));
            }
        }
    }
}

/// The bytes of a MANIFEST that may be written.
fn check(manifest: &Manifest) -> Result<Vec<u8>> {
    if manifest.generation > MAX_NUMBER {
        return Err(Error::bug("the generations of MANIFEST are used up"));
    }
    let bytes = manifest.to_bytes();
    if bytes.len() as u64 > MAX_LIST_BYTES {
        let message = "the tables have more runs than a MANIFEST of 1 GiB can list: larger runs are needed";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    match Manifest::decode(&bytes) {
        Ok(_) => Ok(bytes),
        // Better no checkpoint than one that no open takes.
        Err(_) => Err(Error::bug("a MANIFEST was chosen that breaks a rule of its format")),
    }
}

/// Random, and not 0.
fn nonce(path: &Path) -> Result<u64> {
    let drawn = entropy::bytes().map(u64::from_le_bytes);
    drawn.map(|drawn| drawn.max(1)).map_err(|error| Error::io("draw random numbers for", path, error))
}
