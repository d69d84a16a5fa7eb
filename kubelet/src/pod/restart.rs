//! Whether a container that ended is started again.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{
    PodExt,
    observed::{Observed, State},
};

/// What the restart rules and policies of container and pod say about an exit code.
pub fn after_exit(container: &Container, pod: &Pod, exit_code: i32) -> bool {
    let policy = match &container.restart_policy {
        Some(policy) => {
            if rule_matches(container, exit_code) {
                return true;
            }
            policy.as_str()
        }
        None => pod.restart_policy(),
    };
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

fn rule_matches(container: &Container, exit_code: i32) -> bool {
    container.restart_policy_rules.iter().flatten().any(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
        rule.action == "Restart" && if codes.operator == "NotIn" { !listed } else { listed }
    })
}

/// Whether a container that is still running is started again after a probe had it stopped.
pub fn after_kill(container: &Container, pod: &Pod) -> bool {
    container.restart_policy.as_deref().unwrap_or_else(|| pod.restart_policy()) != "Never"
}

/// Whether the container should be running although it is not.
pub fn wanted(container: &Container, pod: &Pod, seen: &Observed) -> bool {
    if pod.is_deleted() {
        return false;
    }
    match seen.latest(&container.name) {
        None => true,
        Some(c) => match c.state {
            State::Running => false,
            State::Created | State::Unknown => true,
            State::Exited => after_exit(container, pod, c.exit_code),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    #[test]
    fn policies_and_rules() {
        let pod = |policy: &str| Pod {
            spec: Some(PodSpec { restart_policy: Some(policy.into()), ..Default::default() }),
            ..Default::default()
        };
        for (policy, code, want) in [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 1, false),
        ] {
            assert_eq!(after_exit(&Container::default(), &pod(policy), code), want, "{policy} {code}");
        }
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
        }))
        .unwrap();
        assert!(after_exit(&container, &pod("Never"), 42));
        assert!(!after_exit(&container, &pod("Always"), 43));
    }
}
