//! Where names and needs of a plan are written, and how a cycle among them is told.
//!
//! Finding a cycle is the graph's business (`cairn_model::graph`).

use super::diagnostic::{Diagnostic, Finding, Span};
use super::source::{LineIndex, Source, small};
use super::words::{grouped, quoted};
use cairn_model::graph::{CycleStep, NodeKind};
use cairn_model::ids::{MilestoneIndex, TaskIndex};
use cairn_model::plan::Plan;

/// Most nodes of a cycle that its message names, and most steps that are shown with their lines.
const MAX_TOLD: usize = 12;

/// Where the parts of a plan are written: offsets into its text, four bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    tasks: Vec<u32>,
    milestones: Vec<u32>,
    task_needs: Vec<u32>,
    milestone_needs: Vec<u32>,
}

impl Positions {
    /// Where the id of a task is written.
    #[must_use]
    pub fn task(&self, task: TaskIndex) -> u32 {
        self.tasks.get(task.get()).copied().unwrap_or(0)
    }

    /// Where the id of a milestone is written.
    #[must_use]
    pub fn milestone(&self, milestone: MilestoneIndex) -> u32 {
        self.milestones.get(milestone.get()).copied().unwrap_or(0)
    }

    /// Where need `index` of [`Plan::needs`] is written. Counts through the plan, so not for every need of it.
    #[must_use]
    pub fn task_need(&self, plan: &Plan, task: TaskIndex, index: usize) -> u32 {
        let before: usize = plan.tasks().take(task.get()).map(|task| plan.needs(task).len()).sum();
        self.task_needs.get(before + index).copied().unwrap_or(0)
    }

    /// Where need `index` of [`Plan::milestone_needs`] is written.
    #[must_use]
    pub fn milestone_need(&self, plan: &Plan, milestone: MilestoneIndex, index: usize) -> u32 {
        let before = (0..milestone.get()).map(|index| plan.milestone_needs(MilestoneIndex::new(index)).len());
        self.milestone_needs.get(before.sum::<usize>() + index).copied().unwrap_or(0)
    }

    pub(crate) fn add_task(&mut self, offset: u32) {
        self.tasks.push(offset);
    }

    pub(crate) fn add_milestone(&mut self, offset: u32) {
        self.milestones.push(offset);
    }

    pub(crate) fn add_task_need(&mut self, offset: u32) {
        self.task_needs.push(offset);
    }

    pub(crate) fn add_milestone_need(&mut self, offset: u32) {
        self.milestone_needs.push(offset);
    }
}

/// Tells a cycle: all its nodes by name, and each of its steps with its line.
#[must_use]
pub fn describe_cycle(
    source: &Source,
    positions: &Positions,
    plan: &Plan,
    steps: &[CycleStep],
) -> Diagnostic {
    let steps = told_steps(steps);
    let message =
        format!("these wait for each other, so none of them can ever start: {}", told_names(plan, &steps));
    let mut told = steps.iter().take(MAX_TOLD);
    let mut finding = match told.next() {
        Some(step) => {
            Finding::error(span(source, positions, plan, step), message).label(sentence(plan, step))
        }
        None => Finding::unplaced(message),
    };
    for step in told {
        finding = finding.note(span(source, positions, plan, step), sentence(plan, step));
    }
    let help = match steps.len().saturating_sub(MAX_TOLD) {
        0 => "remove one of these needs".to_string(),
        more => format!("remove one of these needs; {} more steps are not shown", grouped(more)),
    };
    finding.help(help).diagnostic(&LineIndex::new(&source.text))
}

/// The steps so that each leads to what the next one is about, starting with one that is written. That a
/// milestone starts before it ends is left out.
fn told_steps(steps: &[CycleStep]) -> Vec<CycleStep> {
    let mut steps = steps.to_vec();
    if let [first, second, ..] = steps.as_slice()
        && first.on != second.dependent
    {
        steps.reverse();
    }
    let written = steps.iter().position(|step| step.need.is_some()).unwrap_or(0);
    steps.rotate_left(written);
    let mut told: Vec<CycleStep> = Vec::with_capacity(steps.len());
    for step in steps.into_iter().filter(|step| !is_through_empty_milestone(step)) {
        let is_inside = |last: &CycleStep| {
            matches!((last.dependent, step.on), (NodeKind::End(end), NodeKind::Start(start)) if end == start)
                && last.need.is_none()
                && step.need.is_none()
        };
        if told.last().is_some_and(is_inside) {
            told.pop();
        } else {
            told.push(step);
        }
    }
    told
}

/// Whether a milestone without tasks ends because it starts.
fn is_through_empty_milestone(step: &CycleStep) -> bool {
    matches!((step.dependent, step.on), (NodeKind::End(end), NodeKind::Start(start)) if end == start)
}

/// `a` → `b` → `a`; a milestone's start and end are one name.
fn told_names(plan: &Plan, steps: &[CycleStep]) -> String {
    let mut names: Vec<String> = Vec::new();
    for step in steps {
        let name = name(plan, step.dependent);
        if names.last() != Some(&name) {
            names.push(name);
        }
        if names.len() > MAX_TOLD {
            break;
        }
    }
    let first = names.first().cloned().unwrap_or_default();
    if names.len() > MAX_TOLD {
        names.truncate(MAX_TOLD);
        names.push("…".to_string());
    }
    if names.last() != Some(&first) || names.len() == 1 {
        names.push(first);
    }
    names.join(" → ")
}

fn name(plan: &Plan, node: NodeKind) -> String {
    match node {
        NodeKind::Task(task) => quoted(&plan.task_name(task)),
        NodeKind::Start(milestone) | NodeKind::End(milestone) => quoted(&plan.milestone(milestone).id),
    }
}

/// Why one waits for the other.
fn sentence(plan: &Plan, step: &CycleStep) -> String {
    let (dependent, on) = (name(plan, step.dependent), name(plan, step.on));
    match (step.need, step.dependent, step.on) {
        (Some(_), ..) => format!("{dependent} needs {on}"),
        (None, NodeKind::Task(_), _) => {
            format!("{dependent} starts when all that the milestone {on} needs is completed")
        }
        (None, ..) => format!("the milestone {dependent} is completed when {on} is"),
    }
}

/// Where a step is written; one that follows from being in a milestone, where the task is.
fn span(source: &Source, positions: &Positions, plan: &Plan, step: &CycleStep) -> Span {
    let start = match (step.need, step.dependent, step.on) {
        (Some(index), NodeKind::Task(task), _) => positions.task_need(plan, task, index),
        (Some(index), NodeKind::Start(milestone) | NodeKind::End(milestone), _) => {
            positions.milestone_need(plan, milestone, index)
        }
        (None, NodeKind::Task(task), _) | (None, _, NodeKind::Task(task)) => positions.task(task),
        (None, NodeKind::Start(milestone) | NodeKind::End(milestone), _) => positions.milestone(milestone),
    };
    Span { start, len: name_length(&source.text, start) }
}

/// How long the name is that is written at `offset`, its quotes or `*` included.
pub(crate) fn name_length(text: &str, offset: u32) -> u32 {
    let Some(rest) = text.get(offset as usize..) else { return 1 };
    let quote = usize::from(rest.starts_with(['"', '\'', '*']));
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '#' | '-' | '/');
    let name = &rest[quote..];
    let len = name.find(|c| !is_part(c)).unwrap_or(name.len());
    let closing = usize::from(name[len..].starts_with(['"', '\'']));
    small(quote + len + closing).max(1)
}
