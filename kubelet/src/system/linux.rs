//! The real machine.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        stat::{Mode, mkdirat},
        statvfs::statvfs,
    },
};

use super::{FileKind, Machine, Memory, Space, System, cgroup::Hierarchy};
use crate::pod::resource::Group;

/// The most links that are followed to one file, as the kernel does.
const LINKS_MAX: usize = 40;

pub struct Linux {
    groups: Hierarchy,
}

impl Default for Linux {
    fn default() -> Self {
        Self { groups: Hierarchy::detect() }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default()
}

/// A line `Name:   123 kB` of `/proc/meminfo`, in bytes.
fn meminfo(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |n| n.trim_matches('"').to_owned())
}

impl System for Linux {
    fn machine(&self) -> Machine {
        let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
        Machine {
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory_bytes: i64::try_from(meminfo(&text("/proc/meminfo"), "MemTotal")).unwrap_or(i64::MAX),
            machine_id: text("/etc/machine-id"),
            system_uuid: Some(text("/sys/class/dmi/id/product_uuid"))
                .filter(|u| !u.is_empty())
                .unwrap_or_else(|| text("/etc/machine-id")),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel_version: release.unwrap_or_default(),
            os_image: os_image(),
            architecture: architecture(std::env::consts::ARCH).into(),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = statvfs(path)?;
        let block = stat.fragment_size();
        Ok(Space {
            capacity_bytes: stat.blocks() * block,
            available_bytes: stat.blocks_available() * block,
            inodes: stat.files(),
            inodes_free: stat.files_free(),
        })
    }

    fn memory(&self) -> io::Result<Memory> {
        let table = fs::read_to_string("/proc/meminfo")?;
        let (total, free) = (meminfo(&table, "MemTotal"), meminfo(&table, "MemFree"));
        let usage = total.saturating_sub(free);
        let working = usage.saturating_sub(meminfo(&table, "Inactive(file)"));
        let load = text("/proc/loadavg");
        let processes = load.split(' ').nth(3).and_then(|p| p.split('/').nth(1)?.parse().ok()).unwrap_or(0);
        let stat = text("/proc/stat");
        let ticks = stat.lines().next().map_or(0, |l| {
            l.split_whitespace()
                .skip(1)
                .enumerate()
                .filter(|(i, _)| *i != 3 && *i != 4)
                .filter_map(|(_, w)| w.parse::<u64>().ok())
                .sum()
        });
        Ok(Memory {
            available_bytes: total.saturating_sub(working),
            working_set_bytes: working,
            usage_bytes: usage,
            rss_bytes: meminfo(&table, "AnonPages"),
            processes,
            processes_max: text("/proc/sys/kernel/pid_max").parse().unwrap_or(0),
            cpu_nanos: ticks * 10_000_000,
        })
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        let kind = fs::metadata(path).ok()?.file_type();
        Some(match kind {
            k if k.is_dir() => FileKind::Directory,
            k if k.is_file() => FileKind::File,
            k if k.is_socket() => FileKind::Socket,
            k if k.is_char_device() => FileKind::CharDevice,
            k if k.is_block_device() => FileKind::BlockDevice,
            _ => FileKind::Other,
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_end(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut data = Vec::new();
        file.take(bytes_max).read_to_end(&mut data)?;
        Ok(data)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut all: Vec<_> = match fs::read_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?.flatten().map(|e| e.path()).collect(),
        };
        all.sort();
        Ok(all)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(path)?;
        self.set_mode(path, mode)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn set_owner(&self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        std::os::unix::fs::lchown(path, uid, gid)
    }

    fn write(&self, path: &Path, data: &[u8], mode: u32) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(data)?;
        // The mode of the process's umask must not decide.
        self.set_mode(path, mode)
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        match symlink(target, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(path)?;
                symlink(target, path)
            }
            other => other,
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
        if !meta.is_dir() {
            return fs::remove_file(path);
        }
        // A mount that is still there may be somebody else's data.
        if let Some(mount) = self.mounts_below(path).first() {
            return Err(io::Error::other(format!("{} is still mounted", mount.display())));
        }
        remove_tree(path, meta.dev())
    }

    fn give_to_group(&self, path: &Path, gid: u32, read_only: bool) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        self.set_owner(path, None, Some(gid))?;
        if !meta.is_symlink() {
            let wanted = if read_only { 0o440 } else { 0o660 };
            let directory = if meta.is_dir() { 0o2110 } else { 0 };
            self.set_mode(path, meta.mode() & 0o7777 | wanted | directory)?;
        }
        if meta.is_dir() {
            for entry in self.list(path)? {
                self.give_to_group(&entry, gid, read_only)?;
            }
        }
        Ok(())
    }

    fn resolve_below(&self, base: &Path, path: &Path) -> io::Result<PathBuf> {
        resolve(base, path)
    }

    fn mount_memory(&self, path: &Path, size: Option<i64>) -> io::Result<()> {
        let options = size.map(|s| format!("size={s}"));
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), options.as_deref())?;
        Ok(())
    }

    fn bind(&self, from: &Path, to: &Path) -> io::Result<()> {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        Ok(())
    }

    fn unmount(&self, path: &Path) -> io::Result<()> {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
            Err(nix::errno::Errno::EBUSY) => Ok(umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?),
            Err(e) => Err(e.into()),
        }
    }

    fn is_mounted(&self, path: &Path) -> bool {
        mounts().iter().any(|m| m == path)
    }

    fn mounts_below(&self, path: &Path) -> Vec<PathBuf> {
        let mut below: Vec<_> = mounts().into_iter().filter(|m| m.starts_with(path)).collect();
        below.reverse();
        below
    }

    fn bind_below(&self, base: &Path, path: &Path, to: &Path) -> io::Result<()> {
        let inside = open_below(base, path)?;
        let meta = fs::metadata(format!("/proc/self/fd/{}", inside.as_raw_fd()))?;
        if meta.is_dir() {
            fs::create_dir_all(to)?;
        } else {
            fs::create_dir_all(to.parent().unwrap_or(to))?;
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(to)?;
        }
        self.bind(Path::new(&format!("/proc/self/fd/{}", inside.as_raw_fd())), to)
    }

    fn create_group(&self, path: &str, settings: &Group) -> io::Result<()> {
        self.groups.create(path, settings)
    }

    fn remove_group(&self, path: &str) -> io::Result<()> {
        self.groups.remove(path)
    }

    fn list_groups(&self, path: &str) -> io::Result<Vec<String>> {
        self.groups.list(path)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        // Nothing is sent: connecting a datagram socket only looks up the route.
        let routed = |bind: &str, to: &str| {
            let socket = UdpSocket::bind(bind).ok()?;
            socket.connect(to.parse::<SocketAddr>().ok()?).ok()?;
            Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
        };
        routed("0.0.0.0:0", "192.0.2.1:9").into_iter().collect()
    }
}

/// Where anything is mounted, in order of mounting; the kernel escapes blanks in octal.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let plain = |p: &str| p.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    table.lines().filter_map(|l| l.split(' ').nth(1)).map(|p| plain(p).into()).collect()
}

/// Opens a path with every link resolved inside `base`; makes the directories that are missing.
fn open_below(base: &Path, path: &Path) -> io::Result<OwnedFd> {
    let root = fs::File::open(base)?;
    let mode = Mode::from_bits_truncate(root.metadata()?.mode() & 0o777);
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let mut inside: OwnedFd = root.try_clone()?.into();
    let mut walked = PathBuf::new();
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        walked.push(part);
        inside = match openat2(&root, &walked, how) {
            Err(nix::errno::Errno::ENOENT) => {
                mkdirat(&inside, part, mode)?;
                openat2(&root, &walked, how)?
            }
            opened => opened?,
        };
    }
    Ok(inside)
}

fn remove_tree(path: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if !meta.is_dir() {
            fs::remove_file(entry.path())?;
        } else if meta.dev() == device {
            remove_tree(&entry.path(), device)?;
        } else {
            return Err(io::Error::other(format!("{} is still mounted", entry.path().display())));
        }
    }
    fs::remove_dir(path)
}

/// Follows a path below `base` link by link, so that no link leads out of it.
fn resolve(base: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut rest: Vec<_> = path.components().rev().map(|c| c.as_os_str().to_owned()).collect();
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(_)) => inside.push(&part),
            Some(Component::ParentDir) => {
                inside.pop();
                continue;
            }
            Some(Component::RootDir) => {
                inside.clear();
                continue;
            }
            _ => continue,
        }
        let full = base.join(&inside);
        let Ok(meta) = fs::symlink_metadata(&full) else { continue };
        if !meta.is_symlink() {
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::other(format!("too many links in {}", path.display())));
        }
        inside.pop();
        let target = fs::read_link(&full)?;
        rest.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
    }
    Ok(base.join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("a/b")).unwrap();
        symlink("/etc", base.join("out")).unwrap();
        symlink("../../..", base.join("a/up")).unwrap();
        symlink("a/b", base.join("in")).unwrap();
        for (path, want) in
            [("in", "a/b"), ("out/passwd", "etc/passwd"), ("a/up/x", "x"), ("../../x", "x"), ("/a/b", "a/b")]
        {
            assert_eq!(resolve(&base, Path::new(path)).unwrap(), base.join(want), "{path}");
        }
    }

    #[test]
    fn ends_trees_and_modes() {
        let dir = tempfile::tempdir().unwrap();
        let system = Linux::default();
        let file = dir.path().join("d/f");
        system.create_dir(&dir.path().join("d"), 0o777).unwrap();
        system.write(&file, b"0123456789", 0o640).unwrap();
        assert_eq!(system.read_end(&file, 4).unwrap(), b"6789");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        system.remove(&dir.path().join("d")).unwrap();
        system.remove(&dir.path().join("d")).unwrap();
        assert_eq!(system.kind(&file), None);
    }

    #[test]
    fn memory_table() {
        assert_eq!(meminfo("MemTotal:   10 kB\nMemFree: 5 kB\n", "MemFree"), 5120);
    }
}
