//! The only mutation of a run's state, the same live and in replay.
//!
//! Total: an event that does not fit (of a log that somebody else wrote) changes what it can and breaks nothing;
//! whether events fit is the business of `decide`, which makes them.

use crate::agenda::{self, Agenda};
use crate::attempt::{dispatch, end_attempt, forget_timeout, grant, schedule_retry, start, try_again};
use crate::fleet;
use crate::needs::{NEVER, reach, resolve};
use crate::order::ClassIndex;
use crate::reopen;
use crate::state::{CANCELLING, DOOMED, PAUSED, State, TIMED_OUT};
use crate::status::{MilestoneStatus, RunStatus, TaskStatus};
use cairn_model::{Event, Failure, MilestoneIndex, NodeIndex, RunSubmitted, Scope, TaskIndex, Timestamp};
use std::time::Duration;

/// Changes the state by one event that happened at `at`.
pub fn apply(state: &mut State, event: &Event, at: Timestamp) {
    state.facts.last_at = state.facts.last_at.max(at);
    agenda::said(state, event);
    match event {
        Event::RunSubmitted(submitted) => submit(state, submitted, at),
        Event::OwnerChanged { epoch } => {
            state.facts.run.epoch = *epoch;
            state.facts.run.interrupted = false;
        }
        Event::RunInterrupted { .. } => state.facts.run.interrupted = true,
        Event::Paused { scope, .. } => pause(state, *scope),
        Event::Resumed { scope } => resume(state, *scope),
        Event::CancelRequested { scope, fail_fast, .. } => request_cancel(state, *scope, *fail_fast),
        Event::RunCompleted { .. } => end_run(state, RunStatus::Completed, at),
        Event::RunFailed => end_run(state, RunStatus::Failed, at),
        Event::RunCancelled => end_run(state, RunStatus::Cancelled, at),
        Event::RunReopened => reopen::run(state),
        Event::AgentJoined(spec) => fleet::join(state, spec),
        Event::AgentChanged(spec) => fleet::change(state, spec),
        Event::AgentLost { agent, .. } => fleet::lose(state, *agent),
        Event::MilestoneStarted { milestone } => start_milestone(state, *milestone, at),
        Event::MilestoneCompleted { milestone } => {
            end_milestone(state, *milestone, MilestoneStatus::Completed, at);
        }
        Event::MilestoneFailed { milestone } => end_milestone(state, *milestone, MilestoneStatus::Failed, at),
        Event::MilestoneSkipped { milestone } => {
            end_milestone(state, *milestone, MilestoneStatus::Skipped, at)
        }
        Event::MilestoneCancelled { milestone } => {
            end_milestone(state, *milestone, MilestoneStatus::Cancelled, at);
        }
        Event::MilestoneReopened { milestone, paused } => reopen::milestone(state, *milestone, *paused),
        Event::DependencyResolved { milestone, node, completed, .. } => {
            resolve(state, *milestone, *node, *completed, at);
        }
        Event::TaskReopened { task, .. } => reopen::task(state, *task, at),
        Event::TaskDispatched { task, attempt, agent } => dispatch(state, *task, *attempt, *agent, at),
        Event::TaskGranted { task, agent, .. } => grant(state, *task, *agent),
        Event::LeaseExpired { task, .. } => try_again(state, *task, at, at),
        Event::TaskStarted { task, started_at, .. } => start(state, *task, *started_at),
        Event::ProgressUpdated { task, permille, message, .. } => {
            state.facts.tasks[task.get()].permille = *permille;
            match message {
                Some(message) => drop(state.facts.messages.insert(*task, message.clone())),
                None => drop(state.facts.messages.remove(task)),
            }
        }
        Event::TaskCompleted { task, attempt, finished_at, duration } => {
            let started_at = Timestamp(finished_at.0.saturating_sub(cairn_model::time::micros(*duration)));
            end_attempt(state, *task, *attempt);
            state.facts.tasks[task.get()].permille = 1000;
            end_task(state, *task, TaskStatus::Completed, started_at, *duration);
            reach(state, state.graph.task(*task), None, at);
        }
        Event::TaskFailed { task, attempt, failure, finished_at, duration } => {
            fail(state, *task, *attempt, failure, (*finished_at, *duration), at);
        }
        Event::TaskRetryScheduled { task, failure, counts, retry_at, .. } => {
            schedule_retry(state, *task, failure, *counts, *retry_at, at);
        }
        Event::RetryDue { task } => {
            state.facts.retries.remove(*task);
            make_ready(state, *task, at);
        }
        Event::AttemptTimedOut { task, .. } => {
            state.facts.tasks[task.get()].flags |= TIMED_OUT;
            forget_timeout(state, *task);
        }
        Event::TaskSkipped { task, cause } => {
            state.facts.tasks[task.get()].link = cause.0;
            end_task(state, *task, TaskStatus::Skipped, at, Duration::ZERO);
            reach(state, state.graph.task(*task), Some(*cause), at);
        }
        Event::TaskCancelled { task, attempt } => {
            let row = &state.facts.tasks[task.get()];
            let started_at = if row.status == TaskStatus::InProgress { row.since } else { at };
            end_attempt(state, *task, *attempt);
            end_task(state, *task, TaskStatus::Cancelled, started_at, at.since(started_at));
            reach(state, state.graph.task(*task), Some(*task), at);
        }
    }
}

fn submit(state: &mut State, submitted: &RunSubmitted, at: Timestamp) {
    let State { plan, graph, facts, .. } = state;
    facts.run.id.clone_from(&submitted.run);
    facts.run.options = submitted.options.clone();
    facts.run.submitted_at = at;
    facts.run.status = RunStatus::Active;
    for index in 0..graph.node_count() {
        facts.waiting[index] = graph.predecessors(NodeIndex::new(index)).len() as u32;
    }
    for milestone in (0..plan.milestones().len()).map(MilestoneIndex::new) {
        let tasks = plan.tasks_of(milestone).len() as u32;
        facts.milestones[milestone.get()].open = tasks;
        if !facts.owned[milestone.get()] {
            continue;
        }
        facts.run.open_milestones += 1;
        facts.counts[TaskStatus::Pending as usize] += tasks;
        if facts.waiting[graph.start(milestone).get()] == 0 {
            facts.agenda.push_back(Agenda::StartMilestone(milestone));
        }
    }
    if facts.run.open_milestones == 0 {
        facts.agenda.push_back(Agenda::EndRun);
    }
}

fn end_run(state: &mut State, status: RunStatus, at: Timestamp) {
    state.facts.run.status = status;
    state.facts.run.finished_at = Some(at);
}

fn start_milestone(state: &mut State, milestone: MilestoneIndex, at: Timestamp) {
    let tasks = state.plan.tasks_of(milestone);
    let tally = &mut state.facts.milestones[milestone.get()];
    tally.status = if tally.paused { MilestoneStatus::Paused } else { MilestoneStatus::Active };
    tally.started_at = Some(at);
    if tally.open == 0 {
        state.facts.agenda.push_back(Agenda::EndMilestone(milestone));
    }
    // Of one that starts again, in part, tasks can have all else that they need.
    if (tally.open as usize) < tasks.len() {
        tasks.for_each(|task| enqueue(state, task));
    }
    reach(state, state.graph.start(milestone), None, at);
}

fn end_milestone(state: &mut State, milestone: MilestoneIndex, status: MilestoneStatus, at: Timestamp) {
    let tally = &mut state.facts.milestones[milestone.get()];
    tally.status = status;
    tally.finished_at = Some(at);
    let run = &mut state.facts.run;
    run.open_milestones = run.open_milestones.saturating_sub(1);
    if run.open_milestones == 0 {
        state.facts.agenda.push_back(Agenda::EndRun);
    }
    let end = state.graph.end(milestone);
    match status {
        MilestoneStatus::Completed => reach(state, end, None, at),
        // Mostly the task that did it has said so to all that need the milestone. One that ran again has not, where what
        // needs it inside the milestone had ended before.
        _ if state.facts.waiting[end.get()] != NEVER => {
            state.facts.waiting[end.get()] = NEVER;
            let cause = state.plan.tasks_of(milestone).find(|&task| !state.lets_go_on(task));
            if cause.is_some() {
                reach(state, end, cause, at);
            }
        }
        _ => {}
    }
}

pub(crate) fn set_status(state: &mut State, task: TaskIndex, status: TaskStatus) {
    let row = &mut state.facts.tasks[task.get()];
    let before = std::mem::replace(&mut row.status, status);
    state.facts.counts[before as usize] = state.facts.counts[before as usize].saturating_sub(1);
    state.facts.counts[status as usize] += 1;
}

/// A task is ready once it has all that it needs and does not wait for the time of its next attempt.
pub(crate) fn make_ready(state: &mut State, task: TaskIndex, at: Timestamp) {
    let row = &state.facts.tasks[task.get()];
    let waits = state.facts.waiting[state.graph.task(task).get()] > 0 || state.retry_at(task).is_some();
    if row.status != TaskStatus::Pending || row.has(DOOMED) || waits {
        return;
    }
    set_status(state, task, TaskStatus::Ready);
    state.facts.tasks[task.get()].since = at;
    enqueue(state, task);
}

/// Puts a ready task where the scheduler finds it, unless it is held back.
fn enqueue(state: &mut State, task: TaskIndex) {
    let row = &state.facts.tasks[task.get()];
    let milestone = &state.facts.milestones[state.plan.milestone_of(task).get()];
    let is_held = milestone.paused || milestone.started_at.is_none();
    if row.status != TaskStatus::Ready || row.flags & (PAUSED | CANCELLING) != 0 || is_held {
        return;
    }
    if state.plan.is_checkpoint(task) {
        state.facts.agenda.push_back(Agenda::Checkpoint(task));
        return;
    }
    let (class, place) = place_of(state, task);
    state.facts.ready[class].insert(place);
}

pub(crate) fn dequeue(state: &mut State, task: TaskIndex) {
    let (class, place) = place_of(state, task);
    state.facts.ready[class].remove(place);
}

fn place_of(state: &State, task: TaskIndex) -> (ClassIndex, usize) {
    (state.order.class_of(task), state.order.place(task))
}

fn tasks_in(state: &State, scope: Scope) -> Box<dyn Iterator<Item = TaskIndex>> {
    match scope {
        Scope::Run => Box::new(state.plan.tasks()),
        Scope::Milestone(milestone) => Box::new(state.plan.tasks_of(milestone)),
        Scope::Task(task) => Box::new(std::iter::once(task)),
    }
}

fn pause(state: &mut State, scope: Scope) {
    match scope {
        Scope::Run => state.facts.run.status = RunStatus::Paused,
        Scope::Milestone(milestone) => {
            let tally = &mut state.facts.milestones[milestone.get()];
            tally.paused = true;
            if tally.status == MilestoneStatus::Active {
                tally.status = MilestoneStatus::Paused;
            }
            tasks_in(state, scope).for_each(|task| dequeue(state, task));
        }
        Scope::Task(task) => {
            state.facts.tasks[task.get()].flags |= PAUSED;
            dequeue(state, task);
        }
    }
}

fn resume(state: &mut State, scope: Scope) {
    match scope {
        Scope::Run => {
            state.facts.run.status = RunStatus::Active;
            state.facts.run.interrupted = false;
        }
        Scope::Milestone(milestone) => {
            let tally = &mut state.facts.milestones[milestone.get()];
            tally.paused = false;
            if tally.status == MilestoneStatus::Paused {
                tally.status = MilestoneStatus::Active;
            }
            tasks_in(state, scope).for_each(|task| enqueue(state, task));
        }
        Scope::Task(task) => {
            state.facts.tasks[task.get()].flags &= !PAUSED;
            enqueue(state, task);
        }
    }
}

fn request_cancel(state: &mut State, scope: Scope, fail_fast: bool) {
    if scope == Scope::Run {
        state.facts.run.cancelling = true;
        state.facts.run.failing_fast |= fail_fast;
    }
    for task in tasks_in(state, scope) {
        let row = &mut state.facts.tasks[task.get()];
        let owned = state.facts.owned[state.plan.milestone_of(task).get()];
        if row.status.is_final() || row.flags & (CANCELLING | DOOMED) != 0 || !owned {
            continue;
        }
        row.flags |= CANCELLING;
        if !row.status.is_out() {
            state.facts.agenda.push_back(Agenda::Cancel(task));
            dequeue(state, task);
        }
    }
}

fn end_task(state: &mut State, task: TaskIndex, status: TaskStatus, since: Timestamp, duration: Duration) {
    if state.facts.tasks[task.get()].status == TaskStatus::Ready {
        dequeue(state, task);
    }
    set_status(state, task, status);
    let row = &mut state.facts.tasks[task.get()];
    row.since = since;
    row.duration = duration;
    row.flags = 0;
    state.facts.messages.remove(&task);
    state.facts.retries.remove(task);
    state.facts.troubles.remove(&task);
    if status == TaskStatus::Completed {
        state.facts.failures.remove(&task);
        state.facts.run.started_at.get_or_insert(since);
    }
    if matches!(status, TaskStatus::Completed | TaskStatus::Failed) && state.plan.takes_slot(task) {
        learn_duration(state, duration);
    }
    let milestone = state.plan.milestone_of(task);
    let tally = &mut state.facts.milestones[milestone.get()];
    tally.open = tally.open.saturating_sub(1);
    match status {
        TaskStatus::Completed => tally.completed += 1,
        TaskStatus::Skipped => tally.skipped += 1,
        TaskStatus::Cancelled => tally.cancelled += 1,
        _ if state.plan.settings(task).continue_on_error => tally.warnings += 1,
        _ => tally.failed += 1,
    }
    if tally.open == 0 {
        state.facts.agenda.push_back(Agenda::EndMilestone(milestone));
    }
}

/// An exponentially weighted mean: a new duration counts an eighth. What never ran says nothing.
fn learn_duration(state: &mut State, duration: Duration) {
    if duration.is_zero() {
        return;
    }
    let mean = &mut state.facts.run.mean_process_micros;
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
    *mean = if *mean == 0 { micros } else { (*mean - *mean / 8).saturating_add(micros / 8).max(1) };
}

fn fail(
    state: &mut State,
    task: TaskIndex,
    attempt: u32,
    failure: &Failure,
    (finished_at, duration): (Timestamp, Duration),
    at: Timestamp,
) {
    let started_at = Timestamp(finished_at.0.saturating_sub(cairn_model::time::micros(duration)));
    let allowed = state.plan.settings(task).continue_on_error;
    end_attempt(state, task, attempt);
    state.facts.tasks[task.get()].failures += u32::from(attempt > 0);
    end_task(state, task, TaskStatus::Failed, started_at, duration);
    state.facts.failures.insert(task, failure.clone());
    if state.facts.run.options.fail_fast
        && !allowed
        && !state.facts.run.failing_fast
        && !state.facts.run.cancelling
    {
        state.facts.run.failing_fast = true;
        state.facts.agenda.push_back(Agenda::FailFast);
    }
    reach(state, state.graph.task(task), (!allowed).then_some(task), at);
}
