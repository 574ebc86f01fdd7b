//! Parameters: what a plan declares, and what was given.

use super::Reader;
use super::fields::Fields;
use crate::plan::diagnostic::{Finding, Span};
use crate::plan::keys::{Key, Level};
use crate::plan::limits::exceeded;
use crate::plan::tree::{NodeId, Value};
use crate::plan::words::{listed, nearest, quoted};
use cairn_model::plan::Parameter;

/// Most parameters of a plan: each is looked for in every expression.
const MAX_PARAMETERS: usize = 1_000;
/// Longest name of a parameter.
const MAX_NAME_BYTES: usize = 63;
/// Why defaults are taken as they are.
const NO_EXPRESSION: &str = "write the value itself: a parameter cannot refer to another";

impl<'t> Reader<'t> {
    /// Reads the declared parameters, and gives each its value.
    pub(super) fn parameters(&mut self, fields: &Fields) {
        let declared = match fields.get(Key::Parameters) {
            Some(node) => self.named_entries(node, Key::Parameters),
            None => Vec::new(),
        };
        for (index, &(name, name_node, node)) in declared.iter().enumerate() {
            if index == MAX_PARAMETERS {
                let span = self.tree.span(name_node);
                self.full(exceeded(span, "the plan has too many parameters", "parameters", MAX_PARAMETERS));
                break;
            }
            if !is_name(name) {
                let message = format!("{} cannot be a parameter's name", quoted(name));
                self.report(
                    name_node,
                    message,
                    "start with a letter, go on with letters, digits, `_` and `-`, at most 63",
                );
                continue;
            }
            if let Some(value) = self.parameter(name, name_node, node) {
                self.parameters.push(Parameter { name: name.to_string(), value });
            }
        }
        let span = fields.get(Key::Parameters).map(|_| fields.key_span(self.tree, Key::Parameters));
        for (name, _) in self.options.params {
            if declared.iter().all(|(known, ..)| known != name) {
                self.unknown_parameter(name, declared.iter().map(|(known, ..)| *known), span);
            }
        }
    }

    fn parameter(&mut self, name: &str, name_node: NodeId, node: NodeId) -> Option<String> {
        if !matches!(self.tree.value(node), Value::Mapping) {
            let message =
                format!("the parameter {} is a mapping, but this is {}", quoted(name), self.kind(node));
            let help = match self.tree.value(node) {
                Value::Scalar(..) => format!("write `{name}: {{default: {}}}`", self.tree.raw(node)),
                _ => {
                    format!("write `{name}: {{default: VALUE}}`, or `{name}: {{}}` if a value must be given")
                }
            };
            self.report(node, message, help);
            return None;
        }
        let fields = self.fields(node, Level::PARAMETER)?;
        if let Some(description) = fields.get(Key::Description) {
            self.text(description, Key::Description.name());
        }
        let allowed = match fields.get(Key::Enum) {
            Some(list) => Some(self.values(list)?),
            None => None,
        };
        let default = match fields.get(Key::Default) {
            Some(node) => Some((self.literal(node, Key::Default, NO_EXPRESSION)?, node)),
            None => None,
        };
        if let (Some((value, node)), Some(allowed)) = (default, &allowed)
            && !allowed.contains(&value)
        {
            let message = format!("the default {} is not one of the allowed values", quoted(value));
            self.report(node, message, format!("write {}", listed(allowed.iter().copied(), "or")));
        }
        let given = self.options.params.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value);
        match (given, default) {
            (Some(value), _) => {
                if let Some(allowed) = allowed
                    && !allowed.contains(&value.as_str())
                {
                    let message = format!(
                        "--param {name}={}: this value is not allowed",
                        quoted(value).trim_matches('`')
                    );
                    let help = format!("give {}", listed(allowed, "or"));
                    self.report(name_node, message, help);
                } else if value.contains('\0') {
                    self.report(name_node, format!("--param {name} contains a NUL character"), "remove it");
                }
                Some(value.clone())
            }
            (None, Some((value, _))) => Some(value.to_string()),
            (None, None) => {
                let message = format!("the parameter {} needs a value", quoted(name));
                self.report(
                    name_node,
                    message,
                    format!("give one with `--param {name}=VALUE`, or write a `default`"),
                );
                // Known, so that what refers to it is not reported too.
                Some(String::new())
            }
        }
    }

    fn values(&mut self, list: NodeId) -> Option<Vec<&'t str>> {
        let items = self.items(list, Key::Enum)?;
        let values: Vec<&str> =
            items.filter_map(|item| self.literal(item, Key::Enum, NO_EXPRESSION)).collect();
        if values.is_empty() {
            self.report(list, "`enum` allows no value", "list the allowed values, or remove the key");
            return None;
        }
        Some(values)
    }

    fn unknown_parameter<'n>(
        &mut self,
        name: &str,
        known: impl Iterator<Item = &'n str> + Clone,
        span: Option<Span>,
    ) {
        let message = format!("--param {}: the plan has no such parameter", quoted(name).trim_matches('`'));
        let help = match nearest(name, known.clone()) {
            Some(nearest) => format!("did you mean `--param {nearest}=VALUE`?"),
            None if span.is_some() => format!("the plan has {}", listed(known, "and")),
            None => "the plan declares no parameters".to_string(),
        };
        let finding = match span {
            Some(span) => Finding::error(span, message),
            None => Finding::unplaced(message),
        };
        self.findings.add(finding.help(help));
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
