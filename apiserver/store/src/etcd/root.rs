//! Which keys of an etcd are this cluster's, and what they are called here.

/// What all keys of objects begin with, here.
const HERE: &str = "/registry/";

/// Where a cluster's keys are in an etcd: upstream's `--etcd-prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root(String);

impl Root {
    pub fn new(prefix: &str) -> Self {
        let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        Self(if parts.is_empty() { "/".to_owned() } else { format!("/{}/", parts.join("/")) })
    }

    /// A key, or the beginning of keys, as etcd has it.
    pub fn there(&self, key: &str) -> Vec<u8> {
        match key.strip_prefix(HERE) {
            Some(rest) => [self.0.as_bytes(), rest.as_bytes()].concat(),
            None => key.as_bytes().to_vec(),
        }
    }

    /// A key of etcd. What others keep under the name that ours have here is an empty key: it is none of ours, but that
    /// it changed is told, because every revision must be.
    pub fn here(&self, key: &[u8]) -> String {
        let key = String::from_utf8_lossy(key);
        match key.strip_prefix(&self.0) {
            Some(rest) => format!("{HERE}{rest}"),
            None if key.starts_with(HERE) => String::new(),
            None => key.into_owned(),
        }
    }

    /// The first key and the end (exclusive; `\0`: none) of those that start with `prefix` and come after `after`.
    pub fn range(&self, prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let first = self.there(prefix);
        let mut end = first.clone();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end.push(0),
        }
        // The smallest key after another is that one with a zero byte.
        let following = after.map(|after| [self.there(after), vec![0]].concat());
        let first = if first.is_empty() { vec![0] } else { first };
        (following.map_or(first.clone(), |following| following.max(first)), end)
    }

    /// A key that nothing is kept under.
    pub fn nothing(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_under_the_prefix() {
        for (prefix, want) in [
            ("/registry", "/registry/pods/a/b"),
            ("kubernetes.io//x/", "/kubernetes.io/x/pods/a/b"),
            ("/registry/two", "/registry/two/pods/a/b"),
            ("", "/pods/a/b"),
        ] {
            let root = Root::new(prefix);
            let there = root.there("/registry/pods/a/b");
            assert_eq!(there, want.as_bytes(), "{prefix}");
            assert_eq!(root.here(&there), "/registry/pods/a/b", "{prefix}");
        }
        let root = Root::new("/mine");
        assert_eq!(root.here(b"/registry/pods/a/b"), "", "another cluster's");
        assert_eq!(root.here(b"compact_rev_key"), "compact_rev_key");
    }

    #[test]
    fn ranges() {
        let root = Root::new("/registry");
        let range = |prefix: &str, after: Option<&str>| {
            let (first, end) = root.range(prefix, after);
            (String::from_utf8(first).unwrap(), String::from_utf8(end).unwrap())
        };
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(range("/p/", None), text("/p/", "/p0"));
        assert_eq!(range("/p/", Some("/p/a")), text("/p/a\0", "/p0"));
        assert_eq!(range("/p/", Some("/o")), text("/p/", "/p0"));
        assert_eq!(range("", None), text("\0", "\0"));
    }
}
