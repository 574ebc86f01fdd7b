//! Why a task is, or is not, running.

use super::path::Timing;
use cairn_engine::{AgentState, Class, MilestoneStatus, State, Taken, TaskStatus, could_ever_run};
use cairn_model::{AgentIndex, Failure, MilestoneIndex, NodeIndex, NodeKind, TaskIndex};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Needs, and agents, of a reason that are listed; the others are counted.
pub const MAX_LISTED: usize = 20;

/// Where a task stands, why, and how much depends on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The run; none, if a plan alone is explained.
    pub run: Option<String>,
    /// The task, `milestone/task`.
    pub task: String,
    /// Where it stands.
    pub status: TaskStatus,
    /// The number of its newest attempt; 0 if there was none.
    pub attempt: u32,
    /// Failed attempts that count against `max_attempts`.
    pub failures: u32,
    /// How often it is tried.
    pub max_attempts: u32,
    /// Why it stands there, the most immediate first.
    pub reasons: Vec<Reason>,
    /// Its place among the tasks of the run, from 1: those with a lower one go first where both could run.
    pub rank: u32,
    /// Tasks of the run.
    pub tasks: usize,
    /// Whether a delay of it delays the end of the run.
    pub is_critical: bool,
    /// How much later than at the earliest it may run without delaying the end of the run.
    pub slack_seconds: f64,
}

/// Why a task stands where it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// It waits for what it needs.
    Needs(Waiting),
    /// Its milestone waits for what it needs.
    MilestoneNeeds {
        /// The milestone.
        milestone: String,
        /// What that waits for.
        #[serde(flatten)]
        waiting: Waiting,
    },
    /// An attempt failed, and the next one is not due yet.
    Retry {
        /// When it is, RFC 3339.
        at: String,
        /// Why the last one failed.
        error: Option<FailureView>,
    },
    /// The run is paused.
    RunPaused,
    /// The run was asked to stop where it stands.
    RunInterrupted,
    /// The milestone is paused.
    MilestonePaused {
        /// Which one.
        milestone: String,
    },
    /// The task is paused.
    TaskPaused,
    /// No agent is there.
    NoAgents,
    /// No agent could ever run it.
    NeverFits {
        /// What it asks for.
        asks: String,
        /// What each agent has.
        agents: Vec<AgentRoom>,
    },
    /// No agent has room for it now.
    NoRoom {
        /// What it asks for.
        asks: String,
        /// Ready tasks that go first.
        ahead: usize,
        /// What is free on each agent.
        agents: Vec<AgentRoom>,
    },
    /// Nothing holds it back: the next decision dispatches it.
    NextDecision,
    /// Other runs wait too, and this one has its share.
    ShareUsed {
        /// Attempts in slots that it may have out in all.
        most_slots: u32,
    },
    /// It lies in a pool, and nobody has taken it yet.
    InPool {
        /// Which one.
        pool: Option<String>,
    },
    /// It was offered to an agent that starts it only on a grant, and has not asked for it yet.
    AwaitsGrant {
        /// To whom.
        agent: Option<String>,
    },
    /// It is an agent's and may start, and its start is not reported yet.
    Granted {
        /// Whose.
        agent: Option<String>,
    },
    /// It was offered to an agent, and its start is not reported yet.
    Offered {
        /// To whom.
        agent: Option<String>,
    },
    /// It runs.
    Runs {
        /// Where.
        agent: Option<String>,
        /// Since when, RFC 3339.
        since: String,
        /// How far it says it is (0 to 1).
        progress: f64,
        /// What it says.
        message: Option<String>,
    },
    /// It is done.
    Completed {
        /// How long it took.
        duration_seconds: f64,
    },
    /// Its attempts are used up.
    Failed {
        /// Why the last one failed.
        error: Option<FailureView>,
    },
    /// It will not run because of another one.
    Skipped {
        /// Which one, and how that ended.
        cause: Option<Need>,
    },
    /// Somebody cancelled it, or the run with it.
    Cancelled,
}

/// What is waited for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What is not completed yet, at most [`MAX_LISTED`].
    pub needs: Vec<Need>,
    /// How many more.
    pub omitted: usize,
}

/// A task or milestone that another task waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// `milestone/task`, or a milestone.
    pub id: String,
    /// Where it stands.
    pub status: Cow<'static, str>,
    /// Why it failed.
    pub error: Option<FailureView>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureView {
    /// The stable name of the cause.
    pub kind: Cow<'static, str>,
    /// What a person reads.
    pub message: String,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        Self { kind: failure.kind.name().into(), message: failure.message.clone() }
    }
}

/// What an agent has of what a task asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentRoom {
    /// Its name.
    pub agent: String,
    /// Slots, or timers of a task that is one.
    pub slots: ResourceRoom,
    /// The resources that the task asks for.
    pub resources: Vec<ResourceRoom>,
    /// Labels that the agent lacks, `name=value`.
    pub missing_labels: Vec<String>,
    /// It takes nothing new: it drains, or is silent.
    pub closed: bool,
}

/// How much of a resource is wanted, there, and free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceRoom {
    /// Its name.
    pub name: String,
    /// How much the task takes.
    pub wanted: f64,
    /// How much is not taken.
    pub free: f64,
    /// How much other runs have taken.
    pub others: f64,
    /// How much the agent has in all.
    pub total: f64,
}

/// Explains where a task of a run stands.
#[must_use]
pub fn explain_task(state: &State, task: TaskIndex) -> Explanation {
    let row = state.task(task);
    let slack = Timing::of_run(state).slack(state.graph().task(task));
    Explanation {
        run: Some(state.run().id.clone()).filter(|run| !run.is_empty()),
        task: state.plan().task_name(task),
        status: row.status,
        attempt: row.attempt,
        failures: row.failures,
        max_attempts: state.plan().settings(task).retry.max_attempts,
        reasons: reasons(state, task),
        rank: state.order().rank(task) + 1,
        tasks: state.plan().task_count(),
        is_critical: slack.is_zero(),
        slack_seconds: slack.as_secs_f64(),
    }
}

fn reasons(state: &State, task: TaskIndex) -> Vec<Reason> {
    let row = state.task(task);
    let failure = || state.failure(task).map(FailureView::from);
    match row.status {
        TaskStatus::Pending => pending(state, task),
        TaskStatus::Ready => ready(state, task),
        TaskStatus::Dispatched => vec![dispatched(state, task)],
        TaskStatus::InProgress => vec![Reason::Runs {
            agent: agent_name(state, row.agent()),
            since: row.since.to_string(),
            progress: f64::from(row.permille) / 1000.0,
            message: state.message(task).map(str::to_owned),
        }],
        TaskStatus::Completed => vec![Reason::Completed { duration_seconds: row.duration.as_secs_f64() }],
        TaskStatus::Failed => vec![Reason::Failed { error: failure() }],
        TaskStatus::Skipped => {
            let cause = row.skipped_because_of();
            vec![Reason::Skipped { cause: cause.map(|cause| task_need(state, cause)) }]
        }
        TaskStatus::Cancelled => vec![Reason::Cancelled],
    }
}

fn dispatched(state: &State, task: TaskIndex) -> Reason {
    let row = state.task(task);
    let agent = agent_name(state, row.agent());
    let holder = row.agent().and_then(|agent| state.agents().get(agent.get()));
    if holder.is_some_and(AgentState::is_pool) {
        Reason::InPool { pool: agent }
    } else if row.is_granted() {
        Reason::Granted { agent }
    } else if state.needs_grant(task) {
        Reason::AwaitsGrant { agent }
    } else {
        Reason::Offered { agent }
    }
}

fn agent_name(state: &State, agent: Option<AgentIndex>) -> Option<String> {
    Some(state.agents().get(agent?.get())?.spec.id.clone())
}

fn pending(state: &State, task: TaskIndex) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(at) = state.retry_at(task) {
        reasons.push(Reason::Retry { at: at.to_string(), error: state.failure(task).map(FailureView::from) });
    }
    let node = state.graph().task(task);
    let waiting = waiting_for(state, node);
    if !waiting.needs.is_empty() {
        reasons.push(Reason::Needs(waiting));
    }
    reasons.extend(milestone_needs(state, task));
    reasons.extend(held(state, task));
    reasons
}

/// What the milestone of a task waits for before it starts.
fn milestone_needs(state: &State, task: TaskIndex) -> Option<Reason> {
    let milestone = state.plan().milestone_of(task);
    let waiting = waiting_for(state, state.graph().start(milestone));
    let is_planned = state.milestone(milestone).status == MilestoneStatus::Planned;
    let milestone = state.plan().milestone(milestone).id.clone();
    (is_planned && !waiting.needs.is_empty()).then_some(Reason::MilestoneNeeds { milestone, waiting })
}

/// What of a node's own needs is not completed; the start of a milestone is no need.
fn waiting_for(state: &State, node: NodeIndex) -> Waiting {
    let mut waiting = Waiting::default();
    for &before in state.graph().predecessors(node) {
        let need = match state.graph().kind(before) {
            NodeKind::Task(task) if !state.lets_go_on(task) => task_need(state, task),
            NodeKind::End(milestone) if state.milestone(milestone).status != MilestoneStatus::Completed => {
                milestone_need(state, milestone)
            }
            NodeKind::Task(_) | NodeKind::Start(_) | NodeKind::End(_) => continue,
        };
        if waiting.needs.len() < MAX_LISTED {
            waiting.needs.push(need);
        } else {
            waiting.omitted += 1;
        }
    }
    waiting
}

fn task_need(state: &State, task: TaskIndex) -> Need {
    let status = state.task(task).status.name();
    Need {
        id: state.plan().task_name(task),
        status: status.into(),
        error: state.failure(task).map(FailureView::from),
    }
}

fn milestone_need(state: &State, milestone: MilestoneIndex) -> Need {
    let status = state.milestone(milestone).status.name();
    Need { id: state.plan().milestone(milestone).id.clone(), status: status.into(), error: None }
}

/// Who holds the task back although it might run.
fn held(state: &State, task: TaskIndex) -> Vec<Reason> {
    let milestone = state.plan().milestone_of(task);
    let run = state.run();
    let mut reasons = Vec::new();
    if run.status == cairn_engine::RunStatus::Paused {
        reasons.push(Reason::RunPaused);
    }
    if run.interrupted {
        reasons.push(Reason::RunInterrupted);
    }
    if state.milestone(milestone).status == MilestoneStatus::Paused {
        reasons.push(Reason::MilestonePaused { milestone: state.plan().milestone(milestone).id.clone() });
    }
    if state.task(task).is_paused() {
        reasons.push(Reason::TaskPaused);
    }
    reasons
}

fn ready(state: &State, task: TaskIndex) -> Vec<Reason> {
    let mut reasons: Vec<_> = milestone_needs(state, task).into_iter().collect();
    reasons.extend(held(state, task));
    let class = &state.order().classes()[state.order().class_of(task)];
    // What members have stands with their pool.
    let live = || state.usage().filter(|(_, agent)| agent.takes_offers());
    let room = |(index, agent): (AgentIndex, &AgentState)| room(agent, state.taken(index), class);
    let rooms = || live().take(MAX_LISTED).map(room).collect();
    let most = state.loan().most_slots.filter(|&most| class.takes_slot && state.slots_out() >= most);
    if live().next().is_none() {
        reasons.push(Reason::NoAgents);
    } else if !could_ever_run(state, task) {
        reasons.push(Reason::NeverFits { asks: class.describe(), agents: rooms() });
    } else if let Some(most_slots) = most {
        reasons.push(Reason::ShareUsed { most_slots });
    } else if !live().any(|agent| has_room(&room(agent))) {
        let goes_first = |&other: &TaskIndex| {
            state.task(other).status == TaskStatus::Ready
                && state.order().rank(other) < state.order().rank(task)
        };
        let ahead = state.plan().tasks().filter(goes_first).count();
        reasons.push(Reason::NoRoom { asks: class.describe(), ahead, agents: rooms() });
    } else if reasons.is_empty() {
        reasons.push(Reason::NextDecision);
    }
    reasons
}

fn has_room(room: &AgentRoom) -> bool {
    let enough = |room: &ResourceRoom| room.free >= room.wanted;
    !room.closed && room.missing_labels.is_empty() && enough(&room.slots) && room.resources.iter().all(enough)
}

fn room(agent: &AgentState, taken: Option<&Taken>, class: &Class) -> AgentRoom {
    let spec = &agent.spec;
    let (name, total, used, others) = if class.takes_slot {
        ("slots", spec.slots, agent.slots_used, taken.map_or(0, |taken| taken.slots))
    } else {
        ("timers", spec.timers, agent.timers_used, taken.map_or(0, |taken| taken.timers))
    };
    let slots = ResourceRoom {
        name: name.to_owned(),
        wanted: 1.0,
        free: f64::from(total.saturating_sub(used).saturating_sub(others)),
        others: f64::from(others),
        total: f64::from(total),
    };
    let resource = |(name, wanted): &(String, u64)| {
        let total = spec.resources.iter().find(|(has, _)| has == name).map_or(0, |(_, total)| *total);
        let others = taken.map_or(0, |taken| taken.of(name));
        ResourceRoom {
            name: name.clone(),
            wanted: amount(*wanted),
            free: amount(agent.free(name).saturating_sub(others)),
            others: amount(others),
            total: amount(total),
        }
    };
    let lacks = class.requires.iter().filter(|label| !spec.labels.contains(label));
    AgentRoom {
        agent: spec.id.clone(),
        slots,
        resources: class.resources.iter().map(resource).collect(),
        missing_labels: lacks.map(|(name, value)| format!("{name}={value}")).collect(),
        closed: taken.is_some_and(|taken| taken.closed),
    }
}

/// Amounts are kept in thousandths.
#[expect(clippy::cast_precision_loss, reason = "what is shown has three decimals")]
fn amount(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}

#[cfg(test)]
mod tests;
