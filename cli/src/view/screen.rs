//! The live picture on a terminal.
//!
//! ```text
//! apollo.3  ████████████░░░░░░░░░░░░ 42 of 100  ✔ 40  ✖ 2  ● 2 running  about 1m10s left
//! build     ████████████████████████ 40 of 40
//! ship      ██░░░░░░░░░░░░░░░░░░░░░░  2 of 60
//!   ● ship/publish 12.1s 40% half way
//! ```

use super::canvas::{self, Size};
use super::frame::Frame;
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
    /// Starts to paint what `frame` has to show.
    pub fn start(frame: impl Fn(Timestamp) -> Frame + Send + 'static, clock: Clock, style: Style) -> Self {
        let (stop, stopped) = sync_channel(1);
        let paint = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let size = Size::of_stderr();
                let now = clock.now();
                let lines = picture(&frame(now), now, size.columns, &style);
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

fn picture(frame: &Frame, now: Timestamp, columns: usize, style: &Style) -> Vec<String> {
    let Frame { sum, milestones, .. } = frame;
    let names = milestones.iter().map(|one| one.id.len()).chain([frame.run.len()]);
    let width = names.max().unwrap_or(0).min(NAME_CELLS).min(columns / 3);
    let cells = columns.saturating_sub(width + COUNT_CELLS).clamp(SHORT_BAR_CELLS, BAR_CELLS);
    let bar = |name: &str, done: u32, total: u32| {
        format!("{} {} {done} of {total}", padded(name, width), style.bar(share(done, total), cells))
    };
    let mut head = bar(&frame.run, sum.done(), sum.total);
    for (status, count) in [
        (TaskStatus::Completed, sum.completed),
        (TaskStatus::Failed, sum.failed),
        (TaskStatus::Skipped, sum.dropped),
    ] {
        if count > 0 {
            let _ = write!(head, "  {} {count}", sign(style, status));
        }
    }
    let _ = write!(head, "  {} {} running", sign(style, TaskStatus::InProgress), frame.running);
    if let Some(left) = frame.left {
        let _ = write!(head, "  about {} left", style::duration(left));
    }
    let mut lines = vec![head];
    lines.extend(frame.stopping.clone());
    lines.extend(milestones.iter().map(|one| bar(&one.id, one.done(), one.total)));
    if frame.more_milestones > 0 {
        lines.push(format!("  and {} more milestones", frame.more_milestones));
    }
    for line in &frame.lines {
        let view = &line.view;
        let mut text = format!(
            "  {} {} {}",
            sign(style, TaskStatus::InProgress),
            line.name,
            style::duration(now.since(view.since))
        );
        if view.attempt > 1 {
            let _ = write!(text, " attempt {}", view.attempt);
        }
        if view.permille > 0 {
            let _ = write!(text, " {}%", view.permille / 10);
        }
        if let Some(message) = &view.message {
            let _ = write!(text, " {}", harmless(message.as_bytes()).replace(['\n', '\t'], " "));
        }
        lines.push(text);
    }
    lines
}

fn share(done: u32, total: u32) -> f64 {
    if total == 0 { 1.0 } else { f64::from(done) / f64::from(total) }
}

fn padded(text: &str, width: usize) -> String {
    let cut: String = text.chars().take(width).collect();
    format!("{cut:width$}")
}
