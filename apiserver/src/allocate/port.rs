//! Node ports of a Service: pure, given the ports that are taken.

use std::collections::{BTreeMap, BTreeSet};

use crds::field::{Error, Errors, Path};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::range::{Random, Range};
use crate::error::{ApiError, Result};

pub const FIRST: i32 = 30000;
pub const LAST: i32 = 32767;
/// The lower part is left to those who name a port.
const RANGE: Range = Range { first: FIRST as u128, last: LAST as u128, reserved: 86 };

pub fn type_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

/// Whether the type has node ports at all.
pub fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "NodePort" | "LoadBalancer")
}

/// Whether ports that are left open are filled in.
pub fn needs_node_ports(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

pub fn needs_health_check(spec: &ServiceSpec) -> bool {
    type_of(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

pub fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports.iter().flatten().filter_map(|port| port.node_port).filter(|port| *port != 0).collect()
}

/// All node ports that a Service has, that of health checks too.
pub fn held(service: &Service) -> impl Iterator<Item = i32> {
    service.spec.iter().flat_map(|spec| {
        let health_check = spec.health_check_node_port.filter(|port| *port != 0 && needs_health_check(spec));
        node_ports(spec).into_iter().chain(health_check)
    })
}

/// The ports that one Service takes in one write.
pub struct Ports<'a> {
    taken: BTreeSet<i32>,
    dry_run: bool,
    /// Those of this write.
    own: Vec<i32>,
    random: &'a mut Random<'a>,
}

impl<'a> Ports<'a> {
    pub fn new(taken: BTreeSet<i32>, dry_run: bool, random: &'a mut Random<'a>) -> Self {
        Self { taken, dry_run, own: Vec::new(), random }
    }

    fn take(&mut self, port: i32) -> std::result::Result<(), String> {
        // A dry run does not look at the range, as upstream.
        if !self.dry_run && !(FIRST..=LAST).contains(&port) {
            let valid = format!("{FIRST}-{LAST}");
            return Err(format!("provided port is not in the valid range. The range of valid ports is {valid}"));
        }
        if !self.taken.insert(port) {
            return Err("provided port is already allocated".to_owned());
        }
        self.own.push(port);
        Ok(())
    }

    fn take_any(&mut self) -> std::result::Result<i32, &'static str> {
        let port = if self.dry_run {
            // Upstream shows a made-up port.
            self.own.iter().max().unwrap_or(&32768) + 1
        } else {
            let taken = |member| i32::try_from(member).is_ok_and(|port| self.taken.contains(&port));
            let chosen = RANGE.choose(&taken, self.random).and_then(|member| i32::try_from(member).ok());
            chosen.ok_or("range is full")?
        };
        self.taken.insert(port);
        self.own.push(port);
        Ok(port)
    }

    fn next_node_port(&mut self) -> Result<i32> {
        self.take_any().map_err(|why| ApiError::internal(format!("failed to allocate a nodePort: {why}")))
    }

    pub fn create(&mut self, service: &mut Service) -> Result<()> {
        let name = service.metadata.name.clone().unwrap_or_default();
        let Some(spec) = &mut service.spec else { return Ok(()) };
        if has_node_ports(spec) {
            self.fill(&name, spec)?;
        }
        if needs_health_check(spec) {
            self.take_health_check(spec)?;
        }
        Ok(())
    }

    /// Ports of one number (of several protocols) share a node port, unless told otherwise.
    fn fill(&mut self, name: &str, spec: &mut ServiceSpec) -> Result<()> {
        let needed = needs_node_ports(spec);
        let ports = spec.ports.get_or_insert_default();
        let mut by_port: BTreeMap<i32, i32> = BTreeMap::new();
        for i in 0..ports.len() {
            let (port, given) = (ports[i].port, ports[i].node_port.unwrap_or(0));
            if given == 0 && !needed {
                continue;
            }
            let refuse = |port: i32, why| Err(refused(name, i, port, why));
            match by_port.get(&port) {
                Some(shared) if given == 0 || given == *shared => ports[i].node_port = Some(*shared),
                Some(_) => self.take(given).or_else(|why| refuse(given, why))?,
                None => {
                    let wanted =
                        ports.iter().filter(|p| p.port == port).find_map(|p| p.node_port.filter(|port| *port != 0));
                    let node_port = match wanted {
                        Some(wanted) => self.take(wanted).or_else(|why| refuse(wanted, why)).map(|()| wanted)?,
                        None => self.next_node_port()?,
                    };
                    ports[i].node_port = Some(node_port);
                    by_port.insert(port, node_port);
                }
            }
        }
        Ok(())
    }

    pub fn update(&mut self, service: &mut Service, old: &ServiceSpec) -> Result<()> {
        let name = service.metadata.name.clone().unwrap_or_default();
        let Some(spec) = &mut service.spec else { return Ok(()) };
        if has_node_ports(spec) {
            self.refill(&name, spec, &node_ports(old))?;
        }
        if needs_health_check(spec) && !needs_health_check(old) {
            self.take_health_check(spec)?;
        }
        Ok(())
    }

    fn refill(&mut self, name: &str, spec: &mut ServiceSpec, old: &BTreeSet<i32>) -> Result<()> {
        let needed = needs_node_ports(spec);
        let mut seen: BTreeSet<(String, i32)> = BTreeSet::new();
        for (i, port) in spec.ports.iter_mut().flatten().enumerate() {
            let node_port = match port.node_port.unwrap_or(0) {
                0 if !needed => continue,
                0 => self.next_node_port()?,
                given => {
                    if !old.contains(&given) && !self.own.contains(&given) {
                        self.take(given).map_err(|why| refused(name, i, given, why))?;
                    }
                    given
                }
            };
            port.node_port = Some(node_port);
            let protocol = port.protocol.clone().unwrap_or_default();
            if !seen.insert((protocol.clone(), node_port)) {
                let why = format!("duplicate nodePort: {{{protocol} {node_port}}}");
                return Err(ApiError::unknown(why));
            }
        }
        Ok(())
    }

    fn take_health_check(&mut self, spec: &mut ServiceSpec) -> Result<()> {
        let given = spec.health_check_node_port.unwrap_or(0);
        if given != 0 {
            return self.take(given).map_err(|why| {
                ApiError::internal(format!("failed to allocate requested HealthCheck NodePort {given}: {why}"))
            });
        }
        let any = self.take_any();
        let port =
            any.map_err(|why| ApiError::internal(format!("failed to allocate a HealthCheck NodePort 0: {why}")))?;
        spec.health_check_node_port = Some(port);
        Ok(())
    }
}

fn refused(name: &str, i: usize, port: i32, why: String) -> ApiError {
    let errors = Errors::from(Error::invalid(Path::new("spec").child("ports").index(i).child("nodePort"), port, why));
    ApiError::invalid("", "Service", name, &errors)
}

/// Node ports that an update leaves open stay what they were, by the name of the port.
pub fn keep(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_node_ports(old) && needs_node_ports(spec) {
        let used: BTreeSet<i32> = node_ports(old).intersection(&node_ports(spec)).copied().collect();
        let before: BTreeMap<&str, i32> = old
            .ports
            .iter()
            .flatten()
            .map(|port| (port.name.as_deref().unwrap_or(""), port.node_port.unwrap_or(0)))
            .collect();
        for port in spec.ports.iter_mut().flatten().filter(|port| port.node_port.unwrap_or(0) == 0) {
            let was = before.get(port.name.as_deref().unwrap_or("")).copied();
            port.node_port = was.filter(|was| *was != 0 && !used.contains(was));
        }
    }
    if needs_health_check(old) && needs_health_check(spec) && spec.health_check_node_port.unwrap_or(0) == 0 {
        spec.health_check_node_port = old.health_check_node_port;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
    }

    /// The ports of the Service, or the message; 30086 is the first that is given to those who ask for any.
    fn ports(taken: &[i32], dry_run: bool, spec: Value, old: Option<Value>) -> String {
        let mut service = service(spec);
        let mut random = |_| 0;
        let mut ports = Ports::new(taken.iter().copied().collect(), dry_run, &mut random);
        let done = match old.and_then(|old| super::tests::service(old).spec) {
            None => ports.create(&mut service),
            Some(old) => {
                keep(service.spec.as_mut().unwrap(), &old);
                ports.update(&mut service, &old)
            }
        };
        if let Err(error) = done {
            return error.message().to_owned();
        }
        let spec = service.spec.unwrap();
        let ports: Vec<i32> = spec.ports.iter().flatten().map(|port| port.node_port.unwrap_or(0)).collect();
        format!("{ports:?} {}", spec.health_check_node_port.unwrap_or(0))
    }

    #[test]
    fn ports_of_a_new_service() {
        let lb = |more: Value| {
            let mut spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let node = |ports: Value| json!({"type": "NodePort", "ports": ports});
        let cases = [
            (false, json!({"ports": [{"port": 80}]}), "[0] 0"),
            (false, node(json!([{"port": 80}, {"port": 81}])), "[30087, 30088] 0"),
            (false, node(json!([{"port": 80}, {"port": 80, "protocol": "UDP"}])), "[30087, 30087] 0"),
            (false, node(json!([{"port": 80}, {"port": 80, "nodePort": 30010}])), "[30010, 30010] 0"),
            (false, lb(json!({})), "[30087] 30088"),
            (false, lb(json!({"allocateLoadBalancerNodePorts": false, "healthCheckNodePort": 30001})), "[0] 30001"),
            (true, lb(json!({})), "[32769] 32770"),
            (
                false,
                node(json!([{"port": 80, "nodePort": 30086}])),
                "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 30086: provided port is already \
                 allocated",
            ),
            (
                false,
                node(json!([{"port": 80, "nodePort": 30001}, {"port": 81, "nodePort": 30001}])),
                "Service \"s\" is invalid: spec.ports[1].nodePort: Invalid value: 30001: provided port is already \
                 allocated",
            ),
            (
                false,
                node(json!([{"port": 80, "nodePort": 80}])),
                "Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the \
                 valid range. The range of valid ports is 30000-32767",
            ),
            (
                false,
                lb(json!({"healthCheckNodePort": 30086})),
                "Internal error occurred: failed to allocate requested HealthCheck NodePort 30086: provided port is \
                 already allocated",
            ),
        ];
        for (dry_run, spec, want) in cases {
            assert_eq!(ports(&[30086], dry_run, spec.clone(), None), want, "{spec}");
        }
    }

    #[test]
    fn ports_of_a_changed_service() {
        let old = json!({"type": "NodePort", "ports": [
            {"port": 80, "name": "a", "nodePort": 30001}, {"port": 81, "name": "b", "nodePort": 30002},
        ]});
        let node = |ports: Value| json!({"type": "NodePort", "ports": ports});
        let cases = [
            (node(json!([{"port": 90, "name": "a"}, {"port": 81, "name": "c"}])), "[30001, 30086] 0"),
            (
                node(json!([{"port": 90, "name": "b"}, {"port": 81, "name": "c", "nodePort": 30002}])),
                "[30086, 30002] 0",
            ),
            (
                node(json!([
                    {"port": 80, "name": "a", "protocol": "TCP", "nodePort": 30003},
                    {"port": 80, "name": "b", "protocol": "UDP", "nodePort": 30003},
                ])),
                "[30003, 30003] 0",
            ),
            (
                node(
                    json!([{"port": 80, "name": "a", "nodePort": 30001}, {"port": 81, "name": "b", "nodePort": 30001}]),
                ),
                "duplicate nodePort: { 30001}",
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "name": "a"}]}),
                "[30001] 30086",
            ),
        ];
        for (spec, want) in cases {
            assert_eq!(ports(&[30001, 30002], false, spec.clone(), Some(old.clone())), want, "{spec}");
        }
    }
}
