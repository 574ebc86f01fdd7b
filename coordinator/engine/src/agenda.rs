//! What follows from the state alone and has not been said as an event yet.
//!
//! `apply` puts entries on, in the order in which they became due, and takes them off with the event that says
//! them; `decide` only reads. So a replay of any prefix of the log leaves exactly what is still to be said.

use crate::retry;
use crate::state::{AgentState, CANCELLING, State, TIMED_OUT};
use crate::status::TaskStatus;
use cairn_model::{AgentIndex, Event, Failure, FailureKind, MilestoneIndex, Scope, TaskIndex, Timestamp};
use std::time::Duration;

/// One thing that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Agenda {
    /// All that a milestone needs is completed.
    StartMilestone(MilestoneIndex),
    /// All tasks of a milestone have ended.
    EndMilestone(MilestoneIndex),
    /// A checkpoint's needs are completed.
    Checkpoint(TaskIndex),
    /// A task will never get what it needs.
    Skip(TaskIndex, TaskIndex),
    /// A task that is not out is to end as cancelled.
    Cancel(TaskIndex),
    /// The agent of an attempt is gone.
    Lose(TaskIndex, u32),
    /// A failure is to end the run.
    FailFast,
    /// All milestones have ended.
    EndRun,
}

impl Agenda {
    /// Whether it still is to be said: a task can have ended in the meantime.
    fn is_due(self, state: &State) -> bool {
        match self {
            Self::Checkpoint(task) | Self::Skip(task, _) | Self::Cancel(task) => {
                !state.task(task).status.is_final()
            }
            Self::Lose(task, attempt) => {
                let task = state.task(task);
                task.status.is_out() && task.attempt == attempt
            }
            // All tasks of a milestone can end before it starts: cancelled, or skipped one by one.
            Self::StartMilestone(milestone) => {
                let tally = state.milestone(milestone);
                let waits = state.waits_for(state.graph.start(milestone));
                tally.finished_at.is_none() && tally.started_at.is_none() && waits == 0
            }
            Self::EndMilestone(milestone) => {
                let tally = state.milestone(milestone);
                tally.finished_at.is_none() && tally.open == 0
            }
            Self::FailFast => !state.run().status.is_final(),
            Self::EndRun => !state.run().status.is_final() && state.run().open_milestones == 0,
        }
    }

    fn event(self, state: &State, now: Timestamp) -> Event {
        match self {
            Self::StartMilestone(milestone) => Event::MilestoneStarted { milestone },
            Self::EndMilestone(milestone) => end_of_milestone(state, milestone),
            Self::Checkpoint(task) => {
                Event::TaskCompleted { task, attempt: 0, finished_at: now, duration: Duration::ZERO }
            }
            Self::Skip(task, cause) => Event::TaskSkipped { task, cause },
            Self::Cancel(task) => Event::TaskCancelled { task, attempt: 0 },
            Self::Lose(task, _) => {
                let failure = Failure {
                    kind: FailureKind::AgentLost,
                    message: "the agent went away while the attempt was out".to_owned(),
                    exit_code: None,
                };
                end_without_result(state, task, failure, now)
            }
            Self::FailFast => {
                Event::CancelRequested { scope: Scope::Run, reason: "a task failed".into(), fail_fast: true }
            }
            Self::EndRun => end_of_run(state),
        }
    }
}

/// The next event that the state itself asks for.
pub(crate) fn next(state: &State, now: Timestamp) -> Option<Event> {
    let due = state.facts.agenda.iter().find(|entry| entry.is_due(state))?;
    Some(due.event(state, now))
}

/// Takes the entry that `event` says off the agenda, and what stands before it and is not due any more.
pub(crate) fn said(state: &mut State, event: &Event) {
    while let Some(&entry) = state.facts.agenda.front() {
        let says_it = entry.is_said_by(event);
        if !says_it && entry.is_due(state) {
            return;
        }
        state.facts.agenda.pop_front();
        if says_it {
            return;
        }
    }
}

impl Agenda {
    fn is_said_by(self, event: &Event) -> bool {
        match (self, event) {
            (Self::StartMilestone(entry), Event::MilestoneStarted { milestone })
            | (
                Self::EndMilestone(entry),
                Event::MilestoneCompleted { milestone }
                | Event::MilestoneFailed { milestone }
                | Event::MilestoneSkipped { milestone }
                | Event::MilestoneCancelled { milestone },
            ) => entry == *milestone,
            (Self::Checkpoint(entry), Event::TaskCompleted { task, .. })
            | (Self::Skip(entry, _), Event::TaskSkipped { task, .. })
            | (Self::Cancel(entry), Event::TaskCancelled { task, .. })
            | (
                Self::Lose(entry, _),
                Event::TaskFailed { task, .. }
                | Event::TaskCancelled { task, .. }
                | Event::TaskRetryScheduled { task, .. },
            ) => entry == *task,
            (Self::FailFast, Event::CancelRequested { fail_fast, .. }) => *fail_fast,
            (Self::EndRun, Event::RunCompleted { .. } | Event::RunFailed | Event::RunCancelled) => true,
            _ => false,
        }
    }
}

fn end_of_milestone(state: &State, milestone: MilestoneIndex) -> Event {
    let tally = state.milestone(milestone);
    if tally.failed > 0 {
        Event::MilestoneFailed { milestone }
    } else if tally.cancelled > 0 {
        Event::MilestoneCancelled { milestone }
    } else if tally.skipped > 0 || tally.doomed {
        Event::MilestoneSkipped { milestone }
    } else {
        Event::MilestoneCompleted { milestone }
    }
}

fn end_of_run(state: &State) -> Event {
    let sum =
        |part: fn(&crate::state::MilestoneState) -> u32| state.facts.milestones.iter().map(part).sum::<u32>();
    let (failed, cancelled) = (sum(|tally| tally.failed), sum(|tally| tally.cancelled));
    let by_hand = state.run().cancelling && !state.run().failing_fast;
    if cancelled > 0 && (by_hand || failed == 0) {
        Event::RunCancelled
    } else if failed > 0 || sum(|tally| tally.skipped) > 0 {
        Event::RunFailed
    } else {
        Event::RunCompleted { warnings: sum(|tally| tally.warnings) }
    }
}

/// The end of an attempt that gave no result: the next one follows, unless the task is to end, must never be started
/// twice, or brings its agents down. What was interrupted has run.
pub(crate) fn end_without_result(state: &State, task: TaskIndex, failure: Failure, now: Timestamp) -> Event {
    let row = state.task(task);
    let attempt = row.attempt;
    let may_have_run = failure.kind == FailureKind::Interrupted || state.may_have_started(task);
    if state.plan.settings(task).at_most_once && may_have_run {
        let failure = Failure {
            kind: FailureKind::OutcomeUnknown,
            message: format!("it may have run: {}; at_most_once forbids another attempt", failure.message),
            exit_code: None,
        };
        return fail(state, task, failure, now, now);
    }
    if row.has(CANCELLING) {
        return Event::TaskCancelled { task, attempt };
    }
    if let Some(poisoned) = poisoned(state, task, &failure) {
        return fail(state, task, poisoned, now, now);
    }
    Event::TaskRetryScheduled { task, attempt, failure: Box::new(failure), counts: false, retry_at: now }
}

/// How often an agent may be lost with an attempt of a task, or may lose it, before the task is taken for what brings
/// them down. Three are no accident, and a fleet of five is still there.
pub const POISON_LOSSES: usize = 3;

/// Whom the loss of an attempt counts against its task with: its agent. A pool is none, and the agents of a closed fleet
/// end with their owner, whatever runs.
pub(crate) fn lost_with(state: &State, task: TaskIndex) -> Option<(AgentIndex, &AgentState)> {
    let index = state.task(task).agent()?;
    let agent = state.agents().get(index.get())?;
    (!state.run().options.closed_fleet && !agent.is_pool()).then_some((index, agent))
}

/// The failure of a task whose attempt is lost once too often.
fn poisoned(state: &State, task: TaskIndex, failure: &Failure) -> Option<Failure> {
    let (_, last) = lost_with(state, task).filter(|_| failure.kind == FailureKind::AgentLost)?;
    let before = &state.facts.troubles.get(&task)?.lost_with;
    if before.len() + 1 < POISON_LOSSES {
        return None;
    }
    let mut names: Vec<&str> =
        before.iter().map(|agent| state.agents()[agent.get()].spec.id.as_str()).collect();
    names.push(&last.spec.id);
    names.dedup();
    let message = format!("{POISON_LOSSES} times its agent was lost while it had it: {}", names.join(", "));
    Some(Failure { kind: FailureKind::Poisoned, message, exit_code: None })
}

/// The end of an attempt that failed: another one follows, as far as the plan allows.
pub(crate) fn end_with_failure(
    state: &State,
    task: TaskIndex,
    failure: Failure,
    span: (Timestamp, Timestamp),
    now: Timestamp,
) -> Event {
    let row = state.task(task);
    let settings = state.plan.settings(task);
    let failures = row.failures + 1;
    let again = failure.kind.is_retryable()
        && failures < settings.retry.max_attempts
        && !settings.at_most_once
        && !row.has(CANCELLING);
    if !again {
        return fail(state, task, failure, span.0, span.1);
    }
    let wait = retry::delay(&settings.retry, state.run().options.seed, task, failures);
    let attempt = row.attempt;
    Event::TaskRetryScheduled {
        task,
        attempt,
        failure: Box::new(failure),
        counts: true,
        retry_at: now.plus(wait),
    }
}

fn fail(
    state: &State,
    task: TaskIndex,
    failure: Failure,
    started_at: Timestamp,
    finished_at: Timestamp,
) -> Event {
    let row = state.task(task);
    // An attempt that was seen to start has run since then, whatever is known of its end.
    let started_at = if row.status == TaskStatus::InProgress { row.since } else { started_at };
    let attempt = if row.status.is_out() { row.attempt } else { 0 };
    let duration = finished_at.since(started_at);
    Event::TaskFailed { task, attempt, failure: Box::new(failure), finished_at, duration }
}

/// The failure of a task that no agent could ever run.
pub(crate) fn unplaceable(state: &State, task: TaskIndex, now: Timestamp) -> Event {
    let class = &state.order.classes()[state.order.class_of(task)];
    let message = format!("no agent could ever run it: it asks for {}", class.describe());
    fail(state, task, Failure { kind: FailureKind::Unplaceable, message, exit_code: None }, now, now)
}

/// Whether the attempt was stopped because its time was over.
pub(crate) fn ran_out_of_time(state: &State, task: TaskIndex) -> bool {
    state.task(task).has(TIMED_OUT)
}
