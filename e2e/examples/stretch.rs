//! Tells which requests cost more than their size: recorded ones, whose lists and maps are stretched to thousands of items.
//!
//! `stretch KUBECONFIG PID CASES [FILE...]`: of a new server, its process, the folder of the cases and the files in it (all).
//! Everything stretched is a dry run, with items that are alike and with items that are not; told is what takes more than
//! three times the CPU time when there is twice as much of it.

use std::{collections::HashSet, error::Error, fs, path::PathBuf, time::Duration};

use clap::Parser;
use e2e::{
    cpu,
    mutation::{dry_run, is_mutable, with},
    replay::{self, Case, Server, Session},
};
use serde_json::{Map, Value};

type Failure = Box<dyn Error + Send + Sync>;

const ITEMS: usize = 5_000;
/// Twice as many items must fit into a request.
const BYTES_MAX: usize = 1_000_000;
/// What costs less says nothing: CPU time is counted in steps of 10 ms.
const COST_MIN: Duration = Duration::from_millis(150);
/// Fields that tell items from one another.
const NAMES: [&str; 8] = ["name", "key", "uid", "path", "mountPath", "ip", "port", "containerPort"];

#[derive(Parser)]
#[command(about = "Tells which requests cost an API server more than their size")]
struct Arguments {
    kubeconfig: PathBuf,
    pid: u32,
    cases: PathBuf,
    files: Vec<String>,
}

/// What is done to the items of a list.
#[derive(Clone, Copy, Debug)]
enum Items {
    Alike,
    Different,
}

struct Stretcher {
    pid: u32,
    /// What has been tried is not tried again for other cases of the kind.
    tried: HashSet<(String, String)>,
    sent: usize,
}

impl Stretcher {
    async fn run(&mut self, session: &mut Session<'_>, case: &Case) -> Result<(), Failure> {
        if let Some(body) = serde_json::from_str::<Value>(&case.body).ok().filter(|_| is_mutable(case)) {
            let about = format!("{} {} {}", case.method, body["apiVersion"], body["kind"]);
            for place in places(&body) {
                // A place is in the first item of each list above it.
                if self.tried.insert((about.clone(), place.clone())) {
                    for items in [Items::Alike, Items::Different] {
                        self.compare(session, case, &body, &place, items, &about).await?;
                    }
                }
            }
        }
        session.run(case).await?;
        Ok(())
    }

    async fn compare(
        &mut self,
        session: &mut Session<'_>,
        case: &Case,
        body: &Value,
        place: &str,
        items: Items,
        about: &str,
    ) -> Result<(), Failure> {
        let Some(one) = body.pointer(place) else { return Ok(()) };
        let count = ITEMS.min(BYTES_MAX / (one.to_string().len() / length(one).max(1) + 10));
        // A warning of each unknown field is a header, of which clients do not take as many.
        let path = with(&case.path, "fieldValidation", "Ignore");
        let mut costs = [Duration::ZERO; 2];
        for (cost, count) in costs.iter_mut().zip([count, count * 2]) {
            let mut stretched = body.clone();
            let Some(value) = stretched.pointer_mut(place) else { return Ok(()) };
            stretch(value, count, items);
            let before = cpu::used(&[self.pid]);
            session.run(&dry_run(&case.method, &path, &case.headers, &stretched)).await?;
            *cost = cpu::used(&[self.pid]).saturating_sub(before);
            self.sent += 1;
        }
        if costs[1] > COST_MIN && costs[1] > costs[0] * 3 {
            println!("{about}: {place}, {items:?}: {count} cost {:?}, twice as many {:?}", costs[0], costs[1]);
        }
        Ok(())
    }
}

fn length(value: &Value) -> usize {
    value.as_array().map(Vec::len).or_else(|| value.as_object().map(Map::len)).unwrap_or(0)
}

/// The lists and the maps of texts that hold something, as JSON pointers.
fn places(value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    walk(value, "", &mut out);
    out
}

fn walk(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            if let Some(first) = items.first() {
                out.push(path.to_owned());
                walk(first, &format!("{path}/0"), out);
            }
        }
        Value::Object(fields) => {
            if !path.is_empty() && !fields.is_empty() && fields.values().all(Value::is_string) {
                out.push(path.to_owned());
            }
            for (name, value) in fields {
                walk(value, &format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), out);
            }
        }
        _ => {}
    }
}

/// Makes a list or a map one of `count` items, in the manner of its first.
fn stretch(value: &mut Value, count: usize, items: Items) {
    match value {
        Value::Array(list) => {
            let Some(first) = list.first().cloned() else { return };
            let item = |i| {
                let mut item = first.clone();
                if matches!(items, Items::Different) {
                    set_apart(&mut item, i, true);
                }
                item
            };
            *list = (0..count).map(item).collect();
        }
        Value::Object(map) => {
            let Some((name, first)) = map.iter().next().map(|(name, first)| (name.clone(), first.clone())) else {
                return;
            };
            map.extend((0..count).map(|i| (format!("{name}{i}"), first.clone())));
        }
        _ => {}
    }
}

/// Changes what names an item, or all of one that is not an object.
fn set_apart(value: &mut Value, i: usize, is_named: bool) {
    match value {
        Value::String(text) if is_named => text.push_str(&i.to_string()),
        Value::Number(number) if is_named => *number = (i % 60_000 + 1).into(),
        Value::Object(fields) => {
            for (name, value) in fields {
                set_apart(value, i, NAMES.contains(&name.as_str()));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| set_apart(value, i, is_named)),
        _ => {}
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let server = Server::open(&arguments.kubeconfig).await?;
    let mut stretcher = Stretcher { pid: arguments.pid, tried: HashSet::new(), sent: 0 };
    for file in replay::files(&arguments.cases, arguments.files)? {
        let cases = replay::parse(&fs::read_to_string(arguments.cases.join(format!("{file}.http")))?);
        let mut session = Session::new(&server, &file).await?;
        for case in &cases {
            stretcher.run(&mut session, case).await?;
        }
        eprintln!("{file}: {} sent", stretcher.sent);
    }
    Ok(())
}
