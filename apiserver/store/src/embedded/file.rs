//! The file of an embedded store: one redb database with every kept version under its revision.

use std::{
    fs,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};

use super::lock::{Lock, open_private};
use crate::{
    Result, Revision, StoreError,
    history::{Batch, Change, Dead, History, Version},
};

/// Revision and key.
type Place = (u64, &'static str);
/// The revision of creation, the time of expiry (0: none) and the value (none: a deletion).
type Record = (u64, u64, Option<&'static [u8]>);

const VERSIONS: TableDefinition<Place, Record> = TableDefinition::new("versions");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const COMPACTED: &str = "compacted";
const FORMAT_NOW: u64 = 1;

/// Reads come from memory: the file's own cache need only hold what the next commits touch.
const CACHE_BYTES: usize = 16 << 20;

const NAME: &str = "store.redb";

/// What the file of a store's directory takes.
pub fn size_bytes(directory: &Path) -> std::io::Result<u64> {
    Ok(std::fs::metadata(directory.join(NAME))?.len())
}

/// Opens the database at a path.
pub(super) type Open = Box<dyn Fn(&Path) -> std::result::Result<Database, DatabaseError> + Send>;

pub(super) fn open_database(path: &Path) -> std::result::Result<Database, DatabaseError> {
    let file = open_private(path).map_err(StorageError::Io)?;
    Database::builder().set_cache_size(CACHE_BYTES).create_file(file)
}

pub(super) struct File {
    path: PathBuf,
    open: Open,
    /// None after a failed commit, until it could be opened again.
    database: Option<Database>,
    _lock: Lock,
}

/// Why a commit failed.
pub(super) struct Broken {
    pub error: StoreError,
    /// Whether opening the file again may help: there was no space.
    pub passing: bool,
}

impl File {
    pub fn open(directory: &Path, open: Open) -> Result<Self> {
        let lock = Lock::take(directory)?;
        let path = directory.join(NAME);
        if !path.exists() {
            create(directory, &path, &open)?;
        } else if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
            return Err(damaged(&path, "it is empty"));
        }
        let database = guarded(&path, || {
            let mut database = open(&path).map_err(|error| told(&path, error.into()))?;
            // A repair here is no crash recovery, which opening has done already: something has changed the file.
            match database.check_integrity() {
                Ok(true) => Ok(database),
                Ok(false) => Err(damaged(&path, "its checksums do not match")),
                Err(error) => Err(told(&path, error.into())),
            }
        })?;
        Ok(Self { path, open, database: Some(database), _lock: lock })
    }

    /// All that is kept, and what of it is to be removed.
    pub fn load(&self) -> Result<(History, Vec<Dead>)> {
        guarded(&self.path, || {
            let (batches, compacted) = self.since(0)?;
            History::load(batches.into_iter().map(Ok), compacted)
        })
    }

    /// The kept batches with a revision greater than `after`, and the last compaction.
    fn since(&self, after: Revision) -> Result<(Vec<Batch>, Revision)> {
        let database = self.database.as_ref().ok_or_else(|| StoreError::failed("the file is not open"))?;
        read(database, after).map_err(|error| told(&self.path, error))
    }

    /// Writes durably: the batches, a compaction, the removal of versions. All of it or nothing.
    pub fn commit(
        &mut self,
        batches: &[Batch],
        compacted: Option<Revision>,
        dead: &[Dead],
    ) -> std::result::Result<(), Broken> {
        let Some(database) = &self.database else {
            return Err(Broken { error: StoreError::failed("the file is not open"), passing: true });
        };
        write(database, batches, compacted, dead).map_err(|error| {
            // redb refuses everything after an error, and what is on disk is not known: only opening again tells.
            self.database = None;
            Broken { passing: no_space(&error), error: told(&self.path, error) }
        })
    }

    /// After a failed commit: opens the file again; gives what it holds beyond `known`, and the last compaction.
    pub fn reopen(&mut self, known: Revision) -> Result<(Vec<Batch>, Revision)> {
        self.database = None;
        let database = guarded(&self.path, || (self.open)(&self.path).map_err(|error| told(&self.path, error.into())))?;
        self.database = Some(database);
        self.since(known)
    }

    pub fn is_open(&self) -> bool {
        self.database.is_some()
    }
}

/// Under another name first, so that a crash never leaves a half-made file that looks like a store.
fn create(directory: &Path, path: &Path, open: &Open) -> Result<()> {
    let new = directory.join(format!("{NAME}.new"));
    let cannot = |source| failed(format!("cannot create {}", path.display()), source);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    let database = open(&new).map_err(|error| told(&new, error.into()))?;
    initialise(&database).map_err(|error| told(&new, error))?;
    drop(database);
    fs::rename(&new, path).map_err(cannot)?;
    // The new name is durable only once its directory is.
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(cannot)
}

fn initialise(database: &Database) -> std::result::Result<(), redb::Error> {
    let txn = database.begin_write()?;
    txn.open_table(VERSIONS)?;
    let mut meta = txn.open_table(META)?;
    meta.insert(FORMAT, FORMAT_NOW)?;
    meta.insert(COMPACTED, 0)?;
    drop(meta);
    Ok(txn.commit()?)
}

fn write(
    database: &Database,
    batches: &[Batch],
    compacted: Option<Revision>,
    dead: &[Dead],
) -> std::result::Result<(), redb::Error> {
    let txn = database.begin_write()?;
    let mut versions = txn.open_table(VERSIONS)?;
    for batch in batches {
        for Change { key, version } in &batch.changes {
            let value = (version.created, version.expires.unwrap_or(0), version.value.as_deref());
            versions.insert((batch.revision, &**key), value)?;
        }
    }
    for (revision, key) in dead {
        versions.remove((*revision, &**key))?;
    }
    drop(versions);
    if let Some(revision) = compacted {
        txn.open_table(META)?.insert(COMPACTED, revision)?;
    }
    Ok(txn.commit()?)
}

fn read(database: &Database, after: Revision) -> std::result::Result<(Vec<Batch>, Revision), redb::Error> {
    let txn = database.begin_read()?;
    let meta = txn.open_table(META)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value()));
    if number(FORMAT)? != Some(FORMAT_NOW) {
        return Err(redb::Error::Corrupted(format!("its format is not {FORMAT_NOW}")));
    }
    let compacted = number(COMPACTED)?.unwrap_or(0);
    let mut batches: Vec<Batch> = Vec::new();
    for record in txn.open_table(VERSIONS)?.range((after + 1, "")..)? {
        let (place, record) = record?;
        let ((revision, key), (created, expires, value)) = (place.value(), record.value());
        let version = Version {
            value: value.map(Bytes::copy_from_slice),
            created,
            modified: revision,
            expires: (expires != 0).then_some(expires),
        };
        let change = Change { key: Arc::from(key), version };
        match batches.last_mut().filter(|batch| batch.revision == revision) {
            Some(batch) => batch.changes.push(change),
            None => batches.push(Batch { revision, changes: vec![change] }),
        }
    }
    Ok((batches, compacted))
}

/// redb asserts that what it reads makes sense: on a damaged file that panics.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged(path, "its structure makes no sense")))
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
