//! Secret (core/v1).

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::{Map, Value, json};

use super::config_map::{FROZEN, SIZE_MAX};
use crate::{
    field::{Error, Errors, Path, extend},
    given::Text,
    kind::{AGE, About, Kind, NAME, Prose, Request, column},
    meta,
    schema::decode::scan::Scanner,
    syntax, table,
};

const DATA: Path = Path::new("data");
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const TLS: &str = "kubernetes.io/tls";

impl Kind for Secret {
    const ABOUT: About = About {
        columns: &[
            NAME,
            column("Type", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Secret", "type")),
            column("Data", "string", "", 0, Prose::Field("io.k8s.api.core.v1.Secret", "data")),
            AGE,
        ],
        selectable: &["type"],
        ..About::new("secrets", "secret")
    };

    fn set_defaults(&mut self) {
        if let Some(texts) = self.string_data.take() {
            let data = self.data.get_or_insert_default();
            data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
        self.type_.or_set("Opaque");
    }

    fn validate_create(&self, _request: &Request, errors: &mut Errors) {
        validate(self, errors);
    }

    fn validate_update(&self, old: &Self, _request: &Request, errors: &mut Errors) {
        if self.type_ != old.type_ {
            errors.push(Error::invalid(Path::new("type"), self.type_.text(), meta::IMMUTABLE));
        }
        if old.immutable == Some(true) {
            if self.immutable != Some(true) {
                errors.push(Error::forbidden(Path::new("immutable"), FROZEN));
            }
            if self.data != old.data {
                errors.push(Error::forbidden(DATA, FROZEN));
            }
        }
        meta::create_of(self, errors);
        validate(self, errors);
    }

    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let warning = tls_warning(self).filter(|_| self.type_.text() == TLS);
        warning.into_iter().map(str::to_owned).collect()
    }

    fn selectable(&self, path: &str) -> String {
        if path == "type" { self.type_.text().to_owned() } else { String::new() }
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            json!(self.metadata.name),
            json!(self.type_.text()),
            json!(self.data.iter().flatten().count()),
            json!(table::age(&self.metadata, now)),
        ]
    }
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice())
}

fn validate(secret: &Secret, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in secret.data.iter().flatten() {
        extend(errors, DATA.key(key), key, syntax::config_key(key));
        size += value.0.len();
    }
    if size > SIZE_MAX {
        errors.push(Error::too_long(DATA, SIZE_MAX as i64));
    }
    let required = |key: &str, errors: &mut Errors| errors.push(Error::required(DATA.key(key), ""));
    let missing = |key: &str| value(secret, key).is_none();
    match secret.type_.text() {
        "kubernetes.io/service-account-token" => {
            let account = secret.metadata.annotations.as_ref().and_then(|a| a.get(SERVICE_ACCOUNT_NAME));
            if account.is_none_or(String::is_empty) {
                let path = Path::new("metadata");
                let path = path.child("annotations");
                errors.push(Error::required(path.key(SERVICE_ACCOUNT_NAME), ""));
            }
        }
        "kubernetes.io/dockercfg" => json_object(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_object(secret, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            required("username", errors);
            required("password", errors);
        }
        "kubernetes.io/ssh-auth" if value(secret, "ssh-privatekey").is_none_or(<[u8]>::is_empty) => {
            required("ssh-privatekey", errors);
        }
        TLS => {
            for key in ["tls.crt", "tls.key"] {
                if missing(key) {
                    required(key, errors);
                }
            }
        }
        _ => {}
    }
}

fn json_object(secret: &Secret, key: &str, errors: &mut Errors) {
    let Some(bytes) = value(secret, key) else {
        errors.push(Error::required(DATA.key(key), ""));
        return;
    };
    let mut wrong = |why: String| errors.push(Error::invalid(DATA.key(key), "<secret contents redacted>", why));
    let text = String::from_utf8_lossy(bytes);
    let mut scanner = Scanner::new(&text);
    if let Err(error) = scanner.skip().and_then(|_| scanner.finish()) {
        return wrong(error.to_string());
    }
    if serde_json::from_slice::<Option<Map<String, Value>>>(bytes).is_err() {
        let is = match serde_json::from_slice::<Value>(bytes) {
            Ok(Value::Array(_)) => "array",
            Ok(Value::String(_)) => "string",
            Ok(Value::Bool(_)) => "bool",
            _ => "number",
        };
        wrong(format!("json: cannot unmarshal {is} into Go value of type map[string]interface {{}}"));
    }
}

/// What is wrong with certificate and key at first sight; what is in them is not looked into.
fn tls_warning(secret: &Secret) -> Option<&'static str> {
    let is_pem = |key| {
        let marker = b"-----BEGIN ";
        value(secret, key).is_some_and(|bytes| bytes.windows(marker.len()).any(|part| part == marker))
    };
    match (is_pem("tls.crt"), is_pem("tls.key")) {
        (false, _) => Some("tls: failed to find any PEM data in certificate input"),
        (_, false) => Some("tls: failed to find any PEM data in key input"),
        _ => None,
    }
}
