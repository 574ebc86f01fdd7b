//! From a tree to a plan: the meaning of the plan language.
//!
//! One walk over the document reads everything but needs; a second one resolves needs, when all names are known.
//! What is wrong is collected, not returned: a value that cannot be read counts as absent, a task whose id cannot
//! be used gets one that nobody can write, so that reading goes on and one mistake is reported once. The plan is
//! only given out if there was no error.
//!
//! Not here: order and cycles (the graph's business), syntax (`yaml`, `json`).

mod fields;
mod needs;
mod parameters;
mod settings;
mod tasks;
mod values;

use super::Options;
use super::cycle::Positions;
use super::diagnostic::{Finding, Findings, Span};
use super::keys::{Key, Level};
use super::limits::exceeded;
use super::tree::{NodeId, Tree};
use super::words::quoted;
use cairn_model::ids::{MAX_PROJECT_ID_BYTES, MilestoneIndex, is_project_id};
use cairn_model::plan::{Parameter, Plan, PlanBuilder, SettingsIndex, TaskSettings};
use fields::Fields;
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;

/// Priorities go from minus this to this.
pub const MAX_PRIORITY: i32 = 1_000;
/// Most attempts of a task.
pub const MAX_ATTEMPTS: u32 = 1_000;
/// The version of the plan language.
const VERSION: i64 = 1;
/// The milestone of a plan that has tasks at its top.
const MAIN: &str = "main";

/// What tasks have unless they say otherwise.
#[derive(Clone, Debug, Default)]
struct Inherited {
    /// They may be large, and a million milestones may have the same: neither these nor tasks copy them.
    shared: Rc<Shared>,
    priority: i32,
}

/// Settings of the tasks that say nothing of their own.
#[derive(Debug, Default)]
struct Shared {
    settings: TaskSettings,
    /// Bytes of the settings' text.
    bytes: usize,
    /// Where the builder has them, as soon as a task has them.
    stored: Cell<Option<SettingsIndex>>,
}

pub(crate) struct Reader<'t> {
    tree: &'t Tree<'t>,
    options: &'t Options<'t>,
    findings: Findings,
    parameters: Vec<Parameter>,
    builder: PlanBuilder,
    positions: Positions,
    /// The milestone that tasks are added to.
    milestone: MilestoneIndex,
    task_needs: Vec<Option<NodeId>>,
    milestone_needs: Vec<Option<NodeId>>,
    /// Ids that were written but cannot be used: what needs them is not wrong for that.
    unusable: HashSet<&'t str>,
    /// Bytes of text given to the builder.
    bytes: usize,
    /// A limit is reached: nothing more is added.
    is_full: bool,
}

impl<'t> Reader<'t> {
    /// Reads a plan from its document. There is no plan if there were errors.
    pub(crate) fn read(
        tree: &'t Tree<'t>,
        options: &'t Options<'t>,
        findings: Findings,
    ) -> (Option<(Plan, Positions)>, Findings) {
        let mut reader = Self {
            tree,
            options,
            findings,
            parameters: Vec::new(),
            builder: PlanBuilder::new(""),
            positions: Positions::default(),
            milestone: MilestoneIndex(0),
            task_needs: Vec::new(),
            milestone_needs: Vec::new(),
            unusable: HashSet::new(),
            bytes: 0,
            is_full: false,
        };
        reader.plan();
        if reader.findings.has_errors() {
            return (None, reader.findings);
        }
        reader.builder.header().parameters = reader.parameters;
        (Some((reader.builder.finish(), reader.positions)), reader.findings)
    }

    fn plan(&mut self) {
        let Some(root) = self.tree.root() else {
            let finding = Finding::error(Span::default(), "the plan is empty");
            self.findings.add(finding.help(
                "a plan starts like this:\nversion: 1\nproject: NAME\ntasks:\n  - id: hello\n    run: echo hello",
            ));
            return;
        };
        let Some(fields) = self.fields(root, Level::PLAN) else { return };
        self.version(&fields);
        self.parameters(&fields);
        let project = fields.get(Key::Project).and_then(|node| self.project(node));
        let title = self.expanded_field(&fields, Key::Title).map(Into::into);
        let description = self.expanded_field(&fields, Key::Description).map(Into::into);
        let header = self.builder.header();
        header.project = project.unwrap_or_default();
        header.title = title;
        header.description = description;
        let base = self.inherit(root, &fields, &Inherited::default());
        let inherited = self.defaults(&fields, &base);
        match (fields.get(Key::Milestones), fields.get(Key::Tasks)) {
            (Some(milestones), None) => self.milestones(milestones, &inherited),
            (None, Some(tasks)) => {
                self.main_milestone(tasks, fields.key_span(self.tree, Key::Tasks), &inherited)
            }
            (Some(_), Some(_)) => {
                let span = fields.key_span(self.tree, Key::Tasks);
                let finding = Finding::error(span, "a plan has `milestones` or `tasks` at its top, not both")
                    .note(fields.key_span(self.tree, Key::Milestones), "the milestones are here")
                    .help("move these tasks into a milestone");
                self.findings.add(finding);
            }
            (None, None) => self.no_tasks(Span::new(self.tree.span(root).start as usize, 1)),
        }
        if self.builder.so_far().task_count() == 0 && !self.findings.has_errors() {
            let key = if fields.get(Key::Tasks).is_some() { Key::Tasks } else { Key::Milestones };
            self.no_tasks(fields.key_span(self.tree, key));
        }
        self.needs();
    }

    fn no_tasks(&mut self, span: Span) {
        let help = "add a task, for example:\ntasks:\n  - id: hello\n    run: echo hello";
        self.findings.add(Finding::error(span, "a plan needs at least one task").help(help));
    }

    fn version(&mut self, fields: &Fields) {
        let Some(node) = fields.get(Key::Version) else { return };
        match self.integer(node, Key::Version) {
            Some(VERSION) | None => {}
            Some(other) => {
                let message = format!("version {other} of the plan language is not known");
                self.report(node, message, "write `version: 1`");
            }
        }
    }

    fn project(&mut self, node: NodeId) -> Option<String> {
        let text = self.text(node, Key::Project.name())?;
        if is_project_id(text) {
            return Some(text.to_string());
        }
        let message = format!("{} cannot be a project's id", quoted(text));
        let suggestion = project_id_from(text);
        let example = if suggestion.is_empty() { "apollo" } else { &suggestion };
        let help = format!("use small letters, digits and `-`, at most {MAX_PROJECT_ID_BYTES}: `{example}`");
        self.report(node, message, help);
        None
    }

    /// Counts bytes that the builder keeps, and reads no more when there are too many.
    fn charge(&mut self, node: NodeId, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        let limit = self.options.limits.expanded_bytes;
        if self.bytes > limit && !self.is_full {
            let what = "the plan is too large with aliases, defaults and parameters put in";
            self.full(exceeded(self.tree.span(node), what, "expanded_bytes", limit));
        }
    }

    /// A limit is reached.
    fn full(&mut self, finding: Finding) {
        self.is_full = true;
        self.findings.add(finding);
    }

    fn report(&mut self, node: NodeId, message: impl Into<String>, help: impl Into<String>) {
        self.findings.add(Finding::error(self.tree.span(node), message).help(help));
    }
}

/// The project id that is nearest to `text`; empty if nothing of it can be used.
pub(crate) fn project_id_from(text: &str) -> String {
    let mut id = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' => id.push(character),
            _ if id.is_empty() || id.ends_with('-') => {}
            _ => id.push('-'),
        }
    }
    id.truncate(MAX_PROJECT_ID_BYTES);
    id.truncate(id.trim_end_matches('-').len());
    id
}
