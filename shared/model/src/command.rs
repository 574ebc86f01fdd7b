//! What somebody wishes, and what agents say: the input of a decision.

use crate::event::{FailureKind, RunSubmitted};
use crate::ids::{AgentIndex, MilestoneIndex, NodeIndex, TaskIndex};
use crate::time::Timestamp;

/// What a pause, a resumption or a cancellation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole run.
    Run,
    /// A milestone with all its tasks.
    Milestone(MilestoneIndex),
    /// One task.
    Task(TaskIndex),
}

/// Which way work comes to an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentRole {
    /// It is offered work by name.
    #[default]
    Own,
    /// No agent but a shared queue, which has what its members have together: the first of them that reports an
    /// attempt is bound to it.
    Pool {
        /// How long an offer may lie there before another attempt follows.
        offer_lease_micros: u64,
    },
    /// It takes what is offered to a pool.
    Member {
        /// The id of the pool.
        pool: String,
    },
}

/// What an agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentSpec {
    /// Its name.
    pub id: String,
    /// Rises each time that it starts with no memory of its last life.
    pub incarnation: u64,
    /// Processes at a time.
    pub slots: u32,
    /// Further attempts that it takes while its slots are full, to start them without asking.
    pub backlog: u32,
    /// Timers at a time.
    pub timers: u32,
    /// Resources in thousandths, sorted by name.
    pub resources: Vec<(String, u64)>,
    /// Labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// Which way work comes to it.
    #[serde(default)]
    pub role: AgentRole,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Completed,
    /// Not as it should.
    Failed {
        /// Why.
        kind: FailureKind,
        /// What a person reads.
        message: Box<str>,
        /// The exit code, where the process gave one.
        exit_code: Option<i32>,
    },
    /// The coordinator asked the agent to stop it while it ran.
    Stopped,
    /// It was given back, or stopped, before anything ran.
    NotStarted,
    /// It was ended, or is gone, without a result and by no wish of the coordinator's.
    Lost {
        /// What a person reads.
        reason: Box<str>,
    },
}

/// What an agent says about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which task.
    pub task: TaskIndex,
    /// Which attempt: the fencing token.
    pub attempt: u32,
    /// Who says it.
    pub agent: AgentIndex,
    /// What it says.
    pub kind: ReportKind,
}

/// What can be said about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// The agent has it in its journal: it will run, or its end will be told.
    Accepted {
        /// It starts only on a grant.
        awaits_grant: bool,
    },
    /// The agent will not run it, and has not.
    Declined {
        /// Why.
        reason: Box<str>,
    },
    /// It runs.
    Started {
        /// Since when, by the agent's clock.
        at: Timestamp,
    },
    /// It is on its way.
    Progress {
        /// Thousandths of the work done.
        permille: u16,
        /// What it said.
        message: Option<Box<str>>,
    },
    /// It has ended.
    Finished {
        /// How.
        outcome: Outcome,
        /// When it began, by the agent's clock.
        started_at: Timestamp,
        /// When it ended, by the agent's clock.
        finished_at: Timestamp,
    },
}

/// A wish; the engine answers with events or a rejection.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Start the run.
    Submit(Box<RunSubmitted>),
    /// Continue the run under a new owner. The agents of a closed fleet lived with the owner before and are lost
    /// with it; those of an open one are asked what they have.
    TakeOver {
        /// The new owner's epoch.
        epoch: u64,
    },
    /// An agent offers its capacity.
    AgentJoined(Box<AgentSpec>),
    /// An agent that is there, or a pool, has more or less than before; id and incarnation say which.
    AgentChanged(Box<AgentSpec>),
    /// An agent was ended as planned and holds nothing: what of it never arrived there, or was not told, ends as no loss.
    AgentLeft {
        /// Which one.
        agent: AgentIndex,
        /// How it ended.
        reason: Box<str>,
    },
    /// An agent will not report any more.
    AgentLost {
        /// Which one.
        agent: AgentIndex,
        /// Why it is taken for gone.
        reason: Box<str>,
    },
    /// Agents speak, each entry for itself.
    Reports(Vec<Report>),
    /// Dispatch nothing in the scope.
    Pause {
        /// What.
        scope: Scope,
        /// Why.
        reason: Box<str>,
    },
    /// Dispatch again.
    Resume {
        /// What.
        scope: Scope,
    },
    /// End what has not ended in the scope.
    Cancel {
        /// What.
        scope: Scope,
        /// Why.
        reason: Box<str>,
    },
    /// Run again what has ended. Of the run: what failed or was cancelled; of a milestone or a task: also what is
    /// completed. What was skipped because of it follows.
    Retry {
        /// What.
        scope: Scope,
        /// And all that needs it, however it ended.
        downstream: bool,
    },
    /// Stop where it stands, to be continued later.
    Interrupt {
        /// Why.
        reason: Box<str>,
    },
    /// Something that another scheduler owns has been decided.
    ResolveDependency {
        /// The task, or the end of the milestone, that was decided.
        node: NodeIndex,
        /// Whether it was completed.
        completed: bool,
        /// The position of the event that decided it.
        position: u64,
    },
    /// Time has passed, or there is work left over from the last decision.
    Tick,
}
