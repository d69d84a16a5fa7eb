//! Whether a container has started, lives and is ready: what probes find, counted against their thresholds.

pub mod grpc;
pub mod http;
pub mod run;
pub mod tcp;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub const fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What one run of a probe says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Success,
    /// It worked, but somebody should look: the text says at what.
    Warning(String),
    Failure(String),
    /// The probe itself could not be made.
    Error(String),
}

impl Finding {
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Success | Self::Warning(_))
    }
}

/// The times and thresholds of a probe, defaulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Rhythm {
    pub fn of(probe: &Probe) -> Self {
        let seconds = |n: Option<i32>, default: u32| {
            let given = n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            Duration::from_secs(given.unwrap_or(default).into())
        };
        let count =
            |n: Option<i32>, default: u32| n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default);
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts findings in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    last: Option<bool>,
    run: u32,
}

impl Count {
    /// The result that now stands, once enough findings in a row agree.
    pub fn record(&mut self, success: bool, rhythm: &Rhythm) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold = if success { rhythm.success_threshold } else { rhythm.failure_threshold };
        (self.run >= threshold).then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Default::default() };
        let rhythm = Rhythm::of(&probe);
        assert_eq!((rhythm.period.as_secs(), rhythm.timeout.as_secs()), (10, 1));
        let mut count = Count::default();
        let findings = [true, true, false, false, true, false, false, false, false, true, true];
        let results: Vec<_> = findings.map(|f| count.record(f, &rhythm)).into();
        let (ok, no) = (Some(true), Some(false));
        assert_eq!(results, [None, ok, None, None, None, None, None, no, no, None, ok]);
    }
}
