//! Bodies of requests and answers, as they stand in the OpenAPI document. The server writes them and the command line
//! reads them, so both sides have one definition.
//!
//! Times are RFC 3339 in UTC, durations are seconds as numbers. What is not known is `null`. A reader must pass over
//! fields that it does not know.
//!
//! Not here: routes, rules.

mod insight;
mod problem;
mod tokens;

pub use insight::{CriticalPathBody, DemandBody, ExplanationBody, LevelBody, OverviewBody, PathStep};
pub use problem::{DiagnosticBody, NoteBody, ProblemBody};
pub use tokens::{TokenCreated, TokenInfo, TokenList, TokenRequest};

use cairn_engine::{MilestoneStatus, RunStatus, TaskStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A run that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"run": "apollo.3", "project": "apollo", "is_new": true}))]
pub struct SubmittedBody {
    /// The run, `PROJECT.N`.
    pub run: String,
    /// The project that the plan names.
    pub project: String,
    /// `false` if this very submission (by its `Idempotency-Key`) had been made before.
    pub is_new: bool,
}

/// A page of runs, in the order of their submission.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<RunRow>,
    /// The `cursor` of the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunRow {
    /// The run, `PROJECT.N`.
    #[schema(example = "apollo.3")]
    pub run: String,
    /// Its project.
    pub project: String,
    /// Where it stands: `active`, `paused`, `completed`, `failed` or `cancelled`.
    #[schema(value_type = String, example = "active")]
    pub status: RunStatus,
    /// It was stopped, to be continued later.
    pub interrupted: bool,
    /// Somebody asked for its end, which has not come yet.
    #[serde(default)]
    pub cancelling: bool,
    /// The share of its tasks that is done, from 0 to 1.
    pub progress: f64,
    /// Tasks of its plan.
    pub tasks_total: u64,
    /// Tasks that are completed.
    pub tasks_completed: u64,
    /// Tasks that failed.
    pub tasks_failed: u64,
    /// Tasks that were skipped.
    pub tasks_skipped: u64,
    /// Tasks that were cancelled.
    pub tasks_cancelled: u64,
    /// Milestones of its plan.
    pub milestones_total: u64,
    /// When it was submitted.
    pub submitted_at: String,
    /// When its first task was dispatched or done.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// From its submission to its end.
    pub duration_seconds: Option<f64>,
    /// What the plan was called where it came from.
    pub plan: String,
}

/// The status of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusBody {
    /// The version of this form.
    #[schema(example = 1)]
    pub schema: u32,
    /// The run, `PROJECT.N`.
    #[schema(example = "apollo.3")]
    pub run: String,
    /// Its project.
    pub project: String,
    /// Where it stands: `active`, `paused`, `completed`, `failed` or `cancelled`.
    #[schema(value_type = String, example = "active")]
    pub status: RunStatus,
    /// Somebody asked for its end, which has not come yet.
    #[serde(default)]
    pub cancelling: bool,
    /// The share of its tasks that is done, from 0 to 1.
    pub progress: f64,
    /// Its complexity score and what that says.
    pub scale: Option<Value>,
    /// How it is coordinated: `direct`, `hierarchical` or `distributed`.
    pub pattern: String,
    /// What keeps its events: `file`, `sqlite` or `postgres`.
    pub storage: String,
    /// When it was submitted.
    pub submitted_at: String,
    /// When its first task was dispatched or done.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How many tasks are in each status.
    #[schema(example = json!({"pending": 3, "ready": 1, "dispatched": 0, "in_progress": 2, "completed": 4, "failed": 0,
        "skipped": 0, "cancelled": 0}))]
    pub counts: BTreeMap<String, u64>,
    /// Its milestones.
    pub milestones: Vec<MilestoneRow>,
    /// Its tasks; left out with `?tasks=false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<TaskRow>>,
    /// When it will probably end.
    pub forecast: Option<Value>,
    /// The longest chain of tasks, `milestone/task` each.
    pub critical_path: Vec<String>,
}

/// A milestone of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MilestoneRow {
    /// Its id.
    #[schema(example = "build")]
    pub id: String,
    /// `planned`, `active`, `paused`, `completed`, `failed`, `skipped` or `cancelled`.
    #[schema(value_type = String, example = "active")]
    pub status: MilestoneStatus,
    /// The share of its tasks that is done, from 0 to 1.
    pub progress: f64,
    /// When it is due.
    pub due: Option<String>,
    /// Its tasks.
    pub tasks_total: u64,
    /// Its tasks that are completed.
    pub tasks_completed: u64,
}

/// A task of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskRow {
    /// `milestone/task`.
    #[schema(example = "build/compile")]
    pub id: String,
    /// `pending`, `ready`, `dispatched`, `in_progress`, `completed`, `failed`, `skipped` or `cancelled`.
    #[schema(value_type = String, example = "completed")]
    pub status: TaskStatus,
    /// Somebody asked for its end, which has not come yet; left out where nobody did.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// The number of its newest attempt; 0 if there was none.
    pub attempt: u32,
    /// The agent of its newest attempt.
    pub agent: Option<String>,
    /// The exit code of its process.
    pub exit_code: Option<i32>,
    /// How far it is, from 0 to 1.
    pub progress: f64,
    /// When its newest attempt started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How long its last attempt took.
    pub duration_seconds: Option<f64>,
    /// Why it failed, why it waits for another attempt or for an agent that could run it, or why it is skipped.
    pub error: Option<FailureBody>,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureBody {
    /// The stable name of the cause.
    #[schema(example = "exit_code")]
    pub kind: String,
    /// What a person reads.
    pub message: String,
}

/// A page of tasks, in the order of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskRow>,
    /// The `cursor` of the next page; `null` on the last one.
    pub next_cursor: Option<String>,
}

/// What is to happen to a run, or to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "the release is put off", "milestone": "ship"}))]
pub struct ActionRequest {
    /// Why; kept in the history. At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A milestone of the run; the whole run without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milestone: Option<String>,
    /// A task of that milestone. Without `milestone` it may be `MILESTONE/TASK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Of `retry` only: run again all that needs it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub downstream: bool,
}

/// A wish that was granted; it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"run": "apollo.3", "status": "paused"}))]
pub struct ActionBody {
    /// The run, `PROJECT.N`.
    pub run: String,
    /// Where it stands after that. A cancelled run is `active` until its running tasks have been stopped.
    #[schema(value_type = String, example = "paused")]
    pub status: RunStatus,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// The events, in the order in which they happened.
    pub events: Vec<EventBody>,
    /// The `from` of the next page; it can be asked for again later.
    pub next: u64,
    /// Whether there is more already.
    pub has_more: bool,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventBody {
    /// Its place in the whole log; the `id` of a server-sent event.
    pub position: u64,
    /// Its id.
    pub event_id: String,
    /// The stream that it belongs to: a run, or `RUN/MILESTONE`.
    #[schema(example = "apollo.3/build")]
    pub stream_id: String,
    /// What happened.
    #[schema(example = "TaskCompleted")]
    pub event_type: String,
    /// The particulars.
    pub event_data: BTreeMap<String, Value>,
    /// When, by whom, why.
    pub metadata: MetadataBody,
    /// Its place in its stream.
    pub version: u64,
    /// The version of the form that it is stored in.
    pub schema: u32,
}

/// What stands beside the data of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MetadataBody {
    /// When it happened.
    pub timestamp: String,
    /// Who asked for it.
    pub user_id: String,
    /// The same for all that one owner of the run did.
    pub correlation_id: String,
    /// The first event of the same decision, if this is not it.
    pub causation_id: Option<String>,
}

/// The fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// Its agents, by name.
    pub agents: Vec<AgentBody>,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentBody {
    /// Its name.
    #[schema(example = "builder-1")]
    pub id: String,
    /// `joined`, `draining`, `silent` (past its heartbeat), `lost` or `left` (it ended in good order).
    #[schema(example = "joined")]
    pub state: String,
    /// Rises each time that it starts with no memory of its last life.
    pub incarnation: u64,
    /// The version of its program.
    pub version: String,
    /// Processes at a time.
    pub slots: u32,
    /// Slots with an attempt.
    pub slots_used: u32,
    /// What it has, by name.
    pub resources: BTreeMap<String, f64>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it joined.
    pub joined_at: String,
    /// Seconds since it was last heard.
    pub heard_seconds_ago: f64,
    /// Attempts that it holds, at most 100, `RUN MILESTONE/TASK.ATTEMPT` each. Only those of projects that the token
    /// may see.
    pub attempts: Vec<String>,
}

/// Whether an agent is to be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// `true`: nothing new; `false`: work again.
    pub drain: bool,
}

/// An agent that was told so; it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainBody {
    /// Its name.
    pub agent: String,
    /// What it was told.
    pub drain: bool,
}

/// Whether the coordinator can do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthBody {
    /// All checks are good.
    pub is_ready: bool,
    /// Each check; with `?verbose` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckBody>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckBody {
    /// What is checked.
    #[schema(example = "store")]
    pub name: String,
    /// Whether it is good.
    pub is_good: bool,
    /// A word for people.
    pub message: String,
}
