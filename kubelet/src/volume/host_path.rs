//! Paths of the node itself, checked for what they are expected to be.

use std::path::{Path, PathBuf};

use super::{During, VolumeError};
use crate::system::{FileKind, System};

/// Checks a path, or makes what is missing where the type allows it.
pub fn set_up(system: &dyn System, path: &Path, kind: &str) -> Result<PathBuf, VolumeError> {
    let found = system.kind(path);
    let what = || format!("cannot make {}", path.display());
    let wanted = match kind {
        "DirectoryOrCreate" if found.is_none() => {
            system.create_dir(path, 0o755).during(what())?;
            return Ok(path.to_owned());
        }
        "FileOrCreate" if found.is_none() => {
            system.write(path, b"", 0o644).during(what())?;
            return Ok(path.to_owned());
        }
        "Directory" | "DirectoryOrCreate" => (FileKind::Directory, "a directory"),
        "File" | "FileOrCreate" => (FileKind::File, "a file"),
        "Socket" => (FileKind::Socket, "a socket file"),
        "CharDevice" => (FileKind::CharDevice, "a character device"),
        "BlockDevice" => (FileKind::BlockDevice, "a block device"),
        _ => return Ok(path.to_owned()),
    };
    if found == Some(wanted.0) {
        return Ok(path.to_owned());
    }
    Err(VolumeError::Content(format!("hostPath type check failed: {} is not {}", path.display(), wanted.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::linux::Linux;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let system = Linux::default();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for (name, kind, want) in [
            ("none", "", ""),
            ("none", "Directory", "is not a directory"),
            ("none", "Socket", "is not a socket file"),
            ("new", "DirectoryOrCreate", ""),
            ("new", "Directory", ""),
            ("new", "FileOrCreate", "is not a file"),
            ("file", "File", ""),
            ("file", "DirectoryOrCreate", "is not a directory"),
            ("made", "FileOrCreate", ""),
            ("made", "File", ""),
        ] {
            match set_up(&system, &dir.path().join(name), kind) {
                Ok(_) => assert_eq!(want, "", "{name} {kind}"),
                Err(e) => assert!(!want.is_empty() && e.to_string().ends_with(want), "{name} {kind}: {e}"),
            }
        }
    }
}
