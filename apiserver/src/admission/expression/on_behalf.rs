//! What expressions ask of the authorizer, for the user of the request.

use std::sync::Arc;

use crds::{
    cel::{self, Question},
    selector,
    user::User,
};

use crate::authorize::{Attributes, Authorize, Decision, Resource};

/// The authorizer on behalf of a user.
pub(super) struct OnBehalf {
    pub authorizer: Arc<dyn Authorize>,
    pub user: Arc<User>,
}

impl cel::Authorize for OnBehalf {
    fn authorize(&self, question: &Question) -> cel::Decision {
        let service_account = question.service_account.as_ref().map(|(namespace, name)| {
            let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            let groups = groups.into_iter().chain([User::AUTHENTICATED.to_owned()]).collect();
            User { name: format!("system:serviceaccount:{namespace}:{name}"), groups, ..User::default() }
        });
        let user = service_account.as_ref().unwrap_or(&self.user);
        let decision = match &question.target {
            cel::Target::Path(path) => self.authorizer.decide(&Attributes::path(user, &question.verb, path)),
            cel::Target::Resource(on) => {
                let fields = selector::parse_fields(&on.field_selector).unwrap_or_default();
                let resource = Resource {
                    group: &on.group,
                    version: "*",
                    resource: &on.resource,
                    subresource: &on.subresource,
                    namespace: &on.namespace,
                    name: &on.name,
                    field_selector: &fields,
                };
                self.authorizer.decide(&Attributes::resource(user, &question.verb, resource))
            }
        };
        match decision {
            Decision::Allow(why) => cel::Decision { allowed: true, reason: why.to_string(), error: None },
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                cel::Decision { allowed: false, reason, error: None }
            }
        }
    }
}
