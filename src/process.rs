//! Processes that outlive the command that started them: started detached, known by pid and start time, and stopped.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::data_dir::DataDir;

/// A process that a pid file names, if it still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    started: u64,
}

impl Process {
    /// Starts `command` in a session of its own, its output appended to `log`, and notes it in `pid_file`.
    pub fn start(command: &mut Command, log: &Path, pid_file: &Path) -> io::Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let log = fs::OpenOptions::new().append(true).create(true).open(log)?;
        let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let process = Self { pid, started: start_time(pid).ok_or_else(|| io::Error::other("it ended at once"))? };
        // It is reaped if it ends before its parent does.
        std::thread::spawn(move || match child.wait() {
            Ok(status) => tracing::debug!(pid, %status, "a process has ended"),
            Err(error) => tracing::warn!(pid, %error, "a process cannot be waited for"),
        });
        DataDir::write(pid_file, format!("{} {}\n", process.pid, process.started).as_bytes())?;
        Ok(process)
    }

    /// The process of a pid file; `None` if it no longer runs (another may have its number).
    pub fn find(pid_file: &Path) -> Option<Self> {
        let text = fs::read_to_string(pid_file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let process = Self { pid: pid.parse().ok()?, started: started.parse().ok()? };
        process.is_running().then_some(process)
    }

    pub fn is_running(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Asks it to end, and after `patience` makes it.
    pub fn stop(&self, patience: Duration) -> io::Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !self.is_running() {
                return Ok(());
            }
            kill(Pid::from_raw(self.pid), signal)?;
            let deadline = Instant::now() + patience;
            while self.is_running() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if self.is_running() { Err(io::Error::other(format!("process {} does not end", self.pid))) } else { Ok(()) }
    }
}

/// When a process was started, in clock ticks since boot; `None` if it does not run or only waits to be reaped.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn started_found_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (log, pid_file) = (folder.path().join("log"), folder.path().join("pid"));
        let process = Process::start(Command::new("sleep").arg("60"), &log, &pid_file).unwrap();
        assert_eq!(Process::find(&pid_file), Some(process));
        process.stop(Duration::from_secs(5)).unwrap();
        assert_eq!(Process::find(&pid_file), None);
    }
}
