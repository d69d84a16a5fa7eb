//! What a client asks of a pod's log or stream, and the same as the kubelet reads it.

use crds::field::{self, Path};
use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::api::core::v1::Pod;

use super::{path, place};
use crate::{
    error::{ApiError, Result},
    request::Query,
};

/// `PodLogOptions`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct LogOptions {
    pub container: String,
    pub insecure_backend: bool,
    follow: bool,
    previous: bool,
    timestamps: bool,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
    stream: Option<String>,
}

fn number(query: &Query, name: &str) -> Result<Option<i64>> {
    let parse = |text: &str| {
        let invalid =
            |_| ApiError::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", field::quote(text)));
        text.parse().map_err(invalid)
    };
    query.first(name).map(parse).transpose()
}

impl LogOptions {
    pub fn parse(query: &Query) -> Result<Self> {
        let time = |text: &str| {
            let quoted = field::quote(text);
            let layout = "2006-01-02T15:04:05Z07:00";
            let why = format!("parsing time {quoted} as {}: cannot parse {quoted} as \"2006\"", field::quote(layout));
            text.parse().map_err(|_| ApiError::bad_request(why))
        };
        Ok(Self {
            container: query.first("container").unwrap_or_default().to_owned(),
            insecure_backend: query.flag("insecureSkipTLSVerifyBackend"),
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            since_seconds: number(query, "sinceSeconds")?,
            since_time: query.first("sinceTime").filter(|t| !matches!(*t, "" | "null")).map(time).transpose()?,
            tail_lines: number(query, "tailLines")?,
            limit_bytes: number(query, "limitBytes")?,
            stream: query.first("stream").map(str::to_owned),
        })
    }

    pub fn validate(&self, pod: &str) -> Result<()> {
        let mut errors = Vec::new();
        let mut invalid = |name, value: i64, why: &str| errors.push(field::Error::invalid(Path::new(name), value, why));
        if let Some(lines) = self.tail_lines.filter(|lines| *lines < 0) {
            invalid("tailLines", lines, "must be greater than or equal to 0");
        }
        if let Some(bytes) = self.limit_bytes.filter(|bytes| *bytes < 1) {
            invalid("limitBytes", bytes, "must be greater than 0");
        }
        match (self.since_seconds, self.since_time) {
            // Upstream's path is empty, which prints as brackets.
            (Some(_), Some(_)) => {
                let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                errors.push(field::Error::forbidden("[]", why));
            }
            (Some(seconds), None) if seconds < 1 => invalid("sinceSeconds", seconds, "must be greater than 0"),
            _ => {}
        }
        if self.stream.is_some() {
            errors.push(field::Error::forbidden(Path::new("stream"), "may not be specified"));
        }
        if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("", "PodLogOptions", pod, &errors)) }
    }

    pub fn path_and_query(&self, namespace: &str, pod: &str, container: &str) -> String {
        let flag = |name, given: bool| given.then(|| (name, "true".to_owned()));
        let number = |name, given: Option<i64>| given.map(|number| (name, number.to_string()));
        let time = |time: Timestamp| {
            let seconds = Timestamp::from_second(time.as_second()).unwrap_or(time);
            seconds.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        };
        let pairs = [
            flag("follow", self.follow),
            number("limitBytes", self.limit_bytes),
            flag("previous", self.previous),
            number("sinceSeconds", self.since_seconds),
            self.since_time.map(|since| ("sinceTime", time(since))),
            number("tailLines", self.tail_lines),
            flag("timestamps", self.timestamps),
        ];
        let below = format!("/containerLogs/{namespace}/{pod}/{container}");
        path::with_pairs(&below, pairs.iter().flatten().map(|(name, value)| (*name, value.as_str())))
    }
}

/// `PodExecOptions`, `PodAttachOptions`, `PodPortForwardOptions`.
#[derive(Debug, PartialEq)]
pub(super) enum StreamOptions {
    Exec { container: String, streams: Streams, command: Vec<String> },
    Attach { container: String, streams: Streams },
    PortForward { ports: Vec<i64> },
}

#[derive(Debug, PartialEq)]
pub(super) struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Streams {
    fn parse(query: &Query) -> Self {
        let [stdin, stdout, stderr, tty] = ["stdin", "stdout", "stderr", "tty"].map(|name| query.flag(name));
        Self { stdin, stdout, stderr, tty }
    }

    /// Under the kubelet's names.
    fn pairs<'a>(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let named = [("error", self.stderr), ("input", self.stdin), ("output", self.stdout), ("tty", self.tty)];
        named.into_iter().filter(|(_, given)| *given).map(|(name, _)| (name, "1"))
    }
}

impl StreamOptions {
    pub fn parse(subresource: &str, query: &Query) -> Result<Self> {
        let container = query.first("container").unwrap_or_default().to_owned();
        match subresource {
            "exec" => {
                let command = query.all("command").map(str::to_owned).collect();
                Ok(Self::Exec { container, streams: Streams::parse(query), command })
            }
            "attach" => Ok(Self::Attach { container, streams: Streams::parse(query) }),
            _ => {
                let port = |text: &str| {
                    let why = || format!("strconv.ParseInt: parsing {}: invalid syntax", field::quote(text));
                    text.parse().map_err(|_| ApiError::bad_request(why()))
                };
                Ok(Self::PortForward { ports: query.all("ports").map(port).collect::<Result<_>>()? })
            }
        }
    }

    /// The container that is meant; none for port-forward.
    pub fn container<'p>(&self, pod: &'p Pod) -> Result<Option<&'p str>> {
        match self {
            Self::Exec { container, .. } | Self::Attach { container, .. } => place::container(pod, container).map(Some),
            Self::PortForward { .. } => Ok(None),
        }
    }

    pub fn path_and_query(&self, namespace: &str, pod: &str, container: Option<&str>) -> String {
        let below = |verb| format!("/{verb}/{namespace}/{pod}/{}", container.unwrap_or_default());
        match self {
            Self::Exec { streams, command, .. } => {
                let command = command.iter().map(|part| ("command", part.as_str()));
                path::with_pairs(&below("exec"), command.chain(streams.pairs()))
            }
            Self::Attach { streams, .. } => path::with_pairs(&below("attach"), streams.pairs()),
            Self::PortForward { ports } => {
                let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                let pairs = Some(("port", ports.as_str())).filter(|(_, ports)| !ports.is_empty());
                path::with_pairs(&format!("/portForward/{namespace}/{pod}"), pairs.into_iter())
            }
        }
    }
}
