//! ImageLocality: likes nodes that have a pod's images already, less so where only few nodes have them.

use crate::{
    framework::{Plugin, SCORE_MAX},
    snapshot::{Node, Pod, Snapshot},
};

pub struct ImageLocality;

const MEBIBYTE: i64 = 1 << 20;
/// Images below this are not worth a preference; above the other, a container's images count no further.
const SIZE_MIN: i64 = 23 * MEBIBYTE;
const SIZE_MAX: i64 = 1000 * MEBIBYTE;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score(&self, pod: &Pod, snapshot: &Snapshot, nodes: &[&Node]) -> Option<Vec<i64>> {
        let spec = pod.spec()?;
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut images: Vec<String> = containers.filter_map(|c| c.image.as_deref()).map(tagged).collect();
        let most = SIZE_MAX * images.len() as i64;
        let volumes = spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref()?.reference.as_deref());
        images.extend(volumes.map(tagged));
        let score = |node: &&Node| {
            let sum: i64 = images.iter().map(|image| worth(image, node, snapshot)).sum();
            SCORE_MAX * (sum.clamp(SIZE_MIN, most.max(SIZE_MIN)) - SIZE_MIN) / (most - SIZE_MIN).max(1)
        };
        Some(nodes.iter().map(score).collect())
    }
}

fn worth(image: &str, node: &Node, snapshot: &Snapshot) -> i64 {
    let Some(size) = node.images.get(image) else { return 0 };
    let spread = snapshot.image_nodes.get(image).copied().unwrap_or(0) as f64 / snapshot.nodes.len().max(1) as f64;
    (*size as f64 * spread) as i64
}

/// Nodes name images with a tag.
fn tagged(image: &str) -> String {
    if image.rfind(':') > image.rfind('/') { image.to_owned() } else { format!("{image}:latest") }
}
