//! Hooks that run after a container has started and before it is ended.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use super::environment::expand;
use crate::{
    agent::Agent,
    probe::{http, run},
};

/// How long an HTTP hook may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs one hook to its end; an error says what went wrong, for the container's status.
pub async fn run(
    agent: &Agent,
    pod: &Pod,
    container: &Container,
    id: &str,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let plain = |name: &str| container.env.iter().flatten().find(|e| e.name == name)?.value.clone();
        let command: Vec<_> = exec.command.iter().flatten().map(|word| expand(word, &plain)).collect();
        let shown = format!("{command:?}");
        return match agent.runtime.exec_sync(id.to_owned(), command, 0).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => Err(format!(
                "Exec lifecycle hook ({shown}) for Container {:?} failed - error: command exited with {}, message: {:?}",
                container.name,
                output.exit_code,
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
            )),
            Err(error) => Err(error.message),
        };
    }
    if let Some(action) = &hook.http_get {
        let port = run::port(&action.port, container)?;
        let get = http::Get::of(action, port, &agent.pod_ip(pod), "lifecycle");
        let sent = http::send(&get, HTTP_TIMEOUT).await;
        // A server that speaks no TLS is asked again without it, as upstream does.
        let sent = match sent {
            Err(_) if get.secure => http::send(&http::Get { secure: false, ..get.clone() }, HTTP_TIMEOUT).await,
            other => other,
        };
        return match sent {
            Ok(status) if (200..400).contains(&status) => Ok(()),
            Ok(status) => Err(format!("HTTP probe failed with statuscode: {status}")),
            Err(message) => Err(message),
        };
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.unsigned_abs())).await;
        return Ok(());
    }
    Err(format!("invalid handler: {hook:?}"))
}
