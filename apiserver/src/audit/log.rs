//! Where audit events are written: standard output, or a file that is rotated. One thread writes; the queue before it
//! is bounded, and whoever finds it full waits.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

/// Events that wait to be written.
const QUEUE_EVENTS_MAX: usize = 10_000;
const MEGABYTE: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `-` is standard output; none: no log.
    pub path: Option<PathBuf>,
    /// Older rotated files are deleted; 0: never for their age.
    pub max_age_days: u64,
    /// So many rotated files are kept; 0: all.
    pub max_backups: usize,
    /// A file of this size is rotated; 0: never.
    pub max_size_megabytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { path: None, max_age_days: 366, max_backups: 100, max_size_megabytes: 100 }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be opened")]
pub struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// A handle of the writing thread, which ends with the last of them.
#[derive(Clone)]
pub struct Log {
    queue: mpsc::Sender<Message>,
    told: Arc<AtomicU64>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// None: no path is given.
    pub fn open(options: &Options) -> Result<Option<Self>, LogError> {
        let Some(path) = &options.path else { return Ok(None) };
        let failed = |source| LogError { path: path.clone(), source };
        let mut sink: Box<dyn Write + Send> = match path.to_str() {
            Some("-") => Box::new(io::stdout()),
            _ => Box::new(Rotated::open(path, options).map_err(failed)?),
        };
        let (queue, mut messages) = mpsc::channel(QUEUE_EVENTS_MAX);
        let write = move || {
            while let Some(message) = messages.blocking_recv() {
                match message {
                    Message::Line(line) => {
                        if let Err(error) = sink.write_all(&line) {
                            tracing::error!(%error, "an audit event is lost");
                        }
                    }
                    Message::Flush(done) => {
                        if sink.flush().is_err() || done.send(()).is_err() {
                            tracing::debug!("nobody waits for the audit log any more");
                        }
                    }
                }
            }
        };
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(write).map_err(failed)?;
        Ok(Some(Self { queue, told: Arc::default(), dropped: Arc::default() }))
    }

    /// Waits while the queue is full.
    pub async fn write(&self, line: Vec<u8>) {
        self.told.fetch_add(1, Ordering::Relaxed);
        if self.queue.send(Message::Line(line)).await.is_err() {
            self.lose();
        }
    }

    /// From where nobody can wait: the event is lost if the queue is full.
    pub fn write_now(&self, line: Vec<u8>) {
        self.told.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lose();
        }
    }

    fn lose(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        tracing::error!("an audit event is lost: the log cannot follow");
    }

    /// How many events were to be written.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// How many events were lost.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all that was written so far is in the file.
    pub async fn flush(&self) {
        let (done, finished) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() && finished.await.is_err() {
            tracing::warn!("the audit log has ended");
        }
    }
}

/// A file that makes room for a new one when it is full: `audit.log` becomes `audit-2026-01-02T15-04-05.000.log`.
struct Rotated {
    path: PathBuf,
    options: Options,
    file: File,
    size: u64,
}

impl Rotated {
    fn open(path: &Path, options: &Options) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), options: options.clone(), file, size })
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let stamp = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S.%3f").to_string();
        let (stem, extension) = self.names();
        fs::rename(&self.path, self.path.with_file_name(format!("{stem}-{stamp}{extension}")))?;
        self.file = append(&self.path)?;
        self.size = 0;
        self.clean()
    }

    /// `audit` and `.log`
    fn names(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = text(self.path.extension());
        (text(self.path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
    }

    /// Deletes what is too old or too many.
    fn clean(&self) -> io::Result<()> {
        let (stem, extension) = self.names();
        let prefix = format!("{stem}-");
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut rotated: Vec<(String, PathBuf, SystemTime)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamp = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&extension));
            if stamp.is_some_and(|stamp| stamp.starts_with(|c: char| c.is_ascii_digit())) {
                rotated.push((name, entry.path(), entry.metadata()?.modified()?));
            }
        }
        // Names sort as their times do; the newest are kept.
        rotated.sort_by(|a, b| b.0.cmp(&a.0));
        let oldest = SystemTime::now().checked_sub(DAY * u32::try_from(self.options.max_age_days).unwrap_or(u32::MAX));
        for (i, (_, path, modified)) in rotated.iter().enumerate() {
            let many = self.options.max_backups > 0 && i >= self.options.max_backups;
            let old = self.options.max_age_days > 0 && oldest.is_some_and(|oldest| *modified < oldest);
            if many || old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let limit = self.options.max_size_megabytes * MEGABYTE;
        if limit > 0 && self.size > 0 && self.size + line.len() as u64 > limit {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_makes_room_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for day in 1..=3 {
            fs::write(folder.path().join(format!("audit-2020-01-0{day}T00-00-00.000.log")), "old").unwrap();
        }
        fs::write(folder.path().join("audit-notes.log"), "not ours").unwrap();
        let options = Options { max_age_days: 0, max_backups: 2, max_size_megabytes: 1, ..Options::default() };
        let mut log = Rotated::open(&path, &options).unwrap();
        log.write_all(&vec![b'x'; 1 << 20]).unwrap();
        log.write_all(b"next\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"next\n");
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(names[0], "audit-2020-01-03T00-00-00.000.log");
        assert_eq!((names[2].as_str(), names[3].as_str()), ("audit-notes.log", "audit.log"));
    }
}
