//! What an embedded store has on disk: a redb database with every kept version under its revision, and a journal of what
//! is to follow.

use std::{
    collections::VecDeque,
    fs,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadableDatabase, StorageBackend, StorageError, TableDefinition, backends::FileBackend,
};
use serde_bytes::Bytes as Raw;

use super::{
    journal::{self, Journal, Record},
    lock::{Lock, open_private},
};
use crate::{
    Result, Revision, StoreError,
    history::{Batch, Change, Dead, History, Version},
};

/// Revision and key.
type Place = (u64, &'static str);
/// The revision of creation, the time of expiry (0: none) and the value (none: a deletion).
type Row = (u64, u64, Option<&'static [u8]>);

const VERSIONS: TableDefinition<Place, Row> = TableDefinition::new("versions");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const COMPACTED: &str = "compacted";
/// The number of the journal's first record.
const JOURNAL: &str = "journal";
const FORMAT_NOW: u64 = 2;
/// Had no journal.
const FORMAT_BEFORE: u64 = 1;

/// Reads come from memory: the file's own cache need only hold what the next commits touch.
const CACHE_BYTES: usize = 16 << 20;

const NAME: &str = "store.redb";
const JOURNAL_NAME: &str = "journal";

/// What the files of a store's directory take.
pub fn size_bytes(directory: &Path) -> io::Result<u64> {
    Ok(fs::metadata(directory.join(NAME))?.len() + fs::metadata(directory.join(JOURNAL_NAME))?.len())
}

/// Where the files are.
pub(super) trait Disk: Send {
    fn database(&self, path: &Path) -> std::result::Result<Database, DatabaseError>;
    fn journal(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;
}

/// The file system's.
pub(super) struct Files;

impl Disk for Files {
    fn database(&self, path: &Path) -> std::result::Result<Database, DatabaseError> {
        let file = open_private(path).map_err(StorageError::Io)?;
        Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
    }

    fn journal(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(FileBackend::new(open_private(path)?).map_err(io::Error::other)?))
    }
}

pub(super) struct File {
    directory: PathBuf,
    disk: Box<dyn Disk>,
    /// None after a failed commit, until they could be opened again.
    open: Option<Opened>,
    /// What the database still holds though no read can reach it.
    dead: VecDeque<Dead>,
    _lock: Lock,
}

struct Opened {
    database: Database,
    journal: Journal,
    pending: Pending,
}

/// What is in the journal and not in the database.
#[derive(Default)]
struct Pending {
    batches: Vec<Batch>,
    compacted: Option<Revision>,
}

/// Why a commit failed.
pub(super) struct Broken {
    pub error: StoreError,
    /// Whether opening the file again may help: there was no space.
    pub passing: bool,
}

impl File {
    pub fn open(directory: &Path, disk: Box<dyn Disk>) -> Result<Self> {
        let lock = Lock::take(directory)?;
        let path = directory.join(NAME);
        if !path.exists() {
            create(directory, &*disk)?;
        } else if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
            return Err(damaged(&path, "it is empty"));
        }
        let database = guarded(&path, || {
            let mut database = disk.database(&path).map_err(|error| told(&path, error.into()))?;
            // A repair here is no crash recovery, which opening has done already: something has changed the file.
            match database.check_integrity() {
                Ok(true) => Ok(database),
                Ok(false) => Err(damaged(&path, "its checksums do not match")),
                Err(error) => Err(told(&path, error.into())),
            }
        })?;
        let mut file = Self { directory: directory.to_owned(), disk, open: None, dead: VecDeque::new(), _lock: lock };
        file.take_up(database)?;
        Ok(file)
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Puts what the journal holds into the database.
    fn take_up(&mut self, database: Database) -> Result<()> {
        let (path, journal_path) = (self.path(), self.directory.join(JOURNAL_NAME));
        let first = guarded(&path, || first_record(&database).map_err(|error| told(&path, error)))?;
        if first.is_none() {
            create_journal(&self.directory, &*self.disk)?;
        } else if !journal_path.exists() {
            return Err(damaged(&journal_path, "it is not there"));
        }
        let bad = |error| told(&journal_path, redb::Error::Io(error));
        let disk = self.disk.journal(&journal_path).map_err(bad)?;
        let (journal, records) = Journal::open(disk, first.unwrap_or(1)).map_err(bad)?;
        let mut pending = Pending::default();
        journal::records(&records)
            .try_for_each(|record| record.map(|record| pending.add_record(record)))
            .map_err(bad)?;
        let mut opened = Opened { database, journal, pending };
        if first.is_none() || !opened.pending.is_empty() {
            guarded(&path, || opened.checkpoint(&[]).map_err(|error| told(&path, error)))?;
        }
        self.open = Some(opened);
        Ok(())
    }

    /// All that is kept. What of it is to be removed is removed along with later commits.
    pub fn load(&mut self) -> Result<History> {
        let (history, dead) = guarded(&self.path(), || {
            let (batches, compacted) = self.since(0)?;
            History::load(batches.into_iter().map(Ok), compacted)
        })?;
        self.remove(dead);
        Ok(history)
    }

    /// The kept batches with a revision greater than `after`, and the last compaction.
    fn since(&self, after: Revision) -> Result<(Vec<Batch>, Revision)> {
        let opened = self.open.as_ref().ok_or_else(not_open)?;
        read(&opened.database, after).map_err(|error| told(&self.path(), error))
    }

    /// Writes durably: the batches and a compaction. All of it or nothing.
    pub fn commit(&mut self, batches: &[Batch], compacted: Option<Revision>) -> std::result::Result<(), Broken> {
        let Some(opened) = &mut self.open else { return Err(Broken { error: not_open(), passing: true }) };
        opened.pending.add(batches, compacted);
        let done =
            match opened.journal.append(&Record { changes: batches.iter().flat_map(changes).collect(), compacted }) {
                Ok(true) => Ok(()),
                Ok(false) => self.checkpoint(),
                Err(error) => Err(redb::Error::Io(error)),
            };
        done.map_err(|error| {
            // redb refuses everything after an error, and what is on disk is not known: only opening again tells.
            self.open = None;
            Broken { passing: no_space(&error), error: told(&self.path(), error) }
        })
    }

    /// Removes versions, with commits to come.
    pub fn remove(&mut self, dead: Vec<Dead>) {
        self.dead.extend(dead);
    }

    /// Puts what the journal holds into the database, which can do without it then.
    fn checkpoint(&mut self) -> std::result::Result<(), redb::Error> {
        let Some(opened) = &mut self.open else { return Ok(()) };
        let share = self.dead.len().min(opened.pending.batches.len() * 4 + 64);
        opened.checkpoint(&self.dead.make_contiguous()[..share])?;
        self.dead.drain(..share);
        Ok(())
    }

    /// After a failed commit: opens the files again; gives what they hold beyond `known`, and the last compaction.
    pub fn reopen(&mut self, known: Revision) -> Result<(Vec<Batch>, Revision)> {
        self.open = None;
        let path = self.path();
        let database = guarded(&path, || self.disk.database(&path).map_err(|error| told(&path, error.into())))?;
        self.take_up(database)?;
        self.since(known)
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl Drop for File {
    /// The next start need not do it.
    fn drop(&mut self) {
        if self.open.as_ref().is_some_and(|opened| !opened.pending.is_empty())
            && let Err(error) = self.checkpoint()
        {
            tracing::warn!(%error, "the store's last changes stay in its journal");
        }
    }
}

impl Opened {
    fn checkpoint(&mut self, dead: &[Dead]) -> std::result::Result<(), redb::Error> {
        write(&self.database, &self.pending, dead, self.journal.next())?;
        self.pending = Pending::default();
        self.journal.restart();
        Ok(())
    }
}

impl Pending {
    fn add(&mut self, batches: &[Batch], compacted: Option<Revision>) {
        self.batches.extend_from_slice(batches);
        self.compacted = self.compacted.max(compacted);
    }

    fn add_record(&mut self, record: Record<'_>) {
        for change in record.changes {
            let version = Version {
                value: change.value.map(|value| Bytes::copy_from_slice(value)),
                created: change.created,
                modified: change.revision,
                expires: change.expires,
            };
            put(&mut self.batches, Change { key: Arc::from(change.key), version });
        }
        self.compacted = self.compacted.max(record.compacted);
    }

    const fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.compacted.is_none()
    }
}

/// Into the batch of its revision, which is the last one or the next.
fn put(batches: &mut Vec<Batch>, change: Change) {
    let revision = change.version.modified;
    match batches.last_mut().filter(|batch| batch.revision == revision) {
        Some(batch) => batch.changes.push(change),
        None => batches.push(Batch { revision, changes: vec![change] }),
    }
}

fn changes(batch: &Batch) -> impl Iterator<Item = journal::Change<'_>> {
    batch.changes.iter().map(|Change { key, version }| journal::Change {
        revision: batch.revision,
        key,
        created: version.created,
        expires: version.expires,
        value: version.value.as_deref().map(Raw::new),
    })
}

/// Makes a file under another name first, so that a crash never leaves a half-made one that looks whole.
fn make(directory: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (new, path) = (directory.join(format!("{name}.new")), directory.join(name));
    let cannot = |source| failed(format!("cannot create {}", path.display()), source);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    fill(&new)?;
    fs::rename(&new, &path).map_err(cannot)?;
    // The new name is durable only once its directory is.
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(cannot)
}

/// The journal first: without a database it is none.
fn create(directory: &Path, disk: &dyn Disk) -> Result<()> {
    create_journal(directory, disk)?;
    make(directory, NAME, |new| {
        let database = disk.database(new).map_err(|error| told(new, error.into()))?;
        write(&database, &Pending::default(), &[], 1).map_err(|error| told(new, error))
    })
}

/// Written, not only made as long: to write where nothing was written yet changes more of the disk than these bytes.
fn create_journal(directory: &Path, disk: &dyn Disk) -> Result<()> {
    make(directory, JOURNAL_NAME, |new| {
        let fill = || {
            let journal = disk.journal(new)?;
            journal.set_len(journal::BYTES as u64)?;
            journal.write(0, &vec![0; journal::BYTES])?;
            journal.sync_data()
        };
        fill().map_err(|error| told(new, redb::Error::Io(error)))
    })
}

fn write(
    database: &Database,
    pending: &Pending,
    dead: &[Dead],
    first_record: u64,
) -> std::result::Result<(), redb::Error> {
    let txn = database.begin_write()?;
    let mut versions = txn.open_table(VERSIONS)?;
    for batch in &pending.batches {
        for Change { key, version } in &batch.changes {
            let value = (version.created, version.expires.unwrap_or(0), version.value.as_deref());
            versions.insert((batch.revision, &**key), value)?;
        }
    }
    for (revision, key) in dead {
        versions.remove((*revision, &**key))?;
    }
    drop(versions);
    let mut meta = txn.open_table(META)?;
    meta.insert(FORMAT, FORMAT_NOW)?;
    meta.insert(JOURNAL, first_record)?;
    if let Some(revision) = pending.compacted {
        meta.insert(COMPACTED, revision)?;
    }
    drop(meta);
    Ok(txn.commit()?)
}

/// The number of the journal's first record; none if there is no journal yet.
fn first_record(database: &Database) -> std::result::Result<Option<u64>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value()));
    match number(FORMAT)? {
        Some(FORMAT_BEFORE) => Ok(None),
        Some(FORMAT_NOW) => match number(JOURNAL)? {
            Some(first) => Ok(Some(first)),
            None => Err(redb::Error::Corrupted("it does not say where its journal begins".to_owned())),
        },
        _ => Err(redb::Error::Corrupted(format!("its format is not {FORMAT_NOW}"))),
    }
}

fn read(database: &Database, after: Revision) -> std::result::Result<(Vec<Batch>, Revision), redb::Error> {
    let txn = database.begin_read()?;
    let compacted = txn.open_table(META)?.get(COMPACTED)?.map_or(0, |value| value.value());
    let mut batches: Vec<Batch> = Vec::new();
    for row in txn.open_table(VERSIONS)?.range((after + 1, "")..)? {
        let (place, row) = row?;
        let ((revision, key), (created, expires, value)) = (place.value(), row.value());
        let version = Version {
            value: value.map(Bytes::copy_from_slice),
            created,
            modified: revision,
            expires: (expires != 0).then_some(expires),
        };
        put(&mut batches, Change { key: Arc::from(key), version });
    }
    Ok((batches, compacted))
}

/// redb asserts that what it reads makes sense: on a damaged file that panics.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged(path, "its structure makes no sense")))
}

fn not_open() -> StoreError {
    StoreError::failed("the file is not open")
}

fn damaged(path: &Path, why: impl ToString) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), why: why.to_string() }
}

pub(super) fn failed(what: impl Into<String>, source: io::Error) -> StoreError {
    StoreError::Failed { what: format!("{}: {source}", what.into()), source: Some(Box::new(source)) }
}

fn no_space(error: &redb::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}

fn told(path: &Path, error: redb::Error) -> StoreError {
    let what = || format!("{}: {error}", path.display());
    match &error {
        redb::Error::Corrupted(why) => damaged(path, why),
        redb::Error::UpgradeRequired(_) | redb::Error::TableTypeMismatch { .. } | redb::Error::TableDoesNotExist(_) => {
            damaged(path, &error)
        }
        redb::Error::Io(io) if matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            damaged(path, io)
        }
        redb::Error::DatabaseAlreadyOpen => StoreError::failed(format!("another process uses {}", path.display())),
        _ => StoreError::Failed { what: what(), source: Some(Box::new(error)) },
    }
}
