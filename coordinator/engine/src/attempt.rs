//! The life of an attempt: offered, bound to an agent, started, over. Part of `apply`.

use crate::agenda;
use crate::apply::{dequeue, make_ready, set_status};
use crate::fleet::{Take, occupy};
use crate::state::{AgentState, GRANTED, State, TIMED_OUT};
use crate::status::TaskStatus;
use cairn_model::{AgentIndex, AgentRole, Failure, FailureKind, TaskIndex, Timestamp};
use std::time::Duration;

pub(crate) fn dispatch(state: &mut State, task: TaskIndex, attempt: u32, agent: AgentIndex, at: Timestamp) {
    dequeue(state, task);
    set_status(state, task, TaskStatus::Dispatched);
    let row = &mut state.facts.tasks[task.get()];
    row.attempt = attempt;
    row.link = agent.0;
    row.since = at;
    row.permille = 0;
    row.flags &= !(TIMED_OUT | GRANTED);
    state.facts.run.started_at.get_or_insert(at);
    occupy(state, task, agent, Take::Occupy);
    if let Some(lease) = state.agents().get(agent.get()).and_then(offer_lease) {
        state.facts.leases.insert(at.plus(lease), task);
    }
}

/// The shortest time that an offer lies in a pool: less would only make attempts that nobody can take.
const MIN_OFFER_LEASE: Duration = Duration::from_secs(1);

fn offer_lease(agent: &AgentState) -> Option<Duration> {
    match agent.spec.role {
        AgentRole::Pool { offer_lease_micros } => {
            Some(Duration::from_micros(offer_lease_micros).max(MIN_OFFER_LEASE))
        }
        AgentRole::Own | AgentRole::Member { .. } => None,
    }
}

/// Binds the attempt to an agent; what was taken out of a pool stays on the pool's books.
pub(crate) fn grant(state: &mut State, task: TaskIndex, agent: AgentIndex) {
    let row = &mut state.facts.tasks[task.get()];
    if !row.status.is_out() {
        return;
    }
    row.flags |= GRANTED;
    let before = AgentIndex(std::mem::replace(&mut row.link, agent.0));
    if before != agent {
        state.facts.pooled.entry(task).or_insert(before);
    }
    state.facts.leases.remove(task);
}

pub(crate) fn start(state: &mut State, task: TaskIndex, started_at: Timestamp) {
    set_status(state, task, TaskStatus::InProgress);
    state.facts.tasks[task.get()].since = started_at;
    if let Some(timeout) = state.plan.settings(task).timeout {
        state.facts.timeouts.insert((started_at.plus(timeout), task));
    }
}

pub(crate) fn forget_timeout(state: &mut State, task: TaskIndex) {
    if let Some(timeout) = state.plan.settings(task).timeout {
        let row = &state.facts.tasks[task.get()];
        state.facts.timeouts.remove(&(row.since.plus(timeout), task));
    }
}

/// Frees what the attempt held, if it is out.
pub(crate) fn end_attempt(state: &mut State, task: TaskIndex, attempt: u32) {
    let row = state.facts.tasks[task.get()];
    if attempt > 0 && row.status.is_out() {
        forget_timeout(state, task);
        state.facts.leases.remove(task);
        let holder = state.facts.pooled.remove(&task).unwrap_or(AgentIndex(row.link));
        occupy(state, task, holder, Take::Free);
    }
}

pub(crate) fn schedule_retry(
    state: &mut State,
    task: TaskIndex,
    failure: &Failure,
    counts: bool,
    retry_at: Timestamp,
    at: Timestamp,
) {
    if counts {
        state.facts.tasks[task.get()].failures += 1;
    } else {
        remember_trouble(state, task, failure.kind);
    }
    if counts || failure.kind == FailureKind::Declined {
        state.facts.failures.insert(task, failure.clone());
    }
    try_again(state, task, retry_at, at);
}

/// The attempt is over, and another one follows.
pub(crate) fn try_again(state: &mut State, task: TaskIndex, retry_at: Timestamp, at: Timestamp) {
    end_attempt(state, task, state.facts.tasks[task.get()].attempt);
    set_status(state, task, TaskStatus::Pending);
    let row = &mut state.facts.tasks[task.get()];
    row.permille = 0;
    row.since = at;
    row.flags &= !(TIMED_OUT | GRANTED);
    state.facts.messages.remove(&task);
    if retry_at > at {
        state.facts.retries.insert(retry_at, task);
    }
    make_ready(state, task, at);
}

/// Keeps what has gone wrong with the attempt that ends, while its agent is still known.
fn remember_trouble(state: &mut State, task: TaskIndex, kind: FailureKind) {
    match kind {
        FailureKind::AgentLost => {
            if let Some((agent, _)) = agenda::lost_with(state, task) {
                state.facts.troubles.entry(task).or_default().lost_with.push(agent);
            }
        }
        FailureKind::Declined => {
            let trouble = state.facts.troubles.entry(task).or_default();
            trouble.declines = trouble.declines.saturating_add(1);
            trouble.declined_by = state.facts.tasks[task.get()].agent();
        }
        _ => {}
    }
}
