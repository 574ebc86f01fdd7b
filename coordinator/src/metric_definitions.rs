//! The metrics of a coordinator: their names, what they mean, and which labels they have.
//!
//! Base units, Prometheus' naming; a label never holds what anybody may choose freely without a bound: projects and
//! milestones are counted, and only so many are told apart (`telemetry::Projects`).
//!
//! Not here: metrics of transports and of the process itself (`cairn_shared`), of agents (`cairn_agent`).

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Tasks that have ended since the process started.
pub const TASKS_TOTAL: &str = "cairn_tasks_total";
/// Tasks of runs that have not ended.
pub const TASKS: &str = "cairn_tasks";
/// Tasks that no agent could run.
pub const TASKS_UNPLACEABLE: &str = "cairn_tasks_unplaceable";
/// How long attempts ran.
pub const TASK_DURATION_SECONDS: &str = "cairn_task_duration_seconds";
/// From ready to started.
pub const TASK_QUEUE_SECONDS: &str = "cairn_task_queue_seconds";
/// From dispatched to started.
pub const DISPATCH_SECONDS: &str = "cairn_dispatch_seconds";
/// From handing an append over to its being durable.
pub const APPEND_SECONDS: &str = "cairn_append_seconds";
/// Events of an append.
pub const APPEND_BATCH_EVENTS: &str = "cairn_append_batch_events";
/// Runs that have not ended.
pub const RUNS: &str = "cairn_runs";
/// Runs that have ended since the process started.
pub const RUNS_TOTAL: &str = "cairn_runs_total";
/// How much of a project's newest run is done.
pub const RUN_PROGRESS_RATIO: &str = "cairn_run_progress_ratio";
/// What is left of its longest path.
pub const RUN_REMAINING_CRITICAL_PATH_SECONDS: &str = "cairn_run_remaining_critical_path_seconds";
/// From a milestone's expected end to its due date.
pub const MILESTONE_DUE_SLACK_SECONDS: &str = "cairn_milestone_due_slack_seconds";
/// How a project's newest run is coordinated.
pub const PATTERN_INFO: &str = "cairn_pattern_info";
/// Agents.
pub const AGENTS: &str = "cairn_agents";
/// Their slots.
pub const AGENT_SLOTS: &str = "cairn_agent_slots";
/// Leases that ended with attempts under them.
pub const LEASES_EXPIRED_TOTAL: &str = "cairn_leases_expired_total";
/// Reports that came too late or twice.
pub const STALE_REPORTS_TOTAL: &str = "cairn_stale_reports_total";
/// Which store is in force.
pub const STORE_INFO: &str = "cairn_store_info";
/// Whether messages flow.
pub const TRANSPORT_UP: &str = "cairn_transport_up";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values in buckets.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Definition {
    Definition { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Definition {
    Definition { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Definition {
    Definition { name, kind: Kind::Histogram, labels: &[], help }
}

/// All of them.
pub const ALL: [Definition; 20] = [
    counter(TASKS_TOTAL, &["status"], "Tasks that ended since the process started, by how."),
    gauge(TASKS, &["status"], "Tasks of runs that have not ended, by where they stand."),
    gauge(
        TASKS_UNPLACEABLE,
        &[],
        "Tasks that wait although agents are there, because none of these could ever run them.",
    ),
    histogram(
        TASK_DURATION_SECONDS,
        "How long the last attempt of a task ran that completed or failed for good.",
    ),
    histogram(TASK_QUEUE_SECONDS, "From the moment at which a task could run to its start."),
    histogram(DISPATCH_SECONDS, "From dispatch to start, waiting at the agent included."),
    histogram(APPEND_SECONDS, "From handing events over to the store to their being durable."),
    histogram(APPEND_BATCH_EVENTS, "Events that became durable together."),
    gauge(RUNS, &["status"], "Runs that have not ended, by where they stand."),
    counter(RUNS_TOTAL, &["status"], "Runs that ended since the process started, by how."),
    gauge(RUN_PROGRESS_RATIO, &["project"], "How much of the project's newest run is done, 0 to 1."),
    gauge(
        RUN_REMAINING_CRITICAL_PATH_SECONDS,
        &["project"],
        "What is left of the longest path of the project's newest run; no number while no duration is known.",
    ),
    gauge(
        MILESTONE_DUE_SLACK_SECONDS,
        &["project", "milestone"],
        "From the expected end of a milestone of the project's newest run to its due date; below 0 it is late. No \
         number once it has ended.",
    ),
    gauge(
        PATTERN_INFO,
        &["project", "pattern"],
        "1 for the way in which the project's newest run is coordinated.",
    ),
    gauge(AGENTS, &["state"], "Agents, by state."),
    gauge(AGENT_SLOTS, &["state"], "Slots of the agents that are there, used and free."),
    counter(LEASES_EXPIRED_TOTAL, &[], "Agents whose lease ended."),
    counter(STALE_REPORTS_TOTAL, &[], "Reports that came too late or twice, and changed nothing."),
    gauge(STORE_INFO, &["backend"], "1 for the store that is in force."),
    gauge(TRANSPORT_UP, &[], "1 while messages flow, 0 while the broker is out of reach or blocks."),
];

/// Tells what the metrics mean to whoever exports them.
pub fn describe() {
    for Definition { name, kind, help, .. } in ALL {
        let unit = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match kind {
            Kind::Counter => describe_counter!(name, unit, help),
            Kind::Gauge => describe_gauge!(name, unit, help),
            Kind::Histogram => describe_histogram!(name, unit, help),
        }
    }
}
