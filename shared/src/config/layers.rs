//! Values in layers, before they have types: what a later layer says replaces what an earlier one said.

use super::{ConfigError, MAX_FILE_BYTES, Origin, PREFIX, read_bounded, read_secret};
use crate::plan::diagnostic::{Diagnostics, Finding, Findings};
use crate::plan::source::LineIndex;
use crate::plan::tree::{NodeId, Tree, Value};
use crate::plan::words::{nearest, quoted};
use crate::plan::{Limits, Source, document};
use std::path::Path;

/// The name of a key's twin that holds the name of a file.
const FILE_SUFFIX: &str = "_file";

/// How much a file may hold.
const LIMITS: Limits =
    Limits { plan_bytes: MAX_FILE_BYTES as usize, nodes: 10_000, depth: 16, ..Limits::local() };

/// A value without a type, and who says it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub content: Content,
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file. Keys are few: looked up by walking.
    Map(Vec<(String, Origin, Node)>),
}

/// What a key holds, judged by its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One value, or none.
    Single,
    /// A list, or a mapping with any keys.
    Many,
}

/// A key that has a value of its own.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// `tls.certificate`.
    pub path: String,
    shape: Shape,
}

impl Key {
    fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "__").to_uppercase())
    }

    /// The key's value in a serialised configuration.
    pub(super) fn value_in<'v>(&self, value: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        self.path.split('.').try_fold(value, |value, name| value.get(name))
    }
}

/// The keys of a type, from its default.
pub(super) fn keys(defaults: &serde_json::Value) -> Vec<Key> {
    fn collect(path: &str, value: &serde_json::Value, keys: &mut Vec<Key>) {
        let shape = match value {
            serde_json::Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    collect(&path, value, keys);
                }
                return;
            }
            serde_json::Value::Object(_) | serde_json::Value::Array(_) => Shape::Many,
            _ => Shape::Single,
        };
        if !path.is_empty() {
            keys.push(Key { path: path.to_owned(), shape });
        }
    }
    let mut keys = Vec::new();
    collect("", defaults, &mut keys);
    keys
}

/// The values of a file, those in files of their own included.
pub(super) fn from_file(path: &Path, keys: &[Key]) -> Result<Node, ConfigError> {
    let bytes = read_bounded(path, MAX_FILE_BYTES)?;
    let name = path.display().to_string();
    let source = Source::from_bytes(&name, bytes, &LIMITS).map_err(|wrong| first(path, &wrong))?;
    let mut root = parse(&source, |line, column| Origin::File { path: path.to_owned(), line, column })
        .map_err(|wrong| first(path, &wrong))?;
    match root.content {
        Content::Null => root.content = Content::Map(Vec::new()),
        Content::Map(_) => {}
        Content::Scalar(_) | Content::List(_) => {
            return Err(wrong(&root.origin, "this is no mapping of keys", Some("write `key: value`".into())));
        }
    }
    follow_files(&mut root, "", keys)?;
    Ok(root)
}

/// Puts the contents of files in the place of `KEY_file`.
fn follow_files(node: &mut Node, path: &str, keys: &[Key]) -> Result<(), ConfigError> {
    let Content::Map(entries) = &mut node.content else { return Ok(()) };
    let known = |path: &str| keys.iter().find(|key| key.path == path);
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let mut at = 0;
    while at < entries.len() {
        let twin = join(&entries[at].0);
        let base = twin.strip_suffix(FILE_SUFFIX).filter(|_| known(&twin).is_none());
        let is_secret = base.and_then(known).is_some_and(|key| key.shape == Shape::Single);
        if is_secret {
            let name = entries[at].0.strip_suffix(FILE_SUFFIX).unwrap_or_default().to_owned();
            let origin = entries[at].1.clone();
            if entries.iter().any(|(other, ..)| *other == name) {
                let message = format!("{} and {} are both set", quoted(&name), quoted(&entries[at].0));
                return Err(wrong(&origin, message, Some("keep one of them".into())));
            }
            let Content::Scalar(file) = &entries[at].2.content else {
                let message = format!("{} is to be the name of a file", quoted(&twin));
                return Err(wrong(&origin, message, None));
            };
            let value = read_value(Path::new(file), &origin)?;
            entries[at] = (name, origin, value);
        } else {
            follow_files(&mut entries[at].2, &twin, keys)?;
        }
        at += 1;
    }
    Ok(())
}

/// A value that is the content of a file, but for the line feed at its end.
fn read_value(path: &Path, origin: &Origin) -> Result<Node, ConfigError> {
    let text = read_secret(path)?;
    if text.is_empty() {
        return Err(wrong(origin, format!("{} is empty", path.display()), None));
    }
    Ok(Node { content: Content::Scalar(text), origin: origin.clone() })
}

/// Adds what variables say; returns what is probably misspelt.
pub(super) fn add_environment(
    root: &mut Node,
    keys: &[Key],
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Vec<String>, ConfigError> {
    let names: Vec<String> = keys.iter().map(Key::variable).collect();
    let mut set: Vec<(String, String)> =
        environment.filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty()).collect();
    // An environment has no order; what is told of it should have one.
    set.sort_unstable();
    let mut notices = Vec::new();
    for (variable, text) in &set {
        let origin = Origin::Environment { name: variable.clone() };
        if let Some(at) = names.iter().position(|name| name == variable) {
            let node = keys[at].read(text, origin)?;
            root.set(&keys[at].path, node);
            continue;
        }
        let twin = variable.strip_suffix("_FILE");
        let secret = twin.and_then(|twin| names.iter().position(|name| name == twin));
        if let Some(at) = secret.filter(|&at| keys[at].shape == Shape::Single) {
            if set.iter().any(|(other, _)| *other == names[at]) {
                let message = format!("{} is set too", names[at]);
                return Err(wrong(&origin, message, Some("keep one of them".into())));
            }
            let node = read_value(Path::new(text), &origin)?;
            root.set(&keys[at].path, node);
            continue;
        }
        let bare = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
        if let Some(near) = nearest(&variable[PREFIX.len()..], bare) {
            notices.push(format!("{variable} is no key; {PREFIX}{near} is"));
        } else if variable.contains("__") {
            // Nothing but a nested key is spelt with two underscores.
            return Err(wrong(&origin, "there is no such key", None));
        }
    }
    Ok(notices)
}

/// Adds what flags say.
pub(super) fn add_flags(
    root: &mut Node,
    keys: &[Key],
    overrides: &[(String, String)],
) -> Result<(), ConfigError> {
    for (path, text) in overrides {
        let origin = Origin::Flag { key: path.clone() };
        let Some(key) = keys.iter().find(|key| key.path == *path) else {
            let near = nearest(path, keys.iter().map(|key| key.path.as_str()));
            let help = near.map(|near| format!("did you mean {}?", quoted(near)));
            return Err(wrong(&origin, "there is no such key", help));
        };
        let node = key.read(text, origin)?;
        root.set(path, node);
    }
    Ok(())
}

impl Key {
    /// Reads the text of a variable or a flag.
    fn read(&self, text: &str, origin: Origin) -> Result<Node, ConfigError> {
        if self.shape == Shape::Single {
            return Ok(Node { content: Content::Scalar(text.to_owned()), origin });
        }
        let source = Source::new(origin.to_string(), text);
        parse(&source, |_, _| origin.clone()).map_err(|found| {
            let found = found.diagnostics.into_iter().next();
            let message = found.as_ref().map_or("this cannot be read", |found| &found.message);
            wrong(&origin, message, found.as_ref().and_then(|found| found.help.clone()))
        })
    }
}

/// The values of a text. `origin` makes one from a line and a column.
fn parse(source: &Source, origin: impl Fn(u32, u32) -> Origin) -> Result<Node, Diagnostics> {
    let mut findings = Findings::default();
    let tree = match document(source, &LIMITS, &mut findings) {
        Ok(tree) => tree,
        Err(finding) => {
            findings.add(*finding);
            return Err(findings.diagnostics(source));
        }
    };
    if findings.has_errors() {
        return Err(findings.diagnostics(source));
    }
    let index = LineIndex::new(&source.text);
    let place = |id: NodeId| {
        let at = index.line_column(tree.span(id).start);
        origin(at.line, at.column)
    };
    match tree.root() {
        Some(root) => convert(&tree, root, &place, &mut findings),
        None => Ok(Node::empty(origin(1, 1))),
    }
    .map_err(|()| findings.diagnostics(source))
}

fn convert(
    tree: &Tree<'_>,
    id: NodeId,
    place: &impl Fn(NodeId) -> Origin,
    findings: &mut Findings,
) -> Result<Node, ()> {
    let content = match tree.value(id) {
        Value::Null => Content::Null,
        Value::Scalar(text, _) => Content::Scalar(text.to_owned()),
        Value::Sequence => {
            let items = tree.children(id).map(|item| convert(tree, item, place, findings));
            Content::List(items.collect::<Result<_, _>>()?)
        }
        Value::Mapping => {
            let mut entries: Vec<(String, Origin, Node)> = Vec::new();
            for (key, value) in tree.entries(id) {
                let wrong = match tree.name(key) {
                    None => Some("a key is a word".to_owned()),
                    Some(name) if entries.iter().any(|(other, ..)| other == name) => {
                        Some(format!("{} is set twice", quoted(name)))
                    }
                    Some(name) => {
                        let value = convert(tree, value, place, findings)?;
                        entries.push((name.to_owned(), place(key), value));
                        None
                    }
                };
                if let Some(message) = wrong {
                    findings.add(Finding::error(tree.span(key), message));
                    return Err(());
                }
            }
            Content::Map(entries)
        }
    };
    Ok(Node { content, origin: place(id) })
}

impl Node {
    /// A mapping that holds nothing.
    pub(super) fn empty(origin: Origin) -> Self {
        Self { content: Content::Map(Vec::new()), origin }
    }

    /// Sets what stands at a path; what stood there goes.
    fn set(&mut self, path: &str, node: Node) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        // Where a mapping belongs, something else is replaced: the later layer knows better.
        if !matches!(self.content, Content::Map(_)) {
            self.content = Content::Map(Vec::new());
        }
        let Content::Map(entries) = &mut self.content else { return };
        let at = match entries.iter().position(|(known, ..)| known == name) {
            Some(at) => at,
            None => {
                entries.push((name.to_owned(), node.origin.clone(), Node::empty(node.origin.clone())));
                entries.len() - 1
            }
        };
        match rest {
            Some(rest) => entries[at].2.set(rest, node),
            None => entries[at] = (name.to_owned(), node.origin.clone(), node),
        }
    }

    /// Who says what stands at a path.
    pub(super) fn origin_of(&self, path: &str) -> Origin {
        let mut node = self;
        for name in path.split('.') {
            let Content::Map(entries) = &node.content else { return Origin::Default };
            let Some((.., next)) = entries.iter().find(|(known, ..)| known == name) else {
                return Origin::Default;
            };
            node = next;
        }
        node.origin.clone()
    }
}

pub(super) fn wrong(origin: &Origin, message: impl Into<String>, help: Option<String>) -> ConfigError {
    ConfigError::Wrong { origin: origin.clone(), message: message.into(), help }
}

/// The first of what is wrong with a file's text.
fn first(path: &Path, found: &Diagnostics) -> ConfigError {
    let Some(found) = found.diagnostics.first() else {
        return wrong(&Origin::Default, format!("{} cannot be read", path.display()), None);
    };
    let (line, column) = found.place.as_ref().map_or((1, 1), |place| (place.line, place.column));
    let origin = Origin::File { path: path.to_owned(), line, column };
    wrong(&origin, &found.message, found.help.clone())
}
