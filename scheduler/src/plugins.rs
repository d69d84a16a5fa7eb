//! THE TABLE of scheduling plugins. A new plugin is one file in `plugins/` and its row here.

use crate::framework::Plugin;

pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;

/// The plugins of a scheduler, with the weights of their scores.
pub struct Profile {
    pub scheduler_name: String,
    pub plugins: Vec<(Box<dyn Plugin>, i64)>,
}

impl Default for Profile {
    /// Upstream's plugins in upstream's order, which is the order in which nodes are refused.
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".into(),
            plugins: vec![
                (Box::new(scheduling_gates::SchedulingGates), 0),
                (Box::new(node_unschedulable::NodeUnschedulable), 0),
                (Box::new(node_name::NodeName), 0),
                (Box::new(taint_toleration::TaintToleration), 3),
                (Box::new(node_affinity::NodeAffinity), 2),
                (Box::new(node_ports::NodePorts), 0),
                (Box::new(node_resources_fit::NodeResourcesFit), 1),
                (Box::new(volume_binding::VolumeBinding), 0),
                (Box::new(pod_topology_spread::PodTopologySpread), 2),
                (Box::new(inter_pod_affinity::InterPodAffinity), 2),
                (Box::new(node_resources_balanced_allocation::NodeResourcesBalancedAllocation), 1),
                (Box::new(image_locality::ImageLocality), 1),
            ],
        }
    }
}

impl Profile {
    pub fn plugin(&self, name: &str) -> Option<&dyn Plugin> {
        self.plugins.iter().map(|(plugin, _)| plugin.as_ref()).find(|plugin| plugin.name() == name)
    }
}
