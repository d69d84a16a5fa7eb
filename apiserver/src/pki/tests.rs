use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn names() -> Names {
    Names {
        host: "machine".into(),
        service_ip: Some("10.0.0.1".parse().unwrap()),
        addresses: vec!["192.0.2.7".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        ..Names::default()
    }
}

fn after_days(days: i64) -> Timestamp {
    Timestamp::from_second(START.as_second() + days * 86_400).unwrap()
}

#[test]
fn a_second_start_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pki::open(dir.path(), &names(), START).unwrap();
    let again = Pki::open(dir.path(), &names(), after_days(300)).unwrap();
    assert_eq!(first.serving, again.serving);
    assert_eq!(first.authority.certificate, again.authority.certificate);
    assert_eq!(first.token_key, again.token_key);
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    for key in ["ca.key", "front-proxy-ca.key", "apiserver.key", "apiserver-kubelet-client.key", "sa.key"] {
        assert_eq!(mode(key), 0o600, "{key}");
    }
    assert_eq!(mode("."), 0o700);
}

#[test]
fn what_must_be_renewed_is() {
    type Change = fn(&Path, &mut Names) -> Timestamp;
    let cases: [(&str, Change); 4] = [
        ("near its end", |_, _| after_days(340)),
        ("a new address", |_, names| {
            names.addresses.push("192.0.2.8".parse().unwrap());
            START
        }),
        ("another key", |dir, _| {
            fs::remove_file(dir.join("apiserver.key")).unwrap();
            START
        }),
        ("another authority", |dir, _| {
            fs::remove_file(dir.join("ca.key")).unwrap();
            fs::remove_file(dir.join("ca.crt")).unwrap();
            START
        }),
    ];
    for (case, change) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut names = names();
        let first = Pki::open(dir.path(), &names, START).unwrap();
        let now = change(dir.path(), &mut names);
        let again = Pki::open(dir.path(), &names, now).unwrap();
        assert_ne!(first.serving.certificate, again.serving.certificate, "{case}");
    }
}

#[test]
fn the_serving_certificate_names_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), &names(), START).unwrap();
    let (der, _) = pki.serving.der().unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(&der).unwrap();
    let sans = read.subject_alternative_name().unwrap().unwrap();
    let there: Vec<_> = sans.value.general_names.iter().filter_map(general_name).collect();
    for name in
        ["kubernetes.default.svc.cluster.local", "localhost", "machine", "127.0.0.1", "::1", "10.0.0.1", "192.0.2.7"]
    {
        assert!(there.iter().any(|n| n == name), "{name} in {there:?}");
    }
}

#[test]
fn damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    Pki::open(dir.path(), &names(), START).unwrap();
    fs::write(dir.path().join("ca.key"), "rubbish").unwrap();
    let Err(error) = Pki::open(dir.path(), &names(), START) else { panic!("a damaged key was read") };
    assert!(matches!(&error, PkiError::Damaged { path, .. } if path.ends_with("ca.key")), "{error}");
}

#[test]
fn kubeconfigs_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), &names(), START).unwrap();
    let admin = pki.issue(&Subject::admin(), START).unwrap();
    let path = dir.path().join("admin.kubeconfig");
    pki.write_kubeconfig(&path, "admin", &admin, "https://127.0.0.1:6443").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let config: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert!(!format!("{admin:?}").contains("PRIVATE"));
}
