//! Puts images from an archive (`docker save` or OCI layout, packed or not) into containerd, without a registry.

mod archive;
mod containerd;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use flate2::read::GzDecoder;

use self::{
    archive::{Archive, Image},
    containerd::Containerd,
};

/// Why an archive could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {path}")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive")]
    Read(#[from] io::Error),
    #[error("this is no image archive: {0}")]
    Format(String),
    #[error("containerd refuses: {0}")]
    Runtime(String),
}

impl From<tonic::Status> for LoadError {
    fn from(status: tonic::Status) -> Self {
        Self::Runtime(status.message().to_owned())
    }
}

pub(crate) trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

/// Loads all images of an archive into the containerd behind a socket. Answers with their names.
pub async fn load(socket: &Path, file: &Path) -> Result<Vec<String>, LoadError> {
    let open = || File::open(file).map_err(|source| LoadError::Open { path: file.display().to_string(), source });
    let mut opened = open()?;
    let mut magic = [0; 2];
    let packed = opened.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
    opened.seek(SeekFrom::Start(0))?;
    if !packed {
        return put(socket, Box::new(opened)).await;
    }
    // An archive is read in any order: it is unpacked to disk first.
    let mut plain = tempfile::tempfile()?;
    let unpacked = tokio::task::spawn_blocking(move || {
        io::copy(&mut GzDecoder::new(opened), &mut plain)?;
        plain.seek(SeekFrom::Start(0))?;
        Ok::<_, io::Error>(plain)
    });
    let plain = unpacked.await.map_err(io::Error::other)??;
    put(socket, Box::new(plain)).await
}

/// Loads an archive that is in memory, such as that of the sandbox image.
pub async fn load_bytes(socket: &Path, archive: Vec<u8>) -> Result<Vec<String>, LoadError> {
    put(socket, Box::new(Cursor::new(archive))).await
}

async fn put(socket: &Path, source: Box<dyn Source>) -> Result<Vec<String>, LoadError> {
    let mut archive = Archive::open(source)?;
    let images = archive.images()?;
    if images.is_empty() {
        return Err(LoadError::Format("it names no image".into()));
    }
    let containerd = Containerd::lease(socket).await?;
    let mut names = Vec::new();
    for image in images {
        for blob in archive.blobs(&image)? {
            let labels = archive.references(&blob)?;
            containerd.write(&mut archive, &blob, labels).await?;
        }
        for name in &image.names {
            containerd.name(name, &image).await?;
        }
        names.extend(image.names);
    }
    containerd.release().await?;
    Ok(names)
}

/// One part of an image: where its bytes are in the archive, or the bytes themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub digest: String,
    pub size: u64,
    pub media_type: String,
    pub made: Option<Vec<u8>>,
}

/// Labels by which containerd's garbage collector finds what a blob refers to.
pub(crate) type Labels = BTreeMap<String, String>;
