//! The mounts of a container, from the volumes of its pod.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::{During, Ready, VolumeError};
use crate::{
    config::Config,
    pod::{PodExt, environment::expand},
    system::System,
};

/// Prepares and lists what a container mounts of its pod's volumes.
pub fn mounts(
    system: &dyn System,
    config: &Config,
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, Ready>,
    environment: &[(String, String)],
) -> Result<Vec<cri::Mount>, VolumeError> {
    let mut all = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(volume) = volumes.get(&wanted.name) else {
            return Err(VolumeError::Content(format!(
                "cannot find volume {:?} to mount into container {:?}",
                wanted.name, container.name
            )));
        };
        let mut mount = base(wanted);
        match volume {
            Ready::Path(path) | Ready::ReadOnly(path) => {
                mount.readonly |= matches!(volume, Ready::ReadOnly(_));
                let path = match sub_path(wanted, environment)? {
                    None => path.clone(),
                    Some(sub) => {
                        let index = index.to_string();
                        let at = config.pod_dir(pod.uid()).join("volume-subpaths").join(&wanted.name);
                        below(system, path, &sub, at.join(&container.name).join(index))?
                    }
                };
                mount.host_path = path.to_string_lossy().into_owned();
            }
            Ready::Image(image) => {
                mount.image = Some(cri::ImageSpec { image: image.clone(), ..Default::default() });
                mount.readonly = true;
            }
        }
        all.push(mount);
    }
    Ok(all)
}

fn base(wanted: &VolumeMount) -> cri::Mount {
    let path = &wanted.mount_path;
    cri::Mount {
        container_path: if path.starts_with('/') { path.clone() } else { format!("/{path}") },
        readonly: wanted.read_only == Some(true),
        propagation: match wanted.mount_propagation.as_deref() {
            Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
            _ => cri::MountPropagation::PropagationPrivate,
        } as i32,
        ..Default::default()
    }
}

/// The path inside the volume, with the container's variables filled in.
fn sub_path(wanted: &VolumeMount, environment: &[(String, String)]) -> Result<Option<String>, VolumeError> {
    let given = |field: &Option<String>| field.clone().filter(|f| !f.is_empty());
    let path = match (given(&wanted.sub_path_expr), given(&wanted.sub_path)) {
        (Some(expression), _) => {
            let missing = std::cell::Cell::new(None);
            let path = expand(&expression, &|name| {
                let found = environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                if found.is_none() {
                    missing.set(Some(name.to_owned()));
                }
                found
            });
            if let Some(name) = missing.take() {
                return Err(VolumeError::Content(format!("missing value for {name:?}")));
            }
            path
        }
        (None, Some(path)) => path,
        (None, None) => return Ok(None),
    };
    if path.starts_with('/') {
        return Err(VolumeError::Content(format!("error SubPath `{path}` must not be an absolute path")));
    }
    if Path::new(&path).components().any(|c| c == std::path::Component::ParentDir) {
        return Err(VolumeError::Content(format!("unable to provision SubPath `{path}`: must not contain '..'")));
    }
    Ok(Some(path))
}

/// A mount of its own for a path inside a volume, so that nobody can lead it elsewhere afterwards.
fn below(system: &dyn System, volume: &Path, sub: &str, target: PathBuf) -> Result<PathBuf, VolumeError> {
    let what = || format!("failed to prepare subPath for volumeMount {sub:?}");
    if system.is_mounted(&target) {
        system.unmount(&target).during(what())?;
    }
    system.bind_below(volume, Path::new(sub), &target).during(what())?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sub_paths() {
        let env = [("POD".to_owned(), "p-1".to_owned())];
        for (mount, want) in [
            (json!({"subPath": "a/b"}), Ok(Some("a/b"))),
            (json!({}), Ok(None)),
            (json!({"subPathExpr": "x/$(POD)"}), Ok(Some("x/p-1"))),
            (json!({"subPathExpr": "$(NONE)"}), Err("missing value for \"NONE\"")),
            (json!({"subPathExpr": "/$(POD)"}), Err("error SubPath `/p-1` must not be an absolute path")),
            (json!({"subPath": "a/../../b"}), Err("unable to provision SubPath `a/../../b`: must not contain '..'")),
        ] {
            let mut mount = mount;
            (mount["name"], mount["mountPath"]) = ("v".into(), "/m".into());
            let mount: VolumeMount = serde_json::from_value(mount).unwrap();
            let got = sub_path(&mount, &env).map_err(|e| e.to_string());
            assert_eq!(got, want.map(|o| o.map(str::to_owned)).map_err(str::to_owned));
        }
    }
}
