//! Sends what clients could have sent in place of the recorded requests to Keelson and to a stock apiserver, as dry runs,
//! and tells what they answer differently.
//!
//! `mutate KUBECONFIG KUBECONFIG CASES [FILE...]`: of Keelson, of the stock server, the folder of the cases and the files
//! in it (all). Both servers must be new. Differences are grouped by what they are about; of each the shortest is shown,
//! when all is sent or on an interrupt.

use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use e2e::{
    mutation::{Mutation, Types, dry_run, is_mutable},
    replay::{self, Answer, Case, ReplayError, Server, Session},
};
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
/// How much of an answer is shown.
const SHOWN_CHARS: usize = 600;

#[derive(Parser)]
#[command(about = "Compares Keelson with a stock apiserver on requests that were never recorded")]
struct Arguments {
    keelson: PathBuf,
    stock: PathBuf,
    cases: PathBuf,
    files: Vec<String>,
}

/// Both servers, in one file's cases.
struct Pair<'a> {
    keelson: Session<'a>,
    stock: Session<'a>,
    types: &'a Types,
    findings: &'a mut Findings,
}

#[derive(Default)]
struct Findings {
    /// What has been tried is not tried again for other cases of the kind.
    tried: HashSet<(String, Mutation)>,
    /// Kinds whose objects were changed already.
    changed: HashSet<String>,
    differences: BTreeMap<String, Vec<String>>,
    sent: usize,
}

impl Pair<'_> {
    async fn run(&mut self, case: &Case) -> Result<(), Failure> {
        let body = serde_json::from_str::<Value>(&case.body).ok().filter(|_| is_mutable(case));
        let known = body.as_ref().and_then(|body| Some((body, self.types.of_object(body)?)));
        if let Some((body, schema)) = known {
            for mutation in self.types.mutations(body, schema) {
                let Some(mutated) = mutation.of(body) else { continue };
                let tried = dry_run(&case.method, &case.path, &case.headers, &mutated);
                self.send(&format!("{} {}", case.method, kind(body)), &mutation, &tried).await?;
            }
        }
        let (keelson, stock) = tokio::join!(self.keelson.run(case), self.stock.run(case));
        let Some((body, schema)) = known.filter(|_| case.method == "POST") else { return Ok(()) };
        if let (Some(keelson), Some(stock)) = (keelson?, stock?)
            && [&keelson, &stock].iter().all(|answer| answer["status"] == 201)
            && self.findings.changed.insert(kind(body))
        {
            let name = stock["body"]["metadata"]["name"].as_str().unwrap_or_default();
            // Names that each server makes itself are not the same.
            if keelson["body"]["metadata"]["name"] == name {
                self.change(case, body, schema, name).await?;
            }
        }
        Ok(())
    }

    /// Updates and patches of an object that is there.
    async fn change(&mut self, case: &Case, body: &Value, schema: &Value, name: &str) -> Result<(), Failure> {
        let path = format!("{}/{name}", case.path.split('?').next().unwrap_or_default());
        let kind = kind(body);
        for mutation in self.types.mutations(body, schema) {
            if let Some(mut mutated) = mutation.of(body) {
                let update = dry_run("PUT", &path, &[], &mutated);
                self.send(&format!("PUT {kind}"), &mutation, &update).await?;
                // In which order two things are told that are wrong.
                if let Some(metadata) = mutated["metadata"].as_object_mut() {
                    metadata.insert("labels".to_owned(), json!({"a b": ""}));
                    metadata.insert("finalizers".to_owned(), json!(["a b"]));
                    let update = dry_run("PUT", &path, &[], &mutated);
                    self.send(&format!("PUT {kind} with bad metadata"), &mutation, &update).await?;
                }
            }
            let Some(patch) = mutation.patch() else { continue };
            for (content_type, query) in
                [(MERGE, ""), (STRATEGIC, ""), (APPLY, "?fieldManager=m"), (APPLY, "?fieldManager=m&force=true")]
            {
                let mut patch = patch.clone();
                if content_type == APPLY {
                    (patch["apiVersion"], patch["kind"]) = (body["apiVersion"].clone(), body["kind"].clone());
                    match patch.get("metadata") {
                        None | Some(Value::Object(_)) => patch["metadata"]["name"] = name.into(),
                        Some(_) => continue,
                    }
                }
                let headers = [("Content-Type".to_owned(), content_type.to_owned())];
                let sent = dry_run("PATCH", &format!("{path}{query}"), &headers, &patch);
                self.send(&format!("PATCH {content_type}{query} {kind}"), &mutation, &sent).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, about: &str, mutation: &Mutation, case: &Case) -> Result<(), Failure> {
        let wherever = Mutation { parents: vec![mutation.place()], ..mutation.clone() };
        if !self.findings.tried.insert((about.to_owned(), wherever)) {
            return Ok(());
        }
        let (keelson, stock) = tokio::join!(self.keelson.run(case), self.stock.run(case));
        let answer = |answer: Result<Option<Answer>, ReplayError>| match answer {
            Ok(answer) => replay::normal(&answer.unwrap_or_default()),
            Err(error) => json!({"status": 0, "body": {"message": error.to_string()}}),
        };
        let (keelson, stock) = (answer(keelson), answer(stock));
        self.findings.sent += 1;
        if keelson != stock {
            let told = format!("{} {:?}\n{}", mutation.place(), mutation.change, told(&keelson, &stock));
            let group = format!("{about}: {}", skeleton(&told));
            self.findings.differences.entry(group).or_default().push(format!("{about} {told}"));
        }
        Ok(())
    }
}

fn kind(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    format!("{}.{}", text("kind"), text("apiVersion"))
}

/// What two answers do not agree on.
fn told(keelson: &Value, stock: &Value) -> String {
    let said = |answer: &Value| {
        let text = answer["body"]["message"].as_str().map_or_else(|| answer["body"].to_string(), str::to_owned);
        format!("{} {}", answer["status"], text.chars().take(SHOWN_CHARS).collect::<String>())
    };
    if (&keelson["status"], &keelson["body"]["message"]) != (&stock["status"], &stock["body"]["message"]) {
        return format!("   Keelson: {}\n   stock:   {}", said(keelson), said(stock));
    }
    let differences = replay::differences(stock, keelson);
    differences.iter().take(5).map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}

/// A difference without its values.
fn skeleton(told: &str) -> String {
    let (mut out, mut quoted, mut escaped) = (String::new(), false, false);
    for char in told.lines().skip(1).flat_map(str::chars) {
        if char == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = char == '\\' && !escaped;
        if !quoted && !char.is_ascii_digit() {
            out.push(char);
        }
    }
    out
}

async fn compare(
    keelson: &Server,
    stock: &Server,
    types: &Types,
    folder: &Path,
    files: &[String],
    findings: &mut Findings,
) -> Result<(), Failure> {
    for file in files {
        let cases = replay::parse(&fs::read_to_string(folder.join(format!("{file}.http")))?);
        let (keelson, stock) = (Session::new(keelson, file).await?, Session::new(stock, file).await?);
        let mut pair = Pair { keelson, stock, types, findings: &mut *findings };
        for case in &cases {
            pair.run(case).await?;
        }
        let found: usize = findings.differences.values().map(Vec::len).sum();
        eprintln!("{file}: {} sent, {found} differences so far", findings.sent);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let (keelson, stock) = (Server::open(&arguments.keelson).await?, Server::open(&arguments.stock).await?);
    let types = Types::of(stock.get("/openapi/v2").await?);
    let files = replay::files(&arguments.cases, arguments.files)?;
    let mut findings = Findings::default();
    tokio::select! {
        compared = compare(&keelson, &stock, &types, &arguments.cases, &files, &mut findings) => compared?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            eprintln!("interrupted after {} requests", findings.sent);
        }
    }
    let mut groups: Vec<_> = findings.differences.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    for group in groups {
        let shortest = group.iter().min_by_key(|told| told.len()).map_or("", String::as_str);
        println!("{} times: {shortest}", group.len());
    }
    Ok(())
}
