//! What happens to a run, by names: one form for the events of this process and for those that a coordinator tells.

use super::sign;
use crate::style::{self, Mark, Style, count};
use cairn_agent::runner::harmless;
use cairn_coordinator::http::model::EventBody;
use cairn_engine::{MilestoneStatus, RunStatus, State, TaskStatus};
use cairn_model::{Event, TaskIndex, Timestamp};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// What somebody wished of a run, or a part of it, that is to end.
pub const TO_BE_CANCELLED: &str = "to be cancelled";

/// What a person is told of an event. Of most types nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The run was submitted.
    Submitted { run: String, tasks: u64, milestones: u64 },
    /// A milestone started or ended.
    Milestone { id: String, status: MilestoneStatus },
    /// A task was given to an agent.
    Dispatched { task: String, attempt: u32 },
    /// A task started.
    Started { task: String, attempt: u32, since: Timestamp },
    /// A task told how far it is.
    Progress { task: String, permille: u16, message: Option<Box<str>> },
    /// A task ended well.
    Completed { task: String, attempt: u32, took: Duration },
    /// A task failed for good.
    Failed { task: String, attempt: u32, message: String, took: Duration },
    /// An attempt ended, and there is to be another.
    Retried { task: String, attempt: u32, message: String, counts: bool, retry_at: Timestamp },
    /// A task will not run because of another.
    Skipped { task: String, cause: String },
    /// A task was cancelled.
    Cancelled { task: String, attempt: u32 },
    /// Somebody paused, resumed or cancelled the run or a part of it.
    Steered { what: &'static str, part: Option<String>, reason: String },
    /// A task that had ended is to run again.
    Reopened { task: String, ended: String },
    /// Nobody took an attempt in time, and there is to be another.
    Expired { task: String, attempt: u32 },
    /// An agent of the run is gone.
    AgentLost { agent: String, reason: String },
    /// The local run is being stopped.
    Interrupted { reason: String },
}

impl Change {
    /// Of an event of this process.
    pub fn of_event(event: &Event, state: &State) -> Option<Self> {
        let plan = state.plan();
        let name = |task: &TaskIndex| plan.task_name(*task);
        let milestone =
            |index, status| Some(Self::Milestone { id: plan.milestone(index).id.clone(), status });
        Some(match event {
            Event::RunSubmitted(submitted) => Self::Submitted {
                run: submitted.run.clone(),
                tasks: submitted.tasks,
                milestones: submitted.milestones,
            },
            Event::MilestoneStarted { milestone: index } => {
                return milestone(*index, MilestoneStatus::Active);
            }
            Event::MilestoneCompleted { milestone: index } => {
                return milestone(*index, MilestoneStatus::Completed);
            }
            Event::MilestoneFailed { milestone: index } => return milestone(*index, MilestoneStatus::Failed),
            Event::MilestoneSkipped { milestone: index } => {
                return milestone(*index, MilestoneStatus::Skipped);
            }
            Event::MilestoneCancelled { milestone: index } => {
                return milestone(*index, MilestoneStatus::Cancelled);
            }
            Event::TaskStarted { task, attempt, started_at } => {
                Self::Started { task: name(task), attempt: *attempt, since: *started_at }
            }
            Event::TaskCompleted { task, attempt, duration, .. } => {
                Self::Completed { task: name(task), attempt: *attempt, took: *duration }
            }
            Event::TaskFailed { task, attempt, failure, duration, .. } => Self::Failed {
                task: name(task),
                attempt: *attempt,
                message: failure.message.to_string(),
                took: *duration,
            },
            Event::TaskRetryScheduled { task, attempt, failure, counts, retry_at } => Self::Retried {
                task: name(task),
                attempt: *attempt,
                message: failure.message.to_string(),
                counts: *counts,
                retry_at: *retry_at,
            },
            Event::TaskSkipped { task, cause } => Self::Skipped { task: name(task), cause: name(cause) },
            Event::TaskCancelled { task, attempt } => Self::Cancelled { task: name(task), attempt: *attempt },
            Event::RunInterrupted { reason } => Self::Interrupted { reason: reason.to_string() },
            _ => return None,
        })
    }

    /// Of an event that a coordinator tells. One that lacks what it should have is passed over.
    pub fn of_stored(event: &EventBody) -> Option<Self> {
        let text = |name: &str| event.event_data.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| event.event_data.get(name).and_then(Value::as_u64).unwrap_or(0);
        let attempt = || u32::try_from(number("attempt")).unwrap_or(u32::MAX);
        let time = |name: &str| text(name).and_then(|text| Timestamp::parse(&text));
        let took = || {
            let seconds = event.event_data.get("duration_seconds").and_then(Value::as_f64).unwrap_or(0.0);
            Duration::try_from_secs_f64(seconds).unwrap_or_default()
        };
        let milestone = |status| Some(Self::Milestone { id: text("milestone")?, status });
        let steered = |what| {
            let part = text("task").or_else(|| text("milestone"));
            Self::Steered { what, part, reason: text("reason").unwrap_or_default() }
        };
        Some(match event.event_type.as_str() {
            "RunSubmitted" => Self::Submitted {
                run: text("run")?,
                tasks: number("tasks"),
                milestones: number("milestones"),
            },
            "MilestoneStarted" => return milestone(MilestoneStatus::Active),
            "MilestoneCompleted" => return milestone(MilestoneStatus::Completed),
            "MilestoneFailed" => return milestone(MilestoneStatus::Failed),
            "MilestoneSkipped" => return milestone(MilestoneStatus::Skipped),
            "MilestoneCancelled" => return milestone(MilestoneStatus::Cancelled),
            "TaskDispatched" => Self::Dispatched { task: text("task")?, attempt: attempt() },
            "TaskStarted" => {
                Self::Started { task: text("task")?, attempt: attempt(), since: time("started_at")? }
            }
            "ProgressUpdated" => Self::Progress {
                task: text("task")?,
                permille: u16::try_from(number("permille")).unwrap_or(1000).min(1000),
                message: text("message").map(Into::into),
            },
            "TaskCompleted" => Self::Completed { task: text("task")?, attempt: attempt(), took: took() },
            "TaskFailed" => Self::Failed {
                task: text("task")?,
                attempt: attempt(),
                message: text("message").unwrap_or_default(),
                took: took(),
            },
            "TaskRetryScheduled" => Self::Retried {
                task: text("task")?,
                attempt: attempt(),
                message: text("message").unwrap_or_default(),
                counts: event.event_data.get("counts").and_then(Value::as_bool).unwrap_or(true),
                retry_at: time("retry_at")?,
            },
            "TaskSkipped" => Self::Skipped { task: text("task")?, cause: text("cause").unwrap_or_default() },
            "TaskCancelled" => Self::Cancelled { task: text("task")?, attempt: attempt() },
            "TaskReopened" => {
                Self::Reopened { task: text("task")?, ended: text("ended").unwrap_or_default() }
            }
            "LeaseExpired" => Self::Expired { task: text("task")?, attempt: attempt() },
            "AgentLost" => {
                Self::AgentLost { agent: text("agent")?, reason: text("reason").unwrap_or_default() }
            }
            "RunPaused" | "MilestonePaused" | "TaskPaused" => steered("paused"),
            "RunResumed" | "MilestoneResumed" | "TaskResumed" => steered("resumed"),
            "RunCancelRequested" | "MilestoneCancelRequested" | "TaskCancelRequested" => {
                steered(TO_BE_CANCELLED)
            }
            "RunInterrupted" => Self::Interrupted { reason: text("reason").unwrap_or_default() },
            _ => return None,
        })
    }

    fn mark(&self) -> Option<Mark> {
        Some(match self {
            Self::Submitted { .. } => RunStatus::Active.into(),
            Self::Milestone { status, .. } => (*status).into(),
            Self::Started { .. } => TaskStatus::InProgress.into(),
            Self::Completed { .. } => TaskStatus::Completed.into(),
            Self::Failed { .. } => TaskStatus::Failed.into(),
            Self::Retried { .. } | Self::Reopened { .. } | Self::Expired { .. } => TaskStatus::Pending.into(),
            Self::AgentLost { .. } => TaskStatus::Failed.into(),
            Self::Skipped { .. } => TaskStatus::Skipped.into(),
            Self::Cancelled { .. } => TaskStatus::Cancelled.into(),
            Self::Interrupted { .. } | Self::Steered { what: "paused", .. } => RunStatus::Paused.into(),
            Self::Steered { what: "resumed", .. } => RunStatus::Active.into(),
            Self::Steered { .. } => RunStatus::Cancelled.into(),
            Self::Dispatched { .. } | Self::Progress { .. } => return None,
        })
    }

    /// Adds the line that tells it, if it is worth one.
    pub fn write_line(&self, out: &mut String, at: Timestamp, style: &Style) {
        let Some(mark) = self.mark() else { return };
        push_time(out, at);
        let _ = write!(out, " {} ", sign(style, mark));
        self.describe(out, at);
        out.push('\n');
    }

    fn describe(&self, out: &mut String, at: Timestamp) {
        let _ = match self {
            Self::Submitted { run, tasks, milestones } => {
                let tasks = count(*tasks, "task", "tasks");
                let milestones = count(*milestones, "milestone", "milestones");
                write!(out, "{run} submitted: {tasks} in {milestones}")
            }
            Self::Milestone { id, status: MilestoneStatus::Active } => write!(out, "milestone {id} started"),
            Self::Milestone { id, status } => write!(out, "milestone {id} {}", status.name()),
            Self::Started { task, attempt, .. } => write!(out, "{task}{} started", Nth(*attempt)),
            Self::Completed { task, attempt: 0, .. } => write!(out, "{task} completed"),
            Self::Completed { task, attempt, took } => {
                write!(out, "{task}{} completed in {}", Nth(*attempt), style::duration(*took))
            }
            Self::Failed { task, attempt, message, took } => {
                let (took, message) = (style::duration(*took), one_line(message));
                write!(out, "{task}{} failed after {took}: {message}", Nth(*attempt))
            }
            Self::Retried { task, attempt, message, retry_at, .. } => {
                let (wait, message) = (retry_at.since(at), one_line(message));
                match wait.is_zero() {
                    true => write!(out, "{task}{} is to be tried again: {message}", Nth(*attempt)),
                    false => {
                        let wait = style::duration(wait);
                        write!(out, "{task}{} is tried again in {wait}: {message}", Nth(*attempt))
                    }
                }
            }
            Self::Skipped { task, cause } => write!(out, "{task} skipped: {cause} did not complete"),
            Self::Cancelled { task, attempt } => write!(out, "{task}{} cancelled", Nth(*attempt)),
            Self::Steered { what, part, reason } => {
                let part = part.as_deref().unwrap_or("the run");
                let reason =
                    if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
                write!(out, "{part} is {what}{reason}")
            }
            Self::Reopened { task, ended } => write!(out, "{task} was {ended}, and is run again"),
            Self::Expired { task, attempt } => {
                write!(out, "{task}{} is offered again: nobody has taken it", Nth(*attempt))
            }
            Self::AgentLost { agent, reason } => write!(out, "agent {agent} is lost: {reason}"),
            Self::Interrupted { reason } => {
                write!(out, "{reason}: stopping what runs; once more kills it")
            }
            Self::Dispatched { .. } | Self::Progress { .. } => Ok(()),
        };
    }
}

/// What a task or a person says cannot steer the terminal.
fn one_line(text: &str) -> String {
    harmless(text.as_bytes()).replace(['\n', '\t'], " ")
}

/// Which attempt, if it is not the first.
struct Nth(u32);

impl std::fmt::Display for Nth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 > 1 { write!(f, " (attempt {})", self.0) } else { Ok(()) }
    }
}

/// The second of the day, UTC: `12:00:01Z`.
fn push_time(text: &mut String, at: Timestamp) {
    let mut full = String::with_capacity(27);
    at.write_to(&mut full);
    text.push_str(full.get(11..19).unwrap_or_default());
    text.push('Z');
}
