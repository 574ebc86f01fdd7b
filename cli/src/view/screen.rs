//! The live picture on a terminal.
//!
//! ```text
//! apollo.3  ████████████░░░░░░░░░░░░ 42 of 100  ✔ 40  ✖ 2  ● 2 running  about 1m10s left
//! build     ████████████████████████ 40 of 40
//! ship      ██░░░░░░░░░░░░░░░░░░░░░░  2 of 60
//!   ● ship/publish 12.1s 40% half way
//! ```

use super::model::{self, MilestoneView, Model, SharedModel};
use super::sign;
use crate::style::{self, Style};
use cairn_agent::runner::harmless;
use cairn_engine::TaskStatus;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
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

/// Cells of a bar.
const BAR_CELLS: usize = 24;

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
            let mut canvas = Canvas::new();
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let lines = picture(&model::lock(&model), clock.now(), &style);
                canvas.paint(&lines);
            }
            canvas.clear();
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

/// Lines at the bottom of a terminal.
struct Canvas {
    lines: MultiProgress,
    bars: Vec<ProgressBar>,
    style: ProgressStyle,
}

impl Canvas {
    fn new() -> Self {
        let style =
            ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { lines: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()), bars: Vec::new(), style }
    }

    fn paint(&mut self, lines: &[String]) {
        while self.bars.len() > lines.len() {
            if let Some(bar) = self.bars.pop() {
                self.lines.remove(&bar);
            }
        }
        while self.bars.len() < lines.len() {
            let bar = self.lines.add(ProgressBar::new(1).with_style(self.style.clone()));
            self.bars.push(bar);
        }
        for (bar, line) in self.bars.iter().zip(lines) {
            bar.set_message(line.clone());
        }
    }

    fn clear(self) {
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
        // A terminal that has gone away needs no clearing.
        let _ = self.lines.clear();
    }
}

fn picture(model: &Model, now: Timestamp, style: &Style) -> Vec<String> {
    let sum = |part: fn(&MilestoneView) -> u32| model.milestones.iter().map(part).sum::<u32>();
    let (total, completed) = (sum(|one| one.total), sum(|one| one.completed));
    let (failed, dropped) = (sum(|one| one.failed), sum(|one| one.dropped));
    let unfinished: Vec<_> = model.milestones.iter().filter(|one| !one.is_over() && one.is_begun()).collect();
    let shown = if model.milestones.len() > 1 { unfinished.len().min(MAX_MILESTONES) } else { 0 };
    let names = unfinished[..shown].iter().map(|one| one.id.len()).chain([model.run.len()]);
    let width = names.max().unwrap_or(0).min(24);
    let done = completed + failed + dropped;
    let mut head = format!(
        "{} {} {done} of {total}",
        padded(&model.run, width),
        style.bar(share(done, total), BAR_CELLS)
    );
    for (status, count) in
        [(TaskStatus::Completed, completed), (TaskStatus::Failed, failed), (TaskStatus::Skipped, dropped)]
    {
        if count > 0 {
            let _ = write!(head, "  {} {count}", sign(style, status));
        }
    }
    let _ = write!(head, "  {} {} running", sign(style, TaskStatus::InProgress), model.running.len());
    if let Some(left) = model.time_left(now).filter(|_| done < total) {
        let _ = write!(head, "  about {} left", style::duration(left));
    }
    let mut lines = vec![head];
    for one in &unfinished[..shown] {
        let done = one.completed + one.failed + one.dropped;
        lines.push(format!(
            "{} {} {done} of {}",
            padded(&one.id, width),
            style.bar(share(done, one.total), BAR_CELLS),
            one.total
        ));
    }
    if shown > 0 && unfinished.len() > shown {
        lines.push(format!("  and {} more milestones", unfinished.len() - shown));
    }
    let mut running: Vec<_> = model.running.iter().collect();
    running.sort_by_key(|(_, view)| view.since);
    for (task, view) in running.iter().take(MAX_RUNNING.max(model.jobs.get().min(16))) {
        let mut line = format!(
            "  {} {} {}",
            sign(style, TaskStatus::InProgress),
            model.plan.task_name(**task),
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
