//! The names of an agent's metrics, and what they mean. Another prefix than a coordinator's: who scrapes both must be
//! able to add up either.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Slots for processes, by `state`: `busy`, `free`.
pub(crate) const SLOTS: &str = "cairn_agent_process_slots";
/// Attempts that wait or run.
pub(crate) const ATTEMPTS: &str = "cairn_agent_attempts";
/// Ends of attempts, by `status`: `completed`, `failed`, `stopped`, `not_started`, `lost`. What is told again counts
/// once for each child.
pub(crate) const TASKS: &str = "cairn_agent_tasks_total";
/// How long attempts ran.
pub(crate) const TASK_DURATION: &str = "cairn_agent_task_duration_seconds";
/// Orders of a coordinator whose epoch is over, of another life, or about what is settled.
pub(crate) const STALE_ORDERS: &str = "cairn_agent_stale_orders_total";
/// 1 while the lease is held, 0 after its end.
pub(crate) const LEASE_HELD: &str = "cairn_agent_lease_held";
/// Batches appended to the journal.
pub(crate) const JOURNAL_APPENDS: &str = "cairn_agent_journal_appends_total";
/// How long the newest append took.
pub(crate) const JOURNAL_APPEND_SECONDS: &str = "cairn_agent_journal_append_seconds";
/// How often a child was started again.
pub(crate) const RESTARTS: &str = "cairn_agent_restarts_total";
/// Messages that no broker took.
pub(crate) const PUBLISH_FAILURES: &str = "cairn_agent_publish_failures_total";
/// Deliveries that could not be read, and went to the dead letters.
pub(crate) const UNREADABLE: &str = "cairn_agent_unreadable_total";
/// Bytes of output that were shipped.
pub(crate) const OUTPUT_BYTES: &str = "cairn_agent_output_bytes_total";

/// Tells what the metrics mean to whoever exports them.
pub(crate) fn describe() {
    describe_gauge!(SLOTS, "Slots for processes, busy and free.");
    describe_gauge!(ATTEMPTS, "Attempts that wait or run.");
    describe_counter!(TASKS, "Attempts that ended, by how.");
    describe_histogram!(TASK_DURATION, "How long attempts ran.");
    describe_counter!(STALE_ORDERS, "Orders that came too late, and were not followed.");
    describe_gauge!(LEASE_HELD, "1 while the lease is held, 0 after its end.");
    describe_counter!(JOURNAL_APPENDS, "Batches appended to the journal.");
    describe_gauge!(JOURNAL_APPEND_SECONDS, "How long the newest append to the journal took.");
    describe_counter!(RESTARTS, "How often the child was started again.");
    describe_counter!(PUBLISH_FAILURES, "Messages that no broker took.");
    describe_counter!(UNREADABLE, "Deliveries that could not be read, and went to the dead letters.");
    describe_counter!(OUTPUT_BYTES, "Bytes of output that were shipped.");
}
