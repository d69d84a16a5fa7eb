//! Metrics in Prometheus' text format, by the names that upstream gives them.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use http::StatusCode;

use super::{Answer, stat, typed};
use crate::{
    agent::Agent,
    pod::{PodExt, observed::State},
};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of a set of metrics.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, help: &str, kind: &str) {
        self.0 += &format!("# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let quoted = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", quoted(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        if writeln!(self.0, "{name}{labels} {value}").is_err() {
            tracing::trace!("a metric is lost");
        }
    }

    fn answer(self) -> Answer {
        typed(StatusCode::OK, KIND, self.0)
    }
}

pub fn empty() -> Answer {
    Text::default().answer()
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What containers, pods and the node use.
pub async fn resource(agent: &Arc<Agent>) -> Answer {
    let usages = stat::usages(agent).await;
    let memory = agent.system.memory();
    let mut text = Text::default();
    let place =
        |u: &stat::Usage| [u.container.clone(), u.entry.pod.namespace().to_owned(), u.entry.pod.name().to_owned()];
    type Of = fn(&stat::Usage) -> f64;
    let families: [(&str, &str, &str, Of); 3] = [
        (
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            |u| seconds(u.cpu_nanos),
        ),
        ("container_memory_working_set_bytes", "Current working set of the container in bytes", "gauge", |u| {
            u.working_set_bytes as f64
        }),
        ("container_start_time_seconds", "Start time of the container since unix epoch in seconds", "gauge", |u| {
            u.started_nanos as f64 / 1e9
        }),
    ];
    for (name, help, kind, of) in families {
        text.family(name, help, kind);
        for u in &usages {
            let [container, namespace, pod] = place(u);
            text.sample(name, &[("container", &container), ("namespace", &namespace), ("pod", &pod)], of(u));
        }
    }
    if let Ok(memory) = &memory {
        text.family(
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
        );
        text.sample("node_cpu_usage_seconds_total", &[], seconds(memory.cpu_nanos));
        text.family("node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge");
        text.sample("node_memory_working_set_bytes", &[], memory.working_set_bytes);
    }
    let mut pods: BTreeMap<[String; 2], (u64, u64)> = BTreeMap::new();
    for u in &usages {
        let [_, namespace, pod] = place(u);
        let sum = pods.entry([namespace, pod]).or_default();
        *sum = (sum.0 + u.cpu_nanos, sum.1 + u.working_set_bytes);
    }
    text.family("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "counter");
    for ([namespace, pod], (cpu, _)) in &pods {
        text.sample("pod_cpu_usage_seconds_total", &[("namespace", namespace), ("pod", pod)], seconds(*cpu));
    }
    text.family("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge");
    for ([namespace, pod], (_, bytes)) in &pods {
        text.sample("pod_memory_working_set_bytes", &[("namespace", namespace), ("pod", pod)], bytes);
    }
    text.family(
        "resource_scrape_error",
        "1 if there was an error while getting container metrics, 0 otherwise",
        "gauge",
    );
    text.sample("resource_scrape_error", &[], u8::from(memory.is_err()));
    text.answer()
}

/// What the node agent says about itself.
pub fn own(agent: &Arc<Agent>) -> Answer {
    let entries = agent.pods.all();
    let running = entries.iter().flat_map(|e| &e.containers).filter(|c| c.state == State::Running).count();
    let mut text = Text::default();
    text.family("kubelet_node_name", "The node's name. The count is always 1.", "gauge");
    text.sample("kubelet_node_name", &[("node", &agent.config.node_name)], 1);
    text.family("kubelet_running_pods", "Number of pods that have a running pod sandbox", "gauge");
    text.sample("kubelet_running_pods", &[], entries.iter().filter(|e| e.sandbox.is_some() && !e.terminating).count());
    text.family("kubelet_running_containers", "Number of containers currently running", "gauge");
    text.sample("kubelet_running_containers", &[("container_state", "running")], running);
    text.answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples() {
        let mut text = Text::default();
        text.sample("a", &[("b", "c\"d")], 1.5);
        text.sample("e", &[], 2);
        assert_eq!(text.0, "a{b=\"c\\\"d\"} 1.5\ne 2\n");
    }
}
