//! What is shown of a run that a coordinator works on: its status once, then its events.

use super::change::{Change, TO_BE_CANCELLED};
use super::frame::{Frame, MilestoneView, RunningLine, RunningView};
use super::{Screen, has_picture, lines, screen};
use crate::context::Context;
use crate::style::Style;
use cairn_coordinator::http::model::{EventBody, StatusBody, TaskRow};
use cairn_engine::TaskStatus;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shows a run while its events come.
pub struct RemoteView {
    model: Arc<Mutex<Model>>,
    painter: Option<screen::Painter>,
    style: Style,
}

/// The picture. Events may tell what the status already knew: a task is counted where it stands, not by its events.
#[derive(Debug, Default)]
struct Model {
    run: String,
    milestones: Vec<MilestoneView>,
    by_id: HashMap<String, usize>,
    /// Where tasks stand that are not pending.
    tasks: HashMap<String, TaskStatus>,
    running: HashMap<String, RunningView>,
    /// Somebody asked for the end of all of it.
    cancelling: bool,
    /// When the picture began, and how much was done then.
    began: Option<(Timestamp, u32)>,
}

impl RemoteView {
    /// Begins to show a run.
    pub fn start(context: &Context, status: &StatusBody, clock: Clock) -> Self {
        let style = Style::stderr(context);
        let model = Arc::new(Mutex::new(Model::new(status, clock.now())));
        let shown = model.clone();
        let painter =
            has_picture().then(|| screen::Painter::start(move |now| lock(&shown).frame(now), clock, style));
        Self { model, painter, style }
    }

    /// Takes an event in.
    pub fn take(&mut self, event: &EventBody) {
        let Some(change) = Change::of_stored(event) else { return };
        let at = Timestamp::parse(&event.metadata.timestamp).unwrap_or_default();
        if self.painter.is_none() {
            let mut text = String::new();
            change.write_line(&mut text, at, &self.style);
            lines::print(&text);
        }
        lock(&self.model).take(change, at);
    }

    /// Takes the picture off the terminal.
    pub fn finish(self) {
        Screen(self.painter).finish();
    }
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    fn new(status: &StatusBody, now: Timestamp) -> Self {
        let mut model = Self { run: status.run.clone(), cancelling: status.cancelling, ..Self::default() };
        for row in &status.milestones {
            let total = u32::try_from(row.tasks_total).unwrap_or(u32::MAX);
            model.by_id.insert(row.id.clone(), model.milestones.len());
            model.milestones.push(MilestoneView { id: row.id.clone(), total, ..MilestoneView::default() });
        }
        for task in status.tasks.iter().flatten() {
            model.begin(task);
        }
        model.began = Some((now, model.milestones.iter().map(MilestoneView::done).sum()));
        model
    }

    fn begin(&mut self, task: &TaskRow) {
        self.set(&task.id, task.status);
        if matches!(task.status, TaskStatus::Dispatched | TaskStatus::InProgress) {
            let since = task.started_at.as_deref().and_then(Timestamp::parse);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to a share of one"
            )]
            let permille = (task.progress.clamp(0.0, 1.0) * 1000.0) as u16;
            let running = RunningView {
                since: since.unwrap_or_default(),
                started: since.is_some(),
                permille,
                message: None,
                attempt: task.attempt,
            };
            self.running.insert(task.id.clone(), running);
        }
    }

    fn take(&mut self, change: Change, at: Timestamp) {
        match change {
            Change::Dispatched { task, attempt } => {
                let running = RunningView { since: at, started: false, permille: 0, message: None, attempt };
                self.set(&task, TaskStatus::Dispatched);
                self.running.insert(task, running);
            }
            Change::Started { task, attempt, since } => {
                let running = RunningView { since, started: true, permille: 0, message: None, attempt };
                self.set(&task, TaskStatus::InProgress);
                self.running.insert(task, running);
            }
            Change::Progress { task, permille, message } => {
                if let Some(running) = self.running.get_mut(&task) {
                    (running.permille, running.message) = (permille, message);
                }
            }
            Change::Completed { task, .. } => self.set(&task, TaskStatus::Completed),
            Change::Failed { task, .. } => self.set(&task, TaskStatus::Failed),
            Change::Skipped { task, .. } => self.set(&task, TaskStatus::Skipped),
            Change::Cancelled { task, .. } => self.set(&task, TaskStatus::Cancelled),
            Change::Retried { task, .. } | Change::Reopened { task, .. } | Change::Expired { task, .. } => {
                self.set(&task, TaskStatus::Pending);
            }
            Change::Steered { what: TO_BE_CANCELLED, part: None, .. } => self.cancelling = true,
            Change::Submitted { .. }
            | Change::Milestone { .. }
            | Change::Steered { .. }
            | Change::AgentLost { .. }
            | Change::Interrupted { .. } => {}
        }
    }

    /// Counts a task where it stands now.
    fn set(&mut self, task: &str, status: TaskStatus) {
        let before = match status {
            TaskStatus::Pending | TaskStatus::Ready => self.tasks.remove(task),
            _ => self.tasks.insert(task.to_owned(), status),
        };
        if !matches!(status, TaskStatus::Dispatched | TaskStatus::InProgress) {
            self.running.remove(task);
        }
        let Some(milestone) = task.split_once('/').and_then(|(milestone, _)| self.by_id.get(milestone))
        else {
            return;
        };
        let milestone = &mut self.milestones[*milestone];
        if let Some(count) = before.and_then(|before| count_of(milestone, before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = count_of(milestone, status) {
            *count += 1;
        }
    }

    fn frame(&self, now: Timestamp) -> Frame {
        let mut running: Vec<_> = self.running.iter().filter(|(_, view)| view.started).collect();
        running.sort_by(|(one, view), (other, other_view)| (view.since, one).cmp(&(other_view.since, other)));
        let lines = running.iter().take(Frame::running_lines(0));
        let lines = lines.map(|(name, view)| RunningLine { name: (*name).clone(), view: (*view).clone() });
        let lines = lines.collect();
        let stopping = self.cancelling.then(|| "cancelling: what runs is being ended".to_owned());
        Frame::new(&self.run, &self.milestones, (running.len(), lines), self.time_left(now), stopping)
    }

    /// The time left as it seems, at the speed since the picture began.
    fn time_left(&self, now: Timestamp) -> Option<Duration> {
        let (since, then) = self.began?;
        let done: u32 = self.milestones.iter().map(MilestoneView::done).sum();
        let total: u32 = self.milestones.iter().map(|milestone| milestone.total).sum();
        let (elapsed, fresh) = (now.since(since), done.saturating_sub(then));
        if fresh == 0 || elapsed.is_zero() {
            return None;
        }
        let each = elapsed.as_secs_f64() / f64::from(fresh);
        Duration::try_from_secs_f64(each * f64::from(total.saturating_sub(done))).ok()
    }
}

/// The count in which a task of that status is.
const fn count_of(milestone: &mut MilestoneView, status: TaskStatus) -> Option<&mut u32> {
    match status {
        TaskStatus::Pending | TaskStatus::Ready => None,
        TaskStatus::Dispatched | TaskStatus::InProgress => Some(&mut milestone.running),
        TaskStatus::Completed => Some(&mut milestone.completed),
        TaskStatus::Failed => Some(&mut milestone.failed),
        TaskStatus::Skipped | TaskStatus::Cancelled => Some(&mut milestone.dropped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> StatusBody {
        let task = |id: &str, status: &str| {
            json!({"id": id, "status": status, "attempt": 1, "agent": null, "exit_code": null, "progress": 0.25,
                   "started_at": "1970-01-01T00:00:05.000000Z", "finished_at": null, "duration_seconds": null,
                   "error": null})
        };
        let milestone = json!({"id": "build", "status": "active", "progress": 0.0, "due": null, "tasks_total": 3,
                               "tasks_completed": 1});
        serde_json::from_value(json!({
            "schema": 1, "run": "apollo.1", "project": "apollo", "status": "active", "progress": 0.0,
            "scale": null, "pattern": "direct", "storage": "file", "submitted_at": "1970-01-01T00:00:00.000000Z",
            "started_at": null, "finished_at": null, "counts": {}, "milestones": [milestone],
            "tasks": [task("build/a", "completed"), task("build/b", "in_progress"), task("build/c", "pending")],
            "forecast": null, "critical_path": [],
        }))
        .expect("a status")
    }

    fn second(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn what_the_status_knew_is_not_counted_again() {
        let mut model = Model::new(&status(), second(10));
        let shown = |model: &Model, at| {
            let frame = model.frame(second(at));
            (frame.sum.completed, frame.sum.failed, frame.running, frame.left)
        };
        assert_eq!(shown(&model, 10), (1, 0, 1, None));
        let took = Duration::from_secs(1);
        let completed = |task: &str| Change::Completed { task: task.to_owned(), attempt: 1, took };
        let started = |task: &str| Change::Started { task: task.to_owned(), attempt: 1, since: second(1) };
        // The status was taken after these.
        model.take(started("build/a"), second(1));
        model.take(completed("build/a"), second(2));
        assert_eq!(shown(&model, 20), (1, 0, 1, None));
        model.take(completed("build/b"), second(20));
        assert_eq!(shown(&model, 20), (2, 0, 0, Some(Duration::from_secs(10))));
        model.take(Change::Dispatched { task: "build/c".to_owned(), attempt: 1 }, second(21));
        assert_eq!(model.frame(second(21)).running, 0, "it may wait with the agent");
        model.take(started("build/c"), second(21));
        let message = "exit code 1".to_owned();
        let failed = Change::Failed { task: "build/c".to_owned(), attempt: 1, message, took };
        model.take(failed, second(22));
        assert_eq!(shown(&model, 30), (2, 1, 0, None));
        let wish = |part: Option<&str>| Change::Steered {
            what: TO_BE_CANCELLED,
            part: part.map(str::to_owned),
            reason: String::new(),
        };
        model.take(wish(Some("build/c")), second(31));
        assert_eq!(model.frame(second(31)).stopping, None);
        model.take(wish(None), second(31));
        assert!(model.frame(second(31)).stopping.is_some_and(|says| says.starts_with("cancelling")));
    }
}
