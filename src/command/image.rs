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

        for name in image::load::load(&containerd.socket(), &file).await? {
            println!("loaded {name}");
        }
        Ok(())
    }
}
