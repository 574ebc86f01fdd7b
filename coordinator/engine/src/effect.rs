//! What the shell must do because of an event that is durable. Doing it twice is safe: attempts are fenced.

use crate::state::{CANCELLING, State, TIMED_OUT};
use crate::status::TaskStatus;
use cairn_model::{AgentIndex, Event, Scope, TaskIndex};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Offer an attempt to an agent, or lay it into a pool.
    Offer {
        /// Which task.
        task: TaskIndex,
        /// The attempt's number.
        attempt: u32,
        /// To whom.
        agent: AgentIndex,
    },
    /// Tell an agent that it may start an attempt.
    Grant {
        /// Which task.
        task: TaskIndex,
        /// The attempt's number.
        attempt: u32,
        /// Whom.
        agent: AgentIndex,
    },
    /// Ask an agent to stop an attempt.
    Stop {
        /// Which task.
        task: TaskIndex,
        /// The attempt's number.
        attempt: u32,
        /// Whom.
        agent: AgentIndex,
    },
    /// The run has ended: nothing will follow.
    Ended,
}

/// What `event`, now durable, asks for. The state may have moved on since.
pub fn react(state: &State, event: &Event, effects: &mut Vec<Effect>) {
    match event {
        Event::TaskDispatched { task, attempt, agent } => {
            let row = state.task(*task);
            let is_theirs = row.status.is_out() && row.attempt == *attempt && row.agent() == Some(*agent);
            // What is to be cancelled is not offered any more: the request to stop it follows.
            if is_theirs && !row.has(CANCELLING) {
                effects.push(Effect::Offer { task: *task, attempt: *attempt, agent: *agent });
            }
        }
        Event::TaskGranted { task, attempt, agent, awaited: true } => {
            let row = state.task(*task);
            let is_theirs = row.status.is_out() && row.attempt == *attempt && row.agent() == Some(*agent);
            if is_theirs && !row.has(CANCELLING) && !state.run().interrupted {
                effects.push(Effect::Grant { task: *task, attempt: *attempt, agent: *agent });
            }
        }
        Event::AttemptTimedOut { task, attempt } if state.task(*task).attempt == *attempt => {
            effects.extend(stop(state, *task));
        }
        // The run may go on already, with attempts that must not be stopped.
        Event::RunInterrupted { .. } if !state.run().interrupted => {}
        Event::RunInterrupted { .. } => {
            effects.extend(state.plan.tasks().filter_map(|task| stop(state, task)))
        }
        Event::CancelRequested { scope: Scope::Run, .. } => cancel(state, state.plan.tasks(), effects),
        Event::CancelRequested { scope: Scope::Milestone(milestone), .. } => {
            cancel(state, state.plan.tasks_of(*milestone), effects);
        }
        Event::CancelRequested { scope: Scope::Task(task), .. } => {
            cancel(state, std::iter::once(*task), effects);
        }
        Event::RunCompleted { .. } | Event::RunFailed | Event::RunCancelled => effects.push(Effect::Ended),
        _ => {}
    }
}

/// What the world is still owed after a crash: offers and grants that may not have been made, requests to stop that
/// may not have been heard. All of it rests on the state, so the state must be durable. What has become of attempts that
/// run is not asked for here: agents tell it when the new owner recalls it.
#[must_use]
pub fn recover(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    for task in state.plan.tasks() {
        let row = state.task(task);
        let Some(agent) = row.agent().filter(|_| row.status.is_out()) else { continue };
        if state.agents().get(agent.get()).is_none_or(|agent| agent.lost) {
            continue;
        }
        // Never both: an agent that has not heard of an attempt and is asked to stop it need not start it.
        if row.has(CANCELLING) || row.has(TIMED_OUT) || state.run().interrupted {
            effects.extend(stop(state, task));
        } else if row.status == TaskStatus::Dispatched && row.is_granted() {
            effects.push(Effect::Grant { task, attempt: row.attempt, agent });
        } else if row.status == TaskStatus::Dispatched && !is_pool(state, agent) {
            // Of what lies in a pool a second copy would be taken by a second agent: its lease ends it, if it is lost.
            effects.push(Effect::Offer { task, attempt: row.attempt, agent });
        }
    }
    if state.run().status.is_final() {
        effects.push(Effect::Ended);
    }
    effects
}

fn cancel(state: &State, tasks: impl Iterator<Item = TaskIndex>, effects: &mut Vec<Effect>) {
    effects
        .extend(tasks.filter(|&task| state.task(task).has(CANCELLING)).filter_map(|task| stop(state, task)));
}

/// Of what lies in a pool nobody knows whom to ask: who takes it out is told then.
fn stop(state: &State, task: TaskIndex) -> Option<Effect> {
    let row = state.task(task);
    let agent = row.agent()?;
    (row.status.is_out() && !is_pool(state, agent)).then_some(Effect::Stop {
        task,
        attempt: row.attempt,
        agent,
    })
}

fn is_pool(state: &State, agent: AgentIndex) -> bool {
    state.agents().get(agent.get()).is_some_and(crate::AgentState::is_pool)
}
