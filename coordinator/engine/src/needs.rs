//! Who waits for whom: what the end of a task or milestone means for those that need it. Part of `apply`.

use crate::agenda::Agenda;
use crate::apply::make_ready;
use crate::state::{DOOMED, State};
use crate::status::TaskStatus;
use cairn_model::{MilestoneIndex, NodeIndex, NodeKind, TaskIndex, Timestamp};

/// In [`crate::state::Facts::waiting`]: the barrier will never be reached.
pub(crate) const NEVER: u32 = u32::MAX;

/// What a milestone needs and another scheduler owns has been decided; heard once, whatever is said twice.
pub(crate) fn resolve(
    state: &mut State,
    milestone: MilestoneIndex,
    node: NodeIndex,
    completed: bool,
    at: Timestamp,
) {
    if !state.facts.resolved.insert((milestone, node)) {
        return;
    }
    let cause = match state.graph.kind(node) {
        _ if completed => None,
        NodeKind::Task(task) => Some(task),
        // The end of a milestone elsewhere: its first task stands for it.
        NodeKind::End(other) | NodeKind::Start(other) => state.plan.tasks_of(other).next(),
    };
    let graph = state.graph.clone();
    for &next in graph.successors(node) {
        if milestone_of(state, next) == milestone {
            step(state, next, cause, completed, at);
        }
    }
}

/// The milestone that a node belongs to.
pub(crate) fn milestone_of(state: &State, node: NodeIndex) -> MilestoneIndex {
    match state.graph.kind(node) {
        NodeKind::Task(task) => state.plan.milestone_of(task),
        NodeKind::Start(milestone) | NodeKind::End(milestone) => milestone,
    }
}

/// `node` has been decided: completed, or (`cause`) never to be.
pub(crate) fn reach(state: &mut State, node: NodeIndex, cause: Option<TaskIndex>, at: Timestamp) {
    let graph = state.graph.clone();
    for &next in graph.successors(node) {
        if state.facts.owned[milestone_of(state, next).get()] {
            step(state, next, cause, cause.is_none(), at);
        }
    }
}

/// One of the things that `node` waits for has been decided.
fn step(state: &mut State, node: NodeIndex, cause: Option<TaskIndex>, completed: bool, at: Timestamp) {
    if !completed {
        return doom(state, node, cause);
    }
    let waiting = &mut state.facts.waiting[node.get()];
    if *waiting == NEVER || *waiting == 0 {
        return;
    }
    *waiting -= 1;
    if *waiting > 0 {
        return;
    }
    match state.graph.kind(node) {
        NodeKind::Task(task) => make_ready(state, task, at),
        NodeKind::Start(milestone) => state.facts.agenda.push_back(Agenda::StartMilestone(milestone)),
        // A milestone ends when the last of its tasks has ended, whatever needs them.
        NodeKind::End(_) => {}
    }
}

/// `node`, and through barriers what waits for it, will never be reached.
fn doom(state: &mut State, node: NodeIndex, cause: Option<TaskIndex>) {
    let graph = state.graph.clone();
    let mut doomed = vec![node];
    while let Some(node) = doomed.pop() {
        match graph.kind(node) {
            NodeKind::Task(task) => {
                let row = &mut state.facts.tasks[task.get()];
                // One that waits for its next attempt only has had all that it needs.
                let waits = state.facts.waiting[node.get()] > 0;
                if row.status == TaskStatus::Pending && waits && !row.has(DOOMED) {
                    row.flags |= DOOMED;
                    state.facts.agenda.push_back(Agenda::Skip(task, cause.unwrap_or(task)));
                }
                continue;
            }
            // What it needs ran again after it had started.
            NodeKind::Start(milestone) if state.milestone(milestone).started_at.is_some() => continue,
            NodeKind::Start(milestone) if state.facts.waiting[node.get()] != NEVER => {
                let tally = &mut state.facts.milestones[milestone.get()];
                tally.doomed = true;
                if tally.open == 0 {
                    state.facts.agenda.push_back(Agenda::EndMilestone(milestone));
                }
            }
            NodeKind::End(_) if state.facts.waiting[node.get()] != NEVER => {}
            NodeKind::Start(_) | NodeKind::End(_) => continue,
        }
        state.facts.waiting[node.get()] = NEVER;
        let next = graph.successors(node).iter().rev();
        doomed.extend(next.filter(|&&next| state.facts.owned[milestone_of(state, next).get()]));
    }
}
