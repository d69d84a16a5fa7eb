//! The configuration of a container.

use std::collections::HashMap;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    PodExt, Role,
    environment::expand,
    observed::{
        CONTAINER_HASH, CONTAINER_NAME, MESSAGE_PATH, MESSAGE_POLICY, Observed, POD_DELETION_GRACE, POD_NAME,
        POD_NAMESPACE, POD_TERMINATION_GRACE, POD_UID, RESTART_COUNT,
    },
    qos, resource,
    security::{self, ImageUser},
};

/// All that has been worked out for a container before it can be made.
#[derive(Debug, Default)]
pub struct Inputs {
    pub restart_count: i32,
    /// The image as the runtime knows it.
    pub image_ref: String,
    pub image_user: ImageUser,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<cri::Mount>,
    pub devices: Vec<cri::Device>,
    pub memory_bytes: i64,
    pub seccomp_root: String,
    pub seccomp_default: bool,
}

pub fn config(
    pod: &Pod,
    role: Role,
    c: &Container,
    seen: &Observed,
    given: Inputs,
) -> Result<cri::ContainerConfig, String> {
    let known = |name: &str| given.environment.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let words = |list: &Option<Vec<String>>| list.iter().flatten().map(|w| expand(w, &known)).collect();
    let security = security::container(pod, c, &given.image_user, seen, &given.seccomp_root, given.seccomp_default)?;
    let oom_score_adj = qos::oom_score_adj(pod, role, c, given.memory_bytes);
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: c.name.clone(),
            attempt: u32::try_from(given.restart_count).unwrap_or_default(),
        }),
        image: Some(cri::ImageSpec {
            image: given.image_ref,
            user_specified_image: c.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: words(&c.command),
        args: words(&c.args),
        working_dir: c.working_dir.clone().unwrap_or_default(),
        envs: given.environment.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        mounts: given.mounts,
        devices: given.devices,
        labels: labels(pod, c),
        annotations: annotations(pod, c, given.restart_count),
        log_path: format!("{}/{}.log", c.name, given.restart_count),
        stdin: c.stdin.unwrap_or(false),
        stdin_once: c.stdin_once.unwrap_or(false),
        tty: c.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resource::linux(pod, c, oom_score_adj)),
            security_context: Some(security),
        }),
        ..Default::default()
    })
}

fn labels(pod: &Pod, c: &Container) -> HashMap<String, String> {
    [(POD_NAME, pod.name()), (POD_NAMESPACE, pod.namespace()), (POD_UID, pod.uid()), (CONTAINER_NAME, &c.name)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
}

/// What a kubelet that has just started must know of a container without asking the API.
fn annotations(pod: &Pod, c: &Container, restart_count: i32) -> HashMap<String, String> {
    let mut all = HashMap::from([
        (CONTAINER_HASH.to_owned(), hash(c)),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (MESSAGE_PATH.to_owned(), message_path(c).to_owned()),
        (MESSAGE_POLICY.to_owned(), c.termination_message_policy.clone().unwrap_or_else(|| "File".into())),
        (POD_TERMINATION_GRACE.to_owned(), pod.grace_seconds().to_string()),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        all.insert(POD_DELETION_GRACE.to_owned(), seconds.to_string());
    }
    let texts = [
        (
            "io.kubernetes.container.preStopHandler",
            c.lifecycle.as_ref().and_then(|l| serde_json::to_string(l.pre_stop.as_ref()?).ok()),
        ),
        ("io.kubernetes.container.ports", c.ports.as_ref().and_then(|p| serde_json::to_string(p).ok())),
    ];
    all.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?))));
    all
}

pub fn message_path(c: &Container) -> &str {
    c.termination_message_path.as_deref().unwrap_or("/dev/termination-log")
}

/// Changes when the container must be made anew: its name or image changed (32-bit FNV-1a, hexadecimal).
pub fn hash(c: &Container) -> String {
    let text = [c.name.as_bytes(), &[0], c.image.as_deref().unwrap_or("").as_bytes()].concat();
    let hash = text.iter().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_expanded_and_restarts_told() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {
            "containers": [{"name": "c", "image": "x", "command": ["a", "$(V)"], "args": ["$$(V)"]}]}}))
            .unwrap();
        let c = pod.spec.as_ref().unwrap().containers[0].clone();
        let given = Inputs {
            restart_count: 2,
            environment: vec![("V".into(), "1".into())],
            memory_bytes: 1 << 30,
            ..Default::default()
        };
        let made = config(&pod, Role::Main, &c, &Observed::default(), given).unwrap();
        assert_eq!((made.command, made.args), (vec!["a".into(), "1".into()], vec!["$(V)".to_owned()]));
        assert_eq!(made.log_path, "c/2.log");
        assert_eq!(made.annotations[RESTART_COUNT], "2");
        assert_eq!(made.linux.unwrap().resources.unwrap().oom_score_adj, 1000);
        assert_ne!(hash(&c), hash(&Container { image: Some("y".into()), ..c.clone() }));
    }
}
