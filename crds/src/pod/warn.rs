//! What a Pod's author is warned of: fields that do nothing any more, and what is likely a mistake.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Container, NodeSelectorTerm, PodAffinityTerm, PodSpec, Volume, VolumeProjection, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::container::all;
use crate::{
    field::{self, Path},
    given::{Items, Text},
    quantity::Quantity,
    resource::{EPHEMERAL_STORAGE, MEMORY, Written},
    syntax,
};

const DEPRECATED_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];
const DEPRECATED_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
/// No more are made where each may be warned of together with each other one. Upstream tells the first 4,096 characters.
const WARNINGS_MAX: usize = 10_000;
/// So many ports of one number are looked at for each further one.
const OTHERS_MAX: usize = 1_000;
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// The words about a label of nodes that has a successor.
pub fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(label, _)| *label == key).map(|(_, words)| *words)
}

/// `template` is the path of the template that holds the spec, and none for a Pod.
pub fn warnings(meta: &ObjectMeta, spec: &PodSpec, template: Option<&Path>) -> Vec<String> {
    let at = |name| template.map_or(Path::new(name), |path| path.child(name));
    let (spec_path, metadata) = (at("spec"), at("metadata"));
    let annotations_path = metadata.child("annotations");
    let mut words = Vec::new();
    node_labels(spec, &spec_path, &mut words);
    let none = BTreeMap::new();
    let annotations = meta.annotations.as_ref().unwrap_or(&none);
    for (key, why) in DEPRECATED_ANNOTATIONS.iter().filter(|(key, _)| annotations.contains_key(*key)) {
        words.push(format!("{}: {why}", annotations_path.key(key)));
    }
    let list = spec_path.child("volumes");
    for (i, volume) in spec.volumes.items().iter().enumerate() {
        old_volume(volume, &list.index(i), &mut words);
    }
    spec.volumes.items().iter().for_each(|volume| overlaps(volume, &mut words));
    duplicates(spec, &spec_path, &mut words);
    fractions(spec.overhead.as_ref(), &spec_path.child("overhead"), &mut words);
    let has_seccomp = spec.security_context.as_ref().is_some_and(|c| c.seccomp_profile.is_some());
    if !has_seccomp && annotations.contains_key(SECCOMP_POD) {
        words.push(old_seccomp(&annotations_path.key(SECCOMP_POD)));
    }
    for seen in all(spec) {
        let list = spec_path.child(seen.list);
        let path = list.index(seen.index);
        let context = seen.container.security_context.as_ref();
        let key = format!("{SECCOMP_CONTAINER_PREFIX}{}", seen.container.name);
        if context.is_none_or(|c| c.seccomp_profile.is_none()) && annotations.contains_key(&key) {
            words.push(old_seccomp(&annotations_path.key(&key)));
        }
        let key = format!("{APP_ARMOR_PREFIX}{}", seen.container.name);
        let has_field = context.is_some_and(|c| c.app_armor_profile.is_some());
        if template.is_some()
            && !has_field
            && annotations.contains_key(&key)
            && !pod_profile_is(spec, &annotations[&key])
        {
            let path = annotations_path.key(&key);
            words.push(format!("{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
        }
        container(&seen.container, &path, &mut words);
    }
    ports(spec, &spec_path, &mut words);
    if spec.termination_grace_period_seconds.is_some_and(|s| s < 0) {
        let path = spec_path.child("terminationGracePeriodSeconds");
        words.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    pod_affinity(spec, &spec_path.child("affinity"), &mut words);
    addresses(spec, &spec_path, &mut words);
    words
}

fn old_seccomp(path: &Path) -> String {
    format!("{path}: non-functional in v1.27+; use the \"seccompProfile\" field instead")
}

/// Whether the Pod's profile says what the annotation of a container says.
fn pod_profile_is(spec: &PodSpec, annotation: &str) -> bool {
    let Some(profile) = spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref()) else {
        return false;
    };
    match annotation {
        "unconfined" => profile.type_ == "Unconfined",
        "runtime/default" => profile.type_ == "RuntimeDefault",
        other => {
            profile.type_ == "Localhost" && other.strip_prefix("localhost/") == profile.localhost_profile.as_deref()
        }
    }
}

fn node_labels(spec: &PodSpec, path: &Path, words: &mut Vec<String>) {
    let list = path.child("nodeSelector");
    for key in spec.node_selector.iter().flat_map(BTreeMap::keys) {
        words.extend(deprecated_label(key).map(|why| format!("{}: {why}", list.key(key))));
    }
    let affinity_path = path.child("affinity");
    let node_path = affinity_path.child("nodeAffinity");
    if let Some(affinity) = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref()) {
        let required = node_path.child("requiredDuringSchedulingIgnoredDuringExecution");
        let list = required.child("nodeSelectorTerms");
        let terms = affinity.required_during_scheduling_ignored_during_execution.iter();
        for (i, term) in terms.flat_map(|r| &r.node_selector_terms).enumerate() {
            node_term(term, false, &list.index(i), words);
        }
        let list = node_path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, term) in affinity.preferred_during_scheduling_ignored_during_execution.items().iter().enumerate() {
            let path = list.index(i);
            node_term(&term.preference, true, &path.child("preference"), words);
        }
    }
    let list = path.child("topologySpreadConstraints");
    for (i, constraint) in spec.topology_spread_constraints.items().iter().enumerate() {
        let (path, key) = (list.index(i), &constraint.topology_key);
        words.extend(deprecated_label(key).map(|why| format!("{}: {key} is {why}", path.child("topologyKey"))));
        if constraint.label_selector.is_none() {
            words.push(format!("{}: {NULL_SELECTOR}", path.child("labelSelector")));
        }
    }
}

/// Also for the node affinity of a PersistentVolume.
pub fn node_term(term: &NodeSelectorTerm, check_values: bool, path: &Path, words: &mut Vec<String>) {
    let list = path.child("matchExpressions");
    for (i, expression) in term.match_expressions.items().iter().enumerate() {
        let path = list.index(i);
        let key = &expression.key;
        words.extend(deprecated_label(key).map(|why| format!("{}: {key} is {why}", path.child("key"))));
        if !check_values {
            continue;
        }
        let list = path.child("values");
        for (i, value) in expression.values.items().iter().enumerate() {
            let wrong = field::label_value(value).into_iter();
            words.extend(wrong.map(|why| format!("{}: {value} is invalid, {why}", list.index(i))));
        }
    }
}

fn old_volume(volume: &Volume, path: &Path, words: &mut Vec<String>) {
    for (name, given, why) in [
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("gitRepo", volume.git_repo.is_some(), "deprecated in v1.11, and disabled by default in v1.33+"),
        ("scaleIO", volume.scale_io.is_some(), "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", volume.flocker.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("storageOS", volume.storageos.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", volume.quobyte.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", volume.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
    ] {
        if given {
            words.push(format!("{}: {why}", path.child(name)));
        }
    }
    if let Some(template) = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref()) {
        let path = path.child("ephemeral");
        let path = path.child("volumeClaimTemplate");
        claim(&template.spec, &path.child("spec"), words);
    }
    for (name, given) in [("cephfs", volume.cephfs.is_some()), ("rbd", volume.rbd.is_some())] {
        if given {
            words.push(format!("{}: deprecated in v1.28, non-functional in v1.31+", path.child(name)));
        }
    }
}

/// The size that a claim asks for should be a whole number of bytes.
pub fn claim(spec: &k8s_openapi::api::core::v1::PersistentVolumeClaimSpec, path: &Path, words: &mut Vec<String>) {
    let list = path.child("resources");
    let own = spec.resources.as_ref();
    for (name, side) in
        [("requests", own.and_then(|r| r.requests.as_ref())), ("limits", own.and_then(|r| r.limits.as_ref()))]
    {
        let list = list.child(name);
        fraction(side, crate::resource::STORAGE, &list, words);
    }
}

fn fraction(list: Option<&Written>, name: &str, path: &Path, words: &mut Vec<String>) {
    let amount = Quantity::of(list.and_then(|l| l.get(name)));
    if amount.millis() % 1000 != 0 {
        let shown = amount.to_string();
        words.push(format!("{}: fractional byte value {shown:?} is invalid, must be an integer", path.key(name)));
    }
}

fn fractions(list: Option<&Written>, path: &Path, words: &mut Vec<String>) {
    fraction(list, MEMORY, path, words);
    fraction(list, EPHEMERAL_STORAGE, path, words);
}

/// A path in a volume and what it comes from.
#[derive(Clone, PartialEq)]
struct Place {
    path: String,
    source: String,
}

impl Place {
    fn new(path: &str, source: impl Into<String>) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.into() }
    }

    fn shown(&self) -> String {
        if self.source.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.source) }
    }

    /// As a folder, so that what begins with it lies in it.
    fn folder(&self) -> String {
        format!("{}/", self.path)
    }
}

/// Places in the order they came, and where each folder stands among them.
#[derive(Default)]
struct Places {
    all: Vec<Place>,
    at: BTreeMap<String, Vec<usize>>,
}

impl Places {
    fn push(&mut self, place: Place) {
        self.at.entry(place.folder()).or_default().push(self.all.len());
        self.all.push(place);
    }

    /// Those that lie in the same folder as this one, above or below.
    fn overlapping(&self, place: &Place) -> impl Iterator<Item = &Place> {
        let folder = place.folder();
        let above = folder.match_indices('/').map(|(i, _)| &folder[..=i]).filter(|above| **above != folder);
        let mut found: Vec<usize> = above.filter_map(|above| self.at.get(above)).flatten().copied().collect();
        let below = self.at.range(folder.clone()..).take_while(|(other, _)| other.starts_with(&folder));
        found.extend(below.flat_map(|(_, places)| places));
        found.sort_unstable();
        found.into_iter().map(|i| &self.all[i])
    }
}

fn overlaps(volume: &Volume, words: &mut Vec<String>) {
    let name = &volume.name;
    let mut tell = |what: String, places: Vec<Place>| {
        let mut seen = Places::default();
        for place in places.into_iter().filter(|place| !place.path.is_empty()) {
            for other in seen.overlapping(&place) {
                if words.len() >= WARNINGS_MAX {
                    return;
                }
                let (a, b) = (place.shown(), other.shown());
                words.push(format!("volume {name:?} ({what}): overlapping paths: {a} with {b}"));
            }
            seen.push(place);
        }
    };
    if let Some(map) = &volume.config_map {
        let places = map.items.items().iter().map(|i| Place::new(&i.path, "")).collect();
        tell(format!("ConfigMap {:?}", map.name), places);
    }
    if let Some(secret) = &volume.secret {
        let places = secret.items.items().iter().map(|i| Place::new(&i.path, "")).collect();
        tell(format!("Secret {:?}", secret.secret_name.text()), places);
    }
    if let Some(api) = &volume.downward_api {
        let places = api.items.items().iter().map(|i| Place::new(&i.path, "")).collect();
        tell("DownwardAPI".to_owned(), places);
    }
    if let Some(projected) = &volume.projected {
        tell("Projected".to_owned(), projected.sources.items().iter().flat_map(places).collect());
        let empty = projected.sources.items().iter().filter(|s| **s == VolumeProjection::default());
        words.extend(empty.map(|_| format!("volume {name:?} (Projected) has no sources provided")));
    }
}

fn places(source: &VolumeProjection) -> Vec<Place> {
    if let Some(map) = &source.config_map {
        return map.items.items().iter().map(|i| Place::new(&i.path, format!("ConfigMap {:?}", map.name))).collect();
    }
    if let Some(secret) = &source.secret {
        return secret.items.items().iter().map(|i| Place::new(&i.path, format!("Secret {:?}", secret.name))).collect();
    }
    if let Some(api) = &source.downward_api {
        return api.items.items().iter().map(|i| Place::new(&i.path, "DownwardAPI")).collect();
    }
    source.service_account_token.iter().map(|token| Place::new(&token.path, "ServiceAccountToken")).collect()
}

fn duplicates(spec: &PodSpec, path: &Path, words: &mut Vec<String>) {
    let list = path.child("hostAliases");
    let mut seen = BTreeSet::new();
    for (i, alias) in spec.host_aliases.items().iter().enumerate().filter(|(_, a)| !seen.insert(&a.ip)) {
        let path = list.index(i);
        words.push(format!("{}: duplicate ip {:?}", path.child("ip"), alias.ip));
    }
    let list = path.child("imagePullSecrets");
    let secrets = spec.image_pull_secrets.items();
    let mut seen = BTreeSet::new();
    for (i, secret) in secrets.iter().enumerate().filter(|(_, s)| !seen.insert(&s.name)) {
        let path = list.index(i);
        words.push(format!("{}: duplicate name {:?}", path.child("name"), secret.name));
    }
    for (i, _) in secrets.iter().enumerate().filter(|(_, s)| s.name.is_empty()) {
        let path = list.index(i);
        words.push(format!("{}: invalid empty name \"\"", path.child("name")));
    }
}

fn container(container: &Container, path: &Path, words: &mut Vec<String>) {
    let own = container.resources.as_ref();
    let resources = path.child("resources");
    let (limits, requests) = (resources.child("limits"), resources.child("requests"));
    for name in [MEMORY, EPHEMERAL_STORAGE] {
        fraction(own.and_then(|r| r.limits.as_ref()), name, &limits, words);
        fraction(own.and_then(|r| r.requests.as_ref()), name, &requests, words);
    }
    let list = path.child("env");
    let mut seen = BTreeSet::new();
    for (i, variable) in container.env.items().iter().enumerate() {
        if seen.insert(&variable.name) {
            continue;
        }
        // A variable may build on an earlier one of its own name.
        let reference = format!("$({})", variable.name);
        let value = variable.value.text();
        if variable.value_from.is_some() || value == reference || !value.contains(&reference) {
            words.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                list.index(i),
                variable.name
            ));
        }
    }
}

type PortKey = (i32, String);

/// Ports of one number or one name.
fn ports(spec: &PodSpec, path: &Path, words: &mut Vec<String>) {
    let mut known: BTreeMap<PortKey, Vec<(String, String, i32)>> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut by_name = Vec::new();
    for seen in all(spec) {
        let list = path.child(seen.list);
        let path = list.index(seen.index);
        let list = path.child("ports");
        for (i, port) in seen.container.ports.items().iter().enumerate() {
            let at = list.index(i).to_string();
            let (ip, host, protocol) = (port.host_ip.text(), port.host_port.unwrap_or(0), port.protocol.text());
            if !ip.is_empty() && host == 0 {
                words.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{protocol} HostIP:{ip}}}",
                    port.name.text(),
                    port.container_port
                ));
            }
            let others = known.entry((port.container_port, protocol.to_owned())).or_default();
            for (other, other_ip, other_host) in others.iter().take(OTHERS_MAX) {
                if words.len() >= WARNINGS_MAX {
                    return;
                }
                let why = if ip == other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0 || *other_host == 0 {
                    "overlapping"
                } else if host == *other_host && (ip.is_empty() != other_ip.is_empty()) {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                words.push(format!("{at}: {why} port definition with {other}"));
            }
            others.push((at.clone(), ip.to_owned(), host));
            let name = port.name.text();
            if name.is_empty() {
                continue;
            }
            match names.get(name) {
                Some(other) => by_name.push(format!(
                    "{at}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                )),
                None => {
                    names.insert(name.to_owned(), at);
                }
            }
        }
    }
    words.append(&mut by_name);
}

fn pod_affinity(spec: &PodSpec, path: &Path, words: &mut Vec<String>) {
    let Some(affinity) = &spec.affinity else {
        return;
    };
    let mut tell = |required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm], path: &Path| {
        let list = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (i, _) in required.iter().enumerate().filter(|(_, t)| t.label_selector.is_none()) {
            let path = list.index(i);
            words.push(format!("{}: {NULL_SELECTOR}", path.child("labelSelector")));
        }
        let list = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (i, _) in preferred.iter().enumerate().filter(|(_, t)| t.pod_affinity_term.label_selector.is_none()) {
            let path = list.index(i);
            let path = path.child("podAffinityTerm");
            words.push(format!("{}: {NULL_SELECTOR}", path.child("labelSelector")));
        }
    };
    if let Some(a) = &affinity.pod_affinity {
        tell(
            a.required_during_scheduling_ignored_during_execution.items(),
            a.preferred_during_scheduling_ignored_during_execution.items(),
            &path.child("podAffinity"),
        );
    }
    if let Some(a) = &affinity.pod_anti_affinity {
        tell(
            a.required_during_scheduling_ignored_during_execution.items(),
            a.preferred_during_scheduling_ignored_during_execution.items(),
            &path.child("podAntiAffinity"),
        );
    }
}

fn addresses(spec: &PodSpec, path: &Path, words: &mut Vec<String>) {
    let config = path.child("dnsConfig");
    let list = config.child("nameservers");
    for (i, server) in spec.dns_config.iter().flat_map(|c| c.nameservers.items()).enumerate() {
        words.extend(syntax::ip_warning(list.index(i), server));
    }
    let list = path.child("hostAliases");
    for (i, alias) in spec.host_aliases.items().iter().enumerate() {
        let path = list.index(i);
        words.extend(syntax::ip_warning(path.child("ip"), &alias.ip));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overlapping(paths: &[&str]) -> Vec<String> {
        let items: Vec<_> = paths.iter().map(|path| json!({"key": "k", "path": path})).collect();
        let volume = serde_json::from_value(json!({"name": "v", "configMap": {"name": "m", "items": items}})).unwrap();
        let mut words = Vec::new();
        overlaps(&volume, &mut words);
        let pair = |words: String| words.rsplit_once("paths: ").map(|(_, pair)| pair.replace('"', "")).unwrap();
        words.into_iter().map(pair).collect()
    }

    #[test]
    fn paths_overlap_with_folders_above_and_below_in_the_order_they_came() {
        let want = ["a with a/b", "a/b/c with a/b", "a/b/c with a", "a with a/b", "a with a", "a with a/b/c"];
        assert_eq!(overlapping(&["a/b", "a", "ab", "a/b/c", "", "a/"]), want);
        assert!(overlapping(&["a/b", "a-b", "a.b", "ab", "/"]).is_empty());
    }

    #[test]
    fn what_is_warned_of_in_pairs_has_a_limit() {
        assert_eq!(overlapping(&["a"; 1000]).len(), WARNINGS_MAX);
        let port = json!({"containerPort": 1});
        let spec = json!({"containers": [{"name": "c", "ports": vec![port; 1000]}]});
        let mut words = Vec::new();
        ports(&serde_json::from_value(spec).unwrap(), &Path::new("spec"), &mut words);
        assert_eq!(words.len(), WARNINGS_MAX);
    }
}
