//! The machine below the runtime: files, mounts, control groups and what it is made of.

pub mod cgroup;
pub mod fake;
pub mod linux;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::pod::resource::Group;

/// What the machine is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// As Kubernetes names it: `amd64`, `arm64`, …
    pub architecture: String,
}

/// How much of something there is, and how much of it is free.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Space {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// What the kernel says about memory and processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub available_bytes: u64,
    pub working_set_bytes: u64,
    pub usage_bytes: u64,
    pub rss_bytes: u64,
    pub processes: u64,
    pub processes_max: u64,
    pub cpu_nanos: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    Socket,
    CharDevice,
    BlockDevice,
    Other,
}

/// All that the node does to the machine itself. Calls block, but not for long.
pub trait System: Send + Sync {
    fn machine(&self) -> Machine;
    fn space(&self, path: &Path) -> io::Result<Space>;
    fn memory(&self) -> io::Result<Memory>;

    /// What is at a path, following links; `None` when there is nothing.
    fn kind(&self, path: &Path) -> Option<FileKind>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// At most so many bytes from the end of a file.
    fn read_end(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes a directory and those above it; only a new one is given the mode.
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    fn set_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()>;
    fn write(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()>;
    /// Makes a link, in place of another if there is one.
    fn link(&self, target: &Path, path: &Path) -> io::Result<()>;
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a whole tree; never crosses into another mount. Nothing there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Hands all below to a group, as `fsGroup` wants it: readable and writable, new files inherit the group.
    fn give_to_group(&self, path: &Path, gid: u32, read_only: bool) -> io::Result<()>;
    /// The path of an existing file below a directory, whatever links there are on the way.
    fn resolve_below(&self, base: &Path, path: &Path) -> io::Result<PathBuf>;

    /// Mounts memory; the size is in bytes.
    fn mount_memory(&self, path: &Path, size: Option<i64>) -> io::Result<()>;
    fn bind(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Not being mounted is fine.
    fn unmount(&self, path: &Path) -> io::Result<()>;
    fn is_mounted(&self, path: &Path) -> bool;
    /// The mounts at and below a path, the innermost first.
    fn mounts_below(&self, path: &Path) -> Vec<PathBuf>;
    /// Binds what is at `path` inside `base` to `to`. No link leads out of `base`, even one that changes meanwhile;
    /// directories that are missing are made.
    fn bind_below(&self, base: &Path, path: &Path, to: &Path) -> io::Result<()>;

    /// Makes a control group with all those above it.
    fn create_group(&self, path: &str, settings: &Group) -> io::Result<()>;
    /// Removes a control group and those below it.
    fn remove_group(&self, path: &str) -> io::Result<()>;
    /// The names of the groups directly below one.
    fn list_groups(&self, path: &str) -> io::Result<Vec<String>>;

    /// The addresses of the machine that others can reach, the default route's first.
    fn addresses(&self) -> Vec<std::net::IpAddr>;
}
