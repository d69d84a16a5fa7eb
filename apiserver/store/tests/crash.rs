//! Kills a writing process and opens its store again: no acknowledged write may be lost, no revision given twice.
//!
//! The process is this program itself, told where to write. `KEELSON_CRASH_ROUNDS` says how often; 3 unless told.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use store::{EmbeddedStore, Op, Options, Outcome, Revision, Store, Txn};

const WRITE: &str = "write-until-killed";
const WRITERS: usize = 16;
const KEYS: usize = 40;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [WRITE, directory, round] => tokio::runtime::Runtime::new()?.block_on(write(Path::new(directory), round)),
        // What the test runner asks of every test program: a list of names, or those that contain a word.
        ["--list", ..] => {
            println!("survives_kill: test");
            Ok(())
        }
        [filter, ..] if !filter.starts_with('-') && !"survives_kill".contains(filter) => Ok(()),
        _ => survives_kill(),
    }
}

/// Every writer overwrites keys of its own, now and then deletes one, and tells what was acknowledged.
async fn write(directory: &Path, round: &str) -> Result<(), Failure> {
    let store = Arc::new(EmbeddedStore::open(directory, &Options::default())?);
    let writers =
        (0..WRITERS).map(|writer| tokio::spawn(write_own(store.clone(), format!("{round}/{writer}"), writer)));
    for writer in futures::future::join_all(writers.collect::<Vec<_>>()).await {
        writer?.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn write_own(store: Arc<EmbeddedStore>, round: String, writer: usize) -> Result<(), String> {
    for number in 0_usize.. {
        let key = format!("/w/{writer}/{}", number % KEYS);
        let value = format!("{round}/{number}/{}", "x".repeat(number * 37 % 3000));
        let op = if number % 7 == 6 {
            Op::Delete { key: key.clone() }
        } else {
            Op::Put { key: key.clone(), value: Bytes::from(value.clone()), ttl: None }
        };
        let told = if number % 7 == 6 { "" } else { &value };
        match store.txn(Txn { compare: Vec::new(), ops: vec![op] }).await.map_err(|error| error.to_string())? {
            Outcome::Committed(revision) => {
                let line = format!("{revision} {key} {told}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).map_err(|error| error.to_string())?;
            }
            Outcome::Conflict(_) => return Err("conflict without a compare".into()),
        }
    }
    Ok(())
}

/// What the killed processes have been told.
#[derive(Default)]
struct Acknowledged {
    /// The last acknowledged change of each key; an empty value is a deletion.
    keys: BTreeMap<String, (Revision, String)>,
    /// Who was told each revision. A deletion of nothing repeats the last one.
    newest: Revision,
}

fn survives_kill() -> Result<(), Failure> {
    let rounds = std::env::var("KEELSON_CRASH_ROUNDS").map_or(Ok(3), |rounds| rounds.parse::<usize>())?;
    let directory = tempfile::tempdir()?;
    let mut acknowledged = Acknowledged::default();
    let mut writes = 0;
    for round in 0..rounds {
        let before = acknowledged.newest;
        writes += kill_while_writing(directory.path(), round, before, &mut acknowledged)?;
        check(directory.path(), &mut acknowledged).map_err(|lost| format!("round {round}: {lost}"))?;
    }
    println!("survives_kill: {rounds} kills, {writes} acknowledged writes, none lost");
    Ok(())
}

fn kill_while_writing(
    directory: &Path,
    round: usize,
    before: Revision,
    acknowledged: &mut Acknowledged,
) -> Result<usize, Failure> {
    let mut process = Command::new(std::env::current_exe()?)
        .args([WRITE, &directory.display().to_string(), &round.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?);
    // A different number of writes in every round, so that the kill hits different moments.
    let enough = 150 + round * 61 % 500;
    let (mut line, mut writes) = (String::new(), 0);
    loop {
        line.clear();
        // After the kill, too, the pipe holds what was acknowledged before it.
        if lines.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            break;
        }
        writes += 1;
        let mut parts = line.trim_end_matches('\n').splitn(3, ' ');
        let mut part = || parts.next().ok_or("a short line");
        let (revision, key, value) = (part()?.parse::<Revision>()?, part()?.to_owned(), part()?.to_owned());
        if revision < before || (revision == before && !value.is_empty()) {
            return Err(format!("revision {revision} was given again: {before} was the newest").into());
        }
        let last = acknowledged.keys.entry(key).or_default();
        if last.0 <= revision {
            *last = (revision, value);
        }
        acknowledged.newest = acknowledged.newest.max(revision);
        if writes == enough {
            process.kill()?;
        }
    }
    process.wait()?;
    if writes < enough { Err(format!("the writer ended by itself after {writes} writes").into()) } else { Ok(writes) }
}

fn check(directory: &Path, acknowledged: &mut Acknowledged) -> Result<(), Failure> {
    let store = EmbeddedStore::open(directory, &Options::default())?;
    let block_on = futures::executor::block_on::<futures::future::BoxFuture<'_, _>>;
    let page = block_on(store.range("/", None, 0, None))?;
    let oldest = futures::executor::block_on(store.oldest())?;
    if page.revision < acknowledged.newest {
        return Err(format!("revision {} was lost, {} is the newest", acknowledged.newest, page.revision).into());
    }
    let found: BTreeMap<&str, _> = page.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    for (key, (revision, value)) in &acknowledged.keys {
        let now = found.get(key.as_str());
        // A later write may have become durable though its answer was cut off; only an older state is a loss.
        let kept = match now {
            Some(entry) => entry.modified > *revision || entry.value == value.as_bytes(),
            None => value.is_empty() || deleted_since(&store, key, *revision, oldest)?,
        };
        if !kept {
            return Err(format!("{key} of revision {revision} was lost: it is {:?}", now.map(|e| e.modified)).into());
        }
    }
    acknowledged.newest = page.revision;
    Ok(())
}

/// Whether the history tells of a deletion after a revision.
fn deleted_since(store: &EmbeddedStore, key: &str, revision: Revision, oldest: Revision) -> Result<bool, Failure> {
    use futures::{FutureExt, StreamExt};
    let mut watch = futures::executor::block_on(store.watch(key, revision.max(oldest)))?;
    let mut deleted = false;
    while let Some(Some(batch)) = watch.next().now_or_never() {
        deleted |= batch?.iter().any(|event| event.key == key && event.value.is_none());
    }
    Ok(deleted)
}
