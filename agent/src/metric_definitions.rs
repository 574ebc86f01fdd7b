//! The names of an agent's metrics.

/// Gauge: slots, by `state`: `busy`, `free`.
pub(crate) const SLOTS: &str = "cairn_agent_slots";
/// Gauge: attempts that wait or run.
pub(crate) const ATTEMPTS: &str = "cairn_agent_attempts";
/// Counter: ends of attempts, by `status`: `completed`, `failed`, `stopped`, `not_started`, `lost`. What is told again
/// counts once for each child.
pub(crate) const TASKS: &str = "cairn_tasks_total";
/// Histogram: how long attempts ran.
pub(crate) const TASK_DURATION: &str = "cairn_task_duration_seconds";
/// Counter: orders of a coordinator whose epoch is over, of another life, or about what is settled.
pub(crate) const STALE_ORDERS: &str = "cairn_stale_orders_total";
/// Gauge: 1 while the lease is held, 0 after its end.
pub(crate) const LEASE_HELD: &str = "cairn_agent_lease_held";
/// Counter: batches appended to the journal.
pub(crate) const JOURNAL_APPENDS: &str = "cairn_agent_journal_appends_total";
/// Gauge: how long the newest append took.
pub(crate) const JOURNAL_APPEND_SECONDS: &str = "cairn_agent_journal_append_seconds";
/// Counter: how often a child was started again.
pub(crate) const RESTARTS: &str = "cairn_agent_restarts_total";
/// Counter: messages that no broker took.
pub(crate) const PUBLISH_FAILURES: &str = "cairn_agent_publish_failures_total";
/// Counter: deliveries that could not be read, and went to the dead letters.
pub(crate) const UNREADABLE: &str = "cairn_agent_unreadable_total";
/// Counter: bytes of output that were shipped.
pub(crate) const OUTPUT_BYTES: &str = "cairn_agent_output_bytes_total";
