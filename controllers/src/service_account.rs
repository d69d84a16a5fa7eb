//! Gives every namespace its `default` ServiceAccount.

use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    plan::{Plan, Write},
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
};

const NAME: &str = "default";

/// A namespace that lacks its account.
#[derive(Debug)]
pub struct Observed {
    pub namespace: String,
}

#[derive(Default)]
pub struct ServiceAccountController;

impl Controller for ServiceAccountController {
    const NAME: &'static str = "serviceaccount";
    const COMPONENT: &'static str = "service-account-controller";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Namespace>();
        wiring.map::<ServiceAccount>(|_, change| match (change.old, change.new) {
            (Some(gone), None) if object::name(&gone.metadata) == NAME => {
                vec![Key::new("", object::namespace(&gone.metadata))]
            }
            _ => Vec::new(),
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let lacking = is_active(view, key) && view.caches.get::<ServiceAccount>().find(&key.name, NAME).is_none();
        Ok(lacking.then(|| Observed { namespace: key.name.clone() }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(seen.namespace.clone()),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        Plan::of(Write::create(&account).forgiving(&[409]))
    }
}

/// Whether a namespace exists and is to stay.
pub fn is_active(view: &View, key: &Key) -> bool {
    let namespace = view.caches.get::<Namespace>().get(key);
    namespace.is_some_and(|n| {
        let phase = n.status.as_ref().and_then(|s| s.phase.as_deref());
        n.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
    })
}
