//! Removes what nobody needs any more: images when the disk is full, containers that were replaced, old logs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use crate::{
    agent::Agent,
    pod::observed::{CONTAINER_NAME, POD_UID},
    system::System,
};

const PERIOD: Duration = Duration::from_secs(60);
/// Images are looked after every so many periods, as upstream does every five minutes.
const IMAGE_PERIODS: u64 = 5;
/// A younger image may be wanted by a pod that is just starting.
const IMAGE_AGE_MIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(120);

/// Never returns.
pub async fn run(agent: Arc<Agent>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first_seen = BTreeMap::new();
    let mut round: u64 = 0;
    loop {
        ticks.tick().await;
        if let Err(error) = containers(&agent).await {
            debug!(%error, "cannot look for dead containers");
        }
        rotate(&agent).await;
        if round.is_multiple_of(IMAGE_PERIODS)
            && let Err(error) = images(&agent, &mut first_seen).await
        {
            debug!(%error, "cannot look for unused images");
        }
        round += 1;
    }
}

/// Of each container its last two attempts stay: their states and logs are asked for.
async fn containers(agent: &Agent) -> crate::runtime::Result<()> {
    let all = agent.runtime.list_containers(None).await?;
    for id in superfluous(&all) {
        crate::pod::worker::remove_container(agent, &id).await;
    }
    Ok(())
}

/// Dead containers that have been replaced at least twice.
fn superfluous(all: &[cri::Container]) -> Vec<String> {
    let mut attempts: BTreeMap<_, Vec<&cri::Container>> = BTreeMap::new();
    for c in all {
        let key = (c.labels.get(POD_UID), c.labels.get(CONTAINER_NAME));
        attempts.entry(key).or_default().push(c);
    }
    let mut ids = Vec::new();
    for mut list in attempts.into_values() {
        list.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        let dead = list.iter().skip(2).filter(|c| c.state == cri::ContainerState::ContainerExited as i32);
        ids.extend(dead.map(|c| c.id.clone()));
    }
    ids
}

async fn images(agent: &Agent, first_seen: &mut BTreeMap<String, Timestamp>) -> crate::runtime::Result<()> {
    let (images, containers) = futures::try_join!(agent.runtime.list_images(), agent.runtime.list_containers(None))?;
    let now = agent.clock.now();
    first_seen.retain(|id, _| images.iter().any(|i| i.id == *id));
    for image in &images {
        first_seen.entry(image.id.clone()).or_insert(now);
    }
    let usage = agent.runtime.image_fs().await?;
    let place = usage.iter().find_map(|u| Some(u.fs_id.as_ref()?.mountpoint.clone()));
    let path = place.unwrap_or_else(|| agent.config.root_dir.to_string_lossy().into_owned());
    let Ok(space) = agent.system.space(Path::new(&path)) else { return Ok(()) };
    let used: BTreeSet<_> =
        containers.iter().flat_map(|c| [c.image_ref.clone(), c.image.clone().unwrap_or_default().image]).collect();
    let old = |i: &cri::Image| first_seen.get(&i.id).is_some_and(|at| now.duration_since(*at) > IMAGE_AGE_MIN);
    let candidates: Vec<_> = images.iter().filter(|i| old(i)).cloned().collect();
    for image in to_remove(&candidates, &used, space.capacity_bytes, space.available_bytes, agent.config.image_gc) {
        info!(image, "removing an unused image");
        if let Err(error) = agent.runtime.remove_image(image).await {
            warn!(%error, "cannot remove an image");
        }
    }
    Ok(())
}

/// The unused images that must go so that the disk is no fuller than the low mark, if it is fuller than the high one.
fn to_remove(
    images: &[cri::Image],
    used: &BTreeSet<String>,
    capacity: u64,
    available: u64,
    (high, low): (u8, u8),
) -> Vec<String> {
    let in_use = capacity.saturating_sub(available);
    if capacity == 0 || in_use * 100 < capacity * u64::from(high) || high >= 100 {
        return Vec::new();
    }
    let mut excess = in_use.saturating_sub(capacity / 100 * u64::from(low));
    let is_used = |i: &cri::Image| {
        let names = || i.repo_tags.iter().chain(&i.repo_digests);
        // Older runtimes do not pin the image of their sandboxes.
        i.pinned
            || names().any(|n| n == super::pause::IMAGE)
            || used.contains(&i.id)
            || names().any(|n| used.contains(n))
    };
    let mut ids = Vec::new();
    for image in images.iter().filter(|i| !is_used(i)) {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(image.size);
        ids.push(image.id.clone());
    }
    ids
}

/// Gives containers a new log when theirs has grown too long; only the newest old ones stay.
async fn rotate(agent: &Agent) {
    for entry in agent.pods.all() {
        let running = entry.containers.iter().filter(|c| c.state == crate::pod::observed::State::Running);
        for c in running {
            let path = std::path::PathBuf::from(&c.log_path);
            let long = std::fs::metadata(&path).is_ok_and(|m| m.len() > agent.config.container_log_max_bytes);
            if !long {
                continue;
            }
            let stamp = agent.clock.now().strftime("%Y%m%d-%H%M%S");
            let old =
                path.with_file_name(format!("{}.{stamp}", path.file_name().unwrap_or_default().to_string_lossy()));
            let moved = agent.system.rename(&path, &old);
            let reopened = agent.runtime.reopen_log(c.id.clone()).await;
            if moved.is_err() || reopened.is_err() {
                warn!(log = %path.display(), "cannot rotate a log");
            }
            prune(agent.system.as_ref(), &path, agent.config.container_log_max_files);
        }
    }
}

fn prune(system: &dyn System, log: &Path, files_max: usize) {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str())) else { return };
    let all = system.list(dir).unwrap_or_default();
    let old: Vec<_> = all
        .iter()
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}."))))
        .collect();
    for path in &old[..old.len().saturating_sub(files_max.saturating_sub(1))] {
        if let Err(error) = system.remove(path) {
            debug!(%error, "cannot remove an old log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_many_images_as_needed() {
        let image = |id: &str, size| cri::Image { id: id.into(), size, ..Default::default() };
        let images = [image("used", 50), image("a", 30), image("b", 30)];
        let used = BTreeSet::from(["used".to_owned()]);
        assert!(to_remove(&images, &used, 1000, 500, (85, 80)).is_empty());
        assert!(to_remove(&images, &used, 1000, 0, (100, 99)).is_empty());
        assert_eq!(to_remove(&images, &used, 1000, 180, (80, 80)), ["a"]);
        assert_eq!(to_remove(&images, &used, 1000, 100, (85, 80)), ["a", "b"]);
    }

    #[test]
    fn two_attempts_stay() {
        let container = |id: &str, created_at, state: cri::ContainerState| cri::Container {
            id: id.into(),
            created_at,
            state: state as i32,
            ..Default::default()
        };
        use cri::ContainerState::{ContainerExited, ContainerRunning};
        let all = [
            container("1", 1, ContainerExited),
            container("3", 3, ContainerRunning),
            container("2", 2, ContainerExited),
        ];
        assert_eq!(superfluous(&all), ["1"]);
    }
}
