//! What differs between two plans, in lines that a person reads.

use cairn_model::plan::{Action, Milestone, Need, TaskSettings};
use cairn_model::{MilestoneIndex, Plan, TaskIndex};
use std::collections::BTreeSet;

/// What must be done to `old` to get `new`, a line each: `+` what is new, `-` what is gone, `~` what changed and
/// the keys that did. Empty if a run of one is a run of the other. Comments, layout and the order of tasks do not
/// count.
#[must_use]
pub fn differences(old: &Plan, new: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    plan_itself(old, new, &mut lines);
    let pair = (old, new);
    for (at, milestone) in old.milestones().iter().enumerate() {
        let before = MilestoneIndex::new(at);
        match new.find_milestone(&milestone.id) {
            None => lines.push(format!("- milestone {}", milestone.id)),
            Some(after) => {
                let keys = milestone_keys(pair, (before, after));
                changed(&mut lines, format!("milestone {}", milestone.id), &keys);
                old.tasks_of(before).for_each(|task| old_task(pair, after, task, &mut lines));
            }
        }
    }
    for (at, milestone) in new.milestones().iter().enumerate() {
        let after = MilestoneIndex::new(at);
        match old.find_milestone(&milestone.id) {
            None => lines.push(format!("+ milestone {}", milestone.id)),
            Some(before) => {
                let added =
                    new.tasks_of(after).filter(|&task| old.find_task(before, new.task_id(task)).is_none());
                lines.extend(added.map(|task| format!("+ task {}", new.task_name(task))));
            }
        }
    }
    lines
}

fn changed(lines: &mut Vec<String>, what: String, keys: &[&str]) {
    if !keys.is_empty() {
        lines.push(format!("~ {what}: {}", keys.join(", ")));
    }
}

fn plan_itself(old: &Plan, new: &Plan, lines: &mut Vec<String>) {
    if old.project != new.project {
        lines.push(format!("~ project: {} is now {}", old.project, new.project));
    }
    let keys =
        [("title", old.title == new.title), ("description", old.description == new.description)].map(unequal);
    changed(lines, "plan".to_owned(), &keys.into_iter().flatten().collect::<Vec<_>>());
    for parameter in &old.parameters {
        match new.parameters.iter().find(|other| other.name == parameter.name) {
            None => lines.push(format!("- parameter {}", parameter.name)),
            Some(other) if other.value != parameter.value => {
                lines.push(format!(
                    "~ parameter {}: {:?} is now {:?}",
                    parameter.name, parameter.value, other.value
                ));
            }
            Some(_) => {}
        }
    }
    let added =
        new.parameters.iter().filter(|one| !old.parameters.iter().any(|other| other.name == one.name));
    lines.extend(added.map(|parameter| format!("+ parameter {}", parameter.name)));
}

fn unequal((key, equal): (&'static str, bool)) -> Option<&'static str> {
    (!equal).then_some(key)
}

fn milestone_keys(
    (old, new): (&Plan, &Plan),
    (before, after): (MilestoneIndex, MilestoneIndex),
) -> Vec<&'static str> {
    let Milestone { id: _, title, description, owner, due, priority } = old.milestone(before);
    let now = new.milestone(after);
    let fields = [
        ("title", *title == now.title),
        ("description", *description == now.description),
        ("owner", *owner == now.owner),
        ("due", *due == now.due),
        ("priority", *priority == now.priority),
        ("needs", needs(old, old.milestone_needs(before)) == needs(new, new.milestone_needs(after))),
    ];
    fields.into_iter().filter_map(unequal).collect()
}

fn old_task((old, new): (&Plan, &Plan), milestone: MilestoneIndex, task: TaskIndex, lines: &mut Vec<String>) {
    match new.find_task(milestone, old.task_id(task)) {
        None => lines.push(format!("- task {}", old.task_name(task))),
        Some(now) => {
            let keys = task_keys((old, new), (task, now));
            if !keys.is_empty() {
                changed(lines, format!("task {}", old.task_name(task)), &keys);
            }
        }
    }
}

fn task_keys((old, new): (&Plan, &Plan), (before, after): (TaskIndex, TaskIndex)) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let (did, does) = (old.action(before), new.action(after));
    if did != does {
        keys.push(action_key(if does == Action::Checkpoint { &did } else { &does }));
    }
    let TaskSettings {
        env,
        working_dir,
        timeout,
        retry,
        resources,
        requires,
        at_most_once,
        continue_on_error,
    } = old.settings(before);
    let now = new.settings(after);
    let fields = [
        ("needs", needs(old, old.needs(before)) == needs(new, new.needs(after))),
        ("env", *env == now.env),
        ("working_dir", *working_dir == now.working_dir),
        ("timeout", *timeout == now.timeout),
        ("retry", *retry == now.retry),
        ("resources", *resources == now.resources),
        ("requires", *requires == now.requires),
        ("at_most_once", *at_most_once == now.at_most_once),
        ("continue_on_error", *continue_on_error == now.continue_on_error),
        ("priority", old.priority(before) == new.priority(after)),
        ("estimate", old.estimate(before) == new.estimate(after)),
        ("title", old.task_title(before) == new.task_title(after)),
        ("description", old.task_description(before) == new.task_description(after)),
    ];
    keys.extend(fields.into_iter().filter_map(unequal));
    keys
}

fn action_key(action: &Action<'_>) -> &'static str {
    match action {
        Action::Run(_) => "run",
        Action::Exec(_) => "exec",
        Action::Wait(_) => "wait",
        Action::Checkpoint => "checkpoint",
    }
}

/// Needs by name: the two plans number their rows differently.
fn needs(plan: &Plan, needs: &[Need]) -> BTreeSet<String> {
    let name = |need: &Need| match need {
        Need::Task(task) => plan.task_name(*task),
        Need::Milestone(milestone) => plan.milestone(*milestone).id.clone(),
    };
    needs.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::plan_of;

    const PLAN: &str = "
version: 1
project: apollo
parameters: {region: {default: eu}}
milestones:
  - id: build
    tasks:
      - {id: compile, run: make}
      - {id: unit, exec: [test], needs: [compile], timeout: 5m}
  - id: ship
    needs: [build]
    tasks: [{id: publish, run: ./publish}]
";

    fn between(old: &str, new: &str) -> Vec<String> {
        differences(&plan_of(old).0, &plan_of(new).0)
    }

    #[test]
    fn layout_comments_and_order_do_not_count() {
        let reordered = "
# the same
project: apollo
version: 1
parameters: {region: {default: eu}}
milestones:
  - {id: ship, needs: [build], tasks: [{id: publish, run: ./publish}]}
  - id: build
    tasks:
      - {id: unit, exec: [test], needs: [build/compile], timeout: 300s}
      - {id: compile, run: make}
";
        assert_eq!(between(PLAN, PLAN), Vec::<String>::new());
        assert_eq!(between(PLAN, reordered), Vec::<String>::new());
    }

    #[test]
    fn what_changed_is_named() {
        let changed = PLAN
            .replace("run: make", "exec: [make]")
            .replace("needs: [compile], timeout: 5m", "continue_on_error: true")
            .replace("default: eu", "default: us")
            .replace("{id: publish, run: ./publish}", "{id: announce, wait: 1s}");
        assert_eq!(
            between(PLAN, &changed),
            [
                "~ parameter region: \"eu\" is now \"us\"",
                "~ task build/compile: exec",
                "~ task build/unit: needs, timeout, continue_on_error",
                "- task ship/publish",
                "+ task ship/announce",
            ]
        );
    }

    #[test]
    fn whole_milestones_come_and_go() {
        let changed = PLAN.replace("id: ship\n    needs: [build]", "id: send");
        assert_eq!(between(PLAN, &changed), ["- milestone ship", "+ milestone send"]);
        let due = PLAN.replace("id: ship\n    needs: [build]", "id: ship\n    due: 2026-12-01T12:00:00Z");
        assert_eq!(between(PLAN, &due), ["~ milestone ship: due, needs"]);
    }
}
