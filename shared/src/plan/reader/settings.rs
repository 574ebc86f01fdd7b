//! What many tasks have in common, and how the nearest wins: a task over its milestone's defaults over the
//! plan's. Environments are merged by name; every other key replaces the whole of what was inherited.

use super::fields::Fields;
use super::{Inherited, MAX_ATTEMPTS, MAX_PRIORITY, Reader, Shared};
use crate::plan::diagnostic::Finding;
use crate::plan::keys::{Key, Level};
use crate::plan::scalar;
use crate::plan::tree::{NodeId, Value};
use crate::plan::words::quoted;
use cairn_model::ids::is_id;
use cairn_model::plan::{Backoff, CPUS, Estimate, MEMORY, Retry, TaskSettings};
use std::rc::Rc;

/// Longest name of a label.
const MAX_LABEL_BYTES: usize = 128;

impl<'t> Reader<'t> {
    /// What the `fields` of `node` make of what was inherited.
    pub(super) fn inherit(&mut self, node: NodeId, fields: &Fields, inherited: &Inherited) -> Inherited {
        let settings = self.settings(fields, &inherited.shared.settings);
        let bytes = text_bytes(&settings);
        self.charge(node, bytes);
        Inherited { shared: Rc::new(Shared { settings, bytes, ..Shared::default() }), ..*inherited }
    }

    /// The same with what stands under `defaults`.
    pub(super) fn defaults(&mut self, fields: &Fields, inherited: &Inherited) -> Inherited {
        let node = fields.get(Key::Defaults).filter(|&node| self.tree.value(node) != Value::Null);
        match node.and_then(|node| Some((node, self.fields(node, Level::DEFAULTS)?))) {
            Some((node, defaults)) => self.inherit(node, &defaults, inherited),
            None => inherited.clone(),
        }
    }

    /// Whether a task says anything about its settings.
    pub(super) fn has_settings(fields: &Fields) -> bool {
        let keys = [
            Key::Env,
            Key::WorkingDir,
            Key::Timeout,
            Key::Retry,
            Key::Resources,
            Key::Requires,
            Key::AtMostOnce,
            Key::ContinueOnError,
        ];
        keys.iter().any(|&key| fields.get(key).is_some())
    }

    /// The settings that `fields` make of the inherited ones.
    pub(super) fn settings(&mut self, fields: &Fields, inherited: &TaskSettings) -> TaskSettings {
        let mut settings = inherited.clone();
        if let Some(node) = fields.get(Key::Env) {
            self.environment(node, &mut settings.env);
        }
        if let Some(node) = fields.get(Key::WorkingDir) {
            settings.working_dir = self.directory(node).or(settings.working_dir);
        }
        if let Some(node) = fields.get(Key::Timeout) {
            settings.timeout = self.positive_duration(node, Key::Timeout);
        }
        if let Some(node) = fields.get(Key::Retry) {
            settings.retry = self.retry(node).unwrap_or_default();
        }
        if let Some(node) = fields.get(Key::Resources) {
            settings.resources = self.resources(node);
        }
        if let Some(node) = fields.get(Key::Requires) {
            settings.requires = self.labels(node);
        }
        for (key, flag) in [
            (Key::AtMostOnce, &mut settings.at_most_once),
            (Key::ContinueOnError, &mut settings.continue_on_error),
        ] {
            if let Some(value) = fields.get(key).and_then(|node| self.flag(node, key)) {
                *flag = value;
            }
        }
        settings
    }

    /// The priority that `fields` give, or the inherited one.
    pub(super) fn priority(&mut self, fields: &Fields, inherited: i32) -> i32 {
        let Some(node) = fields.get(Key::Priority) else { return inherited };
        let Some(priority) = self.integer(node, Key::Priority) else { return inherited };
        match i32::try_from(priority) {
            Ok(priority) if (-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority) => priority,
            _ => {
                let help = format!("write a number from -{MAX_PRIORITY} to {MAX_PRIORITY}");
                self.report(node, format!("the priority {priority} is out of range"), help);
                inherited
            }
        }
    }

    /// Merges the variables of a mapping into `env`, which stays sorted by name.
    fn environment(&mut self, node: NodeId, env: &mut Vec<(String, String)>) {
        for (name, name_node, node) in self.named_entries(node, Key::Env) {
            if !is_variable(name) {
                let message = format!("{} cannot be the name of an environment variable", quoted(name));
                self.report(
                    name_node,
                    message,
                    "start with a letter or `_`, go on with letters, digits and `_`",
                );
            } else if name.starts_with("CAIRN_") {
                let message =
                    format!("{} is reserved: Cairn sets variables that start with `CAIRN_`", quoted(name));
                self.report(name_node, message, "choose another name");
            } else if let Some(value) = self.expanded(node, name) {
                env.push((name.to_string(), value.into_owned()));
            }
        }
        // The sort keeps the order of equal names, so that the newest stands last and is kept.
        env.sort_by(|left, right| left.0.cmp(&right.0));
        env.reverse();
        env.dedup_by(|next, kept| next.0 == kept.0);
        env.reverse();
        env.shrink_to_fit();
    }

    fn directory(&mut self, node: NodeId) -> Option<String> {
        if self.tree.value(node) == Value::Null {
            return None;
        }
        let directory = self.expanded(node, Key::WorkingDir.name())?;
        if directory.trim().is_empty() {
            self.report(node, "`working_dir` is empty", "leave the key out for the plan's own directory");
            return None;
        }
        Some(directory.into_owned())
    }

    fn resources(&mut self, node: NodeId) -> Vec<(String, u64)> {
        let mut resources = Vec::new();
        for (name, name_node, node) in self.named_entries(node, Key::Resources) {
            if !is_id(name) {
                let message = format!("{} cannot be the name of a resource", quoted(name));
                self.report(name_node, message, "use letters, digits, `_`, `.`, `#` and `-`");
                continue;
            }
            self.check_resource_name(name, name_node);
            let Some(text) = self.text(node, name) else { continue };
            match scalar::amount(name, text) {
                Ok(0) => {}
                Ok(amount) => resources.push((name.to_string(), amount)),
                Err(misfit) => self.report(node, format!("`{name}`: {}", misfit.message), misfit.help),
            }
        }
        resources.sort();
        resources
    }

    /// A free name that is nearly one with a meaning is probably meant to be that.
    fn check_resource_name(&mut self, name: &str, node: NodeId) {
        let meant = match name.to_ascii_lowercase().as_str() {
            "cpu" | "cores" | "core" | "cpus" if name != CPUS => CPUS,
            "mem" | "ram" | "memory" if name != MEMORY => MEMORY,
            _ => return,
        };
        let message = format!("`{name}` is a resource of your own, which agents must offer by that name");
        self.findings
            .add(Finding::warning(self.tree.span(node), message).help(format!("did you mean `{meant}`?")));
    }

    fn labels(&mut self, node: NodeId) -> Vec<(String, String)> {
        let mut labels = Vec::new();
        for (name, name_node, node) in self.named_entries(node, Key::Requires) {
            if !is_label(name) {
                let message = format!("{} cannot be the name of a label", quoted(name));
                self.report(name_node, message, "use letters, digits, `_`, `.`, `/` and `-`");
            } else if let Some(value) = self.expanded(node, name) {
                labels.push((name.to_string(), value.into_owned()));
            }
        }
        labels.sort();
        labels
    }

    fn retry(&mut self, node: NodeId) -> Option<Retry> {
        match self.tree.value(node) {
            Value::Null => return None,
            Value::Scalar(text, _) => {
                let attempts = scalar::integer(text).filter(|count| *count > 0).unwrap_or(3);
                let message = format!("`retry` is a mapping, but this is {}", self.kind(node));
                self.report(node, message, format!("write `retry: {{max_attempts: {attempts}}}`"));
                return None;
            }
            Value::Sequence | Value::Mapping => {}
        }
        let fields = self.fields(node, Level::RETRY)?;
        let mut retry = Retry::default();
        if let Some(node) = fields.get(Key::MaxAttempts) {
            retry.max_attempts = self.attempts(node)?;
        }
        if let Some(node) = fields.get(Key::Backoff) {
            retry.backoff = self.backoff(node)?;
        }
        if let Some(node) = fields.get(Key::Initial) {
            retry.initial = self.duration(node, Key::Initial)?;
            retry.max = retry.max.max(retry.initial);
        }
        if let Some(node) = fields.get(Key::Max) {
            retry.max = self.duration(node, Key::Max)?;
            if retry.max < retry.initial {
                let finding =
                    Finding::error(self.tree.span(node), "the longest wait is shorter than the first");
                let finding = match fields.get(Key::Initial) {
                    Some(initial) => finding.note(self.tree.span(initial), "the first wait is here"),
                    None => finding.help("the first wait is 1s: write `initial` too"),
                };
                self.findings.add(finding);
            }
        }
        if let Some(node) = fields.get(Key::Jitter) {
            retry.jitter_permille = self.jitter(node)?;
        }
        Some(retry)
    }

    fn attempts(&mut self, node: NodeId) -> Option<u32> {
        let attempts = self.integer(node, Key::MaxAttempts)?;
        let valid = u32::try_from(attempts).ok().filter(|count| (1..=MAX_ATTEMPTS).contains(count));
        if valid.is_none() {
            let help = format!("write a number from 1 to {MAX_ATTEMPTS}; 1 means no other attempt");
            self.report(node, format!("{attempts} is no number of attempts"), help);
        }
        valid
    }

    fn backoff(&mut self, node: NodeId) -> Option<Backoff> {
        let text = self.text(node, Key::Backoff.name())?;
        match text {
            "constant" => Some(Backoff::Constant),
            "linear" => Some(Backoff::Linear),
            "exponential" => Some(Backoff::Exponential),
            _ => {
                let message = format!("{} is no way for waits to grow", quoted(text));
                self.report(node, message, "write `constant`, `linear` or `exponential`");
                None
            }
        }
    }

    fn jitter(&mut self, node: NodeId) -> Option<u16> {
        let text = self.text(node, Key::Jitter.name())?;
        let permille = scalar::permille(text);
        if permille.is_none() {
            let message = format!("{} is no share", quoted(text));
            self.report(node, message, "write a number from 0 to 1 with at most three decimals, like `0.2`");
        }
        permille
    }

    /// One duration, or three.
    pub(super) fn estimate(&mut self, node: NodeId) -> Option<Estimate> {
        if self.tree.value(node) != Value::Mapping {
            return self.duration(node, Key::Estimate).map(Estimate::point);
        }
        let fields = self.fields(node, Level::ESTIMATE)?;
        let mut read = |key: Key| fields.get(key).and_then(|node| self.duration(node, key));
        let (optimistic, likely, pessimistic) =
            (read(Key::Optimistic), read(Key::Likely), read(Key::Pessimistic));
        let estimate = Estimate { optimistic: optimistic?, likely: likely?, pessimistic: pessimistic? };
        if estimate.optimistic > estimate.likely || estimate.likely > estimate.pessimistic {
            let message = "the cases of this estimate are not in order";
            self.report(
                node,
                message,
                "`optimistic` is at most `likely`, and `likely` at most `pessimistic`",
            );
            return None;
        }
        Some(estimate)
    }
}

/// Bytes of text in settings.
pub(super) fn text_bytes(settings: &TaskSettings) -> usize {
    let pairs = settings.env.iter().chain(&settings.requires);
    pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
        + settings.resources.iter().map(|(name, _)| name.len()).sum::<usize>()
        + settings.working_dir.as_ref().map_or(0, String::len)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_label(name: &str) -> bool {
    name.len() <= MAX_LABEL_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-'))
}
