//! Names and addresses that a Pod sees, and what it shares with its node.

use k8s_openapi::api::core::v1::PodSpec;

use super::containers;
use crate::{
    field::{self, Error, Errors, Path, extend},
    given::{Items, Text},
    syntax,
};

pub fn dns_config(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let alone = spec.dns_policy.text() == "None";
    let Some(config) = &spec.dns_config else {
        if alone {
            errors.push(Error::required(*path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    };
    let (servers, searches) = (config.nameservers.items(), config.searches.items());
    let servers_path = path.child("nameservers");
    if alone && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(Error::required(servers_path, why));
        return;
    }
    if servers.len() > 3 {
        errors.push(Error::invalid(servers_path, servers.to_vec(), "must not have more than 3 nameservers"));
    }
    for (i, server) in servers.iter().enumerate() {
        extend(errors, servers_path.index(i), server, syntax::ip(server));
    }
    let list = path.child("searches");
    if searches.len() > 32 {
        errors.push(Error::invalid(list, searches.to_vec(), "must not have more than 32 search paths"));
    }
    if searches.join(" ").len() > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(Error::invalid(list, searches.to_vec(), why));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        extend(errors, list.index(i), search, syntax::dns_search(search));
    }
    let list = path.child("options");
    for (i, _) in config.options.items().iter().enumerate().filter(|(_, o)| o.name.text().is_empty()) {
        errors.push(Error::required(list.index(i), "must not be empty"));
    }
}

pub fn aliases(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    for (i, alias) in spec.host_aliases.items().iter().enumerate() {
        let path = path.index(i);
        extend(errors, path.child("ip"), &alias.ip, syntax::ip(&alias.ip));
        let list = path.child("hostnames");
        for (i, name) in alias.hostnames.items().iter().enumerate() {
            extend(errors, list.index(i), name, field::dns_subdomain(name));
        }
    }
}

/// A Pod with users of its own cannot share the node's namespaces.
pub fn users(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    if spec.host_users != Some(false) {
        return;
    }
    let why = "when `hostUsers` is false";
    for (name, shared) in [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)] {
        if shared == Some(true) {
            errors.push(Error::forbidden(path.child(name), why));
        }
    }
    for seen in containers::all(spec).filter(|seen| !seen.container.volume_devices.items().is_empty()) {
        let list = path.child(seen.list);
        let path = list.index(seen.index);
        errors.push(Error::forbidden(path.child("volumeDevices"), why));
    }
}

pub fn name_override(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let Some(name) = &spec.hostname_override else {
        return;
    };
    let path = path.child("hostnameOverride");
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.push(Error::forbidden(path, "may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.host_network == Some(true) {
        errors.push(Error::forbidden(path, "may not be specified when hostNetwork is true"));
    }
    if name.len() > 64 {
        errors.push(Error::too_long(path, 64));
    }
    extend(errors, path, name, field::dns_subdomain(name));
}
