//! The data directory: where everything a cluster keeps on this machine lies.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The default of `--data-dir`.
pub const DEFAULT: &str = "/var/lib/keelson";

/// `DIR` of `--data-dir DIR`, and the names of what lies in it.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Makes the directory, closed to other users, if it is not there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path.canonicalize()?))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.0.join("admin.kubeconfig")
    }

    /// The process id, and the start time that tells it from a later process of the same number.
    pub fn pid_file(&self, process: &str) -> PathBuf {
        self.0.join(format!("{process}.pid"))
    }

    pub fn log(&self, process: &str) -> PathBuf {
        self.0.join("log").join(format!("{process}.log"))
    }

    pub fn containerd(&self) -> PathBuf {
        self.0.join("containerd")
    }

    pub fn kubelet(&self) -> PathBuf {
        self.0.join("kubelet")
    }

    /// The control group of the cluster's pods: another cluster on this machine must not take it for a leftover of its own.
    pub fn cgroup_root(&self) -> String {
        format!("/keelson{}", self.0.display())
    }

    /// Writes a file that only its owner may read; it appears whole or not at all.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let part = path.with_extension("part");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        fs::rename(part, path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(folder.path().join("a/b")).unwrap();
        DataDir::write(&dir.admin_kubeconfig(), b"x").unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&dir.admin_kubeconfig())), (0o700, 0o600));
    }
}
