//! Names of images: registry, path, tag, digest.

/// The name with a tag or a digest: `latest` where it has neither.
pub fn with_tag(name: &str) -> Result<String, String> {
    check(name)?;
    let (rest, digest) = name.split_once('@').map_or((name, None), |(rest, digest)| (rest, Some(digest)));
    let last = rest.rsplit('/').next().unwrap_or(rest);
    if digest.is_some() || last.contains(':') { Ok(name.to_owned()) } else { Ok(format!("{name}:latest")) }
}

/// What the API would have defaulted the pull policy to.
pub fn default_policy(image: &str) -> &'static str {
    if image.ends_with(":latest") && !image.contains('@') { "Always" } else { "IfNotPresent" }
}

fn check(name: &str) -> Result<(), String> {
    const INVALID: &str = "invalid reference format";
    let (rest, digest) = name.split_once('@').map_or((name, None), |(rest, digest)| (rest, Some(digest)));
    let (path, tag) = match rest.rfind(':').filter(|at| !rest[*at..].contains('/')) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (domain, path) = match path.split_once('/') {
        Some((first, more)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), more),
        _ => (None, path),
    };
    let part = |p: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        edge(p.chars().next()) && edge(p.chars().last()) && p.chars().all(fits)
    };
    if path.is_empty() || !path.split('/').all(part) {
        return Err(INVALID.into());
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("{INVALID}: repository name ({path}) must be lowercase"));
    }
    let word =
        |t: &str| !t.is_empty() && t.len() <= 128 && t.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let hex = |d: &str| {
        let (algorithm, value) = d.split_once(':').unwrap_or(("", ""));
        word(algorithm) && value.len() >= 32 && value.chars().all(|c| c.is_ascii_hexdigit())
    };
    let domain_fits = domain.is_none_or(|d| d.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c)));
    if !tag.is_none_or(word) || !digest.is_none_or(hex) || !domain_fits {
        return Err(INVALID.into());
    }
    Ok(())
}

/// The registry and the path within it; a short name is Docker Hub's.
pub fn repository(image: &str) -> (String, String) {
    let rest = image.split('@').next().unwrap_or(image);
    let rest = match rest.rfind(':').filter(|at| !rest[*at..].contains('/')) {
        Some(at) => &rest[..at],
        None => rest,
    };
    match rest.split_once('/') {
        Some((first, more)) if first.contains(['.', ':']) || first == "localhost" => (first.into(), more.into()),
        Some(_) => ("docker.io".into(), rest.into()),
        None => ("docker.io".into(), format!("library/{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for (name, want) in [
            ("busybox", Ok("busybox:latest")),
            ("busybox:1", Ok("busybox:1")),
            ("localhost:5000/a/b", Ok("localhost:5000/a/b:latest")),
            ("r.io/a@sha256:0123456789abcdef0123456789abcdef", Ok("r.io/a@sha256:0123456789abcdef0123456789abcdef")),
            ("", Err("invalid reference format")),
            ("Foo", Err("invalid reference format: repository name (Foo) must be lowercase")),
            ("a b", Err("invalid reference format")),
            ("a:", Err("invalid reference format")),
            ("registry.x.io/UPPER:1", Err("invalid reference format: repository name (UPPER) must be lowercase")),
        ] {
            assert_eq!(with_tag(name), want.map(str::to_owned).map_err(str::to_owned), "{name}");
        }
        assert_eq!(repository("busybox:1"), ("docker.io".into(), "library/busybox".into()));
        assert_eq!(repository("r:5000/a/b:1"), ("r:5000".into(), "a/b".into()));
    }
}
