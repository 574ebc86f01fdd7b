//! A YAML file for each milestone of a run, for people to read: `active/RUN/MILESTONE.yaml`, moved to
//! `completed/RUN/` when the run has ended.
//!
//! A projection: written at most once a second, each file whole or not at all, never read back, and not synced;
//! what a crash spoils is written anew when the run goes on. Writing happens on a thread of its own; while that
//! lags behind, changes gather and are written later.

use super::status::milestone_progress;
use crate::runtime::Update;
use cairn_engine::{RunStatus, State, TaskStatus};
use cairn_model::{Event, MilestoneIndex, Scope, TaskIndex};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Beyond so many tasks in a run the files hold counts only: nobody reads ten thousand rows, and they would have
/// to be written again each second.
pub const MAX_LISTED_TASKS: usize = 10_000;

/// Files of one refresh; the rest follows at the next.
const MAX_FILES_A_REFRESH: usize = 256;

/// Files that may wait to be written.
const QUEUE_DEPTH: usize = 2 * MAX_FILES_A_REFRESH;

enum Job {
    Write { milestone: String, text: String },
    Complete,
}

/// Keeps the files of one run up to date.
#[derive(Debug)]
pub struct MilestoneFiles {
    dirty: Vec<bool>,
    /// Where the next refresh begins, so that those that change all the time keep nobody waiting.
    next: usize,
    jobs: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl MilestoneFiles {
    /// Files for the run of `state` in a state directory. Without a thread to write them there are none.
    #[must_use]
    pub fn new(state_directory: &Path, run: &str, state: &State) -> Self {
        let (jobs, waiting) = sync_channel(QUEUE_DEPTH);
        let active = state_directory.join("active").join(run);
        let completed = state_directory.join("completed").join(run);
        let is_open = !state.run().status.is_final();
        let write = move || {
            if is_open && let Err(error) = reopen(&completed) {
                tracing::warn!(directory = %completed.display(), %error, "cannot remove files of a run that goes on");
            }
            write_all(&waiting, &active, &completed);
        };
        let writer = std::thread::Builder::new().name("cairn-files".to_owned()).spawn(write).ok();
        Self { dirty: vec![true; state.plan().milestones().len()], next: 0, jobs: Some(jobs), writer }
    }

    /// Takes durable events in; at a refresh (no events) writes what has changed.
    pub fn observe(&mut self, update: &Update<'_>) {
        let plan = update.state.plan();
        for event in update.events {
            match event.milestone(plan) {
                Some(milestone) => self.dirty[milestone.get()] = true,
                None if touches_all(event) => self.dirty.fill(true),
                None => {}
            }
        }
        if update.events.is_empty() {
            self.refresh(update.state);
        }
    }

    fn refresh(&mut self, state: &State) {
        let Some(jobs) = &self.jobs else { return };
        let run = state.run();
        let is_last = run.status.is_final() || (run.interrupted && state.attempts_out() == 0);
        let most = if is_last { usize::MAX } else { MAX_FILES_A_REFRESH };
        let mut due: Vec<usize> = (0..self.dirty.len()).filter(|&index| self.dirty[index]).collect();
        let later = due.partition_point(|&index| index < self.next);
        due.rotate_left(later);
        for index in due.into_iter().take(most) {
            let milestone = MilestoneIndex::new(index);
            let job = Job::Write {
                milestone: state.plan().milestone(milestone).id.clone(),
                text: render(state, milestone),
            };
            let sent = if is_last {
                jobs.send(job).map_err(|error| TrySendError::Disconnected(error.0))
            } else {
                jobs.try_send(job)
            };
            if sent.is_err() {
                return;
            }
            self.dirty[index] = false;
            self.next = index + 1;
        }
        if state.run().status.is_final() && jobs.send(Job::Complete).is_ok() {
            self.jobs = None;
        }
    }
}

impl Drop for MilestoneFiles {
    /// Waits until what was handed over is written.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Whether all files tell of an event of the run as a whole: that it is paused, was stopped, or has ended.
fn touches_all(event: &Event) -> bool {
    match event {
        Event::OwnerChanged { .. } | Event::RunInterrupted { .. } => true,
        Event::RunCompleted { .. } | Event::RunFailed | Event::RunCancelled | Event::RunReopened => true,
        Event::Paused { scope, .. } | Event::Resumed { scope } | Event::CancelRequested { scope, .. } => {
            *scope == Scope::Run
        }
        _ => false,
    }
}

fn write_all(jobs: &Receiver<Job>, active: &Path, completed: &Path) {
    for job in jobs {
        let done = match job {
            Job::Write { milestone, text } => write(active, &milestone, &text),
            Job::Complete => complete(active, completed),
        };
        if let Err(error) = done {
            // The log is the truth; whoever reads these files is told that they are not up to date.
            tracing::warn!(directory = %active.display(), %error, "cannot write a milestone's file");
        }
    }
}

fn write(directory: &Path, milestone: &str, text: &str) -> io::Result<()> {
    let path: PathBuf = directory.join(format!("{milestone}.yaml"));
    let draft = directory.join(format!("{milestone}.yaml.tmp"));
    if let Err(error) = fs::write(&draft, text) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        fs::create_dir_all(directory)?;
        fs::write(&draft, text)?;
    }
    fs::rename(draft, path)
}

fn complete(active: &Path, completed: &Path) -> io::Result<()> {
    if let Some(parent) = completed.parent() {
        fs::create_dir_all(parent)?;
    }
    if completed.try_exists()? {
        fs::remove_dir_all(completed)?;
    }
    fs::rename(active, completed)
}

/// A run that had ended goes on: what was kept of its end is not true any more, and all is written anew.
fn reopen(completed: &Path) -> io::Result<()> {
    if completed.try_exists()? { fs::remove_dir_all(completed) } else { Ok(()) }
}

/// The file of a milestone.
fn render(state: &State, index: MilestoneIndex) -> String {
    let (plan, milestone) = (state.plan(), state.plan().milestone(index));
    let tally = state.milestone(index);
    let mut out = String::with_capacity(512);
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{key}: {value}");
    };
    line("schema", &1);
    line("run", &state.run().id);
    line("milestone", &quoted(&milestone.id));
    for (key, text) in [("title", &milestone.title), ("owner", &milestone.owner)] {
        if let Some(text) = text {
            line(key, &quoted(text));
        }
    }
    if let Some(due) = milestone.due {
        line("due", &due);
    }
    line("status", &tally.status.name());
    if state.run().status == RunStatus::Paused || state.run().interrupted {
        line("run_status", &"paused");
    }
    let total = plan.tasks_of(index).len();
    line("progress", &format_args!("{:.3}", milestone_progress(state, index)));
    for (key, at) in [("started_at", tally.started_at), ("finished_at", tally.finished_at)] {
        if let Some(at) = at {
            line(key, &at);
        }
    }
    let (completed, failed) = (tally.completed, tally.failed + tally.warnings);
    let (skipped, cancelled, open) = (tally.skipped, tally.cancelled, tally.open);
    let counts = format!(
        "{{open: {open}, completed: {completed}, failed: {failed}, skipped: {skipped}, cancelled: {cancelled}}}"
    );
    line("tasks_total", &total);
    line("counts", &counts);
    if plan.task_count() <= MAX_LISTED_TASKS && total > 0 {
        out.push_str("tasks:\n");
        plan.tasks_of(index).for_each(|task| render_task(&mut out, state, task));
    }
    out
}

fn render_task(out: &mut String, state: &State, task: TaskIndex) {
    let row = state.task(task);
    let _ = write!(out, "  - {{id: {}, status: {}", quoted(state.plan().task_id(task)), row.status.name());
    if row.attempt > 0 {
        let _ = write!(out, ", attempt: {}", row.attempt);
    }
    if matches!(row.status, TaskStatus::InProgress | TaskStatus::Completed | TaskStatus::Failed) {
        let _ = write!(out, ", started_at: {}", row.since);
    }
    if row.status.is_final() && row.attempt > 0 {
        let _ = write!(out, ", duration_seconds: {}", row.duration.as_secs_f64());
    }
    if row.status == TaskStatus::InProgress && row.permille > 0 {
        let _ = write!(out, ", progress: {}", f64::from(row.permille) / 1000.0);
    }
    if let Some(failure) = state.failure(task) {
        let _ =
            write!(out, ", error: {{kind: {}, message: {}}}", failure.kind.name(), quoted(&failure.message));
    }
    if let Some(cause) = row.skipped_because_of() {
        let _ = write!(out, ", because_of: {}", quoted(&state.plan().task_name(cause)));
    }
    out.push_str("}\n");
}

/// A string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
