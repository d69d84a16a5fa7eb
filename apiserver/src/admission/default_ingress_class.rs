//! DefaultIngressClass: an Ingress without a class gets the default one, the newest if several are marked.

use futures::future::BoxFuture;
use k8s_openapi::api::networking::v1::IngressClass;

use super::{Attributes, Operation, Plugin, default_storage_class::newest, edit};
use crate::{error::Result, world::World};

const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
const OLD_CLASS: &str = "kubernetes.io/ingress.class";

#[derive(Default)]
pub struct DefaultIngressClass;

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Create && attributes.is("networking.k8s.io", "ingresses", "")
    }

    fn admit<'a>(&'a self, attributes: &'a mut Attributes, world: &'a World) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(ingress) = &mut attributes.object else { return Ok(()) };
            let old = ingress.pointer("/metadata/annotations").and_then(|a| a.get(OLD_CLASS));
            if old.is_some() || ingress.pointer("/spec/ingressClassName").is_some_and(|name| !name.is_null()) {
                return Ok(());
            }
            let classes = world.list::<IngressClass>("")?;
            if let Some(name) = newest(classes.iter().map(|class| &class.metadata), &[MARK]) {
                edit::set(ingress, &["spec", "ingressClassName"], name);
            }
            Ok(())
        })
    }
}
