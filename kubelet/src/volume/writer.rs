//! Replaces all files of a volume at once: readers see the old or the new ones, never a mixture.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use super::payload::Files;
use crate::system::{FileKind, System};

/// The link that all visible files lead through.
const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Writes the files, if they differ from what is there. Returns whether they did.
pub fn write(system: &dyn System, dir: &Path, files: &Files, group: Option<u32>) -> io::Result<bool> {
    let current = system.read_link(&dir.join(DATA)).ok();
    if current.as_ref().is_some_and(|c| same(system, &dir.join(c), files)) {
        return Ok(false);
    }
    let version = next(current.as_deref());
    let target = dir.join(&version);
    system.remove(&target)?;
    system.create_dir(&target, 0o755)?;
    for (name, file) in files {
        let path = target.join(crate::config::relative(name));
        if let Some(above) = path.parent() {
            system.create_dir(above, 0o755)?;
        }
        system.write(&path, &file.data, file.mode)?;
        if file.owner.is_some() {
            system.set_owner(&path, file.owner, None)?;
        }
    }
    if let Some(gid) = group {
        system.give_to_group(&target, gid, true)?;
    }
    system.link(&version, &dir.join(DATA_NEW))?;
    system.rename(&dir.join(DATA_NEW), &dir.join(DATA))?;
    links(system, dir, files)?;
    if let Some(old) = current {
        system.remove(&dir.join(old))?;
    }
    Ok(true)
}

/// Versions take turns, so that one name is never both the old and the new.
fn next(current: Option<&Path>) -> PathBuf {
    let number = current.and_then(|c| c.to_str()?.strip_prefix("..")?.parse::<u64>().ok()).unwrap_or(0);
    format!("..{}", number + 1).into()
}

fn same(system: &dyn System, dir: &Path, files: &Files) -> bool {
    let mut there = BTreeSet::new();
    names(system, dir, &mut there);
    there.len() == files.len()
        && files.iter().all(|(name, file)| {
            let path = dir.join(crate::config::relative(name));
            there.contains(&path) && system.read(&path).is_ok_and(|data| data == file.data)
        })
}

fn names(system: &dyn System, dir: &Path, into: &mut BTreeSet<PathBuf>) {
    for path in system.list(dir).unwrap_or_default() {
        match system.kind(&path) {
            Some(FileKind::Directory) => names(system, &path, into),
            _ => _ = into.insert(path),
        }
    }
}

/// One link for each first part of a path; those of files that are gone go.
fn links(system: &dyn System, dir: &Path, files: &Files) -> io::Result<()> {
    let first = |name: &String| Some(crate::config::relative(name).components().next()?.as_os_str().to_owned());
    let wanted: BTreeSet<_> = files.keys().filter_map(first).collect();
    for name in &wanted {
        let (path, target) = (dir.join(name), Path::new(DATA).join(name));
        if system.read_link(&path).ok().as_ref() != Some(&target) {
            system.link(&target, &path)?;
        }
    }
    for path in system.list(dir)? {
        let name = path.file_name().unwrap_or_default();
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(name) {
            system.remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;
    use crate::{system::linux::Linux, volume::payload::File};

    fn files(rows: &[(&str, &str, u32)]) -> Files {
        let file = |data: &str, mode| File { data: data.into(), mode, owner: None };
        rows.iter().map(|(name, data, mode)| ((*name).to_owned(), file(data, *mode))).collect()
    }

    #[test]
    fn replaces_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (system, path) = (Linux::default(), dir.path());
        assert!(write(&system, path, &files(&[("a", "1", 0o400), ("d/b", "2", 0o644)]), None).unwrap());
        assert_eq!(fs::read_to_string(path.join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(path.join("a")).unwrap().mode() & 0o777, 0o400);
        assert!(!write(&system, path, &files(&[("a", "1", 0o400), ("d/b", "2", 0o644)]), None).unwrap());
        let before = fs::read_link(path.join(DATA)).unwrap();
        assert!(write(&system, path, &files(&[("a", "3", 0o400), ("c", "4", 0o644)]), None).unwrap());
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "3");
        assert!(!path.join("d").exists() && !path.join(before).exists());
        assert!(write(&system, path, &Files::new(), None).unwrap());
        assert_eq!(fs::read_dir(path).unwrap().count(), 2);
    }
}
