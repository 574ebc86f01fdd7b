//! Metrics of the event store.

use crate::metric_definitions::{APPEND_BATCH_EVENTS, APPEND_SECONDS, STORE_INFO};
use metrics::{Histogram, gauge, histogram};
use std::time::Duration;

/// Metrics of the event store.
#[derive(Clone)]
pub struct StoreMetrics {
    append_seconds: Histogram,
    batch_events: Histogram,
}

impl StoreMetrics {
    /// Takes hold of the metrics of the store that is in force: `file`, `sqlite` or `postgres`.
    #[must_use]
    pub fn new(backend: &'static str) -> Self {
        gauge!(STORE_INFO, "backend" => backend).set(1.0);
        Self { append_seconds: histogram!(APPEND_SECONDS), batch_events: histogram!(APPEND_BATCH_EVENTS) }
    }

    /// Events became durable together, `took` after they were handed over.
    pub fn appended(&self, events: usize, took: Duration) {
        self.append_seconds.record(took.as_secs_f64());
        self.batch_events.record(events as f64);
    }
}
