//! Whether the server behind an APIService is available: pure, from what was seen of its Service.

use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceCondition},
};
use serde_json::{Value, json};

use crate::backend::{ServicePort, resolve::is_ready};

/// What an APIService is told to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Availability {
    pub fn local() -> Self {
        Self { status: "True", reason: "Local", message: "Local APIServices are always available".to_owned() }
    }

    /// After discovery was answered, or was not.
    pub fn checked(check: Result<(), String>) -> Self {
        match check {
            Ok(()) => Self { status: "True", reason: "Passed", message: "all checks passed".to_owned() },
            Err(message) => Self { status: "False", reason: "FailedDiscoveryCheck", message },
        }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    /// The status with this in it; none if it says so already.
    pub fn over(&self, conditions: &[APIServiceCondition], now: &str) -> Option<Value> {
        let known = conditions.iter().find(|condition| condition.type_ == "Available");
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let same_status = known.is_some_and(|known| known.status == self.status);
        let same = same_status
            && known.is_some_and(|known| text(&known.reason) == self.reason && text(&known.message) == self.message);
        if same {
            return None;
        }
        let since = known.and_then(|known| known.last_transition_time.as_ref()).filter(|_| same_status);
        let condition = json!({
            "type": "Available",
            "status": self.status,
            "lastTransitionTime": since.map_or_else(|| json!(now), |since| json!(since)),
            "reason": self.reason,
            "message": self.message,
        });
        let mut all: Vec<Value> = conditions.iter().map(|condition| json!(condition)).collect();
        match conditions.iter().position(|condition| condition.type_ == "Available") {
            Some(at) => all[at] = condition,
            None => all.push(condition),
        }
        Some(json!({ "conditions": all }))
    }
}

/// Why the server cannot even be asked; none if it can.
pub fn unreachable(of: &ServicePort, service: Option<&Service>, slices: &[EndpointSlice]) -> Option<Availability> {
    let ServicePort { namespace, name, port } = of;
    let Some(service) = service else {
        return Some(Availability::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP") != "ClusterIP" {
        return None;
    }
    let known = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).find(|known| known.port == *port);
    let Some(known) = known else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Availability::no("ServicePortError", message));
    };
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Availability::no("EndpointsNotFound", message));
    }
    let port_name = known.name.as_deref().unwrap_or_default();
    let serves = |slice: &EndpointSlice| {
        let mut ports = slice.ports.iter().flatten();
        slice.endpoints.iter().flatten().any(is_ready)
            && ports.any(|port| port.name.as_deref() == Some(port_name) && port.port.is_some())
    };
    if slices.iter().any(serves) {
        return None;
    }
    let message =
        format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
    Some(Availability::no("MissingEndpoints", message))
}

/// Whether an APIService says of itself that it is available.
pub fn is_told(service: &APIService) -> bool {
    let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut available = conditions.filter(|condition| condition.type_ == "Available");
    available.any(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let of = ServicePort { namespace: "n".into(), name: "s".into(), port: 443 };
        let service = |port: i32| -> Service {
            serde_json::from_value(json!({"spec": {"ports": [{"name": "h", "port": port}]}})).unwrap()
        };
        let slice = |ready: bool| -> EndpointSlice {
            let endpoints = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]);
            let slice = json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "h", "port": 1}]});
            serde_json::from_value(slice).unwrap()
        };
        let told = |service: Option<Service>, slices: &[EndpointSlice]| {
            unreachable(&of, service.as_ref(), slices).map(|no| (no.reason, no.message))
        };
        assert_eq!(told(None, &[]), Some(("ServiceNotFound", "service/s in \"n\" is not present".into())));
        let words = "service/s in \"n\" is not listening on port 443";
        assert_eq!(told(Some(service(80)), &[]), Some(("ServicePortError", words.into())));
        let words = "cannot find endpointslices for service/s in \"n\"";
        assert_eq!(told(Some(service(443)), &[]), Some(("EndpointsNotFound", words.into())));
        let words = "endpointslices for service/s in \"n\" have no addresses with port name \"h\"";
        assert_eq!(told(Some(service(443)), &[slice(false)]), Some(("MissingEndpoints", words.into())));
        assert_eq!(told(Some(service(443)), &[slice(true)]), None);
    }

    #[test]
    fn the_time_of_a_transition_stays() {
        let known = json!([{"type": "Available", "status": "False", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let known: Vec<APIServiceCondition> = serde_json::from_value(known).unwrap();
        let over = |to: Availability| to.over(&known, "2026-02-02T00:00:00Z").unwrap()["conditions"][0].clone();
        let no = over(Availability::checked(Err("why".into())));
        assert_eq!(
            (&no["reason"], &no["lastTransitionTime"]),
            (&json!("FailedDiscoveryCheck"), &json!("2026-01-01T00:00:00Z"))
        );
        assert_eq!(over(Availability::local())["lastTransitionTime"], "2026-02-02T00:00:00Z");
    }
}
