//! `keelson image`: images of the node.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use kubelet::image;

use super::{Place, Result};
use crate::containerd::Containerd;

#[derive(Args)]
pub struct Image {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Load images from a docker or OCI archive.
    Load {
        /// The archive: tar, or tar compressed by gzip.
        file: PathBuf,
    },
}

impl Image {
    pub async fn run(self) -> Result {
        let containerd = Containerd::of(&self.place.existing()?, image::pause::IMAGE);
        let Action::Load { file } = self.action;
        let loaded = image::load::load(&containerd.socket(), &file).await;
        for name in loaded.map_err(|source| NotLoaded { file, source })? {
            println!("loaded {name}");
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{} cannot be loaded", file.display())]
struct NotLoaded {
    file: PathBuf,
    source: image::load::LoadError,
}
