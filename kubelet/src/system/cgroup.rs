//! Control groups through their filesystem: version 2, version 1, and the mixture of both.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::pod::{
    PodExt, qos,
    resource::{Group, PERIOD},
};

/// Where groups are made.
#[derive(Clone, Debug)]
pub enum Hierarchy {
    /// One tree for all controllers.
    Unified(PathBuf),
    /// A tree a controller (or several at one place), and those without controllers, where runtimes make groups as well.
    Separate { controllers: Vec<PathBuf>, others: Vec<PathBuf> },
}

/// The path of a pod's group below the root, as upstream's cgroupfs driver has it.
pub fn parent(root: &str, pod: &k8s_openapi::api::core::v1::Pod) -> String {
    let class = match qos::class(pod) {
        qos::GUARANTEED => "",
        qos::BURSTABLE => "/burstable",
        _ => "/besteffort",
    };
    format!("{}/kubepods{class}/pod{}", root.trim_end_matches('/'), pod.uid())
}

/// The groups below which pods are, for all classes.
pub fn parents(root: &str) -> [String; 3] {
    ["", "/burstable", "/besteffort"].map(|class| format!("{}/kubepods{class}", root.trim_end_matches('/')))
}

impl Hierarchy {
    /// What this machine has, by its mounts.
    pub fn detect() -> Self {
        let base = Path::new("/sys/fs/cgroup");
        if base.join("cgroup.controllers").exists() {
            return Self::Unified(base.to_owned());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let (controllers, others) = mounts.lines().filter_map(tree).partition(|(_, controls)| *controls);
        let paths = |trees: Vec<(PathBuf, bool)>| trees.into_iter().map(|(path, _)| path).collect();
        Self::Separate { controllers: paths(controllers), others: paths(others) }
    }

    pub fn create(&self, path: &str, settings: &Group) -> io::Result<()> {
        match self {
            Self::Unified(root) => unified(root, path, settings),
            Self::Separate { controllers, .. } => {
                controllers.iter().try_for_each(|root| separate(root, path, settings))
            }
        }
    }

    pub fn remove(&self, path: &str) -> io::Result<()> {
        self.roots().iter().try_for_each(|root| remove(&below(root, path)))
    }

    /// Removes a group, and those above it that hold no others.
    pub fn remove_way(&self, path: &str) -> io::Result<()> {
        self.remove(path)?;
        for root in self.roots() {
            let above = levels(&root, path);
            above.iter().rev().skip(1).take_while(|level| fs::remove_dir(level).is_ok()).for_each(drop);
        }
        Ok(())
    }

    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        for root in self.roots() {
            match fs::read_dir(below(&root, path)) {
                Ok(entries) => {
                    let directories = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
                    names.extend(directories.map(|e| e.file_name().to_string_lossy().into_owned()));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(names.into_iter().collect())
    }

    fn roots(&self) -> Vec<PathBuf> {
        match self {
            Self::Unified(root) => vec![root.clone()],
            Self::Separate { controllers, others } => controllers.iter().chain(others).cloned().collect(),
        }
    }
}

/// The tree of groups that a line of the table of mounts tells of, and whether it has a controller that pods need.
fn tree(line: &str) -> Option<(PathBuf, bool)> {
    let mut words = line.split(' ');
    let (path, kind, options) = (words.nth(1)?, words.next()?, words.next()?);
    let wanted = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer", "hugetlb"];
    let controls = kind == "cgroup" && options.split(',').any(|o| wanted.contains(&o));
    (matches!(kind, "cgroup" | "cgroup2") && path.starts_with("/sys/fs/cgroup")).then(|| (path.into(), controls))
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Each group on the way to `path`, the topmost first.
fn levels(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut at = root.to_owned();
    let parts = path.split('/').filter(|p| !p.is_empty());
    parts
        .map(|part| {
            at.push(part);
            at.clone()
        })
        .collect()
}

fn unified(root: &Path, path: &str, settings: &Group) -> io::Result<()> {
    let available = fs::read_to_string(root.join("cgroup.controllers"))?;
    let enable: Vec<_> = available.split_whitespace().map(|c| format!("+{c}")).collect();
    let mut above = root.to_owned();
    for level in levels(root, path) {
        // One by one: a controller that cannot be delegated must not keep the others away.
        for controller in &enable {
            if fs::write(above.join("cgroup.subtree_control"), controller).is_err() {
                tracing::debug!(%controller, group = %above.display(), "a controller is not available to groups below");
            }
        }
        fs::create_dir_all(&level)?;
        above = level;
    }
    if settings.cpu_shares > 0 {
        // Shares of 2 to 262144 become weights of 1 to 10000.
        let weight = 1 + (settings.cpu_shares - 2) * 9999 / 262_142;
        write(&above.join("cpu.weight"), &weight.to_string())?;
    }
    let quota = settings.cpu_quota.map_or_else(|| "max".to_owned(), |q| q.to_string());
    write(&above.join("cpu.max"), &format!("{quota} {PERIOD}"))?;
    write(&above.join("memory.max"), &settings.memory_bytes.map_or_else(|| "max".to_owned(), |m| m.to_string()))
}

fn separate(root: &Path, path: &str, settings: &Group) -> io::Result<()> {
    let mut above = root.to_owned();
    for level in levels(root, path) {
        fs::create_dir_all(&level)?;
        // A new group has no processors and no memory at all, and then nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (above.join(file), level.join(file));
            if fs::read_to_string(&to).is_ok_and(|t| t.trim().is_empty()) {
                fs::write(&to, fs::read_to_string(&from)?.trim())?;
            }
        }
        above = level;
    }
    if settings.cpu_shares > 0 {
        write(&above.join("cpu.shares"), &settings.cpu_shares.to_string())?;
    }
    write(&above.join("cpu.cfs_period_us"), &PERIOD.to_string())?;
    write(&above.join("cpu.cfs_quota_us"), &settings.cpu_quota.unwrap_or(-1).to_string())?;
    write(&above.join("memory.limit_in_bytes"), &settings.memory_bytes.unwrap_or(-1).to_string())
}

/// Writes a setting where its controller is; elsewhere there is no such file.
fn write(file: &Path, value: &str) -> io::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    fs::write(file, value).map_err(|e| io::Error::new(e.kind(), format!("{} to {}: {e}", value, file.display())))
}

fn remove(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove(&entry.path())?;
    }
    match fs::remove_dir(group) {
        // What is left when a pod has ended was started behind the runtime's back, or belongs to another runtime.
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
            kill(group);
            Err(e)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn kill(group: &Path) {
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|l| l.parse().ok()) {
        if let Err(error) = signal::kill(Pid::from_raw(pid), Signal::SIGKILL) {
            tracing::debug!(pid, %error, "cannot end a process of a pod that is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_trees_and_removal() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("memory");
        fs::create_dir_all(root.join("kubepods/pod1")).unwrap();
        fs::write(root.join("kubepods/pod1/memory.limit_in_bytes"), "").unwrap();
        let others = vec![dir.path().join("systemd")];
        fs::create_dir_all(others[0].join("kubepods/pod2")).unwrap();
        let groups = Hierarchy::Separate { controllers: vec![root.clone(), dir.path().join("cpu")], others };
        let settings = Group { memory_bytes: Some(5), ..Group::default() };
        groups.create("/kubepods/pod1", &settings).unwrap();
        assert_eq!(fs::read_to_string(root.join("kubepods/pod1/memory.limit_in_bytes")).unwrap(), "5");
        assert_eq!(groups.list("kubepods").unwrap(), ["pod1", "pod2"]);
        // A real group's files vanish with it.
        fs::remove_file(root.join("kubepods/pod1/memory.limit_in_bytes")).unwrap();
        groups.remove("kubepods").unwrap();
        assert!(groups.list("kubepods").unwrap().is_empty());
    }

    #[test]
    fn the_way_to_a_group_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Hierarchy::Unified(dir.path().to_owned());
        fs::create_dir_all(dir.path().join("keelson/a/kubepods/pod1")).unwrap();
        fs::create_dir_all(dir.path().join("keelson/b")).unwrap();
        groups.remove_way("/keelson/a").unwrap();
        assert_eq!(groups.list("keelson").unwrap(), ["b"]);
        groups.remove_way("/keelson/b").unwrap();
        assert!(groups.list("").unwrap().is_empty());
    }

    #[test]
    fn trees_of_mount_lines() {
        let line = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0";
        assert_eq!(tree(line), Some(("/sys/fs/cgroup/cpu,cpuacct".into(), true)));
        let line = "cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0";
        assert_eq!(tree(line), Some(("/sys/fs/cgroup/systemd".into(), false)));
        assert_eq!(tree("tmpfs /tmp tmpfs rw 0 0"), None);
    }
}
