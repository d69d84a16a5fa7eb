//! Hashes of templates and the revisions that remember them.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::Serialize;

/// No vowels and nothing that could be misread, so that no hash spells a word.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name of a content, stable over restarts and versions: the FNV-1a hash of its canonical JSON.
///
/// Kubernetes types serialize their fields in one order and their maps sorted. After a collision the next count makes
/// another hash.
pub fn hash(content: &impl Serialize, collisions: Option<i32>) -> String {
    let json = serde_json::to_vec(content).unwrap_or_default();
    let salt = collisions.map(i32::to_le_bytes);
    let bytes = json.iter().chain(salt.iter().flatten());
    let sum = bytes.fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    safe(&sum.to_string())
}

/// Each byte becomes a safe letter, as upstream encodes.
pub fn safe(text: &str) -> String {
    text.bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// Whether two templates are the same but for one label, which tells revisions apart.
pub fn equal_but_label(a: &PodTemplateSpec, b: &PodTemplateSpec, label: &str) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        let metadata = template.metadata.get_or_insert_default();
        if let Some(labels) = &mut metadata.labels {
            labels.remove(label);
        }
        metadata.labels.take_if(|l| l.is_empty());
        metadata.annotations.take_if(|a| a.is_empty());
        metadata.creation_timestamp = None;
        template
    };
    bare(a) == bare(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_differ() {
        let template = PodTemplateSpec::default();
        assert_eq!(hash(&template, None), hash(&template, None));
        assert_ne!(hash(&template, None), hash(&template, Some(1)));
        assert_eq!(safe("0123456789"), "456789bcdf");
    }
}
