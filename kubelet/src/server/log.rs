//! The log of a container, as the runtime writes it: the end of it, since a time, or as it grows.

use std::{io::SeekFrom, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Answer, text};
use crate::{
    agent::Agent,
    pod::{PodExt, observed::State},
};

/// How often a log that is followed is looked at.
const GLANCE: Duration = Duration::from_millis(100);
const PIECE: usize = 64 << 10;
/// A longer line is broken, as runtimes break their own at 16 KiB.
const LINE_MAX: usize = 1 << 20;

/// What is wanted of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<u64>,
    limit: Option<u64>,
    since: Option<Timestamp>,
    stream: Option<String>,
}

impl Options {
    fn parse(query: &[(String, String)], now: Timestamp) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, value) in query {
            let yes = || matches!(value.as_str(), "true" | "1" | "");
            let number = || value.parse::<u64>().map_err(|_| format!("invalid {name}: {value:?}"));
            match name.as_str() {
                "follow" => options.follow = yes(),
                "previous" => options.previous = yes(),
                "timestamps" => options.timestamps = yes(),
                "tailLines" => options.tail = Some(number()?),
                "limitBytes" => options.limit = Some(number()?),
                "sinceSeconds" => {
                    let seconds = i64::try_from(number()?).unwrap_or(i64::MAX);
                    options.since = now.checked_sub(SignedDuration::from_secs(seconds)).ok();
                }
                "sinceTime" => options.since = Some(value.parse().map_err(|_| format!("invalid {name}: {value:?}"))?),
                "stream" if value != "All" => options.stream = Some(value.to_lowercase()),
                _ => {}
            }
        }
        Ok(options)
    }
}

pub async fn answer(
    agent: &Arc<Agent>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &[(String, String)],
) -> Answer {
    let options = match Options::parse(query, agent.clock.now()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let Some(entry) = agent.pods.find(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} not found\n"));
    };
    if entry.pod.container(container).is_none() {
        return text(StatusCode::NOT_FOUND, format!("container {container:?} not found in pod {pod:?}\n"));
    }
    let status = entry.pod.status.clone().unwrap_or_default();
    let id = match choose(&status, pod, container, options.previous) {
        Ok(id) => id,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let Some(seen) = entry.containers.iter().find(|c| c.id == id) else {
        return text(StatusCode::BAD_REQUEST, format!("container {container:?} in pod {pod:?} is not available"));
    };
    let path = PathBuf::from(&seen.log_path);
    let file = match File::open(&path).await {
        Ok(file) => file,
        Err(error) => {
            let message = format!("failed to try resolving symlinks in path {:?}: {error}", path.display().to_string());
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    };
    let (pieces, body) = mpsc::channel(8);
    let reader = Reader { agent: agent.clone(), uid: entry.pod.uid().to_owned(), id, path, options, pieces };
    tokio::spawn(reader.run(file));
    let body = StreamBody::new(ReceiverStream::new(body)).boxed_unsync();
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    answer
}

/// The container whose log is meant, by id; else why there is none.
fn choose(status: &PodStatus, pod: &str, name: &str, previous: bool) -> Result<String, String> {
    let all = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let found = all.into_iter().flatten().flatten().find(|s: &&ContainerStatus| s.name == name);
    let Some(found) = found else { return Err(format!("container {name:?} in pod {pod:?} is not available")) };
    let bare = |id: &Option<String>| id.as_deref().and_then(|id| Some(id.split_once("://")?.1.to_owned()));
    let state = found.state.clone().unwrap_or_default();
    let last = found.last_state.clone().unwrap_or_default().terminated.and_then(|t| bare(&t.container_id));
    if previous {
        return last.ok_or_else(|| format!("previous terminated container {name:?} in pod {pod:?} not found"));
    }
    let own = match (&state.running, &state.terminated) {
        (Some(_), _) => bare(&found.container_id),
        (_, Some(ended)) => bare(&ended.container_id),
        _ => None,
    };
    if let Some(id) = own.or(last) {
        return Ok(id);
    }
    if state.terminated.is_some() {
        return Err(format!("container {name:?} in pod {pod:?} is terminated"));
    }
    let reason = state.waiting.and_then(|w| w.reason).unwrap_or_default();
    Err(match reason.as_str() {
        "ErrImagePull" => format!("container {name:?} in pod {pod:?} is waiting to start: image can't be pulled"),
        "ImagePullBackOff" => {
            format!("container {name:?} in pod {pod:?} is waiting to start: trying and failing to pull image")
        }
        reason => format!("container {name:?} in pod {pod:?} is waiting to start: {reason}"),
    })
}

/// One line of the runtime's log.
struct Line<'a> {
    at: &'a str,
    stream: &'a str,
    /// Another piece of the same line follows.
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let at = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let partial = parts.next()?.split(|b| *b == b':').next() == Some(b"P");
    Some(Line { at, stream, partial, text: parts.next().unwrap_or(b"") })
}

struct Reader {
    agent: Arc<Agent>,
    uid: String,
    id: String,
    path: PathBuf,
    options: Options,
    pieces: mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>,
}

impl Reader {
    async fn run(mut self, mut file: File) {
        if let Err(error) = self.copy(&mut file).await {
            // Whoever listened may be gone; then nobody misses the error.
            if self.pieces.send(Err(error)).await.is_err() {
                tracing::trace!("a reader of a log left");
            }
        }
    }

    async fn copy(&mut self, file: &mut File) -> std::io::Result<()> {
        if let Some(lines) = self.options.tail {
            let start = tail(file, lines).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        let mut rest = BytesMut::new();
        let mut ended = !self.options.follow;
        loop {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).await?;
            if read == 0 {
                if ended {
                    return Ok(());
                }
                // One more look after the end, for what was written just before it.
                ended = !self.is_running();
                if !ended {
                    if self.pieces.is_closed() {
                        return Ok(());
                    }
                    sleep(GLANCE).await;
                    self.follow_rotation(file).await;
                }
                continue;
            }
            rest.extend_from_slice(&piece[..read]);
            let mut out = BytesMut::new();
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line = rest.split_to(end + 1);
                self.write(&line[..end], &mut out);
            }
            if rest.len() > LINE_MAX {
                rest.clear();
            }
            if !out.is_empty() && !self.send(out.freeze()).await {
                return Ok(());
            }
        }
    }

    /// Says whether more is wanted.
    async fn send(&mut self, mut out: Bytes) -> bool {
        let mut more = true;
        if let Some(left) = self.options.limit {
            let length = out.len() as u64;
            if length >= left {
                out.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                more = false;
            }
            self.options.limit = Some(left.saturating_sub(length));
        }
        self.pieces.send(Ok(Frame::data(out))).await.is_ok() && more
    }

    fn write(&self, line: &[u8], out: &mut BytesMut) {
        let Some(line) = parse(line) else { return };
        if self.options.stream.as_ref().is_some_and(|s| s != line.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && line.at.parse::<Timestamp>().is_ok_and(|at| at < since)
        {
            return;
        }
        if self.options.timestamps {
            out.extend_from_slice(line.at.as_bytes());
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.extend_from_slice(b"\n");
        }
    }

    fn is_running(&self) -> bool {
        let entry = self.agent.pods.get(&self.uid);
        entry.is_some_and(|e| e.containers.iter().any(|c| c.id == self.id && c.state == State::Running))
    }

    /// A log that became too long goes on in a new file of the same name.
    async fn follow_rotation(&self, file: &mut File) {
        use std::os::unix::fs::MetadataExt;
        let (Ok(old), Ok(new)) = (file.metadata().await, tokio::fs::metadata(&self.path).await) else { return };
        if old.ino() != new.ino()
            && let Ok(fresh) = File::open(&self.path).await
        {
            *file = fresh;
        }
    }
}

/// Where the last so many lines begin.
async fn tail(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let length = file.metadata().await?.len();
    let (mut end, mut found) = (length, 0);
    let mut piece = vec![0; PIECE];
    while end > 0 {
        let size = end.min(PIECE as u64);
        let start = end - size;
        let part = &mut piece[..usize::try_from(size).unwrap_or(PIECE)];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(part).await?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let next = start + at as u64 + 1;
            // The end of the last line begins none.
            if next == length {
                if lines == 0 {
                    return Ok(length);
                }
                continue;
            }
            found += 1;
            if found >= lines {
                return Ok(if lines == 0 { length } else { next });
            }
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { 0 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn tails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut file = File::open(&path).await.unwrap();
        for (lines, want) in [(0, 14), (1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(tail(&mut file, lines).await.unwrap(), want, "{lines}");
        }
    }

    #[test]
    fn which_container_is_meant() {
        let status = |state: serde_json::Value, last: serde_json::Value| -> PodStatus {
            serde_json::from_value(
                json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "containerID": "x://now", "state": state, "lastState": last}]}),
            )
            .unwrap()
        };
        let ended = json!({"terminated": {"exitCode": 1, "containerID": "x://old"}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        for (state, last, previous, want) in [
            (json!({"running": {}}), json!({}), false, Ok("now")),
            (json!({"running": {}}), ended.clone(), true, Ok("old")),
            (
                json!({"running": {}}),
                json!({}),
                true,
                Err("previous terminated container \"c\" in pod \"p\" not found"),
            ),
            (ended.clone(), json!({}), false, Ok("old")),
            (waiting("CrashLoopBackOff"), ended, false, Ok("old")),
            (
                waiting("ContainerCreating"),
                json!({}),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            ),
        ] {
            let got = choose(&status(state, last), "p", "c", previous);
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned));
        }
    }

    #[test]
    fn options_and_lines() {
        let now = Timestamp::from_second(1000).unwrap();
        let query = [("tailLines", "5"), ("sinceSeconds", "10"), ("follow", "true"), ("stream", "Stderr")];
        let query = query.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let options = Options::parse(&query, now).unwrap();
        assert_eq!((options.tail, options.follow, options.stream.as_deref()), (Some(5), true, Some("stderr")));
        assert_eq!(options.since, Timestamp::from_second(990).ok());
        assert!(Options::parse(&[("tailLines".into(), "x".into())], now).is_err());
        let line = parse(b"2026-01-01T00:00:00Z stdout P a b").unwrap();
        assert_eq!((line.stream, line.partial, line.text), ("stdout", true, b"a b".as_slice()));
    }
}
