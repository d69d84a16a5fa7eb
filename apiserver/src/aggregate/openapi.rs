//! Other servers' OpenAPI v3 documents: named in this server's index, and fetched through it.

use std::sync::Arc;

use crds::user::User;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Aggregator, Remote};
use crate::{openapi::Document, registry::Table, world::World};

const INDEX: &str = "/openapi/v3";

/// `apis/{group}/{version}`, as indexes name it.
fn root(remote: &Remote) -> String {
    format!("apis/{}/{}", remote.group, remote.version)
}

/// Where a server's own index says that the document of its group and version is; none if it has none.
pub async fn fetch(world: &World, remote: &Remote) -> Option<String> {
    let user = User::named("system:aggregator", &[]);
    let fetched = remote.fetch(world, INDEX, &user, "application/json").await.ok()?;
    if fetched.code != StatusCode::OK {
        return None;
    }
    let index: Value = serde_json::from_slice(&fetched.body).ok()?;
    Some(index["paths"][root(remote)]["serverRelativeURL"].as_str()?.to_owned())
}

impl Aggregator {
    /// The index with other servers' documents in it; none if they have none.
    pub fn openapi_index(&self, world: &World, own: &Document) -> Option<Document> {
        let discovered = self.discovered.load();
        let remotes = self.remotes(world);
        let known = remotes.iter().filter_map(|remote| Some((remote, discovered.get(&remote.name)?.openapi.as_ref()?)));
        let mut known = known.peekable();
        known.peek()?;
        let mut index: Value = serde_json::from_slice(&own.bytes()).ok()?;
        for (remote, url) in known {
            let path = &mut index["paths"][root(remote)];
            if path.is_null() {
                *path = json!({ "serverRelativeURL": url });
            }
        }
        Some(Document::json(&index))
    }

    /// The server whose document a path of `/openapi/v3` is.
    pub fn openapi_of(&self, world: &World, table: &Table, path: &str) -> Option<Arc<Remote>> {
        self.find(world, table, path.strip_prefix(INDEX)?)
    }
}
