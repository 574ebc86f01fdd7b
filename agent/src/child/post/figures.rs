//! What a child shows of its agent in metrics.

use super::Post;
use crate::link::Beat;
use crate::metric_definitions::{
    ATTEMPTS, JOURNAL_APPEND_SECONDS, JOURNAL_APPENDS, LEASE_HELD, RESTARTS, SLOTS, STALE_ORDERS,
    TASK_DURATION, TASKS,
};
use cairn_shared::message::wire::{WireOutcome, WireReport, WireReportKind};
use std::sync::atomic::Ordering;
use std::time::Duration;
/// Ends of attempts that are remembered, so that one that is told again is counted once.
const MAX_COUNTED: usize = 16_384;

impl Post {
    pub(super) fn show(&self, beat: &Beat) {
        let status = &beat.status;
        self.state.readiness().draining.store(beat.draining, Ordering::Relaxed);
        if !self.state.is_seen() {
            return;
        }
        let slots = self.hello.slots;
        // What is handed to the runner ahead of its turn takes no slot.
        let busy = status.processes.min(slots);
        metrics::gauge!(SLOTS, "state" => "busy").set(busy);
        metrics::gauge!(SLOTS, "state" => "free").set(slots - busy);
        metrics::gauge!(ATTEMPTS).set(status.busy);
        metrics::counter!(STALE_ORDERS).absolute(status.stale_orders);
        metrics::counter!(JOURNAL_APPENDS).absolute(status.appends);
        #[expect(clippy::cast_precision_loss, reason = "a metric of a few seconds")]
        metrics::gauge!(JOURNAL_APPEND_SECONDS).set(status.append_micros as f64 / 1e6);
        metrics::counter!(RESTARTS).absolute(status.restarts);
        if let Some(held) = status.lease_held {
            metrics::gauge!(LEASE_HELD).set(if held { 1.0 } else { 0.0 });
        }
    }

    pub(super) fn count(&mut self, run: &str, report: &WireReport) {
        let WireReportKind::Finished { outcome, started_micros, finished_micros } = &report.kind else {
            return;
        };
        if !self.state.is_seen() {
            // Its coordinator counts them, in the same process.
            return;
        }
        if self.counted.len() >= MAX_COUNTED {
            self.counted.clear();
        }
        if !self.counted.insert((run.to_owned(), report.task, report.attempt)) {
            return;
        }
        let status = match outcome {
            WireOutcome::Completed => "completed",
            WireOutcome::Failed { .. } => "failed",
            WireOutcome::Stopped => "stopped",
            WireOutcome::NotStarted => "not_started",
            WireOutcome::Lost { .. } => "lost",
        };
        metrics::counter!(TASKS, "status" => status).increment(1);
        let took = u64::try_from(finished_micros.saturating_sub(*started_micros)).unwrap_or(0);
        metrics::histogram!(TASK_DURATION).record(Duration::from_micros(took));
    }
}
