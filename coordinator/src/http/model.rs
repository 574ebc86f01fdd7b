//! Bodies of requests and answers, as they stand in the OpenAPI document. The server writes them and the command line
//! reads them, so both sides have one definition.
//!
//! Times are RFC 3339 in UTC, durations are seconds as numbers. What is not known is `null`. A reader must pass over
//! fields that it does not know.
//!
//! Not here: routes, rules.

use super::tokens::Role;
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
    /// Why it failed, why it waits for another attempt, or why it is skipped.
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

/// The longest chain of tasks of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CriticalPathBody {
    /// The run, `PROJECT.N`.
    pub run: String,
    /// Its tasks, first to last.
    pub tasks: Vec<PathStep>,
    /// The sum of the durations on it; `null` if one of them is not known.
    pub length_seconds: Option<f64>,
    /// The sum of those that are known.
    pub known_seconds: f64,
    /// How many tasks on it have no known duration.
    pub unknown: usize,
}

/// A task of the critical path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PathStep {
    /// `milestone/task`.
    pub id: String,
    /// Where it stands.
    #[schema(value_type = String, example = "pending")]
    pub status: TaskStatus,
    /// How long the plan expects it to take.
    pub expected_seconds: Option<f64>,
    /// How long it took, if it has ended.
    pub duration_seconds: Option<f64>,
}

/// A run explained as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OverviewBody {
    /// The run, `PROJECT.N`.
    pub run: String,
    /// Its project.
    pub project: String,
    /// Tasks of its plan.
    pub tasks: usize,
    /// The longest chain, in tasks.
    pub depth: usize,
    /// The first of the levels with the most tasks: more slots than that cannot help.
    pub widest_level: LevelBody,
    /// The longest chain.
    pub critical_path: Vec<PathStep>,
    /// How long that is, where it is known.
    pub critical_path_seconds: Option<f64>,
    /// What tasks ask of an agent, the most frequent first.
    pub demands: Vec<DemandBody>,
}

/// Tasks that stand as far from the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LevelBody {
    /// Which level, from 1.
    pub level: usize,
    /// Its tasks.
    pub tasks: usize,
}

/// Tasks that ask for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DemandBody {
    /// What they ask for, in words.
    #[schema(example = "cpus 2, memory 2048 MiB")]
    pub asks: String,
    /// How many they are.
    pub tasks: usize,
}

/// Where a task stands and why, the most immediate reason first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationBody {
    /// The run, `PROJECT.N`.
    pub run: Option<String>,
    /// The task, `milestone/task`.
    pub task: String,
    /// Where it stands.
    #[schema(value_type = String, example = "ready")]
    pub status: TaskStatus,
    /// The number of its newest attempt; 0 if there was none.
    pub attempt: u32,
    /// Failed attempts that count against `max_attempts`.
    pub failures: u32,
    /// How often it is tried.
    pub max_attempts: u32,
    /// Why it stands there: objects whose `kind` says what else is in them.
    #[schema(value_type = Vec<Object>, example = json!([{"kind": "no_room", "asks": "cpus 2", "ahead": 0, "agents": []}]))]
    pub reasons: Vec<Value>,
    /// Its place among the tasks of the run, from 1.
    pub rank: u32,
    /// Tasks of the run.
    pub tasks: usize,
    /// Whether a delay of it delays the end of the run.
    pub is_critical: bool,
    /// How much later than at the earliest it may run without delaying the end of the run.
    pub slack_seconds: f64,
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
    /// `joined`, `draining`, `silent` (past its heartbeat) or `lost`.
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

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "ci", "role": "submitter", "projects": ["apollo"], "expires_in_seconds": 2_592_000}))]
pub struct TokenRequest {
    /// Who will have it: `[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127}`, not in use.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Projects that it is good for; all, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projects: Vec<String>,
    /// After how long it is good for nothing; never, if that is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
}

/// A token that was made. This is the only time that it is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token itself.
    #[schema(example = "cairn_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub info: TokenInfo,
}

/// A token, without itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// Its id, by which it is revoked.
    #[schema(example = "5f0c3a9e21b7")]
    pub id: String,
    /// Who has it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Projects that it is good for; all, if there are none.
    pub projects: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// From when it is good for nothing.
    pub expires_at: Option<String>,
}

/// All tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens, in the order of their making.
    pub tokens: Vec<TokenInfo>,
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

/// What went wrong, and what to do (RFC 9457), as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"type": "urn:cairn:problem:run-not-found", "title": "There is no such run", "status": 404,
    "detail": "there is no run apollo.9", "help": "GET /api/v1/runs lists the runs that your token may see"}))]
pub struct ProblemBody {
    /// The stable name of the problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is, the same for all of its type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time.
    pub detail: String,
    /// What to do.
    pub help: String,
    /// What is wrong with a plan, in the order of its lines; of `invalid-plan` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<DiagnosticBody>,
    /// How many more things are wrong with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiagnosticBody {
    /// `error`, or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// The line, from 1; `null` for what concerns the plan as a whole.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
    /// How many characters are meant.
    pub length: Option<u32>,
    /// What to write instead.
    pub help: Option<String>,
    /// Other places that have to do with it.
    pub notes: Vec<NoteBody>,
}

/// Another place that explains a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoteBody {
    /// What is there.
    pub message: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column in characters, from 1.
    pub column: Option<u32>,
}
