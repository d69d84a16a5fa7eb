//! What the process uses of its machine: `process_*`, as the kernel tells it.

use std::{fs, time::SystemTime};

use super::text::{Kind, Text};

/// Of the kernel's interface; on Linux it is the same everywhere.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

pub fn write(text: &mut Text) {
    let Some(seen) = Seen::now() else { return };
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            seen.cpu_seconds,
        ),
        ("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.", seen.resident_bytes),
        ("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory size in bytes.", seen.virtual_bytes),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "Start time of the process since unix epoch in seconds.",
            seen.started,
        ),
        ("process_open_fds", Kind::Gauge, "Number of open file descriptors.", seen.open_files),
        ("process_max_fds", Kind::Gauge, "Maximum number of open file descriptors.", seen.open_files_max),
    ] {
        text.family(name, kind, help).sample(&[], value);
    }
}

struct Seen {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    started: f64,
    open_files: f64,
    open_files_max: f64,
}

impl Seen {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name before it may hold anything; the fields from the third on follow its bracket.
        let fields: Vec<f64> = stat.rsplit_once(") ")?.1.split(' ').map(|field| field.parse().unwrap_or(0.0)).collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let files = limits.lines().find(|line| line.starts_with("Max open files"))?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            started: now - uptime + field(22)? / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * PAGE_BYTES,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            open_files_max: files.split_whitespace().nth(3)?.parse().unwrap_or(f64::INFINITY),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something() {
        let seen = Seen::now().unwrap();
        assert!(seen.resident_bytes > 1e6 && seen.virtual_bytes > seen.resident_bytes);
        assert!(seen.open_files > 2.0 && seen.open_files_max >= seen.open_files);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(seen.started <= now && seen.started > now - 86_400.0);
    }
}
