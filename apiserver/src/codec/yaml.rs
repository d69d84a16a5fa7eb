//! YAML 1.1 as upstream reads and writes it: go-yaml's scalars, merge keys and limits, made into JSON and back.
//!
//! Bare `y`, `n`, `on` and `off` are booleans, a leading zero means octal, and keys that are no text become text
//! (`n:` is `"false"`). Only the first document of a stream is read.

use std::collections::{BTreeMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Value};

use self::scalar::{Scalar, resolve};

mod scalar;
mod write;

pub use write::write;

/// The nesting that is taken, aliases unfolded; JSON must be able to follow.
const DEPTH_MAX: usize = crds::schema::decode::scan::DEPTH_MAX;

/// The keys that a mapping has already, as YAML knows them.
type Seen = HashSet<String>;

/// What a document says.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub value: Value,
    /// `line 6: key "k" already set in map`: what a strict reader refuses. The last one counts.
    pub duplicates: Vec<String>,
}

/// Why a text is no YAML, in go-yaml's words as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    #[error("yaml: {0}")]
    Yaml(String),
    /// YAML that JSON cannot say.
    #[error("{0}")]
    Json(String),
}

type Read<T> = Result<T, YamlError>;

fn fail<T>(problem: impl Into<String>) -> Read<T> {
    Err(YamlError::Yaml(problem.into()))
}

/// Reads the first document of a text; nothing at all is null.
pub fn parse(input: &[u8]) -> Read<Parsed> {
    let text = String::from_utf8_lossy(input);
    let tree = Tree::read(&text)?;
    let mut reader = Reader { tree: &tree, decoded: 0, aliased: 0, open: Vec::new(), duplicates: Vec::new() };
    let value = match tree.root {
        Some(root) => reader.value(root, 0)?,
        None => Value::Null,
    };
    Ok(Parsed { value, duplicates: reader.duplicates })
}

/// What go-yaml's strict reader says of keys that come twice.
pub fn strict_error(duplicates: &[String]) -> Option<String> {
    let lines: String = duplicates.iter().map(|line| format!("\n  {line}")).collect();
    (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{lines}"))
}

/// A node's place in the tree.
type Place = usize;

#[derive(Debug)]
struct Node {
    /// Counted from 1.
    line: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar {
        text: String,
        tag: String,
        plain: bool,
    },
    List(Vec<Place>),
    /// Keys and values in turn.
    Map(Vec<Place>),
    Alias(Place),
}

#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    root: Option<Place>,
    anchors: BTreeMap<usize, Place>,
}

impl Tree {
    fn read(text: &str) -> Read<Self> {
        let mut tree = Self::default();
        let mut open: Vec<Place> = Vec::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| syntax(&error, text))?;
            let line = span.start.line();
            let (kind, anchor, opens) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let tag = tag_text(tag.as_deref());
                    let plain = style == ScalarStyle::Plain;
                    (Kind::Scalar { text: text.into_owned(), tag, plain }, anchor, false)
                }
                Event::SequenceStart(anchor, _) => (Kind::List(Vec::new()), anchor, true),
                Event::MappingStart(anchor, _) => (Kind::Map(Vec::new()), anchor, true),
                Event::Alias(anchor) => {
                    let Some(target) = tree.anchors.get(&anchor) else { return fail("unknown anchor referenced") };
                    (Kind::Alias(*target), 0, false)
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                Event::DocumentEnd => break,
                _ => continue,
            };
            let place = tree.nodes.len();
            tree.nodes.push(Node { line, kind });
            if anchor > 0 {
                tree.anchors.insert(anchor, place);
            }
            match open.last().map(|parent| &mut tree.nodes[*parent].kind) {
                Some(Kind::List(children) | Kind::Map(children)) => children.push(place),
                _ => tree.root = Some(place),
            }
            if opens {
                open.push(place);
            }
            if open.len() > DEPTH_MAX {
                return fail(format!("exceeded max depth of {DEPTH_MAX}"));
            }
        }
        Ok(tree)
    }
}

/// `!!int`, `!!str`, …; `!` alone means text.
fn tag_text(tag: Option<&Tag>) -> String {
    match tag {
        None => String::new(),
        Some(tag) if tag.is_yaml_core_schema() => format!("!!{}", tag.suffix),
        Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => "!!str".to_owned(),
        Some(tag) => format!("{}{}", tag.handle, tag.suffix),
    }
}

/// What the parser refuses, as libyaml words it; go-yaml counts lines from 0 where the grammar is at fault.
fn syntax(error: &ScanError, text: &str) -> YamlError {
    let info = error.info();
    let problem = info.rsplit_once(", ").filter(|(context, _)| context.starts_with("while")).map_or(info, |(_, p)| p);
    if problem == "found unknown anchor" {
        let name = text.chars().skip(error.marker().index()).skip_while(|c| *c == '*');
        let name: String = name.take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        return YamlError::Yaml(format!("unknown anchor '{name}' referenced"));
    }
    const MEMBER: &str = "did not find expected ',' or '}'";
    const END: &str = "found unexpected end of stream";
    let problem = match problem {
        "simple key expected" | "simple key expect ':'" => "could not find expected ':'",
        "expected ',' or ']'" => "did not find expected ',' or ']'",
        "did not find expected <document-start>" => "did not find expected <document start>",
        "did not find expected hexadecimal number" => "did not find expected hexdecimal number",
        "invalid indentation in quoted scalar" => END,
        "invalid indentation" | "invalid indentation in flow construct" => MEMBER,
        _ if problem.starts_with("invalid trailing content") || problem.starts_with("':' may not precede") => MEMBER,
        _ if problem.contains("only valid inside a block") => "did not find expected node content",
        _ if problem.starts_with("unexpected character") || problem.contains("tab") => {
            "found character that cannot start any token"
        }
        problem => problem,
    };
    let of_grammar = ["key", "'-' indicator", "',' or '}'", "',' or ']'", "node content", "<document start>"];
    let of_grammar = of_grammar.iter().any(|what| problem == format!("did not find expected {what}"));
    let line = if problem == END { text.matches('\n').count() } else { error.marker().line().saturating_sub(1) };
    YamlError::Yaml(match line {
        0 => problem.to_owned(),
        line if of_grammar => format!("line {line}: {problem}"),
        line => format!("line {}: {problem}", line + 1),
    })
}

struct Reader<'t> {
    tree: &'t Tree,
    /// Nodes read, and those of them behind an alias: few lines must not unfold to millions.
    decoded: u64,
    aliased: u64,
    /// The aliases on the way.
    open: Vec<Place>,
    duplicates: Vec<String>,
}

/// What go-yaml allows to come from aliases: nearly everything in a small document, a tenth in a huge one.
fn allowed_alias_ratio(decoded: u64) -> f64 {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    let decoded = decoded as f64;
    0.99 - 0.89 * ((decoded - LOW) / (HIGH - LOW)).clamp(0.0, 1.0)
}

impl<'t> Reader<'t> {
    fn count(&mut self) -> Read<()> {
        self.decoded += 1;
        self.aliased += u64::from(!self.open.is_empty());
        let excessive = self.aliased as f64 / self.decoded as f64 > allowed_alias_ratio(self.decoded);
        if self.aliased > 100 && self.decoded > 1_000 && excessive {
            return fail("document contains excessive aliasing");
        }
        Ok(())
    }

    fn node(&self, place: Place) -> &'t Node {
        &self.tree.nodes[place]
    }

    /// Follows an alias while `read` runs.
    fn through<T>(&mut self, target: Place, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.open.contains(&target) {
            return fail("anchor value contains itself");
        }
        self.open.push(target);
        let result = read(self);
        self.open.pop();
        result
    }

    fn value(&mut self, place: Place, depth: usize) -> Read<Value> {
        self.count()?;
        if depth > DEPTH_MAX {
            return fail(format!("exceeded max depth of {DEPTH_MAX}"));
        }
        match &self.node(place).kind {
            Kind::Alias(target) => self.through(*target, |reader| reader.value(*target, depth)),
            Kind::Scalar { text, tag, plain } => resolve(tag, text, *plain)?.into_json(),
            Kind::List(items) => items.iter().map(|item| self.value(*item, depth + 1)).collect(),
            Kind::Map(_) => {
                let (mut map, mut seen) = (Map::new(), HashSet::new());
                self.fill(place, depth, &mut map, &mut seen)?;
                Ok(Value::Object(map))
            }
        }
    }

    /// Adds a mapping's entries to `map`; `seen` grows with it.
    fn fill(&mut self, place: Place, depth: usize, map: &mut Map<String, Value>, seen: &mut Seen) -> Read<()> {
        let Kind::Map(children) = &self.node(place).kind else { return fail(MERGE) };
        for pair in children.chunks_exact(2) {
            let (key, value) = (pair[0], pair[1]);
            if self.is_merge(key) {
                self.merge(value, depth, map, seen)?;
                continue;
            }
            let key = self.key(key, value)?;
            let line = self.node(value).line;
            let value = self.value(value, depth + 1)?;
            if key.identity().is_some_and(|identity| !seen.insert(identity)) {
                self.duplicates.push(format!("line {line}: key {} already set in map", key.go()));
            }
            map.insert(key.text(), value);
        }
        Ok(())
    }

    fn key(&mut self, place: Place, value: Place) -> Read<Scalar> {
        self.count()?;
        match &self.node(place).kind {
            Kind::Alias(target) => self.through(*target, |reader| reader.key(*target, value)),
            Kind::Scalar { text, tag, plain } => match resolve(tag, text, *plain)? {
                Scalar::Null => Err(YamlError::Json(format!(
                    "unsupported map key of type: %!s(<nil>), key: <nil>, value: {}",
                    self.value(value, 0)?
                ))),
                Scalar::Large(number) => Err(YamlError::Json(format!(
                    "unsupported map key of type: uint64, key: {number:#x}, value: {}",
                    self.value(value, 0)?
                ))),
                key => Ok(key),
            },
            Kind::List(_) | Kind::Map(_) => fail(format!("invalid map key: {}", self.value(place, 0)?)),
        }
    }

    fn is_merge(&self, place: Place) -> bool {
        match &self.node(place).kind {
            Kind::Scalar { text, tag, plain } => text == "<<" && (tag == "!!merge" || (*plain && tag.is_empty())),
            _ => false,
        }
    }

    /// `<<`: the entries of another mapping, or of several, of which the first has the last word.
    fn merge(&mut self, place: Place, depth: usize, map: &mut Map<String, Value>, seen: &mut Seen) -> Read<()> {
        self.count()?;
        if depth > DEPTH_MAX {
            return fail(format!("exceeded max depth of {DEPTH_MAX}"));
        }
        match &self.node(place).kind {
            Kind::Map(_) => self.fill(place, depth + 1, map, seen),
            Kind::Alias(target) if matches!(self.node(*target).kind, Kind::Map(_)) => {
                self.through(*target, |reader| reader.fill(*target, depth + 1, map, seen))
            }
            Kind::List(items) if depth <= DEPTH_MAX => {
                for item in items.iter().rev() {
                    if matches!(self.node(*item).kind, Kind::List(_)) {
                        return fail(MERGE);
                    }
                    self.merge(*item, depth + 1, map, seen)?;
                }
                Ok(())
            }
            _ => fail(MERGE),
        }
    }
}

const MERGE: &str = "map merge requires map or sequence of maps as the value";

#[cfg(test)]
mod tests;
