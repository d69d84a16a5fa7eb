//! Cluster addresses and node ports of Services.

use std::{collections::HashSet, net::IpAddr};

use crds::{
    field::{Error, Errors, Path},
    given::Items,
    kind::{Definition, Kind},
    syntax,
};
use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{Endpoints, Service, ServiceSpec},
    networking::v1::{IPAddress, ServiceCIDR},
};
use serde_json::Value;

use super::{
    Allocator, Held,
    address::{self, Blocks},
    family::{self, has_addresses, is_headless, is_settled},
    node_port,
    port::{self, Ports},
};
use crate::{
    cache::{Object, key_of},
    error::{ApiError, Result},
    metadata,
    world::World,
};

pub struct Services;

impl Allocator for Services {
    fn is_for(&self, definition: &Definition) -> bool {
        definition.gvk.group.is_empty() && definition.plural == Service::ABOUT.plural
    }

    fn allocate<'a>(
        &'a self,
        object: &'a mut Value,
        old: Option<&'a Value>,
        dry_run: bool,
        world: &'a World,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut service = decode(object)?;
            let old = old.map(decode).transpose()?.and_then(|old| old.spec);
            allocate(&mut service, old.as_ref(), dry_run, world).await?;
            if let Some(spec) = &service.spec {
                object["spec"] = serde_json::to_value(spec).map_err(ApiError::internal)?;
            }
            Ok(())
        })
    }

    fn held(&self, object: &Value, world: &World) -> Result<Held> {
        let service = decode(object)?;
        let (namespace, name) = (metadata::text(object, "namespace"), metadata::text(object, "name"));
        let addresses = service.spec.as_ref().map(address::of).unwrap_or_default();
        let claim = |ip| (address::key(ip), address::object(ip, namespace, name, world));
        let node_ports = port::held(&service).filter(|port| node_port::PORTS.contains(port)).collect();
        Ok(Held { claims: addresses.into_iter().map(claim).collect(), node_ports })
    }

    /// A new Service of the same name shall not find the Endpoints of this one.
    fn ends_with(&self, object: &Value) -> Vec<String> {
        let (namespace, name) = (metadata::text(object, "namespace"), metadata::text(object, "name"));
        vec![key_of(Endpoints::ABOUT.storage_prefix, namespace, name)]
    }
}

fn decode(object: &Value) -> Result<Service> {
    serde::Deserialize::deserialize(object).map_err(|e: serde_json::Error| ApiError::bad_request(e.to_string()))
}

async fn allocate(service: &mut Service, old: Option<&ServiceSpec>, dry_run: bool, world: &World) -> Result<()> {
    let name = service.metadata.name.clone().unwrap_or_default();
    let spec = service.spec.get_or_insert_default();
    if let Some(old) = old {
        family::keep(spec, old);
        port::keep(spec, old);
    }
    family::level(spec, old);
    let blocks = blocks(world).await?;
    let invalid = |errors: Errors| ApiError::invalid("", "Service", &name, &errors);
    family::settle(spec, old, &blocks.families).map_err(invalid)?;
    if needs_addresses(spec, old) {
        take_addresses(spec, &name, &blocks, dry_run, world).await?;
    }
    if !port::has_node_ports(spec) {
        return Ok(());
    }
    let taken = node_port::Taken::load(world).await?.ports;
    let mut random = |bound| world.random.below(bound);
    let mut ports = Ports::new(taken, dry_run, &mut random);
    match old {
        None => ports.create(service),
        Some(old) => ports.update(service, old),
    }
}

/// Whether there is an address to be taken: a Service that is new, comes from ExternalName, or gets a second family.
fn needs_addresses(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> bool {
    if !has_addresses(spec) {
        return false;
    }
    let Some(old) = old else { return !is_headless(spec) };
    if !has_addresses(old) {
        return !is_headless(spec);
    }
    let grows = old.ip_families.items().len() == 1 && spec.ip_families.items().len() == 2;
    grows && !is_headless(old) && !is_settled(spec, Some(old))
}

/// An address for each family: those that are given, if they are free, and any where none is.
async fn take_addresses(
    spec: &mut ServiceSpec,
    name: &str,
    blocks: &Blocks,
    dry_run: bool,
    world: &World,
) -> Result<()> {
    let families = spec.ip_families.items().to_vec();
    let mut ips = spec.cluster_ips.take().unwrap_or_default();
    let own = ips.clone();
    ips.resize(families.len().max(ips.len()), String::new());
    for (i, family) in families.iter().enumerate() {
        if ips[i].is_empty() {
            ips[i] = any_address(blocks, family, name, dry_run, world).await?.to_string();
            continue;
        }
        if let Some(why) = refuse(blocks, &ips[i], dry_run, world).await? {
            let why = format!("failed to allocate IP {}: {why}", ips[i]);
            let errors = Errors::from(Error::invalid(Path::new("spec").child("clusterIPs"), own, why));
            return Err(ApiError::invalid("", "Service", name, &errors));
        }
    }
    spec.cluster_ip = ips.first().cloned();
    spec.cluster_ips = Some(ips);
    Ok(())
}

async fn refuse(blocks: &Blocks, ip: &str, dry_run: bool, world: &World) -> Result<Option<String>> {
    let Some(address) = syntax::parse_ip(ip) else {
        return Err(ApiError::internal(format!("failed to parse service IP {ip:?}")));
    };
    if let Some(why) = blocks.refuse(address, dry_run) {
        return Ok(Some(why));
    }
    let taken = !dry_run && is_taken(address, world).await?;
    Ok(taken.then(|| "provided IP is already allocated".to_owned()))
}

async fn any_address(blocks: &Blocks, family: &str, name: &str, dry_run: bool, world: &World) -> Result<IpAddr> {
    let known = world.cache.prefix(IPAddress::ABOUT.storage_prefix);
    // The cache may lag behind what has just been taken.
    let mut newer: HashSet<IpAddr> = HashSet::new();
    for block in blocks.of_family(family) {
        if dry_run {
            // Upstream shows an address that nobody gets.
            return Ok(block.network);
        }
        let choose = |newer: &HashSet<IpAddr>| {
            let taken = |ip: IpAddr| newer.contains(&ip) || known.get("", &ip.to_string()).is_some();
            block.choose(&taken, &mut |bound| world.random.below(bound))
        };
        while let Some(address) = choose(&newer) {
            if !is_taken(address, world).await? {
                return Ok(address);
            }
            newer.insert(address);
        }
    }
    Err(ApiError::internal(format!("failed to allocate a serviceIP for Service {name:?}: range is full")))
}

async fn is_taken(address: IpAddr, world: &World) -> Result<bool> {
    let entry = world.store.get(&address::key(address)).await.map_err(ApiError::from_store)?;
    Ok(entry.is_some())
}

/// As they are stored: a new range counts at once.
async fn blocks(world: &World) -> Result<Blocks> {
    let prefix = key_of(ServiceCIDR::ABOUT.storage_prefix, "", "");
    let page = world.store.range(&prefix, None, 0, None).await.map_err(ApiError::from_store)?;
    let ranges: Result<Vec<ServiceCIDR>> = page.entries.iter().map(|entry| Object::new(entry)?.decode()).collect();
    Ok(Blocks::new(ranges?))
}
