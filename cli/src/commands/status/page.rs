//! What people are shown of a run, wherever it was read from: the rows that are of interest, ready to be printed.

use crate::style::{Cell, Paint, Style, count, duration, grouped, moment, percent, table};
use cairn_agent::runner::harmless;
use cairn_engine::{MilestoneStatus, RunStatus, TaskStatus};
use cairn_model::Timestamp;
use std::fmt::Write as _;
use std::time::Duration;

/// Cells of a milestone's bar.
const BAR: usize = 20;

/// A run.
#[derive(Debug)]
pub struct Page {
    /// The run.
    pub run: String,
    /// Where it stands.
    pub status: RunStatus,
    /// It was stopped, to be continued later.
    pub interrupted: bool,
    /// Somebody asked for its end, which has not come yet.
    pub cancelling: bool,
    /// The share of it that is done.
    pub progress: f64,
    /// Tasks of the plan.
    pub tasks_total: u64,
    /// How many tasks are in each status.
    pub counts: Vec<(TaskStatus, u64)>,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The time.
    pub now: Timestamp,
    /// What the plan was called, if that is known.
    pub plan: Option<String>,
    /// Milestones that are shown.
    pub milestones: Vec<MilestoneLine>,
    /// Further milestones.
    pub more_milestones: u64,
    /// Tasks that are shown.
    pub tasks: Vec<TaskLine>,
    /// Further tasks, by status.
    pub more_tasks: Vec<(TaskStatus, u64)>,
}

/// A milestone.
#[derive(Debug)]
pub struct MilestoneLine {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: MilestoneStatus,
    /// The share of it that is done.
    pub progress: f64,
    /// Its tasks.
    pub total: u64,
    /// Its tasks that are completed.
    pub completed: u64,
    /// How long it has taken, if that is known.
    pub took: Option<Duration>,
    /// When it is due.
    pub due: Option<Timestamp>,
    /// It was not done when it was due.
    pub is_late: bool,
}

/// A task.
#[derive(Debug)]
pub struct TaskLine {
    /// `milestone/task`.
    pub id: String,
    /// Where it stands.
    pub status: TaskStatus,
    /// How long it has taken.
    pub took: Option<Duration>,
    /// The agent, if it is, or was, with one.
    pub agent: Option<String>,
    /// Which attempt.
    pub attempt: u32,
    /// What there is to say.
    pub detail: String,
}

/// Which milestones are shown first where there is no room for all.
pub const fn milestone_interest(status: MilestoneStatus) -> u8 {
    match status {
        MilestoneStatus::Failed => 0,
        MilestoneStatus::Active | MilestoneStatus::Paused => 1,
        MilestoneStatus::Planned => 2,
        MilestoneStatus::Cancelled | MilestoneStatus::Skipped => 3,
        MilestoneStatus::Completed => 4,
    }
}

/// Which tasks are shown first: what asks for attention. A task that waits for its next attempt is of more interest
/// than one that was never tried.
pub const fn task_interest(status: TaskStatus, is_retried: bool) -> u8 {
    match status {
        TaskStatus::Failed => 0,
        TaskStatus::InProgress => 1,
        TaskStatus::Dispatched => 2,
        TaskStatus::Pending if is_retried => 3,
        TaskStatus::Ready => 4,
        TaskStatus::Cancelled => 5,
        TaskStatus::Skipped => 6,
        TaskStatus::Pending => 7,
        TaskStatus::Completed => 8,
    }
}

/// Text of a plan or a task, on one line and harmless.
pub fn one_line(text: &str) -> String {
    harmless(text.trim_end().as_bytes()).replace(['\n', '\t'], " ")
}

impl Page {
    fn count(&self, of: TaskStatus) -> u64 {
        self.counts.iter().find(|(status, _)| *status == of).map_or(0, |(_, count)| *count)
    }

    /// The page as text.
    pub fn text(&self, style: &Style) -> String {
        let mut out = self.head(style);
        out.push('\n');
        let rows = self.milestones.iter().map(|milestone| milestone.row(style));
        out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
        if self.more_milestones > 0 {
            let more = count(self.more_milestones, "more milestone", "more milestones");
            let _ = writeln!(out, "  and {more}; --all shows them");
        }
        if !self.tasks.is_empty() {
            out.push('\n');
            let rows = self.tasks.iter().map(|task| task.row(style));
            out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
        }
        let more: u64 = self.more_tasks.iter().map(|(_, count)| count).sum();
        if more > 0 {
            let kinds = self.more_tasks.iter().filter(|(_, count)| *count > 0);
            let kinds = kinds.map(|(status, count)| format!("{} {}", grouped(*count), status.name()));
            let kinds = kinds.collect::<Vec<_>>().join(", ");
            let more = count(more, "more task", "more tasks");
            let _ = writeln!(out, "  and {more} ({kinds}); --all shows them");
        }
        out
    }

    fn head(&self, style: &Style) -> String {
        let mut out = format!(
            "{} {}  {}  {} of {}",
            style.paint(Paint::Bold, &self.run),
            style.state(self.status),
            percent(self.progress).trim_start(),
            grouped(self.count(TaskStatus::Completed)),
            count(self.tasks_total, "task", "tasks"),
        );
        for status in [TaskStatus::InProgress, TaskStatus::Failed, TaskStatus::Skipped, TaskStatus::Cancelled]
        {
            if self.count(status) > 0 {
                let _ = write!(out, ", {} {}", grouped(self.count(status)), status.name());
            }
        }
        let _ = write!(out, "\nsubmitted {}", moment(self.submitted_at));
        let took = duration(self.finished_at.unwrap_or(self.now).since(self.submitted_at));
        let _ = match self.finished_at {
            Some(at) => writeln!(out, ", ended {} after {took}", moment(at)),
            None if self.cancelling => writeln!(out, ", cancelling, for {took} so far"),
            None if self.interrupted => writeln!(out, ", interrupted after {took}"),
            None => writeln!(out, ", for {took} so far"),
        };
        if let Some(plan) = &self.plan {
            let _ = writeln!(out, "plan {}", one_line(plan));
        }
        out
    }
}

impl MilestoneLine {
    fn row(&self, style: &Style) -> Vec<Cell> {
        let due = match self.due {
            Some(due) if self.is_late => {
                Cell::new(format!("late: was due {}", moment(due))).paint(Paint::Warn)
            }
            Some(due) => Cell::new(format!("due {}", moment(due))).paint(Paint::Dim),
            None => Cell::new(""),
        };
        vec![
            Cell::state(style, self.status),
            Cell::new(self.id.clone()).paint(Paint::Bold),
            Cell::new(style.bar(self.progress, BAR)),
            Cell::right(percent(self.progress).trim_start()),
            Cell::right(format!("{}/{}", grouped(self.completed), grouped(self.total))),
            Cell::right(self.took.map(duration).unwrap_or_default()).paint(Paint::Dim),
            due,
        ]
    }
}

impl TaskLine {
    fn row(&self, style: &Style) -> Vec<Cell> {
        let attempt = if self.attempt > 1 { format!("attempt {}", self.attempt) } else { String::new() };
        let was_here = self.status.is_out() || self.status.is_final();
        let agent = self.agent.as_deref().filter(|_| was_here).map(one_line);
        vec![
            Cell::state(style, self.status),
            Cell::new(self.id.clone()),
            Cell::right(self.took.map(duration).unwrap_or_default()).paint(Paint::Dim),
            Cell::new(agent.unwrap_or_default()).paint(Paint::Dim),
            Cell::new(attempt).paint(Paint::Dim),
            Cell::new(self.detail.clone()),
        ]
    }
}
