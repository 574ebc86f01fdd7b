//! Milestones and tasks, all but their needs.

use super::fields::Fields;
use super::settings::text_bytes;
use super::{Inherited, MAIN, Reader};
use crate::plan::cycle::name_length;
use crate::plan::diagnostic::{Finding, Span};
use crate::plan::keys::{Key, Level};
use crate::plan::limits::exceeded;
use crate::plan::tree::{NodeId, Value};
use crate::plan::words::{grouped, quoted};
use cairn_model::ids::{MAX_ID_BYTES, is_id};
use cairn_model::plan::{Action, Milestone, NewTask, SettingsIndex, TaskSettings};
use cairn_model::time::Timestamp;
use std::borrow::Cow;
use std::time::Duration;

/// What a task does, while its text may still be borrowed or made.
enum Doing<'t> {
    Checkpoint,
    Wait(Duration),
    Run(&'t str),
    Exec(Vec<Cow<'t, str>>),
}

impl Doing<'_> {
    fn bytes(&self) -> usize {
        match self {
            Self::Checkpoint | Self::Wait(_) => 0,
            Self::Run(script) => script.len(),
            Self::Exec(words) => words.iter().map(|word| word.len()).sum(),
        }
    }

    fn action(&self) -> Action<'_> {
        match self {
            Self::Checkpoint => Action::Checkpoint,
            Self::Wait(duration) => Action::Wait(*duration),
            Self::Run(script) => Action::Run(script),
            Self::Exec(words) => Action::Exec(words.iter().map(|word| &**word).collect()),
        }
    }
}

impl<'t> Reader<'t> {
    /// The milestones of a plan.
    pub(super) fn milestones(&mut self, list: NodeId, inherited: &Inherited) {
        let Some(items) = self.items(list, Key::Milestones) else { return };
        for node in items {
            if self.builder.so_far().milestones().len() >= self.options.limits.tasks {
                let limit = self.options.limits.tasks;
                self.full(exceeded(self.tree.span(node), "the plan has too many milestones", "tasks", limit));
            }
            if self.is_full {
                return;
            }
            self.read_milestone(node, inherited);
        }
    }

    /// The milestone of a plan that has tasks at its top.
    pub(super) fn main_milestone(&mut self, tasks: NodeId, key: Span, inherited: &Inherited) {
        self.add_milestone(Some(MAIN), key, Milestone::default(), None);
        self.tasks(tasks, inherited);
    }

    fn read_milestone(&mut self, node: NodeId, inherited: &Inherited) {
        let Some(fields) = self.fields(node, Level::MILESTONE) else { return };
        let id = fields.get(Key::Id);
        let priority = self.priority(&fields, inherited.priority);
        let milestone = Milestone {
            id: String::new(),
            title: self.expanded_field(&fields, Key::Title).map(Into::into),
            description: self.expanded_field(&fields, Key::Description).map(Into::into),
            owner: fields.get(Key::Owner).and_then(|node| self.text(node, Key::Owner.name())).map(Into::into),
            due: fields.get(Key::Due).and_then(|node| self.moment(node)),
            priority,
        };
        let span = self.place_of(node, id);
        let id = id.and_then(|id| self.id(id));
        self.add_milestone(id, span, milestone, fields.get(Key::Needs));
        let inherited = Inherited { priority, ..self.defaults(&fields, inherited) };
        if let Some(tasks) = fields.get(Key::Tasks) {
            self.tasks(tasks, &inherited);
        }
    }

    fn add_milestone(&mut self, id: Option<&str>, span: Span, milestone: Milestone, needs: Option<NodeId>) {
        let first = id.and_then(|id| self.builder.so_far().find_milestone(id));
        if let (Some(first), Some(id)) = (first, id) {
            self.duplicate("milestone", id, span, self.positions.milestone(first));
        }
        let id = match id {
            Some(id) if first.is_none() => id.to_string(),
            _ => unwritable(self.builder.so_far().milestones().len()),
        };
        if let Some(index) = self.builder.milestone(Milestone { id, ..milestone }) {
            self.milestone = index;
            self.positions.add_milestone(span.start);
            self.milestone_needs.push(needs);
        }
    }

    fn tasks(&mut self, list: NodeId, inherited: &Inherited) {
        let Some(items) = self.items(list, Key::Tasks) else { return };
        for node in items {
            if self.builder.so_far().task_count() >= self.options.limits.tasks {
                let limit = self.options.limits.tasks;
                self.full(exceeded(self.tree.span(node), "the plan has too many tasks", "tasks", limit));
            }
            if self.is_full {
                return;
            }
            self.task(node, inherited);
        }
    }

    fn task(&mut self, node: NodeId, inherited: &Inherited) {
        let Some(fields) = self.fields(node, Level::TASK) else { return };
        let id_node = fields.get(Key::Id);
        let id = id_node.and_then(|id| self.id(id));
        let title = self.expanded_field(&fields, Key::Title);
        let description = self.expanded_field(&fields, Key::Description);
        let doing = self.doing(&fields).unwrap_or(Doing::Checkpoint);
        let (settings, settings_bytes) = self.task_settings(node, &fields, inherited);
        let priority = self.priority(&fields, inherited.priority);
        let estimate = fields.get(Key::Estimate).and_then(|node| self.estimate(node));
        let text_bytes = id.map_or(0, str::len)
            + title.as_ref().map_or(0, |text| text.len())
            + description.as_ref().map_or(0, |text| text.len())
            + doing.bytes();
        if !self.fits(node, text_bytes, settings_bytes) {
            return;
        }
        let task = NewTask {
            id: id.unwrap_or_default(),
            title: title.as_deref(),
            description: description.as_deref(),
            action: doing.action(),
            settings: TaskSettings::default(),
            priority,
            estimate,
        };
        let added = id.is_some() && self.builder.task_sharing(task, settings).is_some();
        let span = self.place_of(node, id_node);
        if !added {
            self.add_unusable_task(id, span);
        }
        self.positions.add_task(span.start);
        self.task_needs.push(fields.get(Key::Needs));
    }

    /// The settings of a task, and the bytes of their text.
    fn task_settings(
        &mut self,
        node: NodeId,
        fields: &Fields,
        inherited: &Inherited,
    ) -> (SettingsIndex, usize) {
        let shared = &inherited.shared;
        if Self::has_settings(fields) {
            let settings = self.settings(fields, &shared.settings);
            let bytes = text_bytes(&settings);
            self.charge(node, bytes);
            return (self.builder.store_settings(settings), bytes);
        }
        let stored = match shared.stored.get() {
            Some(stored) => stored,
            None => self.builder.store_settings(shared.settings.clone()),
        };
        shared.stored.set(Some(stored));
        (stored, shared.bytes)
    }

    /// A task whose id cannot be used stands in the plan all the same, so that what follows keeps its place.
    fn add_unusable_task(&mut self, id: Option<&str>, span: Span) {
        let first = id.and_then(|id| self.builder.so_far().find_task(self.milestone, id));
        if let (Some(id), Some(first)) = (id, first) {
            self.duplicate("task", id, span, self.positions.task(first));
        }
        let id = unwritable(self.builder.so_far().task_count());
        let task = NewTask {
            id: &id,
            title: None,
            description: None,
            action: Action::Checkpoint,
            settings: TaskSettings::default(),
            priority: 0,
            estimate: None,
        };
        self.builder.task(task);
    }

    /// Whether a task, and all tasks so far, are within the limits of size.
    fn fits(&mut self, node: NodeId, text_bytes: usize, settings_bytes: usize) -> bool {
        let limits = &self.options.limits;
        let written = self.tree.span(node);
        let bytes = (text_bytes + settings_bytes).max(written.len as usize);
        if bytes > limits.task_bytes {
            let what = format!("a task of {} bytes is too large", grouped(bytes));
            let finding = exceeded(written, &what, "task_bytes", limits.task_bytes);
            self.findings.add(finding.help("put a long script into a file, and run that"));
        }
        self.charge(node, text_bytes);
        !self.is_full
    }

    fn duplicate(&mut self, what: &str, id: &str, span: Span, first: u32) {
        let first = Span { start: first, len: name_length(self.tree.source(), first) };
        let finding = Finding::error(span, format!("the {what} {} is defined twice", quoted(id)))
            .note(first, "first defined here")
            .help("give one of them another id");
        self.findings.add(finding);
    }

    /// Where a milestone or task is: at its id, or where an alias stands for it.
    fn place_of(&self, node: NodeId, id: Option<NodeId>) -> Span {
        match id {
            Some(id) if self.tree.target(node) == node => self.tree.span(id),
            _ => self.tree.span(node),
        }
    }

    /// The id of a milestone or task.
    fn id(&mut self, node: NodeId) -> Option<&'t str> {
        if self.tree.value(node) == Value::Null {
            return None;
        }
        let text = self.text(node, Key::Id.name())?;
        if is_id(text) {
            return Some(text);
        }
        self.unusable.insert(text);
        let message = format!("{} cannot be an id", quoted(text));
        let help = match text {
            "" => "write a name".to_string(),
            _ if text.len() > MAX_ID_BYTES => format!("use at most {MAX_ID_BYTES} characters"),
            _ => "use letters, digits, `_`, `.`, `#` and `-`; the first is a letter, a digit or `_`"
                .to_string(),
        };
        self.report(node, message, help);
        None
    }

    /// What a task does; with an error, nothing.
    fn doing(&mut self, fields: &Fields) -> Option<Doing<'t>> {
        let mut given =
            [Key::Run, Key::Exec, Key::Wait].into_iter().filter_map(|key| Some((key, fields.get(key)?)));
        let Some((key, node)) = given.next() else { return Some(Doing::Checkpoint) };
        if let Some((other, _)) = given.next() {
            let (first, second) = (fields.key_span(self.tree, key), fields.key_span(self.tree, other));
            let message = format!(
                "a task has one of `run`, `exec` and `wait`, but this one has `{}` and `{}`",
                key.name(),
                other.name()
            );
            let finding = Finding::error(second, message)
                .note(first, format!("`{}` is here", key.name()))
                .help("make two tasks of it, or remove one of the keys");
            self.findings.add(finding);
        }
        if self.tree.value(node) == Value::Null {
            return None;
        }
        match key {
            Key::Run => self.script(node).map(Doing::Run),
            Key::Exec => self.words(node).map(Doing::Exec),
            _ => self.duration(node, Key::Wait).map(Doing::Wait),
        }
    }

    fn script(&mut self, node: NodeId) -> Option<&'t str> {
        if self.tree.value(node) == Value::Sequence {
            let message = "`run` is a shell script, but this is a list";
            self.report(
                node,
                message,
                "write `exec:` for a program and its arguments, or `run: |` and lines of shell",
            );
            return None;
        }
        let help = "a script is passed to the shell unchanged: put the expression into `env`, and read it as \"$NAME\"";
        let script = self.literal(node, Key::Run, help)?;
        if script.trim().is_empty() {
            self.report(
                node,
                "`run` is empty",
                "write a command, or remove the key for a task that does nothing",
            );
            return None;
        }
        Some(script)
    }

    fn words(&mut self, node: NodeId) -> Option<Vec<Cow<'t, str>>> {
        let items = self.items(node, Key::Exec)?;
        let mut words = Vec::new();
        let mut is_whole = true;
        for item in items {
            match self.expanded(item, Key::Exec.name()) {
                Some(word) => words.push(word),
                None => is_whole = false,
            }
        }
        if is_whole && words.first().is_none_or(|program| program.is_empty()) {
            self.report(node, "`exec` names no program", "write `exec: [PROGRAM, ARGUMENT]`");
            return None;
        }
        is_whole.then_some(words)
    }

    fn moment(&mut self, node: NodeId) -> Option<Timestamp> {
        if self.tree.value(node) == Value::Null {
            return None;
        }
        let text = self.text(node, Key::Due.name())?;
        let moment = Timestamp::parse(text);
        if moment.is_none() {
            let help = match Timestamp::parse(&format!("{text}T00:00:00Z")) {
                Some(_) => format!(
                    "write the time too: `{text}T18:00:00Z`, or with an offset `{text}T18:00:00+01:00`"
                ),
                None => "write it like `2026-12-01T12:00:00Z`".to_string(),
            };
            self.report(node, format!("{} is no moment", quoted(text)), help);
        }
        moment
    }
}

/// An id that nobody can write.
fn unwritable(number: usize) -> String {
    format!("\0{number}")
}
