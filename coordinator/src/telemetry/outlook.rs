//! What is left of a run: when each milestone can be expected, as if there were room for every task at once.

use cairn_engine::{State, TaskStatus, path_weight};
use cairn_model::{MilestoneIndex, NodeKind, TaskIndex, Timestamp};
use std::time::Duration;

/// How much is left, from now, until each node of the run can be reached.
pub(super) struct Outlook {
    until: Vec<Duration>,
    /// Something is known of durations: estimates, or tasks that have ended.
    is_known: bool,
}

impl Outlook {
    /// One pass over nodes and edges.
    pub(super) fn new(state: &State, now: Timestamp) -> Self {
        let (plan, graph) = (state.plan(), state.graph());
        let known = |task: TaskIndex| match state.task(task).status {
            TaskStatus::Completed | TaskStatus::Failed => Some(state.task(task).duration),
            _ => plan.expected_duration(task),
        };
        let is_known = plan.tasks().any(|task| plan.takes_slot(task) && known(task).is_some());
        let weight = path_weight(plan, known);
        let left = |task: TaskIndex| {
            let row = state.task(task);
            match row.status {
                TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Dispatched => weight(task),
                TaskStatus::InProgress => weight(task).saturating_sub(now.since(row.since)),
                TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Cancelled => {
                    Duration::ZERO
                }
            }
        };
        let mut until = vec![Duration::ZERO; graph.node_count()];
        for node in graph.order() {
            let before = graph.predecessors(node).iter().map(|before| until[before.get()]).max();
            let own = match graph.kind(node) {
                NodeKind::Task(task) => left(task),
                NodeKind::Start(_) | NodeKind::End(_) => Duration::ZERO,
            };
            until[node.get()] = before.unwrap_or_default().saturating_add(own);
        }
        Self { until, is_known }
    }

    /// What is left of the longest path; `None` while no duration is known.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.is_known.then(|| self.until.iter().copied().max().unwrap_or_default())
    }

    /// What is left until the milestone's end; nothing while no duration is known.
    pub(super) fn until_end(&self, state: &State, milestone: MilestoneIndex) -> Duration {
        if self.is_known { self.until[state.graph().end(milestone).get()] } else { Duration::ZERO }
    }
}
