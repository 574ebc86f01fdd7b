//! Values of one kind each: text, numbers, truth values, durations, lists.

use super::Reader;
use super::fields::Fields;
use crate::plan::diagnostic::{Finding, Span};
use crate::plan::expression::{self, OPEN};
use crate::plan::keys::Key;
use crate::plan::scalar::{self, Misfit};
use crate::plan::tree::{NodeId, Style, Value};
use crate::plan::words::quoted;
use std::borrow::Cow;
use std::time::Duration;

impl<'t> Reader<'t> {
    /// What a value is, with its article.
    pub(super) fn kind(&self, node: NodeId) -> &'static str {
        match self.tree.value(node) {
            Value::Null => "nothing",
            Value::Sequence => "a list",
            Value::Mapping => "a mapping",
            Value::Scalar("true" | "false", Style::Plain) => "`true` or `false`",
            Value::Scalar(text, Style::Plain) if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar(..) => "text",
        }
    }

    /// The text of a scalar as written, whatever it looks like; `name` is what it is the value of. Nothing is an
    /// error.
    pub(super) fn text(&mut self, node: NodeId, name: &str) -> Option<&'t str> {
        match self.tree.value(node) {
            Value::Scalar(text, _) if !text.contains('\0') => Some(text),
            Value::Scalar(..) => {
                self.report(node, format!("`{name}` contains a NUL character"), "remove it");
                None
            }
            Value::Null => {
                let help = "write a value, or remove it; an empty text is `\"\"`, the words are `\"null\"` and `\"~\"`";
                self.report(node, format!("`{name}` has no value here"), help);
                None
            }
            Value::Sequence | Value::Mapping => {
                let help = match self.tree.raw(node).chars().next() {
                    Some(first @ ('[' | '{')) => {
                        format!("put quotes round a text that starts with `{first}`")
                    }
                    _ => "write one text here".to_string(),
                };
                self.report(node, format!("`{name}` is text, but this is {}", self.kind(node)), help);
                None
            }
        }
    }

    /// The text of a scalar with parameters put in.
    pub(super) fn expanded(&mut self, node: NodeId, name: &str) -> Option<Cow<'t, str>> {
        let text = self.text(node, name)?;
        match expression::expand(text, &self.parameters) {
            Ok(text) => Some(text),
            Err(fault) => {
                let span = self.expression_span(node, fault.nth, fault.written.len());
                self.findings.add(Finding::error(span, fault.message).help(fault.help));
                None
            }
        }
    }

    /// The text of a key's value with parameters put in.
    pub(super) fn expanded_field(&mut self, fields: &Fields, key: Key) -> Option<Cow<'t, str>> {
        fields.get(key).and_then(|node| self.expanded(node, key.name()))
    }

    /// The text of a scalar in which expressions have no meaning.
    pub(super) fn literal(&mut self, node: NodeId, key: Key, help: &str) -> Option<&'t str> {
        let text = self.text(node, key.name())?;
        if text.contains(OPEN) {
            let span = self.expression_span(node, 0, OPEN.len());
            let message = format!("expressions are not replaced in `{}`", key.name());
            self.findings.add(Finding::error(span, message).help(help));
            return None;
        }
        Some(text)
    }

    /// Where the `nth` expression of a scalar is written; if escapes hide it, where the scalar is.
    fn expression_span(&self, node: NodeId, nth: usize, len: usize) -> Span {
        let whole = self.tree.span(node);
        if self.tree.target(node) != node {
            return whole;
        }
        match self.tree.raw(node).match_indices(OPEN).nth(nth) {
            Some((at, _)) => Span::new(whole.start as usize + at, len),
            None => whole,
        }
    }

    /// A whole number.
    pub(super) fn integer(&mut self, node: NodeId, key: Key) -> Option<i64> {
        match self.tree.value(node) {
            Value::Null => None,
            Value::Scalar(text, Style::Plain) if scalar::integer(text).is_some() => scalar::integer(text),
            Value::Scalar(text, Style::Text) if scalar::integer(text).is_some() => {
                self.report(
                    node,
                    format!("`{}` is a number, but this is text", key.name()),
                    "remove the quotes",
                );
                None
            }
            value => {
                let found = match value {
                    Value::Scalar(text, _) => quoted(text),
                    _ => self.kind(node).to_string(),
                };
                let message = format!("`{}` is a whole number, but this is {found}", key.name());
                self.report(node, message, format!("write a number, like `{}: 1`", key.name()));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, node: NodeId, key: Key) -> Option<bool> {
        match self.tree.value(node) {
            Value::Null => None,
            Value::Scalar("true" | "True" | "TRUE", Style::Plain) => Some(true),
            Value::Scalar("false" | "False" | "FALSE", Style::Plain) => Some(false),
            _ => {
                let message =
                    format!("`{}` is `true` or `false`, but this is {}", key.name(), self.kind(node));
                let help = match self.tree.value(node) {
                    Value::Scalar(_, Style::Text) => "write `true` or `false` without quotes",
                    _ => "write `true` or `false`; `yes`, `no`, `on` and `off` are text in YAML 1.2",
                };
                self.report(node, message, help);
                None
            }
        }
    }

    /// A duration.
    pub(super) fn duration(&mut self, node: NodeId, key: Key) -> Option<Duration> {
        self.parsed(node, key, scalar::duration)
    }

    /// A duration that is not zero.
    pub(super) fn positive_duration(&mut self, node: NodeId, key: Key) -> Option<Duration> {
        let duration = self.duration(node, key)?;
        if duration.is_zero() {
            self.report(node, format!("`{}` cannot be zero", key.name()), "leave the key out for no limit");
            return None;
        }
        Some(duration)
    }

    /// A scalar that `parse` understands.
    pub(super) fn parsed<T>(
        &mut self,
        node: NodeId,
        key: Key,
        parse: impl Fn(&str) -> Result<T, Misfit>,
    ) -> Option<T> {
        if self.tree.value(node) == Value::Null {
            return None;
        }
        let text = self.text(node, key.name())?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(Misfit { message, help }) => {
                self.report(node, format!("`{}: {}`: {message}", key.name(), cut(text)), help);
                None
            }
        }
    }

    /// The items of a list; a single text is an error that shows the list. `None` if it is no list.
    pub(super) fn items(&mut self, node: NodeId, key: Key) -> Option<crate::plan::tree::Children<'t>> {
        match self.tree.value(node) {
            Value::Sequence => Some(self.tree.children(node)),
            Value::Null => None,
            Value::Scalar(text, _) if text.len() < 80 && !text.contains(['\n', '"', '\'', '\\']) => {
                let message = format!("`{}` is a list, but this is {}", key.name(), self.kind(node));
                let words =
                    text.split([' ', ',']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
                self.report(node, message, format!("write `{}: [{words}]`", key.name()));
                None
            }
            _ => {
                let message = format!("`{}` is a list, but this is {}", key.name(), self.kind(node));
                self.report(node, message, "start each item with `- ` on a line of its own");
                None
            }
        }
    }
}

/// A user's text for a message that has backticks of its own.
fn cut(text: &str) -> String {
    quoted(text).trim_matches('`').to_string()
}
