//! The CPU time that processes have used.

use std::{fs, time::Duration};

/// The unit of `/proc/PID/stat`.
const TICK: Duration = Duration::from_millis(10);

/// What these have used so far, together; one that has ended counts nothing.
pub fn used(pids: &[u32]) -> Duration {
    let ticks = |pid: &u32| -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?)
    };
    TICK * pids.iter().filter_map(ticks).sum::<u32>()
}
