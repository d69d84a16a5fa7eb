//! Ports of containers.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Container, ContainerPort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::one_of;
use crate::{
    field::{Error, Errors, Path, extend, extend_number},
    given::{Items, Text},
    syntax,
};

pub fn validate(ports: &[ContainerPort], path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = port.name.text();
        if !name.is_empty() {
            let wrong = syntax::port_name(name);
            if !wrong.is_empty() {
                extend(errors, path.child("name"), name, wrong);
            } else if !names.insert(name) {
                errors.push(Error::duplicate(path.child("name"), name));
            }
        }
        match port.container_port {
            0 => errors.push(Error::required(path.child("containerPort"), "")),
            n => extend_number(errors, path.child("containerPort"), n.into(), syntax::port_number(n.into())),
        }
        if let Some(n) = port.host_port.filter(|n| *n != 0) {
            extend_number(errors, path.child("hostPort"), n.into(), syntax::port_number(n.into()));
        }
        one_of(port.protocol.text(), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
    }
}

/// No two containers can have one port of the node.
pub fn host_conflicts(containers: &[Container], path: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let path = path.index(i);
        let list = path.child("ports");
        for (i, port) in container.ports.items().iter().enumerate() {
            let host = port.host_port.unwrap_or(0);
            if host == 0 {
                continue;
            }
            let shown = format!("{}/{}/{host}", port.protocol.text(), port.host_ip.text());
            if !taken.insert(shown.clone()) {
                let path = list.index(i);
                errors.push(Error::duplicate(path.child("hostPort"), shown));
            }
        }
    }
}

/// The port of a probe or a Service's target: a number, or the name of a container's port.
pub fn number_or_name(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(n) => extend_number(errors, *path, (*n).into(), syntax::port_number((*n).into())),
        IntOrString::String(name) => extend(errors, *path, name, syntax::port_name(name)),
    }
}
