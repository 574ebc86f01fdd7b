//! What the live picture shows of a run in this process, fed by durable events. A projection: rebuilt by replay, never
//! asked for decisions.

use super::frame::{Frame, MilestoneView, RunningLine, RunningView};
use cairn_coordinator::runtime::Update;
use cairn_engine::{State, TaskStatus};
use cairn_model::plan::Plan;
use cairn_model::{Ended, Event, MilestoneIndex, TaskIndex, Timestamp};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The whole picture.
#[derive(Debug)]
pub struct Model {
    /// The run.
    pub run: String,
    /// The plan: names.
    pub plan: Arc<Plan>,
    /// Its milestones, in the order of the plan.
    pub milestones: Vec<MilestoneView>,
    /// What is with the agent.
    pub running: BTreeMap<TaskIndex, RunningView>,
    /// Attempts that failed and were followed by another.
    pub retries: u32,
    /// Processes at a time.
    pub jobs: NonZeroUsize,
    /// When the picture began: of a continued run not when the run did.
    pub began_at: Option<Timestamp>,
    /// Why it is being stopped.
    pub interrupted: Option<Box<str>>,
    /// Weight of the tasks that have ended since.
    done_weight: Duration,
    /// Weight of the tasks that have not ended.
    open_weight: Duration,
    /// Weight of a task of which nothing is known.
    unknown: Duration,
}

/// A picture that is fed and painted by different threads.
pub type SharedModel = Arc<Mutex<Model>>;

/// The picture of a run as it stands.
pub fn shared(state: &State, run: &str, jobs: NonZeroUsize) -> SharedModel {
    let plan = state.plan().clone();
    let known: Vec<Duration> = plan.tasks().filter_map(|task| plan.expected_duration(task)).collect();
    let unknown = match u32::try_from(known.len()) {
        Ok(count) if count > 0 => known.iter().sum::<Duration>() / count,
        _ => Duration::from_secs(1),
    };
    let mut model = Model {
        run: run.to_owned(),
        milestones: Vec::new(),
        running: BTreeMap::new(),
        retries: 0,
        jobs,
        began_at: None,
        interrupted: None,
        done_weight: Duration::ZERO,
        open_weight: Duration::ZERO,
        unknown: unknown.max(Duration::from_millis(1)),
        plan: plan.clone(),
    };
    for (index, milestone) in plan.milestones().iter().enumerate() {
        let tasks = plan.tasks_of(MilestoneIndex::new(index));
        let total = tasks.len() as u32;
        let mut view = MilestoneView { id: milestone.id.clone(), total, ..MilestoneView::default() };
        for task in tasks {
            match state.task(task).status {
                TaskStatus::Completed => view.completed += 1,
                TaskStatus::Failed => view.failed += 1,
                TaskStatus::Skipped | TaskStatus::Cancelled => view.dropped += 1,
                _ => model.open_weight += model.weight(task),
            }
        }
        model.milestones.push(view);
    }
    Arc::new(Mutex::new(model))
}

/// The picture, whatever became of the thread that held it last.
pub fn lock(model: &SharedModel) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes durable events in.
pub fn update(model: &SharedModel, update: &Update<'_>) {
    let mut model = lock(model);
    model.began_at.get_or_insert(update.at);
    update.events.iter().for_each(|event| model.take_in(event, update.at));
}

impl Model {
    /// What is to be painted now.
    pub fn frame(&self, now: Timestamp) -> Frame {
        let running = self.running_now();
        let lines = running
            .iter()
            .take(Frame::running_lines(self.jobs.get()))
            .map(|(task, view)| RunningLine { name: self.plan.task_name(*task), view: (*view).clone() });
        let lines = lines.collect();
        let left = self.time_left(now);
        let stopping = self.interrupted.as_ref();
        let stopping = stopping.map(|reason| format!("{reason}: stopping what runs; once more kills it"));
        Frame::new(&self.run, &self.milestones, (running.len(), lines), left, stopping)
    }

    /// The time left as it seems: at the speed so far, no less than what runs alone would need.
    pub fn time_left(&self, now: Timestamp) -> Option<Duration> {
        let elapsed = now.since(self.began_at?);
        if self.done_weight.is_zero() || elapsed.is_zero() {
            return None;
        }
        let partial: f64 = self
            .running
            .iter()
            .map(|(task, running)| {
                let weight = self.weight(*task).as_secs_f64();
                weight * (f64::from(running.permille) / 1000.0)
            })
            .sum();
        let open = (self.open_weight.as_secs_f64() - partial).max(0.0);
        let per_weight = elapsed.as_secs_f64() / (self.done_weight.as_secs_f64() + partial);
        Duration::try_from_secs_f64(open * per_weight).ok()
    }

    /// What runs now, the longest first. Of what is with the agent and not known to have started, as much as there
    /// are slots for: the rest waits there.
    pub fn running_now(&self) -> Vec<(TaskIndex, &RunningView)> {
        let mut running: Vec<_> = self.running.iter().map(|(task, view)| (*task, view)).collect();
        running.sort_by_key(|(_, view)| (!view.started, view.since));
        let started = running.partition_point(|(_, view)| view.started);
        running.truncate(started.max(self.jobs.get()));
        running
    }

    fn weight(&self, task: TaskIndex) -> Duration {
        self.plan.expected_duration(task).unwrap_or(self.unknown)
    }

    fn milestone(&mut self, task: TaskIndex) -> &mut MilestoneView {
        let index = self.plan.milestone_of(task).get();
        &mut self.milestones[index]
    }

    fn take_in(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::TaskDispatched { task, attempt, .. } => {
                let running =
                    RunningView { since: at, started: false, permille: 0, message: None, attempt: *attempt };
                if self.running.insert(*task, running).is_none() {
                    self.milestone(*task).running += 1;
                }
            }
            Event::TaskStarted { task, started_at, .. } => {
                if let Some(running) = self.running.get_mut(task) {
                    (running.since, running.started) = (*started_at, true);
                }
            }
            Event::ProgressUpdated { task, permille, message, .. } => {
                if let Some(running) = self.running.get_mut(task) {
                    running.permille = *permille;
                    running.message.clone_from(message);
                }
            }
            Event::TaskCompleted { task, .. } => {
                self.end(*task);
                self.milestone(*task).completed += 1;
            }
            Event::TaskFailed { task, .. } => {
                self.end(*task);
                self.milestone(*task).failed += 1;
            }
            Event::TaskSkipped { task, .. } | Event::TaskCancelled { task, .. } => {
                self.end(*task);
                self.milestone(*task).dropped += 1;
            }
            Event::TaskRetryScheduled { task, counts, .. } => {
                self.retries += u32::from(*counts);
                self.stop(*task);
            }
            Event::LeaseExpired { task, .. } => self.stop(*task),
            Event::TaskReopened { task, ended } => self.reopen(*task, *ended),
            Event::RunInterrupted { reason } => self.interrupted = Some(reason.clone()),
            _ => {}
        }
    }

    fn stop(&mut self, task: TaskIndex) {
        if self.running.remove(&task).is_some() {
            self.milestone(task).running -= 1;
        }
    }

    fn reopen(&mut self, task: TaskIndex, ended: Ended) {
        let milestone = self.milestone(task);
        let count = match ended {
            Ended::Completed => &mut milestone.completed,
            Ended::Failed => &mut milestone.failed,
            Ended::Skipped | Ended::Cancelled => &mut milestone.dropped,
        };
        *count = count.saturating_sub(1);
        // What was done before is not done any more, and says as much of the speed.
        self.open_weight += self.weight(task);
    }

    fn end(&mut self, task: TaskIndex) {
        self.stop(task);
        let weight = self.weight(task);
        self.done_weight += weight;
        self.open_weight = self.open_weight.saturating_sub(weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_coordinator::runtime::read_plan;
    use cairn_model::AgentIndex;

    #[test]
    fn what_waits_with_the_agent_does_not_run() {
        let tasks: String = (0..5).map(|number| format!("  - {{id: t{number}, run: echo}}\n")).collect();
        let plan = format!("version: 1\nproject: a\ntasks:\n{tasks}");
        let (plan, graph) = read_plan("plan.yaml", plan, &[]).unwrap();
        let model = shared(&State::new(plan, graph), "a.1", NonZeroUsize::new(2).unwrap());
        let mut model = lock(&model);
        let at = Timestamp(1);
        for task in (0..5).map(TaskIndex::new) {
            let agent = AgentIndex(0);
            model.take_in(&Event::TaskDispatched { task, attempt: 1, agent }, at);
        }
        let names = |model: &Model| -> Vec<_> {
            model.running_now().iter().map(|(task, _)| model.plan.task_id(*task).to_owned()).collect()
        };
        assert_eq!(names(&model), ["t0", "t1"]);
        for task in [4, 3, 2].map(TaskIndex::new) {
            model.take_in(&Event::TaskStarted { task, attempt: 1, started_at: at }, at);
        }
        assert_eq!(names(&model), ["t2", "t3", "t4"], "a timer takes no slot");
    }

    #[test]
    fn what_runs_again_is_not_done_any_more() {
        let plan = "{version: 1, project: a, tasks: [{id: x, run: echo}, {id: y, run: echo, needs: [x]}]}";
        let (plan, graph) = read_plan("plan.yaml", plan.to_owned(), &[]).unwrap();
        let model = shared(&State::new(plan, graph), "a.1", NonZeroUsize::new(1).unwrap());
        let mut model = lock(&model);
        let (at, agent) = (Timestamp(1), AgentIndex(0));
        let [x, y] = [0, 1].map(TaskIndex::new);
        for (task, ended) in [(x, Ended::Completed), (y, Ended::Skipped)] {
            let event = match ended {
                Ended::Completed => {
                    Event::TaskCompleted { task, attempt: 1, finished_at: at, duration: Duration::ZERO }
                }
                _ => Event::TaskSkipped { task, cause: x },
            };
            model.take_in(&event, at);
        }
        assert_eq!((model.milestones[0].completed, model.milestones[0].dropped), (1, 1));
        assert!(model.open_weight.is_zero());
        model.take_in(&Event::TaskReopened { task: x, ended: Ended::Completed }, at);
        model.take_in(&Event::TaskReopened { task: y, ended: Ended::Skipped }, at);
        assert_eq!((model.milestones[0].completed, model.milestones[0].dropped), (0, 0));
        assert_eq!(model.open_weight, 2 * model.unknown);
        model.take_in(&Event::TaskDispatched { task: x, attempt: 2, agent }, at);
        model.take_in(&Event::LeaseExpired { task: x, attempt: 2 }, at);
        assert_eq!((model.running.len(), model.milestones[0].running), (0, 0));
    }
}
