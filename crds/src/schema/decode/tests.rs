//! Samples of what Go's decoder does.

use serde_json::json;

use super::*;
use crate::schema::builtin;

fn decode(version: &str, kind: &str, text: &str) -> Result<Decoded, DecodeError> {
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    super::json(builtin(), builtin().kind(group, version, kind).unwrap(), text.as_bytes())
}

fn problem(version: &str, kind: &str, text: &str) -> String {
    decode(version, kind, text).unwrap_err().to_string()
}

#[test]
fn strict() {
    let pod = r#"{"spec":{"gadget":1,"containers":[{"name":"c","ports":[{"gizmo":{"a":1,"a":2}}]},{"name":"d","widget":{},"widget":1}]},"Spec":{}}"#;
    assert_eq!(
        decode("v1", "Pod", pod).unwrap().strict,
        [
            "unknown field \"spec.gadget\"",
            "unknown field \"spec.containers[0].ports[0].gizmo\"",
            "unknown field \"spec.containers[1].widget\"",
            "unknown field \"Spec\"",
        ]
    );
    let map = decode("v1", "ConfigMap", r#"{"data":{"k":"v","k":"w"},"data":{"k":"x","l":"y"}}"#).unwrap();
    assert_eq!(map.strict, ["duplicate field \"data.k\"", "duplicate field \"data\""]);
    assert_eq!(map.value, json!({"data": {"k": "x", "l": "y"}}));
}

#[test]
fn duplicates() {
    let pod = decode("v1", "Pod", r#"{"spec":{"nodeName":"a","containers":[{"name":"x","image":"i"},{"name":"y"}]},"spec":{"nodeName":null,"containers":[{"name":"z"}]}}"#).unwrap();
    assert_eq!(pod.value, json!({"spec": {"nodeName": "a", "containers": [{"name": "z", "image": "i"}]}}));
}

#[test]
fn nulls() {
    let map = decode(
        "v1",
        "ConfigMap",
        r#"{"data":{"k":null},"binaryData":null,"metadata":{"name":null,"finalizers":[null]}}"#,
    );
    assert_eq!(map.unwrap().value, json!({"data": {"k": ""}, "metadata": {"finalizers": [""]}}));
}

#[test]
fn mismatches() {
    for (version, kind, text, want) in [
        (
            "v1",
            "ConfigMap",
            r#"{"data":{"a":1}}"#,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            "v1",
            "Service",
            r#"{"metadata":{"labels":{"a":true}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "v1",
            "Service",
            r#"{"metadata":{"labels":"a"}}"#,
            "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "apps/v1",
            "Deployment",
            r#"{"spec":{"replicas":4294967296}}"#,
            "json: cannot unmarshal number 4294967296 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "apps/v1",
            "Deployment",
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}"#,
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"restartPolicy":[]}}"#,
            "json: cannot unmarshal array into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"volumes":[{"secret":1}]}}"#,
            "json: cannot unmarshal number into Go struct field Volume.spec.volumes.VolumeSource.secret of type v1.SecretVolumeSource",
        ),
        ("v1", "Pod", "[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            "v1",
            "PersistentVolumeClaim",
            r#"{"spec":{"accessModes":[1]}}"#,
            "json: cannot unmarshal number into Go struct field PersistentVolumeClaimSpec.spec.accessModes of type v1.PersistentVolumeAccessMode",
        ),
        ("v1", "Secret", r#"{"data":{"a":"!"}}"#, "illegal base64 data at input byte 0"),
        (
            "v1",
            "Service",
            r#"{"spec":{"ports":[{"targetPort":1.5}]}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]},"metadata":{"name":1}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "v1",
            "Pod",
            r#"{"metadata":{"creationTimestamp":1}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"a":{"additionalProperties":1}}}}}]}}"#,
            "boolean or JSON schema expected",
        ),
    ] {
        assert_eq!(problem(version, kind, text), want, "{text}");
    }
    assert_eq!(problem("v1", "Pod", "{\"metadata\":{\"name\":1}"), "unexpected end of JSON input");
}

#[test]
fn conversions() {
    let pod = builtin().kind("", "v1", "Pod").unwrap();
    let converted = |object| converted(builtin(), pod, &object).map(|d| d.value).map_err(|e| e.to_string());
    for (object, want) in [
        (json!({"spec": []}), "cannot restore struct from: slice"),
        (json!({"spec": {"containers": {}}}), "cannot restore slice from map"),
        (json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
        (json!({"metadata": {"labels": {"a": 1}}}), "cannot convert int64 to string"),
        (json!({"spec": {"restartPolicy": 1}}), "cannot convert int64 to v1.RestartPolicy"),
        (json!({"spec": {"priority": "x"}}), "unrecognized type: int32"),
        (json!({"spec": {"priority": 1.5}}), "cannot convert float64 to int32"),
        (json!({"spec": {"hostNetwork": {}}}), "unrecognized type: bool"),
    ] {
        assert_eq!(converted(object).unwrap_err(), want);
    }
    let cut = converted(json!({"spec": {"priority": 3000000000u32, "activeDeadlineSeconds": 3.0}}));
    assert_eq!(cut.unwrap(), json!({"spec": {"priority": -1294967296, "activeDeadlineSeconds": 3}}));
}

#[test]
fn canonical_scalars() {
    let pod = decode("v1", "Pod", r#"{"metadata":{"creationTimestamp":"2026-01-02T03:04:05.6+01:00"},"spec":{"overhead":{"cpu":0.5,"memory":"1024Mi"}}}"#).unwrap();
    assert_eq!(
        pod.value,
        json!({"metadata": {"creationTimestamp": "2026-01-02T02:04:05Z"}, "spec": {"overhead": {"cpu": "500m", "memory": "1Gi"}}})
    );
}

#[test]
fn schemas() {
    let crd = r#"{"spec":{"versions":[{"schema":{"openAPIV3Schema":{"items":{"type":"string","gadget":1},"default":{"b":[1,2.5]},"additionalProperties":false,"$ref":"x"}}}]}}"#;
    let crd = decode("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd).unwrap();
    assert_eq!(
        crd.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        json!({"items": {"type": "string"}, "default": {"b": [1, 2.5]}, "additionalProperties": false, "$ref": "x"})
    );
    assert!(crd.strict.is_empty());
}

#[test]
fn kinds() {
    assert_eq!(kind(br#"{"kind":"Pod","apiVersion":"v1","x":[{}]}"#).unwrap(), ("v1".to_owned(), "Pod".to_owned()));
    assert_eq!(kind(b"{}").unwrap(), (String::new(), String::new()));
    assert!(matches!(kind(b"{"), Err(DecodeError::Syntax(_))));
    let wrong = kind(br#"{"kind":1}"#).unwrap_err().to_string();
    assert_eq!(wrong, "json: cannot unmarshal number into Go struct field .kind of type string");
}

#[test]
fn untyped() {
    let box_ = any(br#"{"spec":{"a":1,"a":2},"n":1e3,"big":12345678901234567890}"#).unwrap();
    assert_eq!(box_.strict, ["duplicate field \"spec.a\""]);
    assert_eq!(box_.value, json!({"spec": {"a": 2}, "n": 1000.0, "big": 12345678901234567890.0}));
}

#[test]
fn never_panics() {
    let text =
        r#"{"metadata":{"name":"a","labels":{"\u00e9":"\ud83d"}},"spec":{"containers":[{"name":"c","ports":[1]}]}}"#;
    for end in 0..text.len() {
        assert!(decode("v1", "Pod", &text[..end]).is_err());
    }
    let mut bytes = text.as_bytes().to_vec();
    for at in 0..bytes.len() {
        for c in [0, b'"', b'{', b']', b'\\', 0xff] {
            let kept = std::mem::replace(&mut bytes[at], c);
            let _outcome = json(builtin(), builtin().kind("", "v1", "Pod").unwrap(), &bytes);
            bytes[at] = kept;
        }
    }
}

#[test]
fn null_bytes_in_a_map_are_none() {
    let secret = decode("v1", "Secret", r#"{"data":{"a":null,"b":"YQ=="},"type":"Opaque"}"#).unwrap();
    assert_eq!(secret.value["data"], json!({"a": "", "b": "YQ=="}));
}
