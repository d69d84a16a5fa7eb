//! The volumes of a pod: what is in them, and how they come to be on the machine.

pub mod host_path;
pub mod mount;
pub mod payload;
pub mod reference;
pub mod writer;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crds::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod, Volume};

use crate::{
    config::Config,
    pod::{PodExt, environment::Sources},
    system::System,
};

/// Why a volume could not be set up; the message goes into an event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0}")]
    Content(String),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

pub(crate) trait During<T> {
    /// Says what was being done when it failed.
    fn during(self, what: impl Into<String>) -> Result<T, VolumeError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, what: impl Into<String>) -> Result<T, VolumeError> {
        self.map_err(|source| VolumeError::Io { what: what.into(), source })
    }
}

/// A token that a projected volume holds, by audience and lifetime.
pub type TokenKey = (String, i64);

/// What volumes are filled from, beside what environments are.
#[derive(Debug, Default)]
pub struct Contents {
    pub sources: Sources,
    pub tokens: BTreeMap<TokenKey, String>,
    /// Bound volumes by claim.
    pub claims: BTreeMap<String, PersistentVolume>,
    /// How the runtime calls the images that are mounted, by volume.
    pub images: BTreeMap<String, String>,
}

/// A volume that is ready to be mounted into containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    Path(PathBuf),
    /// What is in it is ours to write, not the container's.
    ReadOnly(PathBuf),
    /// The runtime mounts the content of an image.
    Image(String),
}

/// The group that a pod's volumes belong to, and the user of its tokens.
fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec().security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Sets up or refreshes one volume.
pub fn set_up(
    system: &dyn System,
    config: &Config,
    pod: &Pod,
    volume: &Volume,
    contents: &Contents,
) -> Result<Ready, VolumeError> {
    let dir = |plugin: &str| config.volume_dir(pod.uid(), plugin, &volume.name);
    if let Some(empty) = &volume.empty_dir {
        return empty_dir(system, pod, empty, dir("kubernetes.io/empty-dir")).map(Ready::Path);
    }
    if let Some(host) = &volume.host_path {
        let path = host_path::set_up(system, Path::new(&host.path), host.type_.as_deref().unwrap_or(""))?;
        return Ok(Ready::Path(path));
    }
    if let Some(name) = reference::claim(pod, volume) {
        return claim(system, pod, &name, contents).map(Ready::Path);
    }
    if volume.image.is_some() {
        let image = contents.images.get(&volume.name);
        return image.cloned().map(Ready::Image).ok_or_else(|| VolumeError::Content("the image is not present".into()));
    }
    let (plugin, in_memory) = match () {
        () if volume.config_map.is_some() => ("kubernetes.io/configmap", false),
        () if volume.secret.is_some() => ("kubernetes.io/secret", true),
        () if volume.downward_api.is_some() => ("kubernetes.io/downward-api", true),
        () if volume.projected.is_some() => ("kubernetes.io/projected", true),
        () => return Err(VolumeError::Content(format!("no volume plugin matched for volume {}", volume.name))),
    };
    let files = payload::payload(pod, volume, contents).map_err(VolumeError::Content)?;
    let path = dir(plugin);
    directory(system, &path, in_memory, None)?;
    writer::write(system, &path, &files, fs_group(pod)).during(format!("cannot write {}", path.display()))?;
    Ok(Ready::ReadOnly(path))
}

/// Makes a directory that everybody may use, in memory if wanted.
fn directory(system: &dyn System, path: &Path, in_memory: bool, size: Option<i64>) -> Result<(), VolumeError> {
    let what = || format!("cannot make {}", path.display());
    system.create_dir(path, 0o777).during(what())?;
    if in_memory && !system.is_mounted(path) {
        system.mount_memory(path, size).during(what())?;
        system.set_mode(path, 0o777).during(what())?;
    }
    Ok(())
}

fn empty_dir(
    system: &dyn System,
    pod: &Pod,
    empty: &k8s_openapi::api::core::v1::EmptyDirVolumeSource,
    path: PathBuf,
) -> Result<PathBuf, VolumeError> {
    let fresh = system.kind(&path).is_none();
    let limit = empty.size_limit.as_ref().map(|q| Quantity::of(Some(q)).units()).filter(|s| *s > 0);
    directory(system, &path, empty.medium.as_deref() == Some("Memory"), limit)?;
    if let Some(gid) = fs_group(pod).filter(|_| fresh) {
        system.give_to_group(&path, gid, false).during(format!("cannot give {} to group {gid}", path.display()))?;
    }
    Ok(path)
}

fn claim(system: &dyn System, pod: &Pod, name: &str, contents: &Contents) -> Result<PathBuf, VolumeError> {
    let Some(volume) = contents.claims.get(name) else {
        return Err(VolumeError::Content(format!("PersistentVolumeClaim is not bound: {}/{name}", pod.namespace())));
    };
    let spec = volume.spec.clone().unwrap_or_default();
    if let Some(host) = &spec.host_path {
        return host_path::set_up(system, Path::new(&host.path), host.type_.as_deref().unwrap_or(""));
    }
    if let Some(local) = &spec.local {
        let path = PathBuf::from(&local.path);
        if system.kind(&path).is_none() {
            return Err(VolumeError::Content(format!("path {:?} does not exist", local.path)));
        }
        if let Some(gid) = fs_group(pod) {
            system.give_to_group(&path, gid, false).during(format!("cannot give {} to group {gid}", path.display()))?;
        }
        return Ok(path);
    }
    let name = volume.metadata.name.as_deref().unwrap_or("");
    Err(VolumeError::Content(format!("no volume plugin matched for the PersistentVolume {name}")))
}

/// Unmounts all that belongs to a pod.
pub fn tear_down(system: &dyn System, config: &Config, uid: &str) -> io::Result<()> {
    let dir = config.pod_dir(uid);
    system.mounts_below(&dir).iter().try_for_each(|mount| system.unmount(mount))
}
