//! The kernel takes the rules: in a network namespace of the test's own, made without privileges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use proxy::{
    rules::rules,
    ruleset::Family,
    service::{Endpoint, Protocol, ServicePort},
};

fn everything() -> Vec<ServicePort> {
    let port = |protocol, local, last: u8| ServicePort {
        namespace: "default".into(),
        name: format!("web-{last}"),
        port_name: "http".into(),
        protocol,
        cluster_ips: vec![[10, 96, 0, last].into(), [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into()],
        port: 80,
        node_port: Some(30000 + u16::from(last)),
        external_ips: vec![[192, 0, 2, last].into()],
        load_balancer_ips: vec![[198, 51, 100, last].into()],
        source_ranges: vec!["203.0.113.0/24".parse().unwrap()],
        affinity_seconds: Some(10800),
        internal_local: false,
        external_local: local,
        endpoints: vec![
            Endpoint { address: [10, 244, 0, last].into(), port: 8080, local: true },
            Endpoint { address: [0xfd01, 0, 0, 0, 0, 0, 0, 5].into(), port: 8080, local: false },
        ],
    };
    vec![port(Protocol::Tcp, false, 1), port(Protocol::Udp, true, 2), port(Protocol::Sctp, false, 3)]
}

#[test]
fn every_transition_is_accepted() {
    let cidrs = ["10.244.0.0/16".parse().unwrap(), "fd01::/64".parse().unwrap()];
    let full = everything();
    let mut without_endpoints = everything();
    without_endpoints[0].endpoints.clear();
    let mut script = String::new();
    for family in Family::ALL {
        let steps = [
            rules(&full, &cidrs, family),
            rules(&without_endpoints, &cidrs, family),
            rules(&full[1..], &cidrs, family),
        ];
        script += &steps[0].replace(family);
        script += &steps[1].difference(&steps[0], family);
        script += &steps[2].difference(&steps[1], family);
        script += &rules(&[], &cidrs, family).difference(&steps[2], family);
        script += &steps[0].difference(&rules(&[], &cidrs, family), family);
    }
    let mut nft = Command::new("unshare")
        .args(["--map-root-user", "--net", "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = nft.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
