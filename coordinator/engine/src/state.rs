//! The state of a run: what a fold over its events gives.

use crate::agenda::Agenda;
use crate::alarm::Alarms;
use crate::order::{ClassIndex, Order};
use crate::ready::ReadySet;
use cairn_model::{
    AgentIndex, AgentSpec, Failure, Graph, MilestoneIndex, NodeIndex, Plan, RunOptions, TaskIndex, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

macro_rules! statuses {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { #[default] $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of a life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in JSON and on the screen.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

statuses! {
    /// Where a task stands.
    TaskStatus {
        /// Waits for what it needs, or for the time of its next attempt.
        Pending = "pending",
        /// Could run, were there room.
        Ready = "ready",
        /// Offered to an agent.
        Dispatched = "dispatched",
        /// Runs.
        InProgress = "in_progress",
        /// Done.
        Completed = "completed",
        /// Failed for good.
        Failed = "failed",
        /// Will not run because of another task.
        Skipped = "skipped",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

statuses! {
    /// Where a milestone stands.
    MilestoneStatus {
        /// Waits for what it needs.
        Planned = "planned",
        /// Its tasks may run.
        Active = "active",
        /// Nothing of it is dispatched until it is resumed.
        Paused = "paused",
        /// Done.
        Completed = "completed",
        /// A task of it failed.
        Failed = "failed",
        /// It was skipped, at least in part.
        Skipped = "skipped",
        /// It was cancelled, at least in part.
        Cancelled = "cancelled",
    }
}

statuses! {
    /// Where a run stands.
    RunStatus {
        /// Not submitted.
        Absent = "absent",
        /// Under way.
        Active = "active",
        /// Nothing is dispatched until it is resumed.
        Paused = "paused",
        /// Done.
        Completed = "completed",
        /// A task failed.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

impl TaskStatus {
    /// Whether nothing can happen to the task any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled)
    }

    /// Whether an attempt is with an agent.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Dispatched | Self::InProgress)
    }
}

impl RunStatus {
    /// Whether nothing can happen to the run any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// Nothing of the task is dispatched until it is resumed.
pub(crate) const PAUSED: u8 = 1;
/// The task stands on the agenda to be skipped.
pub(crate) const DOOMED: u8 = 2;
/// Somebody asked for the task's end.
pub(crate) const CANCELLING: u8 = 4;
/// The attempt ran out of time and was asked to stop.
pub(crate) const TIMED_OUT: u8 = 8;

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
        (self.attempt > 0 && self.status != TaskStatus::Skipped).then_some(AgentIndex(self.link))
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
    /// What is free of each resource, in the order of the spec, in thousandths.
    pub free: Vec<u64>,
    /// For each class of the plan whether the agent could ever run it.
    pub(crate) fits: Vec<bool>,
}

/// A run: plan, graph and order, which never change, and what a fold over the events gives.
///
/// Equality compares the latter only.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) order: Arc<Order>,
    pub(crate) facts: Facts,
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
            timeouts: BTreeSet::new(),
            failures: BTreeMap::new(),
            messages: BTreeMap::new(),
            resolved: BTreeSet::new(),
            counts: [0; 8],
            last_at: Timestamp::default(),
        };
        Self { plan, graph, order, facts }
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

    pub(crate) fn ready_first(&self, class: ClassIndex) -> Option<TaskIndex> {
        self.facts.ready[class].first().map(|place| self.order.task_at(class, place))
    }
}
