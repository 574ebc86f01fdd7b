//! The keys of one mapping, checked against the table of keys.

use super::Reader;
use crate::plan::diagnostic::{Finding, Span};
use crate::plan::keys::{Key, Level, Shape, help_for_unknown, rows};
use crate::plan::tree::{NodeId, Tree, Value};
use crate::plan::words::quoted;
use std::collections::HashMap;

/// How many keys there are: the last of the table, and those before it.
const COUNT: usize = Key::Enum as usize + 1;

/// The values of a mapping by key, each with its key's node.
pub(super) struct Fields {
    values: [Option<(NodeId, NodeId)>; COUNT],
}

impl Fields {
    /// The value of `key`.
    pub(super) fn get(&self, key: Key) -> Option<NodeId> {
        self.values[key as usize].map(|(_, value)| value)
    }

    /// Where `key` is written; nowhere is the start of the text.
    pub(super) fn key_span(&self, tree: &Tree<'_>, key: Key) -> Span {
        self.values[key as usize].map_or(Span::default(), |(key, _)| tree.span(key))
    }
}

/// More entries than this are compared by way of a table.
const FEW: usize = 16;

impl<'t> Reader<'t> {
    /// The keys of a mapping at `level`; nothing, with an error, if it is no mapping.
    pub(super) fn fields(&mut self, node: NodeId, level: Level) -> Option<Fields> {
        if self.tree.value(node) != Value::Mapping {
            let message = format!("{} is a mapping, but this is {}", level.name(), self.kind(node));
            let required: Vec<_> =
                rows(level).filter(|row| row.required.holds(level)).map(|row| row.name).collect();
            let example =
                required.first().or(Some(&"timeout")).map(|name| format!("write it as `{name}: …`"));
            self.findings.add(Finding::error(self.tree.span(node), message).maybe_help(example));
            return None;
        }
        let mut fields = Fields { values: [None; COUNT] };
        for (key, value) in self.tree.entries(node) {
            self.field(key, value, level, &mut fields);
        }
        for row in rows(level).filter(|row| row.required.holds(level)) {
            if fields.get(row.key).is_none() {
                self.missing(node, row.key, level);
            }
        }
        Some(fields)
    }

    fn field(&mut self, key: NodeId, value: NodeId, level: Level, fields: &mut Fields) {
        let Some(name) = self.tree.name(key) else {
            self.report(
                key,
                format!("a key is a word, but this is {}", self.kind(key)),
                "write `key: value`",
            );
            return;
        };
        let Some(row) = Key::find(name, level) else {
            let message = format!("{} has no key {}", level.name(), quoted(name));
            if self.findings.wants_help() {
                self.report(key, message, help_for_unknown(name, level));
            } else {
                self.findings.add(Finding::error(self.tree.span(key), message));
            }
            return;
        };
        if let Shape::Later(help) = row.shape {
            let message = format!("`{name}` is not there yet");
            self.report(key, message, format!("it comes with a later release; until then {help}"));
            return;
        }
        let slot = &mut fields.values[row.key as usize];
        if let Some((first, _)) = *slot {
            let finding = Finding::error(self.tree.span(key), format!("`{name}` is written twice"))
                .note(self.tree.span(first), "first written here")
                .help("remove one of the two");
            self.findings.add(finding);
            return;
        }
        *slot = Some((key, value));
        if self.tree.value(value) == Value::Null && row.shape != Shape::Text {
            self.has_no_value(key, name);
        }
    }

    fn has_no_value(&mut self, key: NodeId, name: &str) {
        let help = format!("write a value after `{name}:`, or remove the key");
        self.report(key, format!("`{name}` has no value"), help);
    }

    fn missing(&mut self, node: NodeId, key: Key, level: Level) {
        let start = self.tree.span(node);
        // Of a mapping in many lines its first word is enough.
        let span = match self.tree.children(node).next() {
            Some(first) if self.tree.target(node) == node => self.tree.span(first),
            _ => start,
        };
        let help = match key {
            Key::Version => "write `version: 1` as the first line".to_string(),
            Key::Project => "write `project: NAME`, small letters, digits and `-`".to_string(),
            Key::MaxAttempts => "write `max_attempts: 3` for two more attempts after the first".to_string(),
            Key::Id => "write `id: NAME`".to_string(),
            _ => format!("write `{}: …`", key.name()),
        };
        let message = format!("{} needs `{}`", level.name(), key.name());
        self.findings.add(Finding::error(span, message).help(help));
    }

    /// The entries of a mapping whose keys are names of the user; twice the same is an error.
    pub(super) fn named_entries(&mut self, node: NodeId, key: Key) -> Vec<(&'t str, NodeId, NodeId)> {
        let tree = self.tree;
        let mut entries: Vec<(&'t str, NodeId, NodeId)> = Vec::new();
        if !matches!(tree.value(node), Value::Mapping) {
            if tree.value(node) != Value::Null {
                let message = format!("`{}` is a mapping, but this is {}", key.name(), self.kind(node));
                self.report(node, message, format!("write `{}: {{NAME: VALUE}}`", key.name()));
            }
            return entries;
        }
        let mut seen: HashMap<&str, NodeId> = HashMap::new();
        for (name_node, value) in tree.entries(node) {
            let Some(name) = tree.name(name_node) else {
                let message = format!("a name is a word, but this is {}", self.kind(name_node));
                self.report(name_node, message, "write `NAME: VALUE`");
                continue;
            };
            let first = if entries.len() < FEW {
                entries.iter().find(|entry| entry.0 == name).map(|entry| entry.1)
            } else {
                if seen.is_empty() {
                    seen.extend(entries.iter().map(|entry| (entry.0, entry.1)));
                }
                seen.insert(name, name_node)
            };
            if let Some(first) = first {
                let finding =
                    Finding::error(tree.span(name_node), format!("{} is written twice", quoted(name)))
                        .note(tree.span(first), "first written here")
                        .help("remove one of the two");
                self.findings.add(finding);
            } else {
                entries.push((name, name_node, value));
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::keys::KEYS;

    #[test]
    fn there_is_a_place_for_every_key() {
        assert_eq!(KEYS.len(), COUNT);
    }
}
