//! Running again what has ended.
//!
//! [`choose`] decides which tasks: in the order of the graph, so that whatever prefix of the events survives a crash,
//! no task is open that can never get what it needs. The rest is part of `apply`: it undoes, for one task, milestone or
//! run, what its end meant for those that need it and have not got past it. What is out or has ended is not called back.

use crate::agenda::{self, Agenda};
use crate::apply::{dequeue, make_ready, set_status};
use crate::decide::Rejection;
use crate::needs::NEVER;
use crate::state::{NOBODY, State};
use crate::status::{MilestoneStatus, RunStatus, TaskStatus};
use cairn_model::{Ended, Event, MilestoneIndex, NodeIndex, NodeKind, Scope, TaskIndex, Timestamp};
use std::time::Duration;

/// What is to run again, as events.
pub(crate) fn choose(state: &State, scope: Scope, downstream: bool) -> Result<Vec<Event>, Rejection> {
    let run = state.run();
    let is_cancelling = run.cancelling && !run.status.is_final();
    if is_cancelling || agenda::next(state, state.last_event_at()).is_some() {
        return Err(Rejection::NotSettled);
    }
    if state.facts.owned.contains(&false) {
        return Err(Rejection::NotWhole);
    }
    let order = state.graph.order();
    let again = Again::find(state, &order, scope, downstream)?;
    let events: Vec<_> = order.iter().filter_map(|&node| again.event(state, node)).collect();
    if events.is_empty() {
        return Err(Rejection::NothingToRetry);
    }
    let reopened = run.status.is_final().then_some(Event::RunReopened);
    Ok(reopened.into_iter().chain(events).collect())
}

/// By node: tasks that are to run again with the barriers that wait for them, and what can never be reached.
struct Again {
    fresh: Vec<bool>,
    hopeless: Vec<bool>,
    downstream: bool,
}

impl Again {
    fn find(state: &State, order: &[NodeIndex], scope: Scope, downstream: bool) -> Result<Self, Rejection> {
        let nodes = state.graph.node_count();
        let mut again = Self { fresh: vec![false; nodes], hopeless: vec![false; nodes], downstream };
        for &node in order {
            let before = state.graph.predecessors(node);
            let any = |marks: &[bool]| before.iter().any(|node| marks[node.get()]);
            let (is_blocked, follows) = (any(&again.hopeless), any(&again.fresh));
            let task = match state.graph.kind(node) {
                NodeKind::Task(task) => task,
                NodeKind::Start(milestone) => {
                    again.fresh[node.get()] = follows;
                    again.hopeless[node.get()] = is_blocked && !is_under_way(state, milestone);
                    continue;
                }
                NodeKind::End(milestone) => {
                    again.fresh[node.get()] = follows;
                    // Also of what no other task of it waits for any more.
                    let mut tasks = state.plan.tasks_of(milestone).map(|task| state.graph.task(task));
                    again.hopeless[node.get()] = is_blocked || tasks.any(|task| again.hopeless[task.get()]);
                    continue;
                }
            };
            let status = state.task(task).status;
            let is_meant = is_wished(state, scope, task) || (downstream && follows);
            if is_meant && !is_blocked && status.is_out() {
                return Err(Rejection::TaskIsOut { task: state.plan.task_name(task) });
            }
            // What was skipped and is not blocked any more follows, whatever was wished.
            let goes = !is_blocked && (is_meant || status == TaskStatus::Skipped) && status.is_final();
            again.fresh[node.get()] = goes;
            again.hopeless[node.get()] = status.is_final() && !goes && !state.lets_go_on(task);
        }
        Ok(again)
    }

    fn event(&self, state: &State, node: NodeIndex) -> Option<Event> {
        match state.graph.kind(node) {
            NodeKind::Task(task) => {
                let ended = ended(state.task(task).status).filter(|_| self.fresh[node.get()])?;
                Some(Event::TaskReopened { task, ended })
            }
            NodeKind::Start(milestone) => {
                let paused = state.milestone(milestone).paused;
                self.opens(state, milestone, node).then_some(Event::MilestoneReopened { milestone, paused })
            }
            NodeKind::End(_) => None,
        }
    }

    /// Whether a milestone that has ended goes on: with its tasks, or, if it has none, with what it needs.
    fn opens(&self, state: &State, milestone: MilestoneIndex, start: NodeIndex) -> bool {
        let tally = state.milestone(milestone);
        let mut tasks = state.plan.tasks_of(milestone);
        if tally.finished_at.is_none() {
            return false;
        }
        if tasks.len() > 0 {
            return tasks.any(|task| self.fresh[state.graph.task(task).get()]);
        }
        let was_skipped = tally.status == MilestoneStatus::Skipped;
        !self.hopeless[start.get()] && (was_skipped || (self.downstream && self.fresh[start.get()]))
    }
}

/// A milestone that is under way needs nothing any more, whatever becomes of it.
fn is_under_way(state: &State, milestone: MilestoneIndex) -> bool {
    let tally = state.milestone(milestone);
    tally.started_at.is_some() && tally.finished_at.is_none()
}

/// Of the run, what did not end as it should; of a part of it, all.
fn is_wished(state: &State, scope: Scope, task: TaskIndex) -> bool {
    match scope {
        Scope::Run => matches!(state.task(task).status, TaskStatus::Failed | TaskStatus::Cancelled),
        Scope::Milestone(milestone) => state.plan.milestone_of(task) == milestone,
        Scope::Task(named) => named == task,
    }
}

fn ended(status: TaskStatus) -> Option<Ended> {
    match status {
        TaskStatus::Completed => Some(Ended::Completed),
        TaskStatus::Failed => Some(Ended::Failed),
        TaskStatus::Skipped => Some(Ended::Skipped),
        TaskStatus::Cancelled => Some(Ended::Cancelled),
        TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Dispatched | TaskStatus::InProgress => None,
    }
}

pub(crate) fn run(state: &mut State) {
    let run = &mut state.facts.run;
    run.status = RunStatus::Active;
    run.finished_at = None;
    (run.interrupted, run.cancelling, run.failing_fast) = (false, false, false);
    if run.open_milestones == 0 {
        state.facts.agenda.push_back(Agenda::EndRun);
    }
}

/// A milestone that waits for its needs again starts again; what of it is ready is held until then. Whether it is paused
/// is said by the event: what an earlier version wrote lifted the pause, and its run went on.
pub(crate) fn milestone(state: &mut State, milestone: MilestoneIndex, paused: bool) {
    let (start, end) = (state.graph.start(milestone), state.graph.end(milestone));
    let waiting = open_needs(state, start);
    let tally = &mut state.facts.milestones[milestone.get()];
    if tally.finished_at.take().is_none() {
        return;
    }
    let was_completed = tally.status == MilestoneStatus::Completed;
    (tally.doomed, tally.paused) = (false, paused);
    if waiting > 0 {
        tally.started_at = None;
    }
    let has_started = tally.started_at.is_some();
    tally.status = match (has_started, paused) {
        (false, _) => MilestoneStatus::Planned,
        (true, true) => MilestoneStatus::Paused,
        (true, false) => MilestoneStatus::Active,
    };
    if waiting == 0 && !has_started {
        state.facts.agenda.push_back(Agenda::StartMilestone(milestone));
    }
    // A crash can have cut off the tasks that were to run again.
    if tally.open == 0 && (has_started || state.plan.tasks_of(milestone).len() > 0) {
        state.facts.agenda.push_back(Agenda::EndMilestone(milestone));
    }
    state.facts.run.open_milestones += 1;
    if was_completed {
        withdraw(state, end);
    }
    state.facts.waiting[start.get()] = waiting;
    state.facts.waiting[end.get()] = open_needs(state, end);
}

pub(crate) fn task(state: &mut State, task: TaskIndex, at: Timestamp) {
    let row = state.facts.tasks[task.get()];
    if !row.status.is_final() {
        return;
    }
    let (node, milestone) = (state.graph.task(task), state.plan.milestone_of(task));
    if state.lets_go_on(task) {
        withdraw(state, node);
    }
    let allowed = state.plan.settings(task).continue_on_error;
    let tally = &mut state.facts.milestones[milestone.get()];
    let count = match row.status {
        TaskStatus::Completed => &mut tally.completed,
        TaskStatus::Skipped => &mut tally.skipped,
        TaskStatus::Cancelled => &mut tally.cancelled,
        _ if allowed => &mut tally.warnings,
        _ => &mut tally.failed,
    };
    *count = count.saturating_sub(1);
    tally.open += 1;
    let was_skipped = row.status == TaskStatus::Skipped;
    set_status(state, task, TaskStatus::Pending);
    state.facts.failures.remove(&task);
    let row = &mut state.facts.tasks[task.get()];
    if was_skipped {
        // The cause stood there.
        row.link = NOBODY;
    }
    (row.flags, row.permille, row.failures) = (0, 0, 0);
    (row.since, row.duration) = (at, Duration::ZERO);
    let end = state.graph.end(milestone);
    if state.facts.waiting[end.get()] == NEVER {
        state.facts.waiting[end.get()] = open_needs(state, end);
    }
    state.facts.waiting[node.get()] = open_needs(state, node);
    make_ready(state, task, at);
}

/// How many of the things that `node` waits for are not there.
fn open_needs(state: &State, node: NodeIndex) -> u32 {
    let is_open = |before: &&NodeIndex| match state.graph.kind(**before) {
        NodeKind::Task(task) => !state.lets_go_on(task),
        NodeKind::Start(milestone) => state.milestone(milestone).started_at.is_none(),
        NodeKind::End(milestone) => state.milestone(milestone).status != MilestoneStatus::Completed,
    };
    state.graph.predecessors(node).iter().filter(is_open).count() as u32
}

/// `node` had been completed and is so no longer: what needs it and is not out, has not ended, or started, waits
/// again.
fn withdraw(state: &mut State, node: NodeIndex) {
    let graph = state.graph.clone();
    for &next in graph.successors(node) {
        let waits = match graph.kind(next) {
            NodeKind::Task(task) => {
                let status = state.task(task).status;
                if status == TaskStatus::Ready {
                    dequeue(state, task);
                    set_status(state, task, TaskStatus::Pending);
                }
                !status.is_final() && !status.is_out()
            }
            NodeKind::Start(milestone) => {
                let tally = state.milestone(milestone);
                tally.started_at.is_none() && tally.finished_at.is_none()
            }
            NodeKind::End(_) => true,
        };
        let waiting = &mut state.facts.waiting[next.get()];
        if waits && *waiting != NEVER {
            *waiting += 1;
        }
    }
}
