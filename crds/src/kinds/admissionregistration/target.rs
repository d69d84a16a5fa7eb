//! Where a webhook is: a URL or a Service.

use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;

use crate::{
    field::{self, Error, Errors, Path},
    syntax,
    url::Url,
};

const FORM: &str = "; desired format: https://host[/path]";
const PORT: i32 = 443;

pub fn set_defaults(target: &mut WebhookClientConfig) {
    if let Some(service) = &mut target.service {
        service.port.get_or_insert(PORT);
    }
}

pub fn validate(target: &WebhookClientConfig, path: &Path, errors: &mut Errors) {
    match (&target.url, &target.service) {
        (Some(url), None) => validate_url(url, &path.child("url"), errors),
        (None, Some(service)) => {
            let port = service.port.unwrap_or(PORT);
            let route = service.path.as_deref();
            validate_service(&service.name, &service.namespace, route, port, &path.child("service"), errors);
        }
        _ => errors.push(Error::required(*path, "exactly one of url or service is required")),
    }
}

pub fn validate_url(url: &str, path: &Path, errors: &mut Errors) {
    let Url { scheme, user, host, query, fragment, .. } = match Url::parse(url) {
        Ok(url) => url,
        Err(why) => {
            errors.push(Error::required(*path, format!("url must be a valid URL: {why}{FORM}")));
            return;
        }
    };
    if scheme != "https" {
        errors.push(Error::invalid(*path, scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if host.is_empty() {
        errors.push(Error::invalid(*path, host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(Error::invalid(*path, user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(Error::invalid(*path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(Error::invalid(*path, query, "query parameters are not permitted in the URL"));
    }
}

pub fn validate_service(name: &str, namespace: &str, route: Option<&str>, port: i32, path: &Path, errors: &mut Errors) {
    // Upstream takes one for the other here.
    if namespace.is_empty() {
        errors.push(Error::required(path.child("name"), ""));
    }
    if name.is_empty() {
        errors.push(Error::required(path.child("namespace"), ""));
    }
    let wrong = syntax::port_number(port.into());
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        errors.push(Error::invalid(path.child("port"), port, why));
    }
    if let Some(route) = route {
        validate_route(route, &path.child("path"), errors);
    }
}

fn validate_route(route: &str, path: &Path, errors: &mut Errors) {
    match route {
        "" | "/" => return,
        "//" => {
            errors.push(Error::invalid(*path, route, "segment[0] may not be empty"));
            return;
        }
        _ => {}
    }
    if !route.starts_with('/') {
        errors.push(Error::invalid(*path, route, "must start with a '/'"));
    }
    let mut rest = route.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(*path, route, format!("segment[{i}] may not be empty")));
            continue;
        }
        let wrong = field::dns_subdomain(step).into_iter();
        errors.extend(wrong.map(|why| Error::invalid(*path, route, format!("segment[{i}]: {why}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, want) in [
            ("https://a.example.com/x", 0),
            ("http://a", 1),
            ("https://", 1),
            ("https://u:p@h/x?q=1#f", 3),
            ("a.example.com", 2),
        ] {
            let mut errors = Errors::new();
            validate_url(url, &Path::new("url"), &mut errors);
            assert_eq!(errors.len(), want, "{url}: {errors:?}");
        }
    }
}
