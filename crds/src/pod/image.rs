//! References to images: which tag one names, and whether it is pulled each time.

use std::sync::LazyLock;

use regex::Regex;

const DOMAIN: &str = r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?";
const PART: &str = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";
const DIGEST: &str = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";

const REPOSITORY_LENGTH_MAX: usize = 255;

static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(&format!(r"^((?:{DOMAIN}/)?{PART}(?:/{PART})*)(?::([\w][\w.-]{{0,127}}))?(?:@({DIGEST}))?$")).ok()
});

/// The tag of a reference: `latest` where neither tag nor digest is given, nothing where it is no valid reference.
pub fn tag(image: &str) -> Option<&str> {
    let is_id = image.len() == 64 && image.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
    let found = REFERENCE.as_ref()?.captures(image).filter(|_| !is_id)?;
    if repository_length(&found[1]) > REPOSITORY_LENGTH_MAX {
        return None;
    }
    // The first part is a registry only if it looks like one; `foo/bar:80/x` has a port, so it does.
    match (found.get(2), found.get(3)) {
        (Some(tag), _) => Some(tag.as_str()),
        (None, None) => Some("latest"),
        (None, Some(_)) => None,
    }
}

/// Of what is behind the registry; images of the one that is meant where none is named are in its `library`.
fn repository_length(name: &str) -> usize {
    match name.split_once('/') {
        None => "library/".len() + name.len(),
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || first != first.to_lowercase() => {
            rest.len()
        }
        Some(_) => name.len(),
    }
}

/// What `imagePullPolicy` is if it is not given.
pub fn default_pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let digest = format!("nginx@sha256:{}", "0".repeat(64));
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.25", "IfNotPresent"),
            ("registry.example:5000/x/nginx", "Always"),
            ("registry.example:5000/x/nginx:v1", "IfNotPresent"),
            (digest.as_str(), "IfNotPresent"),
            (" nginx", "IfNotPresent"),
            ("Nginx", "IfNotPresent"),
            ("", "IfNotPresent"),
            (&"a".repeat(247), "Always"),
            (&"a".repeat(248), "IfNotPresent"),
            (&format!("registry.example/{}", "a".repeat(255)), "Always"),
        ] {
            assert_eq!(default_pull_policy(image), want, "{image}");
        }
    }
}
