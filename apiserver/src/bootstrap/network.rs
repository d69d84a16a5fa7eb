//! How the cluster reaches its API server: the `kubernetes` Service, its endpoints, and the range of service addresses.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Cluster, Keep, Wanted};

pub fn service_ranges(cluster: &Cluster) -> [Wanted; 1] {
    let kind = ("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR");
    let object = json!({"spec": {"cidrs": cluster.service_ranges}});
    let condition = json!({
        "type": "Ready", "status": "True", "message": "Kubernetes default Service CIDR is ready",
    });
    let status = json!({"conditions": [condition]});
    let range = Wanted::new(kind, "", "kubernetes", object, Keep::AsItIs);
    [range.with_status(status).applied_by("kubernetes-service-cidr-controller")]
}

pub fn kubernetes(cluster: &Cluster) -> [Wanted; 3] {
    [
        Wanted::new(("", "v1", "services", "Service"), "default", "kubernetes", service(cluster), Keep::AsItIs),
        Wanted::new(
            ("", "v1", "endpoints", "Endpoints"),
            "default",
            "kubernetes",
            endpoints(cluster),
            Keep::Fields(&["subsets"]),
        ),
        Wanted::new(
            ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
            "default",
            "kubernetes",
            endpoint_slice(cluster),
            Keep::Fields(&["endpoints", "ports"]),
        ),
    ]
}

fn service(cluster: &Cluster) -> Value {
    let ip = cluster.service_ip.to_string();
    json!({
        "metadata": {"labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": ip, "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": cluster.port}],
            "sessionAffinity": "None", "type": "ClusterIP",
        },
    })
}

fn ports(cluster: &Cluster) -> Value {
    json!([{"name": "https", "port": cluster.port, "protocol": "TCP"}])
}

fn endpoints(cluster: &Cluster) -> Value {
    let addresses = cluster.addresses.iter().map(|address| json!({"ip": address.to_string()}));
    json!({
        // The slice below is kept by ourselves, not mirrored.
        "metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": addresses.collect::<Vec<_>>(), "ports": ports(cluster)}],
    })
}

fn endpoint_slice(cluster: &Cluster) -> Value {
    let endpoint = |address: &IpAddr| json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
    json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if cluster.address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": cluster.addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": ports(cluster),
    })
}
