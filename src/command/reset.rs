//! `keelson reset`: stops the cluster and deletes everything it kept.

use std::{fs, path::PathBuf};

use clap::Args;
use nix::mount::{MntFlags, umount2};

use super::{Place, Result, down};
use crate::data_dir::DataDir;

#[derive(Args)]
pub struct Reset {
    #[command(flatten)]
    place: Place,
}

impl Reset {
    pub async fn run(self) -> Result {
        let data = self.place.existing()?;
        down::stop(&data, false).await?;
        unmount(&data)?;
        fs::remove_dir_all(data.path()).map_err(|e| format!("{}: {e}", data.path().display()))?;
        println!("deleted {}", data.path().display());
        Ok(())
    }
}

/// Volumes that are still mounted would be deleted with what they show: the deepest go first.
fn unmount(data: &DataDir) -> Result {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = below.filter(|path| path.starts_with(data.path()) && path != data.path()).collect();
    below.sort();
    for path in below.iter().rev() {
        umount2(path, MntFlags::MNT_DETACH).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
