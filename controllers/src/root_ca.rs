//! Publishes the cluster's certificate authority in every namespace, as ConfigMap `kube-root-ca.crt`.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    plan::{Plan, Write},
    runtime::{
        Controller, View, Wiring,
        object::{self, Key},
        server::Error,
    },
    service_account::is_active,
};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

#[derive(Debug)]
pub struct Observed {
    pub namespace: String,
    pub published: Option<Arc<ConfigMap>>,
    pub root_ca_pem: String,
}

#[derive(Default)]
pub struct RootCaController;

impl Controller for RootCaController {
    const NAME: &'static str = "root-ca-certificate-publisher";
    const COMPONENT: &'static str = "root-ca-cert-publisher";
    type Observed = Observed;

    fn watch(&self, wiring: &mut Wiring<'_>) {
        wiring.root::<Namespace>();
        wiring.map::<ConfigMap>(|_, change| {
            let ours = change.last().filter(|m| object::name(&m.metadata) == NAME);
            ours.map(|m| Key::new("", object::namespace(&m.metadata))).into_iter().collect()
        });
    }

    async fn observe(&self, view: &View, key: &Key) -> Result<Option<Observed>, Error> {
        let Some(root_ca_pem) = view.config.root_ca_pem.clone() else {
            return Ok(None);
        };
        if !is_active(view, key) {
            return Ok(None);
        }
        let published = view.caches.get::<ConfigMap>().find(&key.name, NAME);
        Ok(Some(Observed { namespace: key.name.clone(), published, root_ca_pem }))
    }

    fn plan(&self, seen: &Observed) -> Plan {
        let data = Some(BTreeMap::from([("ca.crt".to_owned(), seen.root_ca_pem.clone())]));
        let annotation = ("kubernetes.io/description".to_owned(), DESCRIPTION.to_owned());
        let Some(published) = &seen.published else {
            let metadata = ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(seen.namespace.clone()),
                annotations: Some(BTreeMap::from([annotation])),
                ..ObjectMeta::default()
            };
            let map = ConfigMap { metadata, data, ..ConfigMap::default() };
            return Plan::of(Write::create(&map).forgiving(&[409]));
        };
        let described = object::annotation(&published.metadata, &annotation.0) == Some(DESCRIPTION);
        if published.data == data && described {
            return Plan::default();
        }
        let mut updated = ConfigMap { data, ..ConfigMap::clone(published) };
        updated.metadata.annotations.get_or_insert_default().extend([annotation]);
        Plan::of(Write::update(&updated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_and_kept() {
        let seen = |published: Option<ConfigMap>| Observed {
            namespace: "n".into(),
            published: published.map(Arc::new),
            root_ca_pem: "PEM".into(),
        };
        let created = RootCaController.plan(&seen(None));
        let map: ConfigMap = serde_json::from_value(created.writes().next().unwrap().body().unwrap().clone()).unwrap();
        assert!(RootCaController.plan(&seen(Some(map.clone()))).is_empty());
        let tampered = ConfigMap { data: None, ..map };
        let restored = RootCaController.plan(&seen(Some(tampered)));
        assert_eq!(restored.writes().next().unwrap().body().unwrap()["data"]["ca.crt"], "PEM");
    }
}
