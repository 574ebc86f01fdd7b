//! The status of a run of the state directory.

use super::page::{MilestoneLine, Page, TaskLine, milestone_interest, one_line, task_interest};
use super::{Args, MAX_ROWS};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::state_directory::{exit_of, find, load, load_at, now, open, resume_command, writer};
use crate::style::{Style, duration, percent};
use crate::view;
use cairn_coordinator::projection::{StatusView, TaskView, milestone_progress, progress};
use cairn_coordinator::runtime::LoadedRun;
use cairn_engine::{State, TaskStatus};
use cairn_model::{MilestoneIndex, TaskIndex, Timestamp};

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let reader = open(context)?;
    let found = find(&*reader, args.run.as_deref())?;
    let run = match args.at {
        None => load(context, &*reader, &found)?,
        Some(at) => {
            let name = args.run.as_deref().unwrap_or_else(|| found.run.project());
            load_at(context, &*reader, name, at)?
        }
    };
    // What was has no process, and its clock stands still.
    let is_unfinished = args.at.is_none() && !run.state.run().status.is_final();
    let writer = if is_unfinished { writer(context) } else { None };
    if context.format == Format::Text {
        let limit = if args.all { usize::MAX } else { MAX_ROWS };
        let page = page(&run, now(&run.state, writer.as_ref()), limit);
        print_text(&page.text(&Style::stdout(context)))?;
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

fn page(loaded: &LoadedRun, now: Timestamp, limit: usize) -> Page {
    let state = &loaded.state;
    let (run, plan) = (state.run(), state.plan());
    let milestones = milestones(state, limit);
    let (tasks, rest) = tasks(state, limit);
    Page {
        run: run.id.clone(),
        status: run.status,
        interrupted: run.interrupted,
        cancelling: run.cancelling && !run.status.is_final(),
        progress: progress(state),
        tasks_total: plan.task_count() as u64,
        counts: TaskStatus::ALL.iter().map(|&status| (status, u64::from(state.count(status)))).collect(),
        submitted_at: run.submitted_at,
        finished_at: run.finished_at,
        now,
        plan: Some(loaded.submitted.plan_name.clone()),
        more_milestones: (plan.milestones().len() - milestones.len()) as u64,
        milestones: milestones.into_iter().map(|index| milestone_line(state, index, now)).collect(),
        more_tasks: rest,
        tasks: tasks.into_iter().map(|task| task_line(state, task, now)).collect(),
    }
}

/// The milestones to show, in the order of the plan.
fn milestones(state: &State, limit: usize) -> Vec<MilestoneIndex> {
    let mut all: Vec<_> = (0..state.plan().milestones().len()).map(MilestoneIndex::new).collect();
    if all.len() > limit {
        // What is of interest goes first, and is shown in the order of the plan.
        all.sort_by_key(|&milestone| (milestone_interest(state.milestone(milestone).status), milestone));
        all.truncate(limit);
        all.sort_unstable();
    }
    all
}

/// The tasks to show, what asks for attention first, and how many more there are.
fn tasks(state: &State, limit: usize) -> (Vec<TaskIndex>, Vec<(TaskStatus, u64)>) {
    let interest = |task| task_interest(state.task(task).status, state.retry_at(task).is_some());
    let mut all: Vec<(u8, TaskIndex)> = state.plan().tasks().map(|task| (interest(task), task)).collect();
    all.sort_unstable();
    let omitted = all.split_off(all.len().min(limit));
    let kinds = TaskStatus::ALL.iter().map(|&status| {
        let of_kind = omitted.iter().filter(|(_, task)| state.task(*task).status == status).count();
        (status, of_kind as u64)
    });
    let kinds = if omitted.is_empty() { Vec::new() } else { kinds.collect() };
    (all.into_iter().map(|(_, task)| task).collect(), kinds)
}

fn milestone_line(state: &State, index: MilestoneIndex, now: Timestamp) -> MilestoneLine {
    let (milestone, row) = (state.plan().milestone(index), state.milestone(index));
    let until = row.finished_at.unwrap_or(now);
    MilestoneLine {
        id: milestone.id.clone(),
        status: row.status,
        progress: milestone_progress(state, index),
        total: state.plan().tasks_of(index).len() as u64,
        completed: u64::from(row.completed),
        took: row.started_at.map(|at| until.since(at)),
        due: milestone.due,
        is_late: milestone.due.is_some_and(|due| until > due),
    }
}

fn task_line(state: &State, task: TaskIndex, now: Timestamp) -> TaskLine {
    let row = state.task(task);
    let view = TaskView::new(state, task);
    let detail = detail(state, task, &view, now);
    TaskLine {
        took: match row.status {
            TaskStatus::InProgress => Some(now.since(row.since)),
            status if status.is_final() && view.attempt > 0 => Some(row.duration),
            _ => None,
        },
        status: row.status,
        agent: view.agent.map(str::to_owned),
        attempt: view.attempt,
        detail,
        id: view.id,
    }
}

fn detail(state: &State, task: TaskIndex, view: &TaskView<'_>, now: Timestamp) -> String {
    let message = state.message(task).map(one_line).unwrap_or_default();
    let error = view.error.as_ref().map(|error| one_line(&error.message));
    match view.status {
        _ if view.cancelling => "cancelling".to_owned(),
        TaskStatus::InProgress if view.progress > 0.0 => {
            format!("{} {message}", percent(view.progress).trim_start())
        }
        TaskStatus::InProgress => message,
        TaskStatus::Pending => match state.retry_at(task) {
            Some(at) => {
                let wait = duration(at.since(now));
                format!("next attempt in {wait}: {}", error.unwrap_or_default())
            }
            None => String::new(),
        },
        _ => error.unwrap_or_default(),
    }
}
