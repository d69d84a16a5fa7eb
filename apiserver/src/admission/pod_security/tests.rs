use serde_json::json;

use super::{level::Version, *};

fn detail(level: Level, version: Version, spec: Value) -> String {
    let spec: PodSpec = edit::decode(&spec).unwrap();
    check::evaluate(LevelVersion { level, version }, &ObjectMeta::default(), &spec).detail()
}

fn with(context: Value) -> Value {
    json!({"containers": [{"name": "c", "securityContext": context}]})
}

#[test]
fn the_baseline() {
    for (spec, expected) in [
        (json!({"containers": [{"name": "c"}]}), ""),
        (
            json!({"hostNetwork": true, "hostPID": true, "hostIPC": true, "containers": []}),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/etc"}}], "containers": []}),
            "hostPath volumes (volumes \"v\", \"w\")",
        ),
        (
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 8081}]},
                {"name": "d", "ports": [{"containerPort": 82, "hostPort": 82}]}]}),
            "hostPort (containers \"c\", \"d\" use hostPorts 80, 8081, 82)",
        ),
        (
            json!({"initContainers": [{"name": "i", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}],
                "containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "CHOWN", "BPF"]}}}]}),
            "non-default capabilities (containers \"i\", \"c\" must not include \"BPF\", \"NET_ADMIN\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}, {"name": "net.ipv4.tcp_rmem", "value": "1"}]}, "containers": []}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            with(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            with(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}},
                "containers": [{"name": "c", "securityContext": {"seLinuxOptions": {"role": "r"}}}]}),
            "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be \
             set; role may not be set)",
        ),
        (
            json!({"containers": [{"name": "c", "livenessProbe": {"httpGet": {"port": 80, "host": "1.2.3.4"}}}]}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"1.2.3.4\")",
        ),
        (
            with(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}), ""),
        (
            json!({"containers": [], "ephemeralContainers": [{"name": "e", "securityContext": {"privileged": true}}]}),
            "privileged (container \"e\" must not set securityContext.privileged=true)",
        ),
    ] {
        assert_eq!(detail(Level::Baseline, Version::Latest, spec), expected);
    }
}

#[test]
fn the_restricted_level_replaces_what_it_tightens() {
    assert_eq!(
        detail(Level::Restricted, Version::Latest, json!({"containers": [{"name": "c"}]})),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let hardened = json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(detail(Level::Restricted, Version::Latest, with(hardened)), "");
    let host_path = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []});
    assert_eq!(
        detail(Level::Restricted, Version::Latest, host_path),
        "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"
    );
}

#[test]
fn older_versions() {
    let keepalive = || json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_fin_timeout", "value": "1"}]}, "containers": []});
    for (minor, expected) in [(28, "forbidden sysctls (net.ipv4.tcp_fin_timeout)"), (29, "")] {
        assert_eq!(detail(Level::Baseline, Version::Minor(minor), keepalive()), expected);
    }
    let unmasked =
        || json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]});
    assert!(!detail(Level::Baseline, Version::Minor(34), unmasked()).is_empty());
    // Before there was a restricted check of capabilities, the baseline's held.
    let added =
        with(json!({"capabilities": {"add": ["BPF"]}, "allowPrivilegeEscalation": false, "runAsNonRoot": true}));
    assert!(detail(Level::Restricted, Version::Minor(18), added).starts_with("non-default capabilities"));
}

#[test]
fn policies() {
    let policy = |labels: &[(&str, &str)]| {
        Policy::of(&labels.iter().map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), (*v).to_owned())).collect())
    };
    let (enforced, errors) = policy(&[("enforce", "baseline"), ("enforce-version", "v1.30")]);
    assert_eq!((enforced.warn.to_string().as_str(), errors.len()), ("baseline:v1.30", 0));
    let (wrong, errors) = policy(&[("enforce", "paranoid"), ("warn-version", "1.30"), ("audit", "none")]);
    assert_eq!(
        (wrong.enforce.level, wrong.audit.level, wrong.warn.level),
        (Level::Restricted, Level::Privileged, Level::Privileged)
    );
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"paranoid\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"none\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"",
        ]
    );
    assert!(policy(&[]).0.is_privileged());
}

#[test]
fn warnings_of_a_raised_level() {
    let pod =
        |name: &str, spec: Value| -> Pod { edit::decode(&json!({"metadata": {"name": name}, "spec": spec})).unwrap() };
    let host = || json!({"hostPID": true, "containers": []});
    let pods = vec![pod("c", host()), pod("b", host()), pod("fine", json!({"containers": []})), pod("a", host())];
    let level = LevelVersion { level: Level::Baseline, version: Version::Latest };
    assert_eq!(
        warnings("ns", level, pods),
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): host namespaces"
        ]
    );
}

#[test]
fn updates_that_matter() {
    let spec = |value: Value| -> PodSpec { edit::decode(&value).unwrap() };
    let old = spec(json!({"containers": [{"name": "c", "image": "a"}]}));
    assert!(!is_significant(
        &spec(json!({"containers": [{"name": "c", "image": "a"}], "activeDeadlineSeconds": 5})),
        &old
    ));
    assert!(is_significant(&spec(json!({"containers": [{"name": "c", "image": "b"}]})), &old));
    let debugged = spec(
        json!({"containers": [{"name": "c", "image": "a"}], "ephemeralContainers": [{"name": "e", "image": "x"}]}),
    );
    assert!(is_significant(&debugged, &old) && !is_significant(&old, &debugged));
}
