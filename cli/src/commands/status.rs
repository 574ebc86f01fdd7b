//! `cairn status`: where a run stands.

use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::state_directory::{exit_of, find, load, now, open, resume_command, writer};
use crate::style::{Cell, Paint, Style, count, duration, grouped, moment, percent, table};
use crate::view;
use cairn_agent::runner::harmless;
use cairn_coordinator::projection::{StatusView, TaskView, milestone_progress, progress};
use cairn_coordinator::runtime::LoadedRun;
use cairn_engine::{MilestoneStatus, State, TaskStatus};
use cairn_model::{MilestoneIndex, TaskIndex, Timestamp};
use std::fmt::Write as _;

/// Show where a run stands
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run: `apollo.3`, or `apollo` for its newest; may be left out if there is but one project
    run: Option<String>,
    /// Show all milestones and tasks
    #[arg(long)]
    all: bool,
    /// End like the run: 0 completed, 1 tasks failed, 6 cancelled, 7 has not ended, 8 unplaceable
    #[arg(long)]
    exit_status: bool,
}

const EXAMPLES: &str = "\
Examples:
  cairn status
  cairn status apollo.3 --all
  cairn status apollo --output json | jq .progress
  cairn status apollo --exit-status && ./release.sh";

/// Tasks, and milestones, that are shown without `--all`.
const MAX_ROWS: usize = 20;
/// Cells of a milestone's bar.
const BAR: usize = 20;

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let reader = open(context)?;
    let run = load(context, &reader, &find(&reader, args.run.as_deref())?)?;
    let is_unfinished = !run.state.run().status.is_final();
    let writer = if is_unfinished { writer(context) } else { None };
    if context.format == Format::Text {
        let shown = Shown {
            state: &run.state,
            now: now(&run.state, writer.as_ref()),
            limit: if args.all { usize::MAX } else { MAX_ROWS },
            style: Style::stdout(context),
        };
        print_text(&text(&shown, &run))?;
    } else {
        print_value(context, &StatusView::new(&run.state))?;
    }
    if is_unfinished && writer.is_none() {
        let id = &run.submitted.run;
        let command = resume_command(context, &run.submitted);
        view::note(context, &format!("no process works on {id} now; continue it with: {command}"));
    }
    Ok(if args.exit_status { exit_of(&run.state) } else { Exit::Done })
}

struct Shown<'a> {
    state: &'a State,
    now: Timestamp,
    limit: usize,
    style: Style,
}

fn text(shown: &Shown<'_>, run: &LoadedRun) -> String {
    let mut out = head(shown, run);
    out.push('\n');
    milestones(shown, &mut out);
    tasks(shown, &mut out);
    out
}

fn head(shown: &Shown<'_>, loaded: &LoadedRun) -> String {
    let Shown { state, style, .. } = shown;
    let run = state.run();
    let mut out = format!(
        "{} {}  {}  {} of {}",
        style.paint(Paint::Bold, &run.id),
        style.state(run.status),
        percent(progress(state)).trim_start(),
        grouped(u64::from(state.count(TaskStatus::Completed))),
        count(state.plan().task_count() as u64, "task", "tasks"),
    );
    for status in [TaskStatus::InProgress, TaskStatus::Failed, TaskStatus::Skipped, TaskStatus::Cancelled] {
        if state.count(status) > 0 {
            let _ = write!(out, ", {} {}", grouped(u64::from(state.count(status))), status.name());
        }
    }
    let _ = write!(out, "\nsubmitted {}", moment(run.submitted_at));
    let took = duration(run.finished_at.unwrap_or(shown.now).since(run.submitted_at));
    let _ = match run.finished_at {
        Some(at) => write!(out, ", ended {} after {took}", moment(at)),
        None if run.interrupted => write!(out, ", interrupted after {took}"),
        None => write!(out, ", for {took} so far"),
    };
    let _ = writeln!(out, "\nplan {}", one_line(&loaded.submitted.plan_name));
    out
}

fn one_line(text: &str) -> String {
    harmless(text.trim_end().as_bytes()).replace(['\n', '\t'], " ")
}

fn milestones(shown: &Shown<'_>, out: &mut String) {
    let Shown { state, style, .. } = shown;
    let mut all: Vec<_> = (0..state.plan().milestones().len()).map(MilestoneIndex::new).collect();
    let omitted = all.len().saturating_sub(shown.limit);
    if omitted > 0 {
        // What is of interest goes first, and is shown in the order of the plan.
        all.sort_by_key(|&milestone| (milestone_interest(state.milestone(milestone).status), milestone));
        all.truncate(shown.limit);
        all.sort_unstable();
    }
    let rows = all.into_iter().map(|index| milestone_row(shown, index));
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
    if omitted > 0 {
        let _ = writeln!(
            out,
            "  and {}; --all shows them",
            count(omitted as u64, "more milestone", "more milestones")
        );
    }
}

const fn milestone_interest(status: MilestoneStatus) -> u8 {
    match status {
        MilestoneStatus::Failed => 0,
        MilestoneStatus::Active | MilestoneStatus::Paused => 1,
        MilestoneStatus::Planned => 2,
        MilestoneStatus::Cancelled | MilestoneStatus::Skipped => 3,
        MilestoneStatus::Completed => 4,
    }
}

fn milestone_row(shown: &Shown<'_>, index: MilestoneIndex) -> Vec<Cell> {
    let Shown { state, style, .. } = shown;
    let (milestone, row) = (state.plan().milestone(index), state.milestone(index));
    let share = milestone_progress(state, index);
    let tasks = state.plan().tasks_of(index).len();
    let took = row.started_at.map(|at| duration(row.finished_at.unwrap_or(shown.now).since(at)));
    let due = match milestone.due {
        Some(due) if row.finished_at.unwrap_or(shown.now) > due => {
            Cell::new(format!("late: was due {}", moment(due))).paint(Paint::Warn)
        }
        Some(due) => Cell::new(format!("due {}", moment(due))).paint(Paint::Dim),
        None => Cell::new(""),
    };
    vec![
        Cell::state(style, row.status),
        Cell::new(milestone.id.clone()).paint(Paint::Bold),
        Cell::new(style.bar(share, BAR)),
        Cell::right(percent(share).trim_start()),
        Cell::right(format!("{}/{}", grouped(u64::from(row.completed)), grouped(tasks as u64))),
        Cell::right(took.unwrap_or_default()).paint(Paint::Dim),
        due,
    ]
}

fn tasks(shown: &Shown<'_>, out: &mut String) {
    let Shown { state, style, .. } = shown;
    let mut all: Vec<(u8, TaskIndex)> =
        state.plan().tasks().map(|task| (task_interest(state, task), task)).collect();
    all.sort_unstable();
    if all.is_empty() {
        return;
    }
    out.push('\n');
    let rows = all.iter().take(shown.limit).map(|&(_, task)| task_row(shown, task));
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
    let omitted = &all[all.len().min(shown.limit)..];
    if omitted.is_empty() {
        return;
    }
    let kinds = TaskStatus::ALL.iter().filter_map(|status| {
        let of_kind = omitted.iter().filter(|(_, task)| state.task(*task).status == *status).count();
        (of_kind > 0).then(|| format!("{} {}", grouped(of_kind as u64), status.name()))
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        out,
        "  and {} ({kinds}); --all shows them",
        count(omitted.len() as u64, "more task", "more tasks")
    );
}

/// What asks for attention goes first.
fn task_interest(state: &State, task: TaskIndex) -> u8 {
    match state.task(task).status {
        TaskStatus::Failed => 0,
        TaskStatus::InProgress => 1,
        TaskStatus::Dispatched => 2,
        TaskStatus::Pending if state.retry_at(task).is_some() => 3,
        TaskStatus::Ready => 4,
        TaskStatus::Cancelled => 5,
        TaskStatus::Skipped => 6,
        TaskStatus::Pending => 7,
        TaskStatus::Completed => 8,
    }
}

fn task_row(shown: &Shown<'_>, task: TaskIndex) -> Vec<Cell> {
    let Shown { state, style, now, .. } = shown;
    let row = state.task(task);
    let view = TaskView::new(state, task);
    let took = match row.status {
        TaskStatus::InProgress => duration(now.since(row.since)),
        status if status.is_final() && view.attempt > 0 => duration(row.duration),
        _ => String::new(),
    };
    let was_here = row.status.is_out() || row.status.is_final();
    let agent = view.agent.filter(|_| was_here);
    let attempt = if view.attempt > 1 { format!("attempt {}", view.attempt) } else { String::new() };
    vec![
        Cell::state(style, row.status),
        Cell::new(view.id.clone()),
        Cell::right(took).paint(Paint::Dim),
        Cell::new(agent.unwrap_or_default()).paint(Paint::Dim),
        Cell::new(attempt).paint(Paint::Dim),
        Cell::new(detail(shown, task, &view)),
    ]
}

fn detail(shown: &Shown<'_>, task: TaskIndex, view: &TaskView<'_>) -> String {
    let message = shown.state.message(task).map(one_line).unwrap_or_default();
    let error = view.error.as_ref().map(|error| one_line(&error.message));
    match view.status {
        TaskStatus::InProgress if view.progress > 0.0 => {
            format!("{} {message}", percent(view.progress).trim_start())
        }
        TaskStatus::InProgress => message,
        TaskStatus::Pending => match shown.state.retry_at(task) {
            Some(at) => {
                let wait = duration(at.since(shown.now));
                format!("next attempt in {wait}: {}", error.unwrap_or_default())
            }
            None => String::new(),
        },
        _ => error.unwrap_or_default(),
    }
}
