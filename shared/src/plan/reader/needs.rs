//! Needs: from names to tasks and milestones, when all names are known.

use super::Reader;
use crate::plan::diagnostic::Finding;
use crate::plan::keys::Key;
use crate::plan::limits::exceeded;
use crate::plan::tree::{NodeId, Value};
use crate::plan::words::{nearest, quoted};
use cairn_model::ids::{MilestoneIndex, TaskIndex};
use cairn_model::plan::Need;
use std::collections::HashSet;

/// More needs than this of one task are compared by way of a table.
const FEW: usize = 32;
/// Most names that are looked through for the nearest.
const MAX_CANDIDATES: usize = 100_000;

/// Who needs something.
#[derive(Clone, Copy)]
enum Needer {
    Milestone(MilestoneIndex),
    Task(MilestoneIndex, TaskIndex),
}

impl Needer {
    fn milestone(self) -> MilestoneIndex {
        match self {
            Self::Milestone(milestone) | Self::Task(milestone, _) => milestone,
        }
    }
}

impl<'t> Reader<'t> {
    /// Resolves the needs of all milestones and tasks.
    pub(super) fn needs(&mut self) {
        let mut written = 0;
        let mut needs = Vec::new();
        for (index, node) in std::mem::take(&mut self.milestone_needs).into_iter().enumerate() {
            let needer = Needer::Milestone(MilestoneIndex::new(index));
            self.resolve(node, needer, &mut written, &mut needs);
            needs.iter().for_each(|&(_, offset)| self.positions.add_milestone_need(offset));
            self.builder.milestone_needs(needs.drain(..).map(|(need, _)| need));
        }
        for (index, node) in std::mem::take(&mut self.task_needs).into_iter().enumerate() {
            if node.is_some() {
                let task = TaskIndex::new(index);
                let needer = Needer::Task(self.builder.so_far().milestone_of(task), task);
                self.resolve(node, needer, &mut written, &mut needs);
                needs.iter().for_each(|&(_, offset)| self.positions.add_task_need(offset));
            }
            self.builder.task_needs(needs.drain(..).map(|(need, _)| need));
        }
    }

    /// Resolves one list into `needs`, each with the offset at which it is written; twice the same counts once.
    fn resolve(
        &mut self,
        list: Option<NodeId>,
        needer: Needer,
        written: &mut usize,
        needs: &mut Vec<(Need, u32)>,
    ) {
        let Some(items) = list.and_then(|list| self.items(list, Key::Needs)) else { return };
        let mut seen = HashSet::new();
        for item in items {
            *written += 1;
            let limit = self.options.limits.edges;
            if *written > limit {
                if *written == limit + 1 {
                    self.findings.add(exceeded(
                        self.tree.span(item),
                        "the plan has too many needs",
                        "edges",
                        limit,
                    ));
                }
                return;
            }
            let Some(need) = self.need(item, needer) else { continue };
            if needs.len() == FEW {
                seen.extend(needs.iter().map(|&(need, _)| need));
            }
            let is_new = if needs.len() < FEW {
                needs.iter().all(|&(known, _)| known != need)
            } else {
                seen.insert(need)
            };
            if is_new {
                needs.push((need, self.tree.span(item).start));
            }
        }
    }

    fn need(&mut self, node: NodeId, needer: Needer) -> Option<Need> {
        if let Value::Mapping | Value::Sequence = self.tree.value(node) {
            let message = format!("`needs` is a list of names, but this is {}", self.kind(node));
            self.report(node, message, "write `needs: [TASK, MILESTONE/TASK, MILESTONE]`");
            return None;
        }
        let name = self.text(node, Key::Needs.name())?;
        let plan = self.builder.so_far();
        let found = match (name.split_once('/'), needer) {
            (Some(_), _) => plan.find_task_name(name).map(Need::Task),
            (None, Needer::Milestone(_)) => plan.find_milestone(name).map(Need::Milestone),
            (None, Needer::Task(milestone, _)) => plan
                .find_task(milestone, name)
                .map(Need::Task)
                .or_else(|| plan.find_milestone(name).map(Need::Milestone)),
        };
        let Some(need) = found else {
            self.unknown_need(node, name, needer);
            return None;
        };
        self.check_self(node, need, needer).then_some(need)
    }

    /// Whether a need could ever be met: nothing waits for itself, or for what it is part of.
    fn check_self(&mut self, node: NodeId, need: Need, needer: Needer) -> bool {
        let plan = self.builder.so_far();
        let (message, help) = match (need, needer) {
            (Need::Task(task), Needer::Task(_, own)) if task == own => {
                ("a task cannot need itself", "remove it")
            }
            (Need::Milestone(milestone), Needer::Task(own, _)) if milestone == own => (
                "a task cannot need the milestone that it is part of: that is completed when all its tasks are",
                "name the tasks that come before this one",
            ),
            (Need::Milestone(milestone), Needer::Milestone(own)) if milestone == own => {
                ("a milestone cannot need itself", "remove it")
            }
            (Need::Task(task), Needer::Milestone(own)) if plan.milestone_of(task) == own => (
                "a milestone cannot need a task of its own: its tasks start when its needs are completed",
                "remove it, or let the other tasks of the milestone need that task",
            ),
            _ => return true,
        };
        self.report(node, message, help);
        false
    }

    fn unknown_need(&mut self, node: NodeId, name: &str, needer: Needer) {
        // The other half of a need may be what cannot be used.
        if self.unusable.contains(name) || name.split('/').any(|part| self.unusable.contains(part)) {
            return;
        }
        let (message, mut finding_help) = match (name.split_once('/'), needer) {
            (Some((_, task)), _) if task.contains('/') => {
                (format!("{} is no name of a task", quoted(name)), Some("write MILESTONE/TASK".to_string()))
            }
            (Some((milestone, task)), _) => match self.builder.so_far().find_milestone(milestone) {
                Some(_) => {
                    (format!("the milestone {} has no task {}", quoted(milestone), quoted(task)), None)
                }
                None => (format!("there is no milestone {}", quoted(milestone)), None),
            },
            (None, Needer::Milestone(_)) => (format!("there is no milestone {}", quoted(name)), None),
            (None, Needer::Task(..)) => (
                format!("there is no task {} in this milestone, and no milestone of that name", quoted(name)),
                None,
            ),
        };
        if finding_help.is_none() && self.findings.wants_help() {
            finding_help = self.help_for_need(name, needer);
        }
        self.findings.add(Finding::error(self.tree.span(node), message).maybe_help(finding_help));
    }

    /// What was probably meant by a name that is not known.
    fn help_for_need(&self, name: &str, needer: Needer) -> Option<String> {
        let plan = self.builder.so_far();
        let milestones = || {
            let ids = plan.milestones().iter().map(|milestone| milestone.id.as_str());
            ids.filter(|id| is_writable(id)).take(MAX_CANDIDATES)
        };
        let tasks = |milestone: MilestoneIndex| {
            let ids = plan.tasks_of(milestone).map(|task| plan.task_id(task));
            ids.filter(|id| is_writable(id)).take(MAX_CANDIDATES)
        };
        if let Some((milestone, task)) = name.split_once('/') {
            return match plan.find_milestone(milestone) {
                Some(found) => {
                    nearest(task, tasks(found)).map(|task| format!("did you mean `{milestone}/{task}`?"))
                }
                None => {
                    nearest(milestone, milestones()).map(|found| format!("did you mean `{found}/{task}`?"))
                }
            };
        }
        // The same name elsewhere is a better guess than a similar one here.
        let elsewhere =
            (0..plan.milestones().len().min(MAX_CANDIDATES)).map(MilestoneIndex::new).find_map(|milestone| {
                let id = &plan.milestone(milestone).id;
                plan.find_task(milestone, name).filter(|_| is_writable(id)).map(|_| format!("{id}/{name}"))
            });
        if let Some(full) = elsewhere {
            return Some(format!("a task of another milestone is written `{full}`"));
        }
        let near = match needer {
            Needer::Milestone(_) => nearest(name, milestones()),
            Needer::Task(..) => nearest(name, tasks(needer.milestone()).chain(milestones())),
        };
        near.map(|near| format!("did you mean `{near}`?"))
    }
}

/// Whether an id is one of the user's, and not a stand-in.
fn is_writable(id: &str) -> bool {
    !id.starts_with('\0')
}
