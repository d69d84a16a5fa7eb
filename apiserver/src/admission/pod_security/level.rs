//! The levels and versions of policies, as the labels of a namespace name them.

use std::{collections::BTreeMap, fmt};

use crds::field::{Error, Errors, Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        [Self::Privileged, Self::Baseline, Self::Restricted]
            .into_iter()
            .find(|level| level.name() == text)
            .ok_or("must be one of privileged, baseline, restricted")
    }
}

/// The rules as they were in a minor version of Kubernetes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Minor(u32),
    Latest,
}

impl Version {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").filter(|minor| minor.bytes().all(|c| c.is_ascii_digit()));
        let minor = minor.filter(|minor| *minor == "0" || !minor.starts_with('0')).and_then(|minor| minor.parse().ok());
        minor.map(Self::Minor).ok_or("must be \"latest\" or \"v1.x\"")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level.name()),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level.name()),
        }
    }
}

/// What is refused, what is only noted, what is warned about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

const PREFIX: &str = "pod-security.kubernetes.io/";
const OPEN: LevelVersion = LevelVersion { level: Level::Privileged, version: Version::Latest };

impl Policy {
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|of| of.level == Level::Privileged)
    }

    /// A policy there always is: where a label is wrong, the strictest level is enforced, and nothing noted or warned.
    pub fn of(labels: &BTreeMap<String, String>) -> (Self, Errors) {
        let mut errors = Errors::new();
        let mut read = |mode: &str, on_error: Level| {
            let (level_label, version_label) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
            let level = labels
                .get(&level_label)
                .map(|text| Level::parse(text).map_err(|why| errors.push(wrong(&level_label, text, why))));
            let version = labels.get(&version_label).map(|text| {
                Version::parse(text).unwrap_or_else(|why| {
                    errors.push(wrong(&version_label, text, why));
                    Version::Latest
                })
            });
            (level.map(|level| level.map_err(|()| on_error)), version)
        };
        let (enforce_level, enforce_version) = read("enforce", Level::Restricted);
        let (audit_level, audit_version) = read("audit", Level::Privileged);
        let (warn_level, warn_version) = read("warn", Level::Privileged);
        let settle = |level: Option<Result<Level, Level>>, version: Option<Version>| LevelVersion {
            level: level.map_or(OPEN.level, |level| level.unwrap_or_else(|or| or)),
            version: version.unwrap_or(OPEN.version),
        };
        let enforce = settle(enforce_level, enforce_version);
        let mut warn = settle(warn_level, warn_version);
        // What is enforced is warned about in templates, too.
        if warn_level.is_none() && matches!(enforce_level, Some(Ok(level)) if level > warn.level) {
            warn.level = enforce.level;
            if warn_version.is_none() {
                warn.version = enforce.version;
            }
        }
        (Self { enforce, audit: settle(audit_level, audit_version), warn }, errors)
    }
}

fn wrong(label: &str, value: &str, why: &str) -> Error {
    Error::invalid(Path::new("metadata").child("labels").key(label), value, why)
}
