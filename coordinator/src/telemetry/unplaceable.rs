//! Tasks that no agent could run: counted, and told once.

use crate::insight::misfit;
use crate::metric_definitions::TASKS_UNPLACEABLE;
use cairn_engine::{State, unplaceable};
use cairn_model::{RunId, Timestamp};
use metrics::{Gauge, gauge};
use std::time::Duration;

/// How long tasks wait in this way before the log tells of it: a fleet that starts joins within seconds.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Looks after one run. Dropped, it takes what the run adds to the gauge with it.
pub struct Unplaceable {
    run: RunId,
    gauge: Gauge,
    /// What the run adds to the gauge now.
    added: usize,
    since: Option<Timestamp>,
    is_told: bool,
}

impl Unplaceable {
    /// Of a run of which nothing is known yet.
    #[must_use]
    pub fn new(run: &RunId) -> Self {
        Self { run: run.clone(), gauge: gauge!(TASKS_UNPLACEABLE), added: 0, since: None, is_told: false }
    }

    /// The run as it is. Once a second is enough. Says whether this was told to the log.
    pub fn observe(&mut self, state: &State, now: Timestamp) -> bool {
        let waiting = unplaceable(state);
        self.count(waiting.iter().map(|(_, count)| count).sum());
        let Some((first, _)) = waiting.first() else {
            (self.since, self.is_told) = (None, false);
            return false;
        };
        let since = *self.since.get_or_insert(now);
        if self.is_told || now.since(since) < TOLD_AFTER {
            return false;
        }
        self.is_told = true;
        let task = state.plan().task_name(*first);
        let (run, tasks, cause) = (&self.run, self.added, misfit(state, *first).unwrap_or_default());
        tracing::warn!(%run, tasks, task, cause, "tasks wait for an agent that could run them");
        true
    }

    fn count(&mut self, tasks: usize) {
        if tasks != self.added {
            self.gauge.increment(tasks as f64 - self.added as f64);
            self.added = tasks;
        }
    }
}

impl Drop for Unplaceable {
    fn drop(&mut self) {
        self.count(0);
    }
}
