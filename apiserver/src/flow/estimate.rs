//! How much work a request is: seats while it runs, and for how long others are kept busy after it.

use std::time::Duration;

use crate::{
    call::Call,
    request::{Query, RequestInfo},
    world::World,
};

const SEATS_MIN: u32 = 1;
const LIST_SEATS_MAX: u32 = 100;
const MUTATING_SEATS_MAX: u32 = 10;
const BYTES_PER_SEAT: u64 = 100_000;
/// A list from the cache is streamed: so much of it is in memory at once.
const STREAMED_BYTES_MAX: u64 = 1_000_000;
const WATCHES_PER_SEAT: f64 = 10.0;
/// How long telling the watchers of a change takes, for each seat.
const EVENT_WORK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub initial_seats: u32,
    /// After the request has been answered.
    pub final_seats: u32,
    pub additional_latency: Duration,
}

impl Work {
    pub const ONE: Self = Self { initial_seats: 1, final_seats: 0, additional_latency: Duration::ZERO };

    pub fn max_seats(&self) -> u32 {
        self.initial_seats.max(self.final_seats)
    }
}

/// What is stored of a resource, and who watches it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub objects: u64,
    pub bytes: u64,
    pub watchers: u64,
}

/// What the world says of the resource of a call; none if it is not stored.
pub fn load(call: &Call, world: &World) -> Option<Load> {
    let info = &call.info;
    let table = world.registry.table();
    let definition = table.resource(&info.group, &info.version, &info.resource)?;
    let kind = world.cache.kind(definition);
    Some(Load { objects: kind.len() as u64, bytes: kind.bytes() as u64, watchers: kind.watcher_count() as u64 })
}

/// `seats_max`: what the level allows one request; 0: no limit of its own. `load` is asked only where it matters.
pub fn work(info: &RequestInfo, query: &Query, seats_max: u32, load: impl FnOnce() -> Option<Load>) -> Work {
    let bound = |limit: u32| if seats_max == 0 { limit } else { limit.min(seats_max) };
    match info.verb.as_str() {
        "list" => list(info, query, bound(LIST_SEATS_MAX), load),
        "watch" => {
            let legacy = matches!(query.first("resourceVersion"), None | Some("" | "0"));
            let begins_with_all = query.flag("sendInitialEvents") || legacy;
            if begins_with_all { list(info, query, bound(LIST_SEATS_MAX), load) } else { Work::ONE }
        }
        "create" | "update" | "patch" | "delete" => mutating(info, bound(MUTATING_SEATS_MAX), load),
        _ => Work::ONE,
    }
}

fn list(info: &RequestInfo, query: &Query, seats_max: u32, load: impl FnOnce() -> Option<Load>) -> Work {
    let Some(load) = load() else { return Work::ONE };
    let limit = query.first("limit").and_then(|limit| limit.parse::<u64>().ok()).filter(|limit| *limit > 0);
    let objects = if info.name.is_empty() { limit.map_or(load.objects, |limit| limit.min(load.objects)) } else { 1 };
    // All lists are from the cache here.
    let bytes = (objects * load.bytes.checked_div(load.objects).unwrap_or_default()).min(STREAMED_BYTES_MAX);
    let seats = u32::try_from(bytes.div_ceil(BYTES_PER_SEAT)).unwrap_or(u32::MAX);
    Work { initial_seats: seats.clamp(SEATS_MIN, seats_max.max(SEATS_MIN)), ..Work::ONE }
}

fn mutating(info: &RequestInfo, seats_max: u32, load: impl FnOnce() -> Option<Load>) -> Work {
    if info.resource == "serviceaccounts" && info.subresource == "token" {
        return Work::ONE;
    }
    let watchers = load().unwrap_or_default().watchers as f64;
    if watchers < WATCHES_PER_SEAT {
        return Work::ONE;
    }
    let seats = (watchers / WATCHES_PER_SEAT).ceil() as u32;
    let work = EVENT_WORK * seats;
    let final_seats = seats.min(seats_max.max(SEATS_MIN));
    Work { final_seats, additional_latency: work / final_seats, ..Work::ONE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths() {
        let load = |objects, bytes, watchers| Load { objects, bytes, watchers };
        let wide = |seats| Work { initial_seats: seats, ..Work::ONE };
        let lingers =
            |final_seats, millis| Work { final_seats, additional_latency: Duration::from_millis(millis), ..Work::ONE };
        let pods = "/api/v1/namespaces/x/pods";
        for (method, uri, load, want) in [
            ("GET", pods.to_owned(), load(100, 50_000, 0), wide(1)),
            ("GET", pods.to_owned(), load(1000, 450_000, 0), wide(5)),
            ("GET", format!("{pods}?limit=500"), load(1000, 450_000, 0), wide(3)),
            ("GET", pods.to_owned(), load(100_000, 450_000_000, 0), wide(10)),
            ("GET", format!("{pods}?fieldSelector=metadata.name%3Da"), load(1000, 450_000, 0), wide(1)),
            ("GET", format!("{pods}?watch=1&resourceVersion=7"), load(1000, 450_000, 0), wide(1)),
            (
                "GET",
                format!("{pods}?watch=1&sendInitialEvents=true&resourceVersion=7"),
                load(1000, 450_000, 0),
                wide(5),
            ),
            ("GET", format!("{pods}/a"), load(1000, 450_000, 0), wide(1)),
            ("POST", pods.to_owned(), load(1, 1, 9), wide(1)),
            ("POST", pods.to_owned(), load(1, 1, 10), lingers(1, 5)),
            ("PUT", format!("{pods}/a"), load(1, 1, 41), lingers(5, 5)),
            ("DELETE", format!("{pods}/a"), load(1, 1, 200), lingers(10, 10)),
            ("POST", "/api/v1/namespaces/x/serviceaccounts/a/token".to_owned(), load(1, 1, 200), wide(1)),
        ] {
            let uri: http::Uri = uri.parse().unwrap();
            let query = Query::parse(uri.query().unwrap_or_default());
            let info = RequestInfo::new(&method.parse().unwrap(), &uri, &query);
            assert_eq!(work(&info, &query, 0, || Some(load)), want, "{method} {uri}");
            assert!(work(&info, &query, 2, || Some(load)).max_seats() <= 2);
        }
    }
}
