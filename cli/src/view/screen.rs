//! The live picture on a terminal.
//!
//! ```text
//! apollo.3  ████████████░░░░░░░░░░░░ 42 of 100  ✔ 40  ✖ 2  ● 2 running  about 1m10s left
//! build     ████████████████████████ 40 of 40
//! ship      ██░░░░░░░░░░░░░░░░░░░░░░  2 of 60
//!   ● ship/publish 12.1s 40% half way
//! ```

use super::canvas::{self, Size};
use super::model::{self, MilestoneView, Model, SharedModel};
use super::sign;
use crate::style::{self, Style};
use cairn_agent::runner::harmless;
use cairn_engine::TaskStatus;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::fmt::Write as _;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is painted.
const INTERVAL: Duration = Duration::from_millis(100);

/// Milestones shown at most; the rest is counted.
const MAX_MILESTONES: usize = 8;

/// Running tasks shown at most; the rest is counted.
const MAX_RUNNING: usize = 8;

/// Cells of a bar at most.
const BAR_CELLS: usize = 24;

/// Cells of a bar where there is hardly room.
const SHORT_BAR_CELLS: usize = 4;

/// Cells of a name before a bar at most.
const NAME_CELLS: usize = 24;

/// Cells that are kept for the counts behind a bar.
const COUNT_CELLS: usize = 36;

/// Paints until it is finished.
pub struct Painter {
    stop: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Painter {
    /// Starts to paint.
    pub fn start(model: SharedModel, clock: Clock, style: Style) -> Self {
        let (stop, stopped) = sync_channel(1);
        let paint = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let size = Size::of_stderr();
                let lines = picture(&model::lock(&model), clock.now(), size.columns, &style);
                canvas::paint(&lines, size);
            }
            canvas::paint(&[], Size::of_stderr());
        };
        // Without the thread there is no picture, and the run goes on.
        let thread = std::thread::Builder::new().name("cairn-view".to_owned()).spawn(paint).ok();
        Self { stop, thread }
    }

    /// Takes the picture off.
    pub fn finish(self) {
        let _ = self.stop.try_send(());
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

fn picture(model: &Model, now: Timestamp, columns: usize, style: &Style) -> Vec<String> {
    let sum = |part: fn(&MilestoneView) -> u32| model.milestones.iter().map(part).sum::<u32>();
    let (total, completed) = (sum(|one| one.total), sum(|one| one.completed));
    let (failed, dropped) = (sum(|one| one.failed), sum(|one| one.dropped));
    let unfinished: Vec<_> = model.milestones.iter().filter(|one| !one.is_over() && one.is_begun()).collect();
    let shown = if model.milestones.len() > 1 { unfinished.len().min(MAX_MILESTONES) } else { 0 };
    let names = unfinished[..shown].iter().map(|one| one.id.len()).chain([model.run.len()]);
    let width = names.max().unwrap_or(0).min(NAME_CELLS).min(columns / 3);
    let cells = columns.saturating_sub(width + COUNT_CELLS).clamp(SHORT_BAR_CELLS, BAR_CELLS);
    let done = completed + failed + dropped;
    let mut head =
        format!("{} {} {done} of {total}", padded(&model.run, width), style.bar(share(done, total), cells));
    for (status, count) in
        [(TaskStatus::Completed, completed), (TaskStatus::Failed, failed), (TaskStatus::Skipped, dropped)]
    {
        if count > 0 {
            let _ = write!(head, "  {} {count}", sign(style, status));
        }
    }
    let running = model.running_now();
    let _ = write!(head, "  {} {} running", sign(style, TaskStatus::InProgress), running.len());
    if let Some(left) = model.time_left(now).filter(|_| done < total) {
        let _ = write!(head, "  about {} left", style::duration(left));
    }
    let mut lines = vec![head];
    if let Some(reason) = &model.interrupted {
        lines.push(format!("{reason}: stopping what runs; once more kills it"));
    }
    for one in &unfinished[..shown] {
        let done = one.completed + one.failed + one.dropped;
        lines.push(format!(
            "{} {} {done} of {}",
            padded(&one.id, width),
            style.bar(share(done, one.total), cells),
            one.total
        ));
    }
    if shown > 0 && unfinished.len() > shown {
        lines.push(format!("  and {} more milestones", unfinished.len() - shown));
    }
    for (task, view) in running.iter().take(MAX_RUNNING.max(model.jobs.get().min(16))) {
        let mut line = format!(
            "  {} {} {}",
            sign(style, TaskStatus::InProgress),
            model.plan.task_name(*task),
            style::duration(now.since(view.since))
        );
        if view.attempt > 1 {
            let _ = write!(line, " attempt {}", view.attempt);
        }
        if view.permille > 0 {
            let _ = write!(line, " {}%", view.permille / 10);
        }
        if let Some(message) = &view.message {
            let _ = write!(line, " {}", harmless(message.as_bytes()).replace(['\n', '\t'], " "));
        }
        lines.push(line);
    }
    lines
}

impl MilestoneView {
    fn is_over(&self) -> bool {
        self.completed + self.failed + self.dropped == self.total
    }

    fn is_begun(&self) -> bool {
        self.completed + self.failed + self.dropped + self.running > 0
    }
}

fn share(done: u32, total: u32) -> f64 {
    if total == 0 { 1.0 } else { f64::from(done) / f64::from(total) }
}

fn padded(text: &str, width: usize) -> String {
    let cut: String = text.chars().take(width).collect();
    format!("{cut:width$}")
}
