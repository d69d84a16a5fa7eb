//! PodGroupWorkloadExists: the Workload that a new PodGroup refers to is there, and has the template.

use crds::field::quote;
use futures::future::BoxFuture;
use k8s_openapi::api::scheduling::v1alpha2::{Workload, WorkloadPodGroupTemplateReference};

use super::{Attributes, Operation, Plugin, edit};
use crate::{error::Result, world::World};

#[derive(Default)]
pub struct PodGroupWorkloadExists;

impl Plugin for PodGroupWorkloadExists {
    fn name(&self) -> &'static str {
        "PodGroupWorkloadExists"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is("scheduling.k8s.io", "podgroups", "")
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let group = attributes.object.as_ref();
            let reference = group.and_then(|group| group.pointer("/spec/podGroupTemplateRef/workload"));
            let Some(reference) = reference.filter(|reference| !reference.is_null()) else { return Ok(()) };
            let reference: WorkloadPodGroupTemplateReference = edit::decode(reference)?;
            let workload = match world.get::<Workload>(&attributes.namespace, &reference.workload_name)? {
                Some(workload) => Some(workload),
                // The cache may lag behind a workload that was just made.
                None => world.get_live(&attributes.namespace, &reference.workload_name).await?,
            };
            refusal(workload.as_ref(), &reference).map_or(Ok(()), |why| Err(attributes.forbidden(why)))
        })
    }
}

fn refusal(workload: Option<&Workload>, reference: &WorkloadPodGroupTemplateReference) -> Option<String> {
    let (name, template) = (quote(&reference.workload_name), &reference.pod_group_template_name);
    let Some(workload) = workload else { return Some(format!("PodGroup rejected: Workload {name} not found")) };
    if workload.metadata.deletion_timestamp.is_some() {
        return Some(format!("PodGroup rejected: Workload {name} is being deleted"));
    }
    let has = workload.spec.pod_group_templates.iter().any(|other| other.name == *template);
    let why = || format!("PodGroup rejected: PodGroupTemplate {} not found in Workload {name}", quote(template));
    (!has).then(why)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals() {
        let reference = |template: &str| WorkloadPodGroupTemplateReference {
            workload_name: "w".to_owned(),
            pod_group_template_name: template.to_owned(),
        };
        let mut workload: Workload = edit::decode(&json!({"metadata": {"name": "w"},
            "spec": {"podGroupTemplates": [{"name": "t", "schedulingPolicy": {"basic": {}}}]}}))
        .unwrap();
        assert_eq!(refusal(Some(&workload), &reference("t")), None);
        for (there, template, want) in [
            (None, "t", "PodGroup rejected: Workload \"w\" not found"),
            (Some(&workload), "u", "PodGroup rejected: PodGroupTemplate \"u\" not found in Workload \"w\""),
        ] {
            assert_eq!(refusal(there, &reference(template)).as_deref(), Some(want));
        }
        workload.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        let going = refusal(Some(&workload), &reference("t"));
        assert_eq!(going.as_deref(), Some("PodGroup rejected: Workload \"w\" is being deleted"));
    }
}
