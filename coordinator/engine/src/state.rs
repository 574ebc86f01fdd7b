//! The state of a run: what a fold over its events gives.

use crate::agenda::Agenda;
use crate::alarm::Alarms;
use crate::loan::Loan;
use crate::order::{ClassIndex, Order};
use crate::ready::ReadySet;
use crate::status::{MilestoneStatus, RunStatus, TaskStatus};
use cairn_model::{
    AgentIndex, AgentRole, AgentSpec, Failure, Graph, MilestoneIndex, NodeIndex, Plan, RunOptions, TaskIndex,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Nothing of the task is dispatched until it is resumed.
pub(crate) const PAUSED: u8 = 1;
/// The task stands on the agenda to be skipped.
pub(crate) const DOOMED: u8 = 2;
/// Somebody asked for the task's end.
pub(crate) const CANCELLING: u8 = 4;
/// The attempt ran out of time and was asked to stop.
pub(crate) const TIMED_OUT: u8 = 8;
/// The attempt is bound to its agent.
pub(crate) const GRANTED: u8 = 16;

/// In place of an agent: there is none.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Where a task stands: 40 bytes, a million of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskState {
    /// Where it stands.
    pub status: TaskStatus,
    pub(crate) flags: u8,
    /// Thousandths of the work done, as the attempt told.
    pub permille: u16,
    /// Number of the newest attempt; 0 if there was none.
    pub attempt: u32,
    /// Failed attempts that count against `max_attempts`.
    pub failures: u32,
    /// The agent of the newest attempt; of a skipped task, the cause.
    pub(crate) link: u32,
    /// When it came to the status that it has; of one that ran, when the attempt started.
    pub since: Timestamp,
    /// How long the last attempt ran.
    pub duration: Duration,
}

const _: () = assert!(size_of::<TaskState>() <= 40, "a million of them");

impl TaskState {
    /// The agent of the newest attempt.
    #[must_use]
    pub fn agent(&self) -> Option<AgentIndex> {
        let is_agent = self.attempt > 0 && self.status != TaskStatus::Skipped && self.link != NOBODY;
        is_agent.then_some(AgentIndex(self.link))
    }

    /// Why the task was skipped.
    #[must_use]
    pub fn skipped_because_of(&self) -> Option<TaskIndex> {
        (self.status == TaskStatus::Skipped).then_some(TaskIndex(self.link))
    }

    /// Whether somebody paused this very task.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.flags & PAUSED != 0
    }

    /// Whether the newest attempt is bound to its agent, durably.
    #[must_use]
    pub const fn is_granted(&self) -> bool {
        self.flags & GRANTED != 0
    }

    /// Whether somebody asked for the end of this task, and it has not ended yet.
    #[must_use]
    pub const fn is_cancelling(&self) -> bool {
        self.flags & CANCELLING != 0
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Where a milestone stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MilestoneState {
    /// Where it stands.
    pub status: MilestoneStatus,
    /// Tasks that have not ended.
    pub open: u32,
    /// Tasks that are completed.
    pub completed: u32,
    /// Tasks that failed, those whose failure the plan allows not counted.
    pub failed: u32,
    /// Tasks whose failure the plan allows.
    pub warnings: u32,
    /// Tasks that were skipped.
    pub skipped: u32,
    /// Tasks that were cancelled.
    pub cancelled: u32,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Paused by itself, besides the run.
    pub(crate) paused: bool,
    /// Its needs will never be completed.
    pub(crate) doomed: bool,
}

/// Where the run as a whole stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunState {
    /// The run, `PROJECT.N`.
    pub id: String,
    /// Where it stands.
    pub status: RunStatus,
    /// The epoch of the owner; orders carry it.
    pub epoch: u64,
    /// What was chosen at the start.
    pub options: RunOptions,
    /// It was asked to stop where it stands.
    pub interrupted: bool,
    /// Somebody asked for its end.
    pub cancelling: bool,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When its first task was dispatched or done.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    pub(crate) failing_fast: bool,
    pub(crate) open_milestones: u32,
    /// Moving mean of how long processes ran lately, in microseconds; 0 before the first has ended.
    pub(crate) mean_process_micros: u64,
}

/// An agent as the run knows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentState {
    /// What it has.
    pub spec: AgentSpec,
    /// Whether it is gone.
    pub lost: bool,
    /// Attempts out that take a slot, those waiting there included.
    pub slots_used: u32,
    /// Timers out.
    pub timers_used: u32,
    /// What is taken of each resource, in the order of the spec, in thousandths; more than there is, where the agent
    /// has less than before.
    pub used: Vec<u64>,
    /// For each class of the plan whether the agent could ever run it.
    pub(crate) fits: Vec<bool>,
}

impl AgentState {
    /// Whether it is a pool.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        matches!(self.spec.role, AgentRole::Pool { .. })
    }

    /// Whether work is offered to it, and not only to the pool that it belongs to.
    #[must_use]
    pub fn takes_offers(&self) -> bool {
        !matches!(self.spec.role, AgentRole::Member { .. })
    }

    /// Whether it belongs to the pool of that id.
    #[must_use]
    pub fn is_member_of(&self, pool: &str) -> bool {
        matches!(&self.spec.role, AgentRole::Member { pool: of } if of == pool)
    }

    /// What is taken of each resource by name, in thousandths.
    pub fn resources_used(&self) -> impl Iterator<Item = (&str, u64)> {
        self.spec.resources.iter().zip(&self.used).map(|((name, _), used)| (name.as_str(), *used))
    }

    /// What is free of a resource, in thousandths.
    #[must_use]
    pub fn free(&self, name: &str) -> u64 {
        let at = self.spec.resources.iter().position(|(has, _)| has == name);
        at.map_or(0, |at| self.spec.resources[at].1.saturating_sub(self.used[at]))
    }
}

/// What has gone wrong with a task's attempts without being its failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Trouble {
    /// Agents that were lost with an attempt, or lost one.
    pub lost_with: Vec<AgentIndex>,
    /// How often an attempt was declined.
    pub declines: u32,
    /// By whom last.
    pub declined_by: Option<AgentIndex>,
}

/// A run: plan, graph and order, which never change, what a fold over the events gives, and what the run may use of
/// agents that it shares with others.
///
/// Equality compares what the fold gives, and nothing else.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) order: Arc<Order>,
    pub(crate) facts: Facts,
    pub(crate) loan: Loan,
}

/// What a fold over the events gives.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Facts {
    pub run: RunState,
    pub tasks: Vec<TaskState>,
    /// For each node, what it still waits for; of a barrier that will never be reached, `u32::MAX`.
    pub waiting: Vec<u32>,
    pub milestones: Vec<MilestoneState>,
    /// Which milestones are scheduled here.
    pub owned: Vec<bool>,
    pub agents: Vec<AgentState>,
    /// For each class, the places of its tasks that could run now.
    pub ready: Vec<ReadySet>,
    pub agenda: VecDeque<Agenda>,
    pub retries: Alarms,
    /// Offers that lie in a pool, and when they have lain there too long.
    pub leases: Alarms,
    /// Attempts that were taken out of a pool, and which: they are on its books.
    pub pooled: BTreeMap<TaskIndex, AgentIndex>,
    pub troubles: BTreeMap<TaskIndex, Trouble>,
    pub timeouts: BTreeSet<(Timestamp, TaskIndex)>,
    pub failures: BTreeMap<TaskIndex, Failure>,
    pub messages: BTreeMap<TaskIndex, Box<str>>,
    pub resolved: BTreeSet<(MilestoneIndex, NodeIndex)>,
    /// How many tasks are in each status, in the order of [`TaskStatus::ALL`].
    pub counts: [u32; 8],
    pub last_at: Timestamp,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl State {
    /// A run of `plan` of which nothing has happened, all milestones scheduled here.
    #[must_use]
    pub fn new(plan: Arc<Plan>, graph: Arc<Graph>) -> Self {
        let order = Arc::new(Order::new(&plan, &graph));
        let all = vec![true; plan.milestones().len()];
        Self::with_order(plan, graph, order, all)
    }

    /// A run of which only some milestones are scheduled here: `owned[m]` for milestone `m`.
    #[must_use]
    pub fn with_order(plan: Arc<Plan>, graph: Arc<Graph>, order: Arc<Order>, owned: Vec<bool>) -> Self {
        let ready = (0..order.classes().len()).map(|class| ReadySet::new(order.class_size(class))).collect();
        let facts = Facts {
            run: RunState::default(),
            tasks: vec![TaskState::default(); plan.task_count()],
            waiting: vec![0; graph.node_count()],
            milestones: vec![MilestoneState::default(); plan.milestones().len()],
            owned,
            agents: Vec::new(),
            ready,
            agenda: VecDeque::new(),
            retries: Alarms::default(),
            leases: Alarms::default(),
            pooled: BTreeMap::new(),
            troubles: BTreeMap::new(),
            timeouts: BTreeSet::new(),
            failures: BTreeMap::new(),
            messages: BTreeMap::new(),
            resolved: BTreeSet::new(),
            counts: [0; 8],
            last_at: Timestamp::default(),
        };
        Self { plan, graph, order, facts, loan: Loan::default() }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The plan's graph.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Classes and order of the plan's tasks.
    #[must_use]
    pub fn order(&self) -> &Arc<Order> {
        &self.order
    }

    /// The run as a whole.
    #[must_use]
    pub fn run(&self) -> &RunState {
        &self.facts.run
    }

    /// A task.
    #[must_use]
    pub fn task(&self, task: TaskIndex) -> &TaskState {
        &self.facts.tasks[task.get()]
    }

    /// A milestone.
    #[must_use]
    pub fn milestone(&self, milestone: MilestoneIndex) -> &MilestoneState {
        &self.facts.milestones[milestone.get()]
    }

    /// All agents that the run has known.
    #[must_use]
    pub fn agents(&self) -> &[AgentState] {
        &self.facts.agents
    }

    /// The agent of that name that is not lost.
    #[must_use]
    pub fn find_agent(&self, id: &str) -> Option<AgentIndex> {
        let found = self.facts.agents.iter().rposition(|agent| agent.spec.id == id && !agent.lost);
        found.map(AgentIndex::new)
    }

    /// Why the newest attempt of a task failed.
    #[must_use]
    pub fn failure(&self, task: TaskIndex) -> Option<&Failure> {
        self.facts.failures.get(&task)
    }

    /// What the attempt said last about its progress.
    #[must_use]
    pub fn message(&self, task: TaskIndex) -> Option<&str> {
        self.facts.messages.get(&task).map(AsRef::as_ref)
    }

    /// When the next attempt of a task that waits for one may be dispatched.
    #[must_use]
    pub fn retry_at(&self, task: TaskIndex) -> Option<Timestamp> {
        self.facts.retries.of(task)
    }

    /// How often attempts of a task that has not ended were declined.
    pub(crate) fn declines(&self, task: TaskIndex) -> u32 {
        self.facts.troubles.get(&task).map_or(0, |trouble| trouble.declines)
    }

    /// Whether a task must not be started twice and may have been started, as far as anybody can know. In a closed
    /// fleet an offer is as good as a grant: none is lost.
    #[must_use]
    pub fn may_have_started(&self, task: TaskIndex) -> bool {
        let row = self.task(task);
        self.facts.run.options.closed_fleet || row.status == TaskStatus::InProgress || row.is_granted()
    }

    /// Whether an agent starts the task only on a grant.
    #[must_use]
    pub fn needs_grant(&self, task: TaskIndex) -> bool {
        self.plan.settings(task).at_most_once && !self.facts.run.options.closed_fleet
    }

    /// What a task still waits for.
    #[must_use]
    pub fn waits_for(&self, node: NodeIndex) -> u32 {
        self.facts.waiting[node.get()]
    }

    /// How many tasks of the milestones scheduled here are in each status, in the order of [`TaskStatus::ALL`].
    #[must_use]
    pub fn counts(&self) -> &[u32; 8] {
        &self.facts.counts
    }

    /// How many tasks are in that status.
    #[must_use]
    pub fn count(&self, status: TaskStatus) -> u32 {
        self.facts.counts[status as usize]
    }

    /// How many attempts are with agents.
    #[must_use]
    pub fn attempts_out(&self) -> u32 {
        self.count(TaskStatus::Dispatched) + self.count(TaskStatus::InProgress)
    }

    /// The moment of the last event.
    #[must_use]
    pub fn last_event_at(&self) -> Timestamp {
        self.facts.last_at
    }

    /// Whether the task could be dispatched, were there room.
    #[must_use]
    pub fn is_dispatchable(&self, task: TaskIndex) -> bool {
        let class = self.order.class_of(task);
        !self.held() && self.facts.ready[class].contains(self.order.place(task))
    }

    /// Whether nothing of the whole run is dispatched now.
    #[must_use]
    pub fn held(&self) -> bool {
        self.facts.run.status != RunStatus::Active || self.facts.run.interrupted
    }

    /// Whether the scheduler here owns the task.
    #[must_use]
    pub fn owns(&self, milestone: MilestoneIndex) -> bool {
        self.facts.owned[milestone.get()]
    }

    /// Whether what needs the task may run, as far as this task is concerned.
    #[must_use]
    pub fn lets_go_on(&self, task: TaskIndex) -> bool {
        match self.task(task).status {
            TaskStatus::Completed => true,
            TaskStatus::Failed => self.plan.settings(task).continue_on_error,
            _ => false,
        }
    }

    pub(crate) fn ready_first(&self, class: ClassIndex) -> Option<TaskIndex> {
        self.facts.ready[class].first().map(|place| self.order.task_at(class, place))
    }
}
