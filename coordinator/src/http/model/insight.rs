//! What is said of a run beyond its state.

use cairn_engine::TaskStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

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
