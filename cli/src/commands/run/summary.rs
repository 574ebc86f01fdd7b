//! What is said at the end of a run.

use super::local::Ended;
use crate::context::{Context, Format};
use crate::output;
use crate::style::{self, Paint, Style, count, grouped};
use cairn_agent::runner::tail;
use cairn_coordinator::projection::StatusView;
use cairn_engine::{State, TaskStatus};
use cairn_model::TaskIndex;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Failed tasks told of in full; the rest is counted.
const MAX_FAILURES: usize = 10;

/// Lines of a failed task's output that are shown.
const LAST_LINES: usize = 10;

/// Bytes of a failed task's output that are looked at.
const LAST_BYTES: u64 = 16 << 10;

/// Where a run stands: `40 of 100 tasks completed`.
pub fn standing(state: &State) -> String {
    let total = count(state.plan().task_count() as u64, "task", "tasks");
    format!("{} of {total} completed", grouped(state.count(TaskStatus::Completed).into()))
}

/// Prints the summary to stdout: text, or the run's status in the form that was asked for.
pub fn print(context: &Context, ended: &Ended, state_directory: &Path, resume_command: &str) {
    // A closed stdout changes nothing about the run.
    let _ = match context.format {
        Format::Text => {
            output::print_text(&text(ended, state_directory, resume_command, &Style::stdout(context)))
        }
        Format::Json | Format::Jsonl | Format::Yaml => {
            output::print_value(context, &StatusView::new(&ended.state))
        }
    };
}

fn text(ended: &Ended, state_directory: &Path, resume_command: &str, style: &Style) -> String {
    let state = &ended.state;
    let mut out = String::new();
    failures(&mut out, state, state_directory, style);
    let run = state.run();
    let sign = match run.status {
        status if status.is_final() => style.state(status),
        _ => style.paint(Paint::Warn, "interrupted"),
    };
    let took = run.finished_at.unwrap_or(state.last_event_at()).since(run.submitted_at);
    let _ = write!(out, "{} {sign} in {}: {}", run.id, style::duration(took), standing(state));
    for status in [TaskStatus::Failed, TaskStatus::Skipped, TaskStatus::Cancelled] {
        if state.count(status) > 0 {
            let _ = write!(out, ", {} {}", grouped(state.count(status).into()), status.name());
        }
    }
    let warnings: u32 = state
        .plan()
        .milestones()
        .iter()
        .enumerate()
        .map(|(index, _)| state.milestone(cairn_model::MilestoneIndex::new(index)).warnings)
        .sum();
    if warnings > 0 {
        let _ =
            write!(out, " ({} where the plan allows it)", count(u64::from(warnings), "failure", "failures"));
    }
    out.push('\n');
    if !run.status.is_final() {
        let _ = writeln!(out, "continue it with: {resume_command}");
    }
    out
}

/// The failed tasks, each with its cause and the last lines that it printed.
fn failures(out: &mut String, state: &State, state_directory: &Path, style: &Style) {
    let failed: Vec<TaskIndex> =
        state.plan().tasks().filter(|&task| state.task(task).status == TaskStatus::Failed).collect();
    for &task in failed.iter().take(MAX_FAILURES) {
        let message = state.failure(task).map_or("", |failure| failure.message.as_str());
        let row = state.task(task);
        let attempts = if row.attempt > 1 { format!(" (attempt {})", row.attempt) } else { String::new() };
        let _ = writeln!(
            out,
            "{} {}{attempts}: {message}",
            style.state(TaskStatus::Failed),
            state.plan().task_name(task)
        );
        let log = log_path(state_directory, state, task);
        // A task that printed nothing has no log.
        for line in tail(&log, LAST_LINES, LAST_BYTES).unwrap_or_default().lines() {
            let _ = writeln!(out, "    {line}");
        }
    }
    if failed.len() > MAX_FAILURES {
        let _ =
            writeln!(out, "and {} more failed: cairn status {}", failed.len() - MAX_FAILURES, state.run().id);
    }
}

/// Where the output of a task's newest attempt is.
fn log_path(state_directory: &Path, state: &State, task: TaskIndex) -> PathBuf {
    let plan = state.plan();
    let milestone = &plan.milestone(plan.milestone_of(task)).id;
    let file = format!("{}.{}.log", plan.task_id(task), state.task(task).attempt);
    state_directory.join("logs").join(&state.run().id).join(milestone).join(file)
}
