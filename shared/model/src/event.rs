//! What has happened: durable facts, in the past tense.
//!
//! Here they address tasks, milestones and agents by index; the stored form, which names them, is the business
//! of the event store's records. The moment of an event stands beside it, once for all events of a decision.

use crate::command::{AgentSpec, Scope};
use crate::ids::{AgentIndex, MilestoneIndex, NodeIndex, TaskIndex};
use crate::plan::Plan;
use crate::time::Timestamp;
use std::time::Duration;

/// What whoever starts a run may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunOptions {
    /// The first failure ends the run.
    pub fail_fast: bool,
    /// Seed of the jitter of retries, so that a replay waits as long as the run did.
    pub seed: u64,
    /// No agent joins later than those that are there at the first dispatch: what none of them could ever run
    /// fails as unplaceable instead of waiting.
    pub closed_fleet: bool,
}

/// A fact about a run. [`Event::milestone`] tells the stream that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run exists. Its plan was stored before.
    RunSubmitted(Box<RunSubmitted>),
    /// Another owner writes the run's streams from here on; the old one's appends and orders are refused.
    OwnerChanged {
        /// The new owner's epoch, higher than any before.
        epoch: u64,
    },
    /// Whoever watched over the run asked it to stop where it stands, to be continued later.
    RunInterrupted {
        /// Why.
        reason: Box<str>,
    },
    /// Nothing in the scope is dispatched until it is resumed.
    Paused {
        /// What is paused.
        scope: Scope,
        /// Why.
        reason: Box<str>,
    },
    /// The scope goes on.
    Resumed {
        /// What is resumed.
        scope: Scope,
    },
    /// What has not ended in the scope is to end as cancelled.
    CancelRequested {
        /// What is cancelled.
        scope: Scope,
        /// Why.
        reason: Box<str>,
        /// A failure asked for it, not a person.
        fail_fast: bool,
    },
    /// All tasks are completed, or failed where the plan allows it.
    RunCompleted {
        /// How many failed where the plan allows it.
        warnings: u32,
    },
    /// All tasks have ended, not all as they should.
    RunFailed,
    /// The run ended because somebody cancelled it.
    RunCancelled,
    /// The run had ended, and goes on with tasks that are to run again.
    RunReopened,
    /// An agent offers its capacity to the run.
    AgentJoined(Box<AgentSpec>),
    /// An agent that is there, or a pool, has more or less than before. What is out with it stays so.
    AgentChanged(Box<AgentSpec>),
    /// An agent is gone; its attempts will not report any more.
    AgentLost {
        /// Which one.
        agent: AgentIndex,
        /// Why it is taken for gone.
        reason: Box<str>,
    },

    /// All that the milestone needs is completed.
    MilestoneStarted {
        /// Which one.
        milestone: MilestoneIndex,
    },
    /// All its tasks are completed, or failed where the plan allows it.
    MilestoneCompleted {
        /// Which one.
        milestone: MilestoneIndex,
    },
    /// All its tasks have ended, at least one failed.
    MilestoneFailed {
        /// Which one.
        milestone: MilestoneIndex,
    },
    /// All its tasks have ended, none failed, at least one was skipped.
    MilestoneSkipped {
        /// Which one.
        milestone: MilestoneIndex,
    },
    /// All its tasks have ended, none failed, at least one was cancelled.
    MilestoneCancelled {
        /// Which one.
        milestone: MilestoneIndex,
    },
    /// The milestone had ended, and goes on: it, or what it needs, is to run again.
    MilestoneReopened {
        /// Which one.
        milestone: MilestoneIndex,
        /// It was paused when it ended, and is so still. Logs of before this was said tell of none.
        paused: bool,
    },
    /// Something that the milestone needs, and that another scheduler owns, has been decided.
    DependencyResolved {
        /// The milestone that hears of it.
        milestone: MilestoneIndex,
        /// The task, or the end of the milestone, that was needed.
        node: NodeIndex,
        /// Whether it was completed.
        completed: bool,
        /// The position of the event that decided it.
        position: u64,
    },
    /// The task had ended, and is to run again; attempts count on, failures from 0.
    TaskReopened {
        /// Which task.
        task: TaskIndex,
        /// How it had ended.
        ended: Ended,
    },
    /// An attempt is offered to an agent, or laid into a pool.
    TaskDispatched {
        /// Which task.
        task: TaskIndex,
        /// The attempt's number, from 1.
        attempt: u32,
        /// To whom.
        agent: AgentIndex,
    },
    /// The attempt is this agent's and nobody else's: from here on it counts as started if it must not be started
    /// twice.
    TaskGranted {
        /// Which task.
        task: TaskIndex,
        /// Which attempt.
        attempt: u32,
        /// Whose.
        agent: AgentIndex,
        /// The agent waits to hear of it before it starts.
        awaited: bool,
    },
    /// Nobody took the attempt out of its pool in time, as far as is known; another one follows.
    LeaseExpired {
        /// Which task.
        task: TaskIndex,
        /// The attempt that is over.
        attempt: u32,
    },
    /// The attempt runs.
    TaskStarted {
        /// Which task.
        task: TaskIndex,
        /// Which attempt.
        attempt: u32,
        /// When, by the agent's clock.
        started_at: Timestamp,
    },
    /// The attempt told how far it is.
    ProgressUpdated {
        /// Which task.
        task: TaskIndex,
        /// Which attempt.
        attempt: u32,
        /// Thousandths of the work done.
        permille: u16,
        /// What it said.
        message: Option<Box<str>>,
    },
    /// The task is done.
    TaskCompleted {
        /// Which task.
        task: TaskIndex,
        /// Which attempt; 0 for a checkpoint, which has none.
        attempt: u32,
        /// When the attempt ended, by the agent's clock.
        finished_at: Timestamp,
        /// How long it ran.
        duration: Duration,
    },
    /// The task failed for good.
    TaskFailed {
        /// Which task.
        task: TaskIndex,
        /// The last attempt; 0 if there was none.
        attempt: u32,
        /// Why.
        failure: Box<Failure>,
        /// When the attempt ended, by the agent's clock.
        finished_at: Timestamp,
        /// How long it ran.
        duration: Duration,
    },
    /// An attempt failed, was lost or was given back, and another one follows.
    TaskRetryScheduled {
        /// Which task.
        task: TaskIndex,
        /// The attempt that ended.
        attempt: u32,
        /// Why it ended.
        failure: Box<Failure>,
        /// Whether the attempt counts against `max_attempts`.
        counts: bool,
        /// When the next one may be dispatched.
        retry_at: Timestamp,
    },
    /// The wait before another attempt is over.
    RetryDue {
        /// Which task.
        task: TaskIndex,
    },
    /// The attempt ran longer than it may, and its agent did not end it by itself.
    AttemptTimedOut {
        /// Which task.
        task: TaskIndex,
        /// Which attempt.
        attempt: u32,
    },
    /// The task will not run because of what happened to another one.
    TaskSkipped {
        /// Which task.
        task: TaskIndex,
        /// The task that did not complete.
        cause: TaskIndex,
    },
    /// The task ended because somebody cancelled it.
    TaskCancelled {
        /// Which task.
        task: TaskIndex,
        /// The attempt that was stopped; 0 if there was none.
        attempt: u32,
    },
}

impl Event {
    /// The milestone whose stream the event belongs to; `None` for the stream of the run.
    #[must_use]
    pub fn milestone(&self, plan: &Plan) -> Option<MilestoneIndex> {
        match self {
            Self::RunSubmitted(_)
            | Self::OwnerChanged { .. }
            | Self::RunInterrupted { .. }
            | Self::RunCompleted { .. }
            | Self::RunFailed
            | Self::RunCancelled
            | Self::RunReopened
            | Self::AgentJoined(_)
            | Self::AgentChanged(_)
            | Self::AgentLost { .. } => None,
            Self::Paused { scope, .. } | Self::Resumed { scope } | Self::CancelRequested { scope, .. } => {
                match scope {
                    Scope::Run => None,
                    Scope::Milestone(milestone) => Some(*milestone),
                    Scope::Task(task) => Some(plan.milestone_of(*task)),
                }
            }
            Self::MilestoneStarted { milestone }
            | Self::MilestoneCompleted { milestone }
            | Self::MilestoneFailed { milestone }
            | Self::MilestoneSkipped { milestone }
            | Self::MilestoneCancelled { milestone }
            | Self::MilestoneReopened { milestone, .. }
            | Self::DependencyResolved { milestone, .. } => Some(*milestone),
            Self::TaskReopened { task, .. }
            | Self::TaskDispatched { task, .. }
            | Self::TaskGranted { task, .. }
            | Self::LeaseExpired { task, .. }
            | Self::TaskStarted { task, .. }
            | Self::ProgressUpdated { task, .. }
            | Self::TaskCompleted { task, .. }
            | Self::TaskFailed { task, .. }
            | Self::TaskRetryScheduled { task, .. }
            | Self::RetryDue { task }
            | Self::AttemptTimedOut { task, .. }
            | Self::TaskSkipped { task, .. }
            | Self::TaskCancelled { task, .. } => Some(plan.milestone_of(*task)),
        }
    }
}

/// How a task had ended that is to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It was done.
    Completed,
    /// It had failed for good.
    Failed,
    /// It was skipped because of another one.
    Skipped,
    /// Somebody had cancelled it.
    Cancelled,
}

impl Ended {
    /// All of them, with their names in the log.
    pub const NAMES: [(Self, &'static str); 4] = [
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Skipped, "skipped"),
        (Self::Cancelled, "cancelled"),
    ];

    /// The name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// The end of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(ended, _)| *ended)
    }
}

/// What a run starts with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSubmitted {
    /// The run, `PROJECT.N`.
    pub run: String,
    /// SHA-256 of the plan's text, in hexadecimal.
    pub plan_hash: String,
    /// What the plan was called where it came from.
    pub plan_name: String,
    /// The directory that tasks start in, absolute.
    pub plan_directory: String,
    /// Values given for parameters, sorted by name.
    pub parameters: Vec<(String, String)>,
    /// What was chosen.
    pub options: RunOptions,
    /// Tasks of the plan.
    pub tasks: u64,
    /// Milestones of the plan.
    pub milestones: u64,
    /// The key by which a second submission of the same user is known to be this one.
    pub key: Option<String>,
}

/// Why an attempt, or a task, failed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The stable name of the cause.
    pub kind: FailureKind,
    /// What a person reads.
    pub message: String,
    /// The exit code, where the process gave one.
    pub exit_code: Option<i32>,
}

/// The stable names of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum FailureKind {
    /// The process ended with a code other than 0.
    ExitCode,
    /// A signal ended the process.
    Signal,
    /// It ran longer than its time-out.
    Timeout,
    /// The program is not there.
    ProgramNotFound,
    /// The program may not be executed, or is none.
    NotExecutable,
    /// The directory to start in is not there, or closed to us.
    WorkingDirectory,
    /// Arguments and environment are too long for the system.
    ArgumentsTooLong,
    /// The system refused to start the process.
    StartFailed,
    /// Its agent went away while the attempt was out.
    AgentLost,
    /// The attempt was stopped so that the run can be continued later.
    Interrupted,
    /// It may have run, and nobody knows with which result.
    OutcomeUnknown,
    /// No agent could ever run it.
    Unplaceable,
    /// An agent would not take the attempt.
    Declined,
    /// Agent after agent was lost while it had an attempt of the task.
    Poisoned,
}

impl FailureKind {
    /// All of them, with their names in the log and in JSON.
    pub const NAMES: [(Self, &'static str); 14] = [
        (Self::ExitCode, "exit_code"),
        (Self::Signal, "signal"),
        (Self::Timeout, "timeout"),
        (Self::ProgramNotFound, "program_not_found"),
        (Self::NotExecutable, "not_executable"),
        (Self::WorkingDirectory, "working_directory"),
        (Self::ArgumentsTooLong, "arguments_too_long"),
        (Self::StartFailed, "start_failed"),
        (Self::AgentLost, "agent_lost"),
        (Self::Interrupted, "interrupted"),
        (Self::OutcomeUnknown, "outcome_unknown"),
        (Self::Unplaceable, "unplaceable"),
        (Self::Declined, "declined"),
        (Self::Poisoned, "poisoned"),
    ];

    /// The name in the log and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// Whether another attempt could end better. What cannot even be started stays so.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::ExitCode | Self::Signal | Self::Timeout | Self::StartFailed => true,
            Self::AgentLost | Self::Interrupted | Self::Declined => true,
            Self::ProgramNotFound | Self::NotExecutable | Self::WorkingDirectory | Self::ArgumentsTooLong => {
                false
            }
            Self::OutcomeUnknown | Self::Unplaceable | Self::Poisoned => false,
        }
    }
}

const _: () = assert!(size_of::<Event>() <= 48, "decisions hold thousands of events");
