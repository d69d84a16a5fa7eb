//! The directory of an embedded store: its mode, and the lock that keeps a second process out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::file::failed;
use crate::{Result, StoreError};

/// Holds the directory until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(directory: &Path) -> Result<Self> {
        let told = |what: &str| format!("{what} {}", directory.display());
        create(directory).map_err(|source| failed(told("cannot create the data directory"), source))?;
        let file = open_private(&directory.join("lock"))
            .map_err(|source| failed(told("cannot write to the data directory"), source))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::failed(told("another process uses the data directory"))),
            Err(TryLockError::Error(source)) => Err(failed(told("cannot lock the data directory"), source)),
        }
    }
}

fn create(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// Opens a file that only its owner may read, and makes it so if it was not.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}
