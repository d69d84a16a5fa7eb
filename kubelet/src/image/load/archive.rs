//! The two layouts of image archives, read without unpacking them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, SeekFrom},
};

use serde_json::{Value, json};

use super::{Blob, Labels, LoadError, Source};
use crate::image::{name, pause::digest};

/// The largest index, manifest or configuration that is read.
const DOCUMENT_MAX: u64 = 8 << 20;
const OCI: &str = "application/vnd.oci.image";
const DOCKER: &str = "application/vnd.docker";

/// An image that the archive holds: its names, and what they point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub names: Vec<String>,
    pub target: Blob,
}

/// Where each file of the archive begins, and how long it is.
pub(crate) struct Archive {
    source: Box<dyn Source>,
    files: BTreeMap<String, (u64, u64)>,
    /// Manifests that were made because the archive has none of the kind that containerd reads, by digest.
    made: BTreeMap<String, Vec<u8>>,
    /// The files of blobs that are not called by their digests.
    aliases: BTreeMap<String, String>,
}

fn format(message: impl Into<String>) -> LoadError {
    LoadError::Format(message.into())
}

impl Archive {
    pub fn open(mut source: Box<dyn Source>) -> Result<Self, LoadError> {
        let mut files = BTreeMap::new();
        let mut links = BTreeMap::new();
        let mut tar = tar::Archive::new(&mut source);
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            match entry.link_name()? {
                Some(target) => _ = links.insert(path, target.to_string_lossy().into_owned()),
                None => _ = files.insert(path, (entry.raw_file_position(), entry.size())),
            }
        }
        // Older archives share layers by links such as `../<id>/layer.tar`.
        for (path, target) in links {
            if let Some(place) = files.get(target.trim_start_matches("../")).copied() {
                files.insert(path, place);
            }
        }
        Ok(Self { source, files, made: BTreeMap::new(), aliases: BTreeMap::new() })
    }

    fn document(&mut self, path: &str) -> Result<Vec<u8>, LoadError> {
        let (start, size) = *self.files.get(path).ok_or_else(|| format(format!("{path} is missing")))?;
        if size > DOCUMENT_MAX {
            return Err(format(format!("{path} is too large")));
        }
        self.source.seek(SeekFrom::Start(start))?;
        let mut data = Vec::new();
        self.source.by_ref().take(size).read_to_end(&mut data)?;
        Ok(data)
    }

    fn json(&mut self, path: &str) -> Result<Value, LoadError> {
        let data = self.document(path)?;
        serde_json::from_slice(&data).map_err(|e| format(format!("{path}: {e}")))
    }

    fn path(&self, digest: &str) -> String {
        self.aliases.get(digest).cloned().unwrap_or_else(|| format!("blobs/{}", digest.replace(':', "/")))
    }

    pub fn images(&mut self) -> Result<Vec<Image>, LoadError> {
        if self.files.contains_key("index.json") {
            let images = self.layout()?;
            if !images.is_empty() || !self.files.contains_key("manifest.json") {
                return Ok(images);
            }
        }
        self.docker()
    }

    /// The images that an OCI layout names.
    fn layout(&mut self) -> Result<Vec<Image>, LoadError> {
        let index = self.json("index.json")?;
        let mut images = Vec::new();
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let annotation = |key: &str| entry["annotations"][key].as_str();
            let full = annotation("io.containerd.image.name");
            // A bare tag is no name.
            let reference = annotation("org.opencontainers.image.ref.name").filter(|n| n.contains(['/', ':']));
            if let Some(name) = full.or(reference) {
                images.push(Image { names: vec![normal(name)], target: descriptor(entry)? });
            }
        }
        Ok(images)
    }

    /// The images that `docker save` wrote: a manifest is made for each.
    fn docker(&mut self) -> Result<Vec<Image>, LoadError> {
        let mut images = Vec::new();
        let manifest = self.json("manifest.json")?;
        for entry in manifest.as_array().into_iter().flatten() {
            let names: Vec<_> =
                entry["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(normal).collect();
            if names.is_empty() {
                continue;
            }
            let path = entry["Config"].as_str().ok_or_else(|| format("an image has no configuration"))?;
            let config = self.document(path)?;
            let config_digest = digest(&config);
            self.aliases.insert(config_digest.clone(), path.to_owned());
            let mut layers = Vec::new();
            for layer in entry["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                layers.push(self.layer(layer)?);
            }
            let manifest = json!({
                "schemaVersion": 2, "mediaType": format!("{DOCKER}.distribution.manifest.v2+json"),
                "config": {"mediaType": format!("{DOCKER}.container.image.v1+json"), "digest": config_digest, "size": config.len()},
                "layers": layers,
            })
            .to_string()
            .into_bytes();
            let target = Blob {
                digest: digest(&manifest),
                size: manifest.len() as u64,
                media_type: format!("{DOCKER}.distribution.manifest.v2+json"),
                made: None,
            };
            self.made.insert(target.digest.clone(), manifest);
            images.push(Image { names, target });
        }
        Ok(images)
    }

    fn layer(&mut self, path: &str) -> Result<Value, LoadError> {
        use sha2::{Digest, Sha256};
        let (start, size) = *self.files.get(path).ok_or_else(|| format(format!("{path} is missing")))?;
        self.source.seek(SeekFrom::Start(start))?;
        let mut rest = self.source.by_ref().take(size);
        let (mut hash, mut buffer, mut first) = (Sha256::new(), vec![0; 1 << 16], None);
        loop {
            let read = rest.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            first.get_or_insert(buffer.starts_with(&[0x1f, 0x8b]));
            hash.update(&buffer[..read]);
        }
        let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let name = format!("sha256:{hex}");
        self.aliases.insert(name.clone(), path.to_owned());
        let packed = if first == Some(true) { ".gzip" } else { "" };
        Ok(json!({"mediaType": format!("{DOCKER}.image.rootfs.diff.tar{packed}"), "digest": name, "size": size}))
    }

    /// All blobs of an image that the archive has: what a blob refers to comes before it.
    pub fn blobs(&mut self, image: &Image) -> Result<Vec<Blob>, LoadError> {
        let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
        self.collect(&image.target, &mut seen, &mut all)?;
        Ok(all)
    }

    fn collect(&mut self, blob: &Blob, seen: &mut BTreeSet<String>, all: &mut Vec<Blob>) -> Result<(), LoadError> {
        // Of an image for several architectures an archive may hold only some.
        let here = self.made.contains_key(&blob.digest) || self.files.contains_key(&self.path(&blob.digest));
        if !here || !seen.insert(blob.digest.clone()) {
            return Ok(());
        }
        for child in self.children(blob)? {
            self.collect(&child, seen, all)?;
        }
        let made = self.made.get(&blob.digest).cloned();
        all.push(Blob { made, ..blob.clone() });
        Ok(())
    }

    fn children(&mut self, blob: &Blob) -> Result<Vec<Blob>, LoadError> {
        let refers = ["manifest", "index"].iter().any(|w| blob.media_type.contains(w));
        if !refers {
            return Ok(Vec::new());
        }
        let document = match self.made.get(&blob.digest) {
            Some(made) => serde_json::from_slice(made).map_err(|e| format(e.to_string()))?,
            None => self.json(&self.path(&blob.digest))?,
        };
        let lists = ["manifests", "layers"].into_iter().flat_map(|key| document[key].as_array().into_iter().flatten());
        let config = Some(&document["config"]).filter(|c| c.is_object());
        config.into_iter().chain(lists).map(descriptor).collect()
    }

    /// The labels that keep what a blob refers to.
    pub fn references(&mut self, blob: &Blob) -> Result<Labels, LoadError> {
        let children = self.children(blob)?;
        let label = |(n, child): (usize, Blob)| (format!("containerd.io/gc.ref.content.{n}"), child.digest);
        Ok(children.into_iter().enumerate().map(label).collect())
    }

    /// A piece of a blob; empty at its end.
    pub fn read(&mut self, blob: &Blob, offset: u64, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
        if let Some(made) = &blob.made {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(made.len());
            let to = from.saturating_add(usize::try_from(bytes_max).unwrap_or(usize::MAX)).min(made.len());
            return Ok(made[from..to].to_vec());
        }
        let path = self.path(&blob.digest);
        let (start, size) = *self.files.get(&path).ok_or_else(|| io::Error::other(format!("{path} is missing")))?;
        self.source.seek(SeekFrom::Start(start + offset.min(size)))?;
        let mut data = Vec::new();
        self.source.by_ref().take(bytes_max.min(size.saturating_sub(offset))).read_to_end(&mut data)?;
        Ok(data)
    }
}

fn descriptor(value: &Value) -> Result<Blob, LoadError> {
    let (Some(digest), Some(size)) = (value["digest"].as_str(), value["size"].as_u64()) else {
        return Err(format("a descriptor has no digest or size"));
    };
    let valid =
        digest.strip_prefix("sha256:").is_some_and(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit()));
    if !valid {
        return Err(format(format!("{digest:?} is no digest that is known here")));
    }
    let kind = value["mediaType"].as_str().map_or_else(|| format!("{OCI}.manifest.v1+json"), str::to_owned);
    Ok(Blob { digest: digest.into(), size, media_type: kind, made: None })
}

/// The whole name of an image, as runtimes know it.
fn normal(image: &str) -> String {
    let tagged = name::with_tag(image).unwrap_or_else(|_| image.to_owned());
    let (registry, path) = name::repository(&tagged);
    let at = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let suffix = tagged[at..].find([':', '@']).map_or("", |colon| &tagged[at + colon..]);
    format!("{registry}/{path}{suffix}")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::image::pause;

    fn tar(files: &[(&str, &[u8])]) -> Archive {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, data) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, *data).unwrap();
        }
        Archive::open(Box::new(Cursor::new(builder.into_inner().unwrap()))).unwrap()
    }

    #[test]
    fn an_oci_layout() {
        let mut archive = Archive::open(Box::new(Cursor::new(pause::archive("amd64").unwrap()))).unwrap();
        let images = archive.images().unwrap();
        assert_eq!(images[0].names, [pause::IMAGE]);
        let blobs = archive.blobs(&images[0]).unwrap();
        let kinds: Vec<_> = blobs.iter().map(|b| b.media_type.rsplit('.').nth(1).unwrap()).collect();
        assert_eq!(
            kinds,
            ["config", "layer", "manifest"].map(|k| match k {
                "layer" => "v1",
                "config" => "config",
                k => k,
            })
        );
        for blob in &blobs {
            assert_eq!(digest(&archive.read(blob, 0, 1 << 20).unwrap()), blob.digest);
        }
        assert_eq!(archive.references(&blobs[2]).unwrap().len(), 2);
    }

    #[test]
    fn a_docker_archive() {
        let manifest = br#"[{"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["a/layer.tar"]}]"#;
        let mut archive = tar(&[("manifest.json", manifest), ("c.json", b"{}"), ("a/layer.tar", b"layer")]);
        let images = archive.images().unwrap();
        assert_eq!(images[0].names, ["docker.io/library/web:1"]);
        let blobs = archive.blobs(&images[0]).unwrap();
        assert_eq!(blobs.len(), 3);
        for blob in &blobs {
            assert_eq!(digest(&archive.read(blob, 0, 1 << 20).unwrap()), blob.digest);
        }
        assert_eq!(archive.read(&blobs[1], 2, 2).unwrap(), b"ye");
    }

    #[test]
    fn what_is_no_archive() {
        assert!(matches!(tar(&[("x", b"y")]).images(), Err(LoadError::Format(_))));
        assert!(Archive::open(Box::new(Cursor::new(b"no tar at all, but longer than nothing".to_vec()))).is_err());
        for (name, want) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("r.io/a/b:2", "r.io/a/b:2"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
        ] {
            assert_eq!(normal(name), want);
        }
    }
}
