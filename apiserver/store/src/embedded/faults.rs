//! Tests of what goes wrong under an embedded store: full disks, broken disks, damaged files, second owners.

use std::{
    fs,
    io::{self, ErrorKind},
    ops::Bound,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, executor::block_on};
use parking_lot::Mutex;
use redb::{BackendError, Database, DatabaseError, StorageBackend, TableDefinition, backends::FileBackend};

use super::{EmbeddedStore, file::Disk, lock::open_private};
use crate::{Op, Options, Outcome, Result, Store, StoreError, Txn};

/// What writing to the disk fails with from now on.
type Fault = Arc<Mutex<Option<ErrorKind>>>;

#[derive(Clone)]
struct Faulty {
    fault: Fault,
    at_sync: bool,
}

#[derive(Debug)]
struct FaultyFile {
    file: FileBackend,
    fault: Fault,
    /// Whether the data arrives and only the sync fails.
    at_sync: bool,
}

impl FaultyFile {
    fn check(&self, sync: bool) -> io::Result<()> {
        self.fault.lock().filter(|_| sync == self.at_sync).map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check(true)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(false)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> std::result::Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
}

impl Faulty {
    fn file(&self, path: &Path) -> std::result::Result<FaultyFile, DatabaseError> {
        let file = FileBackend::new(open_private(path).map_err(redb::StorageError::Io)?)?;
        Ok(FaultyFile { file, fault: self.fault.clone(), at_sync: self.at_sync })
    }
}

impl Disk for Faulty {
    fn database(&self, path: &Path) -> std::result::Result<Database, DatabaseError> {
        Database::builder().create_with_backend(self.file(path)?)
    }

    fn journal(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.file(path).map_err(io::Error::other)?))
    }
}

fn on_disk(fault: &Fault, at_sync: bool) -> Box<dyn Disk> {
    Box::new(Faulty { fault: fault.clone(), at_sync })
}

fn put(store: &EmbeddedStore, key: &str) -> Result<Outcome> {
    let op = Op::Put { key: key.into(), value: Bytes::from(vec![b'x'; 100_000]), ttl: None };
    block_on(store.txn(Txn { compare: Vec::new(), ops: vec![op] }))
}

fn keys(store: &EmbeddedStore) -> Vec<String> {
    let page = block_on(store.range("", None, 0, None)).unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

fn open(directory: &Path) -> Result<EmbeddedStore> {
    EmbeddedStore::open(directory, &Options::default())
}

#[test]
fn a_full_disk_fails_writes_until_there_is_space() {
    for at_sync in [false, true] {
        let (directory, fault) = (tempfile::tempdir().unwrap(), Fault::default());
        let store = EmbeddedStore::open_with(directory.path(), &Options::default(), on_disk(&fault, at_sync)).unwrap();
        assert_eq!(put(&store, "/a").unwrap(), Outcome::Committed(1));
        *fault.lock() = Some(ErrorKind::StorageFull);
        for _ in 0..2 {
            assert!(matches!(put(&store, "/b"), Err(StoreError::Failed { .. })));
            assert_eq!((keys(&store), block_on(store.revision()).unwrap()), (vec!["/a".to_owned()], 1));
        }
        *fault.lock() = None;
        let Outcome::Committed(revision) = put(&store, "/c").unwrap() else { panic!("no compare, no conflict") };
        let now = keys(&store);
        drop(store);
        let again = open(directory.path()).unwrap();
        assert_eq!((keys(&again), block_on(again.revision()).unwrap()), (now.clone(), revision));
        assert!(now.contains(&"/a".to_owned()) && now.contains(&"/c".to_owned()), "{now:?}");
    }
}

#[test]
fn a_broken_disk_ends_writing_but_not_reading() {
    let (directory, fault) = (tempfile::tempdir().unwrap(), Fault::default());
    let store = EmbeddedStore::open_with(directory.path(), &Options::default(), on_disk(&fault, true)).unwrap();
    put(&store, "/a").unwrap();
    *fault.lock() = Some(ErrorKind::Other);
    assert!(put(&store, "/b").is_err());
    *fault.lock() = None;
    let error = put(&store, "/c").unwrap_err();
    assert!(error.to_string().contains("must be restarted"), "{error}");
    assert_eq!(keys(&store), ["/a"]);
    drop(store);
    let again = open(directory.path()).unwrap();
    assert!(keys(&again).contains(&"/a".to_owned()));
    put(&again, "/c").unwrap();
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    (0..40).for_each(|number| drop(put(&store, &format!("/{number}")).unwrap()));
    drop(store);
    let path = directory.path().join("store.redb");
    let whole = fs::read(&path).unwrap();
    let damages: [Damage; 5] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes[..16].fill(0),
        |bytes| bytes.iter_mut().skip(4096).for_each(|byte| *byte = 0),
        |bytes| {
            let middle = bytes.windows(64).position(|window| window == [b'x'; 64]).unwrap();
            bytes[middle + 7] = b'y';
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let error = open(directory.path()).err();
        assert!(matches!(error, Some(StoreError::Damaged { .. })), "damage {number}: {error:?}");
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(keys(&open(directory.path()).unwrap()).len(), 40);
}

/// What a crash of the machine leaves of a store, with this done to its journal.
fn crashed(store: &EmbeddedStore, damage: Damage) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for file in fs::read_dir(store.path()).unwrap() {
        let file = file.unwrap();
        let mut bytes = fs::read(file.path()).unwrap();
        if file.file_name() == "journal" {
            damage(&mut bytes);
        }
        fs::write(left.path().join(file.file_name()), bytes).unwrap();
    }
    left
}

/// Where the journal's first record with this byte in its value has that.
fn place_of(bytes: &[u8], byte: u8) -> usize {
    bytes.windows(64).position(|window| window == [byte; 64]).unwrap()
}

fn put_bytes(store: &EmbeddedStore, key: &str, bytes: &[u8]) {
    let op = Op::Put { key: key.into(), value: Bytes::copy_from_slice(bytes), ttl: None };
    block_on(store.txn(Txn { compare: Vec::new(), ops: vec![op] })).unwrap();
}

#[test]
fn the_journal_is_read_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for byte in [b'a', b'b', b'c'] {
        put_bytes(&store, &format!("/{}", char::from(byte)), &[byte; 1000]);
    }
    let after = |damage: Damage| open(crashed(&store, damage).path()).map(|store| keys(&store));
    assert_eq!(after(|_| {}).unwrap(), ["/a", "/b", "/c"]);
    // Its end never was on the disk: nobody was told that it is.
    let unfinished = |bytes: &mut Vec<u8>| {
        let end = place_of(bytes, b'c') + 500;
        bytes[end..].fill(0);
    };
    assert_eq!(after(unfinished).unwrap(), ["/a", "/b"]);
    let damages: [Damage; 4] = [
        |bytes| {
            let middle = place_of(bytes, b'b');
            bytes[middle] = b'x';
        },
        |bytes| bytes[..8].fill(0xff),
        |bytes| bytes[..4096].fill(0),
        |bytes| bytes.truncate(2000),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        // Where nothing is left of any record, nobody can tell that there were some.
        let error = after(damage).err();
        let is_told = matches!(error, Some(StoreError::Damaged { .. }));
        assert_eq!(is_told, number != 2, "damage {number}: {error:?}");
    }
}

#[test]
fn a_journal_that_is_gone_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put_bytes(&store, "/a", b"a");
    let left = crashed(&store, |_| {});
    fs::remove_file(left.path().join("journal")).unwrap();
    assert!(matches!(open(left.path()), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_the_journal_has_no_room_for_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let lengths = [700_000, 700_000, 700_000, 3_000_000, 10, 2_000_000, 2_000_000, 10];
    for (number, length) in lengths.into_iter().enumerate() {
        put_bytes(&store, &format!("/{number}"), &vec![b'x'; length]);
        let again = open(crashed(&store, |_| {}).path()).unwrap();
        let page = block_on(again.range("", None, 0, None)).unwrap();
        let found: Vec<_> = page.entries.iter().map(|entry| entry.value.len()).collect();
        assert_eq!(found, lengths[..=number]);
    }
    put_bytes(&store, "/0", b"again");
    block_on(store.compact(9)).unwrap();
    drop(store);
    let again = open(directory.path()).unwrap();
    assert_eq!((keys(&again).len(), block_on(again.oldest()).unwrap()), (8, 9));
}

#[test]
fn a_store_without_a_journal_gets_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    put_bytes(&store, "/a", b"a");
    drop(store);
    fs::remove_file(directory.path().join("journal")).unwrap();
    let database = Database::open(directory.path().join("store.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    let mut meta = txn.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
    meta.insert("format", 1).unwrap();
    meta.remove("journal").unwrap();
    drop(meta);
    txn.commit().unwrap();
    drop(database);
    let store = open(directory.path()).unwrap();
    put_bytes(&store, "/b", b"b");
    assert_eq!(keys(&open(crashed(&store, |_| {}).path()).unwrap()), ["/a", "/b"]);
}

#[test]
fn a_directory_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let error = open(directory.path()).err().unwrap();
    assert!(error.to_string().contains("another process uses the data directory"), "{error}");
    drop(store);
    open(directory.path()).unwrap();
}

#[test]
fn only_the_owner_may_read_the_files() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/store");
    drop(open(&directory).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}

#[test]
fn watches_and_pages_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    (0..6).for_each(|number| drop(put(&store, &format!("/{}", number % 3)).unwrap()));
    let page = block_on(store.range("/", None, 2, Some(4))).unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    let next = block_on(store.range("/", Some(&page.entries[1].key), 2, Some(page.revision))).unwrap();
    assert_eq!((next.entries[0].key.as_str(), next.entries[0].modified, next.more), ("/2", 3, false));
    let mut watch = block_on(store.watch("/", 4)).unwrap();
    let seen: Vec<_> = std::iter::from_fn(|| watch.next().now_or_never().flatten()).map(|b| b.unwrap()).collect();
    let told: Vec<_> = seen.iter().map(|b| (b[0].revision, b[0].previous.as_ref().map(|p| p.modified))).collect();
    assert_eq!(told, [(5, Some(2)), (6, Some(3))]);
}

#[tokio::test]
async fn times_to_live_outlast_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let ttl = Some(std::time::Duration::from_secs(1));
    let op = Op::Put { key: "/a".into(), value: Bytes::new(), ttl };
    let put = store.txn(Txn { compare: Vec::new(), ops: vec![op] }).await.unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!((put, keys_now(&store).await), (Outcome::Committed(1), 1));
    let mut watch = store.watch("/", 1).await.unwrap();
    let events = watch.next().await.unwrap().unwrap();
    assert_eq!((events[0].key.as_str(), &events[0].value, keys_now(&store).await), ("/a", &None, 0));
}

async fn keys_now(store: &EmbeddedStore) -> usize {
    store.range("", None, 0, None).await.unwrap().entries.len()
}
