//! The critical path, and how much each task may be late without delaying the end.

use cairn_engine::{State, TaskStatus, path_weight};
use cairn_model::{Graph, NodeIndex, NodeKind, Plan, TaskIndex};
use std::time::Duration;

/// The longest chain of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriticalPath {
    /// Its tasks, first to last.
    pub tasks: Vec<TaskIndex>,
    /// The sum of those durations on it that are known.
    pub known: Duration,
    /// How many of its tasks have no known duration; they were counted with the mean of those that have one.
    pub unknown: usize,
}

impl CriticalPath {
    /// How long the path is; `None` where a duration on it is not known.
    #[must_use]
    pub fn length(&self) -> Option<Duration> {
        (self.unknown == 0).then_some(self.known)
    }
}

/// The critical path of a plan, by its estimates.
#[must_use]
pub fn critical_path(plan: &Plan, graph: &Graph) -> CriticalPath {
    path_by(plan, graph, |task| plan.expected_duration(task))
}

/// The critical path of a run: what has ended counts as long as it took, the rest as the plan expects.
#[must_use]
pub fn run_critical_path(state: &State) -> CriticalPath {
    path_by(state.plan(), state.graph(), |task| known_duration(state, task))
}

fn known_duration(state: &State, task: TaskIndex) -> Option<Duration> {
    let row = state.task(task);
    match row.status {
        TaskStatus::Completed | TaskStatus::Failed => Some(row.duration),
        TaskStatus::Skipped | TaskStatus::Cancelled => Some(Duration::ZERO),
        TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Dispatched | TaskStatus::InProgress => {
            state.plan().expected_duration(task)
        }
    }
}

fn path_by(plan: &Plan, graph: &Graph, known: impl Fn(TaskIndex) -> Option<Duration>) -> CriticalPath {
    let (tasks, _) = graph.critical_path(path_weight(plan, &known));
    let durations = || tasks.iter().map(|&task| known(task));
    let unknown = durations().filter(Option::is_none).count();
    let known = durations().flatten().fold(Duration::ZERO, Duration::saturating_add);
    CriticalPath { tasks, known, unknown }
}

/// Earliest starts and slack (the forward and backward pass of the critical path method, Kelley and Walker 1959),
/// as if there were room for every task at once.
#[derive(Debug)]
pub struct Timing {
    earliest: Vec<Duration>,
    remaining: Vec<Duration>,
    length: Duration,
}

impl Timing {
    /// The timing of a run: what has ended counts as long as it took, the rest as the plan expects; a task of
    /// which nothing is known counts as the mean of those that are known.
    #[must_use]
    pub fn of_run(state: &State) -> Self {
        let (plan, graph) = (state.plan(), state.graph());
        Self::new(graph, path_weight(plan, |task| known_duration(state, task)))
    }

    fn new(graph: &Graph, weight: impl Fn(TaskIndex) -> Duration) -> Self {
        let mut earliest = vec![Duration::ZERO; graph.node_count()];
        for node in graph.order() {
            let end = earliest[node.get()].saturating_add(weight_of(graph, node, &weight));
            for next in graph.successors(node) {
                earliest[next.get()] = earliest[next.get()].max(end);
            }
        }
        let remaining = graph.longest_remaining(weight);
        let length = remaining.iter().copied().max().unwrap_or_default();
        Self { earliest, remaining, length }
    }

    /// How much later than at the earliest the node may be reached without delaying the end of the run.
    #[must_use]
    pub fn slack(&self, node: NodeIndex) -> Duration {
        self.length.saturating_sub(self.earliest[node.get()]).saturating_sub(self.remaining[node.get()])
    }
}

fn weight_of(graph: &Graph, node: NodeIndex, weight: &impl Fn(TaskIndex) -> Duration) -> Duration {
    match graph.kind(node) {
        NodeKind::Task(task) => weight(task),
        NodeKind::Start(_) | NodeKind::End(_) => Duration::ZERO,
    }
}

/// How many tasks stand at each level; the first is that of the tasks that need no other one.
#[must_use]
pub fn level_sizes(plan: &Plan, graph: &Graph) -> Vec<usize> {
    let levels = graph.levels();
    let mut sizes = Vec::new();
    for task in plan.tasks() {
        // A task counts itself, so its level is at least 1.
        let at = levels[graph.task(task).get()] as usize - 1;
        if sizes.len() <= at {
            sizes.resize(at + 1, 0);
        }
        sizes[at] += 1;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::{plan_of, submitted_state};

    const DIAMOND: &str = "
version: 1
project: apollo
tasks:
  - {id: a, exec: [x], estimate: 10s}
  - {id: b, exec: [x], estimate: 60s, needs: [a]}
  - {id: c, exec: [x], estimate: 20s, needs: [a]}
  - {id: d, wait: 5s, needs: [b, c]}
";

    #[test]
    fn the_longest_chain_and_its_length() {
        let (plan, graph) = plan_of(DIAMOND);
        let path = critical_path(&plan, &graph);
        let names: Vec<_> = path.tasks.iter().map(|&task| plan.task_id(task)).collect();
        assert_eq!((names, path.length()), (vec!["a", "b", "d"], Some(Duration::from_secs(75))));
        assert_eq!(level_sizes(&plan, &graph), [1, 2, 1]);
    }

    #[test]
    fn a_duration_that_is_not_known_leaves_the_length_unknown() {
        let (plan, graph) = plan_of(&DIAMOND.replace(", estimate: 60s", ""));
        let path = critical_path(&plan, &graph);
        assert_eq!(
            (path.unknown, path.length()),
            (0, Some(Duration::from_secs(35))),
            "b counts 15 s, c 20 s"
        );
        let (plan, graph) = plan_of(&DIAMOND.replace(", estimate: 10s", ""));
        let path = critical_path(&plan, &graph);
        assert_eq!((path.unknown, path.length(), path.known), (1, None, Duration::from_secs(65)));
    }

    #[test]
    fn slack_is_what_a_task_may_be_late() {
        let state = submitted_state(DIAMOND);
        let timing = Timing::of_run(&state);
        let slack: Vec<u64> =
            state.plan().tasks().map(|task| timing.slack(state.graph().task(task)).as_secs()).collect();
        assert_eq!(slack, [0, 0, 40, 0]);
    }
}
