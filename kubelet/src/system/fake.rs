//! A machine that remembers instead of doing: for tests and simulations.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::{FileKind, Machine, Memory, Space, System};
use crate::pod::resource::Group;

/// What is at a path of the fake machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

/// Holds files in memory; mounts and owners are accepted and forgotten.
#[derive(Debug)]
pub struct Fake {
    pub machine: Machine,
    pub address: IpAddr,
    entries: Mutex<BTreeMap<PathBuf, Entry>>,
    groups: Mutex<BTreeMap<String, Group>>,
}

impl Fake {
    pub fn new(machine: Machine, address: IpAddr) -> Self {
        Self { machine, address, entries: Mutex::default(), groups: Mutex::default() }
    }

    fn at(&self, path: &Path) -> Option<Entry> {
        let entries = self.entries.lock();
        // Links anywhere on the way are followed, a few times at most.
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Some((link, target)) = path.ancestors().find_map(|a| match entries.get(a)? {
                Entry::Link(target) => Some((a.to_owned(), target.clone())),
                _ => None,
            }) else {
                break;
            };
            let rest = path.strip_prefix(&link).unwrap_or(Path::new("")).to_owned();
            let base = link.parent().unwrap_or(Path::new("/")).join(target);
            path = if rest.as_os_str().is_empty() { base } else { base.join(rest) };
        }
        entries.get(&path).cloned()
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

impl System for Fake {
    fn machine(&self) -> Machine {
        self.machine.clone()
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { capacity_bytes: 1 << 40, available_bytes: 1 << 39, inodes: 1 << 20, inodes_free: 1 << 19 })
    }

    fn memory(&self) -> io::Result<Memory> {
        let total = self.machine.memory_bytes.unsigned_abs();
        Ok(Memory { available_bytes: total, processes_max: 1 << 15, ..Memory::default() })
    }

    fn kind(&self, path: &Path) -> Option<FileKind> {
        match self.at(path)? {
            Entry::Directory => Some(FileKind::Directory),
            Entry::File(_) => Some(FileKind::File),
            Entry::Link(_) => None,
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.at(path) {
            Some(Entry::File(data)) => Ok(data),
            _ => Err(missing(path)),
        }
    }

    fn read_end(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let data = self.read(path)?;
        let kept = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(data.len());
        Ok(data[data.len() - kept..].to_vec())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = self.entries.lock();
        Ok(entries.keys().filter(|p| p.parent() == Some(path)).cloned().collect())
    }

    fn create_dir(&self, path: &Path, _: u32) -> io::Result<()> {
        let mut entries = self.entries.lock();
        for above in path.ancestors() {
            entries.entry(above.to_owned()).or_insert(Entry::Directory);
        }
        Ok(())
    }

    fn set_mode(&self, _: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn set_owner(&self, _: &Path, _: Option<u32>, _: Option<u32>) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, path: &Path, data: &[u8], _: u32) -> io::Result<()> {
        self.entries.lock().insert(path.to_owned(), Entry::File(data.to_vec()));
        Ok(())
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.entries.lock().insert(path.to_owned(), Entry::Link(target.to_owned()));
        Ok(())
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.entries.lock().get(path) {
            Some(Entry::Link(target)) => Ok(target.clone()),
            _ => Err(missing(path)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut entries = self.entries.lock();
        let moved: Vec<_> = entries.keys().filter(|p| p.starts_with(from)).cloned().collect();
        for path in moved {
            if let (Some(entry), Ok(rest)) = (entries.remove(&path), path.strip_prefix(from)) {
                let to = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                entries.insert(to, entry);
            }
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.entries.lock().retain(|p, _| !p.starts_with(path));
        Ok(())
    }

    fn give_to_group(&self, _: &Path, _: u32, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn resolve_below(&self, base: &Path, path: &Path) -> io::Result<PathBuf> {
        Ok(base.join(path.strip_prefix("/").unwrap_or(path)))
    }

    fn mount_memory(&self, _: &Path, _: Option<i64>) -> io::Result<()> {
        Ok(())
    }

    fn bind(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn unmount(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn is_mounted(&self, _: &Path) -> bool {
        false
    }

    fn mounts_below(&self, _: &Path) -> Vec<PathBuf> {
        Vec::new()
    }

    fn bind_below(&self, _: &Path, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_group(&self, path: &str, settings: &Group) -> io::Result<()> {
        self.groups.lock().insert(path.to_owned(), *settings);
        Ok(())
    }

    fn remove_group(&self, path: &str) -> io::Result<()> {
        self.groups.lock().retain(|p, _| !p.starts_with(path));
        Ok(())
    }

    fn list_groups(&self, path: &str) -> io::Result<Vec<String>> {
        let groups = self.groups.lock();
        let below =
            |p: &String| p.strip_prefix(path)?.strip_prefix('/').filter(|n| !n.contains('/')).map(str::to_owned);
        Ok(groups.keys().filter_map(below).collect())
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec![self.address]
    }
}
