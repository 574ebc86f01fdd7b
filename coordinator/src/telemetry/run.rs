//! Metrics of a run, from its events and its state.
//!
//! Counters and histograms follow the events; gauges follow the state, those of a project at most once a second and
//! less often for a large run, for they take a pass over its graph.

use super::outlook::Outlook;
use super::projects::{MAX_DUE_MILESTONES, Projects};
use crate::metric_definitions::{
    DISPATCH_SECONDS, MILESTONE_DUE_SLACK_SECONDS, PATTERN_INFO, RUN_PROGRESS_RATIO,
    RUN_REMAINING_CRITICAL_PATH_SECONDS, RUNS, RUNS_TOTAL, TASK_DURATION_SECONDS, TASK_QUEUE_SECONDS, TASKS,
    TASKS_TOTAL,
};
use crate::projection::progress;
use cairn_engine::{RunStatus, State, TaskStatus};
use cairn_model::{Event, MilestoneIndex, NodeKind, RunId, TaskIndex, Timestamp};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::collections::HashMap;
use std::time::Duration;

/// How long a pass over so many nodes is worth: one of a million nodes every twenty seconds.
const NODES_PER_SECOND: usize = 50_000;

/// The ways in which a task ends.
const ENDS: [TaskStatus; 4] =
    [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Skipped, TaskStatus::Cancelled];

/// When an attempt that is out, or is to follow, could run and was dispatched.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// When the wait before it is over; of a first attempt unknown, and taken from what it needs.
    retry_at: Option<Timestamp>,
    dispatched_at: Option<Timestamp>,
}

/// Metrics of one run. Dropped, it takes what the run adds to gauges with it.
pub struct RunMetrics {
    totals: [Counter; ENDS.len()],
    tasks: [Gauge; TaskStatus::ALL.len()],
    duration: Histogram,
    queue: Histogram,
    dispatch: Histogram,
    /// What this run adds to `tasks` now.
    added: [u32; TaskStatus::ALL.len()],
    /// The gauge of runs that this one adds to now.
    standing: Option<(RunStatus, Gauge)>,
    /// Attempts that are out or follow: no more than tasks that have not ended.
    marks: HashMap<TaskIndex, Mark>,
    project: Option<ProjectGauges>,
    look_at: Timestamp,
}

/// Gauges of the newest run of a project.
struct ProjectGauges {
    projects: Projects,
    run: RunId,
    progress: Gauge,
    remaining: Gauge,
    pattern: Gauge,
    due: Vec<(MilestoneIndex, Timestamp, Gauge)>,
}

impl RunMetrics {
    /// Takes hold of the metrics of a run; `pattern` is how it is coordinated: `direct`, `hierarchical`,
    /// `distributed`.
    #[must_use]
    pub fn new(state: &State, run: &RunId, pattern: &'static str, projects: &Projects) -> Self {
        let all = TaskStatus::ALL;
        Self {
            totals: ENDS.map(|status| counter!(TASKS_TOTAL, "status" => status.name())),
            tasks: std::array::from_fn(|at| gauge!(TASKS, "status" => all[at].name())),
            duration: histogram!(TASK_DURATION_SECONDS),
            queue: histogram!(TASK_QUEUE_SECONDS),
            dispatch: histogram!(DISPATCH_SECONDS),
            added: [0; TaskStatus::ALL.len()],
            standing: None,
            marks: HashMap::new(),
            project: ProjectGauges::new(state, run, pattern, projects),
            look_at: Timestamp::default(),
        }
    }

    /// The events have become durable at `at`; without any, the state is looked at.
    pub fn observe(&mut self, state: &State, events: &[Event], at: Timestamp) {
        let mut ended = [0_u64; ENDS.len()];
        let mut is_over = false;
        for event in events {
            self.hear(state, event, at, &mut ended);
            if let Some(status) = end_of_run(event) {
                counter!(RUNS_TOTAL, "status" => status.name()).increment(1);
                is_over = true;
            }
        }
        for (counter, count) in self.totals.iter().zip(ended) {
            if count > 0 {
                counter.increment(count);
            }
        }
        self.stand(state.run().status);
        self.count(if state.run().status.is_final() { &[0; TaskStatus::ALL.len()] } else { state.counts() });
        let is_time = events.is_empty() && self.look_at <= at;
        if (is_time || is_over)
            && let Some(project) = &self.project
        {
            let nodes = state.graph().node_count();
            self.look_at = at.plus(Duration::from_secs(1 + (nodes / NODES_PER_SECOND) as u64));
            project.look(state, at);
        }
    }

    fn hear(&mut self, state: &State, event: &Event, at: Timestamp, ended: &mut [u64; ENDS.len()]) {
        match event {
            Event::TaskDispatched { task, .. } => {
                self.marks.entry(*task).or_default().dispatched_at = Some(at);
            }
            Event::TaskStarted { task, attempt, started_at } => {
                self.started(state, (*task, *attempt), *started_at);
            }
            // Short attempts say that they started only when they have ended.
            Event::TaskCompleted { task, attempt, finished_at, duration } => {
                ended[0] += 1;
                self.ended(state, (*task, *attempt), *finished_at, *duration);
            }
            Event::TaskFailed { task, attempt, finished_at, duration, .. } => {
                ended[1] += 1;
                self.ended(state, (*task, *attempt), *finished_at, *duration);
            }
            Event::TaskSkipped { task, .. } => {
                ended[2] += 1;
                self.marks.remove(task);
            }
            Event::TaskCancelled { task, .. } => {
                ended[3] += 1;
                self.marks.remove(task);
            }
            Event::TaskRetryScheduled { task, retry_at, .. } => {
                self.marks.insert(*task, Mark { retry_at: Some(*retry_at), dispatched_at: None });
            }
            // All else says nothing of how long a task waits or runs.
            _ => {}
        }
    }

    /// The attempt has started, unless that was seen before.
    fn started(&mut self, state: &State, (task, attempt): (TaskIndex, u32), started_at: Timestamp) {
        let Some(mark) = self.marks.get_mut(&task) else { return };
        let Some(dispatched_at) = mark.dispatched_at.take() else { return };
        // The agent's clock may be behind ours: nothing starts before it is dispatched.
        self.dispatch.record(started_at.since(dispatched_at).as_secs_f64());
        let ready_at = match mark.retry_at {
            Some(retry_at) => Some(retry_at),
            None if attempt == 1 => Some(could_run_at(state, task)),
            // It began before this process, or runs again because somebody asked for it.
            None => None,
        };
        if let Some(ready_at) = ready_at {
            self.queue.record(started_at.max(dispatched_at).since(ready_at).as_secs_f64());
        }
    }

    /// The task has ended, with an attempt (0: without one).
    fn ended(&mut self, state: &State, attempt: (TaskIndex, u32), at: Timestamp, duration: Duration) {
        if attempt.1 > 0 {
            let micros = cairn_model::time::micros(duration);
            self.started(state, attempt, Timestamp(at.0.saturating_sub(micros)));
            self.duration.record(duration.as_secs_f64());
        }
        self.marks.remove(&attempt.0);
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.marks.is_empty()
    }

    /// The run adds itself to where it stands.
    fn stand(&mut self, status: RunStatus) {
        if self.standing.as_ref().is_some_and(|(known, _)| *known == status) {
            return;
        }
        if let Some((_, gauge)) = self.standing.take() {
            gauge.decrement(1.0);
        }
        if matches!(status, RunStatus::Active | RunStatus::Paused) {
            let gauge = gauge!(RUNS, "status" => status.name());
            gauge.increment(1.0);
            self.standing = Some((status, gauge));
        }
    }

    /// The run adds so many tasks to each status.
    fn count(&mut self, counts: &[u32; TaskStatus::ALL.len()]) {
        for ((gauge, added), &count) in self.tasks.iter().zip(&mut self.added).zip(counts) {
            if count != *added {
                gauge.increment(f64::from(count) - f64::from(*added));
                *added = count;
            }
        }
    }
}

impl Drop for RunMetrics {
    fn drop(&mut self) {
        self.stand(RunStatus::Absent);
        self.count(&[0; TaskStatus::ALL.len()]);
        if let Some(project) = &self.project {
            project.leave();
        }
    }
}

impl ProjectGauges {
    fn new(state: &State, run: &RunId, pattern: &'static str, projects: &Projects) -> Option<Self> {
        let name = run.project().to_owned();
        if !projects.enter(&name, run.number()) {
            return None;
        }
        let mut due: Vec<(MilestoneIndex, Timestamp)> = (0..state.plan().milestones().len())
            .map(MilestoneIndex::new)
            .filter_map(|milestone| Some((milestone, state.plan().milestone(milestone).due?)))
            .collect();
        due.sort_by_key(|&(milestone, due)| (due, milestone));
        due.truncate(MAX_DUE_MILESTONES);
        let due = due.into_iter().filter_map(|(milestone, at)| {
            let id = &state.plan().milestone(milestone).id;
            projects.enter_milestone(&name, id).then(|| {
                let labels = [("project", name.clone()), ("milestone", id.clone())];
                (milestone, at, gauge!(MILESTONE_DUE_SLACK_SECONDS, &labels))
            })
        });
        Some(Self {
            due: due.collect(),
            projects: projects.clone(),
            progress: gauge!(RUN_PROGRESS_RATIO, "project" => name.clone()),
            remaining: gauge!(RUN_REMAINING_CRITICAL_PATH_SECONDS, "project" => name.clone()),
            pattern: gauge!(PATTERN_INFO, "project" => name, "pattern" => pattern),
            run: run.clone(),
        })
    }

    fn look(&self, state: &State, at: Timestamp) {
        if !self.projects.is_newest(self.run.project(), self.run.number()) {
            return;
        }
        self.progress.set(progress(state));
        self.pattern.set(1.0);
        if state.run().status.is_final() {
            self.remaining.set(0.0);
            self.forget_due();
            return;
        }
        let outlook = Outlook::new(state, at);
        self.remaining.set(outlook.remaining().map_or(f64::NAN, |left| left.as_secs_f64()));
        for (milestone, due, gauge) in &self.due {
            let slack = match state.milestone(*milestone).finished_at {
                Some(_) => f64::NAN,
                None => {
                    let end = at.plus(outlook.until_end(state, *milestone));
                    // Whole microseconds of some years: nothing is lost that matters.
                    (due.0 - end.0) as f64 / 1e6
                }
            };
            gauge.set(slack);
        }
    }

    /// Nobody looks after the run any more: what is expected of it is not known.
    fn leave(&self) {
        if self.projects.is_newest(self.run.project(), self.run.number()) {
            self.forget_due();
            self.pattern.set(0.0);
        }
    }

    fn forget_due(&self) {
        for (.., gauge) in &self.due {
            gauge.set(f64::NAN);
        }
    }
}

fn end_of_run(event: &Event) -> Option<RunStatus> {
    match event {
        Event::RunCompleted { .. } => Some(RunStatus::Completed),
        Event::RunFailed => Some(RunStatus::Failed),
        Event::RunCancelled => Some(RunStatus::Cancelled),
        _ => None,
    }
}

/// When all that a task needs was there: what has ended stays as it is, so this can be asked at any time after.
fn could_run_at(state: &State, task: TaskIndex) -> Timestamp {
    let graph = state.graph();
    let ended = graph.predecessors(graph.task(task)).iter().filter_map(|&node| match graph.kind(node) {
        NodeKind::Task(task) => {
            let row = state.task(task);
            Some(row.since.plus(row.duration))
        }
        NodeKind::Start(milestone) => state.milestone(milestone).started_at,
        NodeKind::End(milestone) => state.milestone(milestone).finished_at,
    });
    ended.max().unwrap_or_default().max(state.run().submitted_at)
}
