//! The images of containers: whether they must be pulled, with whose credentials, and when again after a failure.

pub mod collect;
pub mod credential;
pub mod load;
pub mod name;
pub mod pause;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use parking_lot::Mutex;

use crate::{
    clock::Clock,
    event::{Recorder, Severity},
    pod::{PodExt, Role, backoff::Backoff, observed::Waiting, security::ImageUser},
    runtime::Runtime,
};

/// How long a failed pull is shown as such before it is shown as waiting.
const SHOWN: SignedDuration = SignedDuration::from_secs(5);

/// An image that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// What to call it when a container is made.
    pub id: String,
    pub user: ImageUser,
}

struct Failure {
    backoff: Backoff,
    at: Timestamp,
    /// Reason and message of the pull that failed.
    error: String,
}

/// The images of one node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    events: Recorder,
    clock: Clock,
    /// By pod and image.
    failures: Mutex<HashMap<(String, String), Failure>>,
    /// Images that were pulled with credentials, and with which: others must show that they may have them.
    private: Mutex<HashMap<String, HashSet<String>>>,
}

/// What `ensure` needs of a container.
pub struct Request<'a> {
    pub pod: &'a Pod,
    pub role: Role,
    pub container: &'a Container,
    pub secrets: &'a [Arc<Secret>],
    pub sandbox: cri::PodSandboxConfig,
}

impl Images {
    pub fn new(runtime: Arc<dyn Runtime>, events: Recorder, clock: Clock) -> Self {
        Self { runtime, events, clock, failures: Mutex::default(), private: Mutex::default() }
    }

    /// Makes sure that a container's image is here.
    pub async fn ensure(&self, request: Request<'_>) -> Result<Present, Waiting> {
        let wanted = request.container.image.clone().unwrap_or_default();
        let image = match name::with_tag(&wanted) {
            Ok(image) => image,
            Err(reason) => {
                let message = format!(
                    "Failed to apply default image tag {wanted:?}: couldn't parse image name {wanted:?}: {reason}"
                );
                self.warn(&request, "InspectFailed", &message);
                return Err(self.wait("InvalidImageName", message));
            }
        };
        let policy = request.container.image_pull_policy.as_deref().unwrap_or_else(|| name::default_policy(&image));
        let auths = credential::lookup(request.secrets, &image);
        let present = match self.runtime.image_status(image.clone()).await {
            Ok(found) => found,
            Err(error) => {
                let message = format!("Failed to inspect image {wanted:?}: {error}");
                self.warn(&request, "InspectFailed", &message);
                return Err(self.wait("ImageInspectError", message));
            }
        };
        if let Some(found) = present.filter(|_| policy != "Always")
            && self.accessible(&found.id, &auths)
        {
            let message =
                format!("Container image {wanted:?} already present on machine and can be accessed by the pod");
            self.events.container(
                request.pod,
                request.role,
                &request.container.name,
                Severity::Normal,
                "Pulled",
                message,
            );
            return Ok(described(found));
        }
        if policy == "Never" {
            let message = format!("Container image {wanted:?} is not present with pull policy of Never");
            self.warn(&request, "ErrImageNeverPull", &message);
            return Err(self.wait("ErrImageNeverPull", message));
        }
        self.pull(&request, &wanted, image, auths).await
    }

    fn accessible(&self, id: &str, auths: &[credential::Auth]) -> bool {
        let private = self.private.lock();
        private.get(id).is_none_or(|known| auths.iter().any(|a| known.contains(&a.fingerprint())))
    }

    async fn pull(
        &self,
        request: &Request<'_>,
        wanted: &str,
        image: String,
        auths: Vec<credential::Auth>,
    ) -> Result<Present, Waiting> {
        let key = (request.pod.uid().to_owned(), wanted.to_owned());
        if let Some(waiting) = self.backing_off(&key, wanted) {
            self.events.container(
                request.pod,
                request.role,
                &request.container.name,
                Severity::Normal,
                "BackOff",
                format!("Back-off pulling image {wanted:?}"),
            );
            return Err(waiting);
        }
        let say = |severity, reason: &str, message: String| {
            self.events.container(request.pod, request.role, &request.container.name, severity, reason, message);
        };
        say(Severity::Normal, "Pulling", format!("Pulling image {wanted:?}"));
        let started = self.clock.now();
        match self.attempt(&image, auths, &request.sandbox).await {
            Ok(found) => {
                self.failures.lock().remove(&key);
                let took = go_millis(self.clock.now().duration_since(started));
                let size = found.size;
                say(
                    Severity::Normal,
                    "Pulled",
                    format!(
                        "Successfully pulled image {wanted:?} in {took} ({took} including waiting). Image size: {size} bytes."
                    ),
                );
                Ok(described(found))
            }
            Err(error) => {
                say(Severity::Warning, "Failed", format!("Failed to pull image {wanted:?}: {error}"));
                Err(self.failed(key, error))
            }
        }
    }

    /// Tries each credential in turn; without any the registry decides about strangers.
    async fn attempt(
        &self,
        image: &str,
        auths: Vec<credential::Auth>,
        sandbox: &cri::PodSandboxConfig,
    ) -> Result<cri::Image, String> {
        let mut errors = Vec::new();
        let tries: Vec<_> = if auths.is_empty() { vec![None] } else { auths.into_iter().map(Some).collect() };
        for auth in tries {
            let fingerprint = auth.as_ref().map(credential::Auth::fingerprint);
            let pulled = self.runtime.pull_image(image.to_owned(), auth.map(Into::into), sandbox.clone()).await;
            let id = match pulled {
                Ok(id) => id,
                Err(error) => {
                    errors.push(error.message);
                    continue;
                }
            };
            let found = self.runtime.image_status(id.clone()).await.map_err(|e| e.message)?;
            let found = found.ok_or_else(|| format!("image {id:?} is gone"))?;
            let mut private = self.private.lock();
            match fingerprint {
                None => _ = private.remove(&found.id),
                Some(f) => _ = private.entry(found.id.clone()).or_default().insert(f),
            }
            return Ok(found);
        }
        Err(errors.join(", "))
    }

    fn backing_off(&self, key: &(String, String), wanted: &str) -> Option<Waiting> {
        let failures = self.failures.lock();
        let failure = failures.get(key)?;
        let until = failure.at + failure.backoff.delay;
        (until > self.clock.now()).then(|| Waiting {
            reason: "ImagePullBackOff".into(),
            message: format!("Back-off pulling image {wanted:?}: {}", failure.error),
            until,
        })
    }

    fn failed(&self, key: (String, String), error: String) -> Waiting {
        let (reason, message) = classified(&key.1, &error);
        let now = self.clock.now();
        let mut failures = self.failures.lock();
        failures.retain(|_, f| f.at + f.backoff.delay + f.backoff.delay > now);
        let backoff = Backoff::next(failures.get(&key).map(|f| f.backoff), now, now);
        failures.insert(key, Failure { backoff, at: now, error: format!("{reason}: {message}") });
        Waiting { reason, message, until: now + SHOWN }
    }

    fn wait(&self, reason: &str, message: String) -> Waiting {
        Waiting { reason: reason.into(), message, until: self.clock.now() + crate::pod::backoff::INITIAL }
    }

    fn warn(&self, request: &Request<'_>, reason: &str, message: &str) {
        let name = &request.container.name;
        self.events.container(request.pod, request.role, name, Severity::Warning, reason, message);
    }
}

/// Runtimes begin the message of some failures with a known word.
fn classified(image: &str, error: &str) -> (String, String) {
    for (word, why) in [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ] {
        if let Some(rest) = error.strip_prefix(word) {
            return (word.into(), format!("image pull failed for {image} because {why}{rest}"));
        }
    }
    ("ErrImagePull".into(), error.to_owned())
}

fn described(image: cri::Image) -> Present {
    Present { id: image.id, user: ImageUser { uid: image.uid.map(|u| u.value), name: image.username } }
}

/// As Go prints a duration that was cut to milliseconds.
fn go_millis(duration: SignedDuration) -> String {
    let millis = duration.as_millis();
    match millis {
        ..1000 => format!("{millis}ms"),
        _ => {
            let text = format!("{}.{:03}", millis / 1000 % 60, millis % 1000);
            let seconds = text.trim_end_matches('0').trim_end_matches('.');
            if millis < 60_000 { format!("{seconds}s") } else { format!("{}m{seconds}s", millis / 60_000) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_classes() {
        let texts = [5, 1500, 2000, 61_250].map(|m| go_millis(SignedDuration::from_millis(m)));
        assert_eq!(texts, ["5ms", "1.5s", "2s", "1m1.25s"]);
        assert_eq!(classified("x", "boom"), ("ErrImagePull".into(), "boom".into()));
        let (reason, message) = classified("x", "RegistryUnavailable: no");
        assert_eq!(reason, "RegistryUnavailable");
        assert_eq!(message, "image pull failed for x because the registry is unavailable: no");
    }
}
