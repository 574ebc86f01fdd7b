//! The status of a run of a coordinator.

use super::page::{MilestoneLine, Page, TaskLine, milestone_interest, one_line, task_interest};
use super::{Args, MAX_ROWS};
use crate::client::{Client, reads};
use crate::commands::watch;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::style::{Style, percent};
use cairn_coordinator::http::model::{MilestoneRow, StatusBody, TaskRow};
use cairn_engine::{MilestoneStatus, RunStatus, TaskStatus};
use cairn_model::{FailureKind, Timestamp};
use cairn_shared::clock::Clock;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// A run with no more tasks is read whole; of a larger one only the tasks that are shown.
const SMALL_RUN: u64 = 1_000;

/// Runs the command.
pub async fn execute(args: &Args, client: &Client, context: &Context) -> Result<Exit, Failure> {
    let run = match &args.run {
        Some(run) => run.clone(),
        None => only_project(client).await?,
    };
    let at = args.at.map(|at| at.to_string());
    let at = at.as_deref();
    let (status, _) = reads::status_at(client, &run, false, at).await?;
    if context.format == Format::Text {
        let limit = if args.all { usize::MAX } else { MAX_ROWS };
        let tasks = tasks(client, &status, at, limit).await?;
        let now = match args.at {
            Some(_) => last_known(&status, &tasks),
            None => Clock::start(Timestamp(0)).now(),
        };
        print_text(&page(&status, &tasks, now, limit).text(&Style::stdout(context)))?;
    } else {
        // As it came: a later coordinator may say more than this program knows.
        let query: Vec<_> = at.map(|at| ("at", at)).into_iter().collect();
        let value: Value = client.get(&["runs", &status.run], &query).await?;
        print_value(context, &value)?;
    }
    if !args.exit_status {
        return Ok(Exit::Done);
    }
    let is_unplaceable =
        status.status == RunStatus::Failed && is_unplaceable(client, &status.run, at).await?;
    Ok(watch::exit_of(status.status, is_unplaceable))
}

async fn is_unplaceable(client: &Client, run: &str, at: Option<&str>) -> Result<bool, Failure> {
    let failed = reads::tasks_at(client, run, Some(TaskStatus::Failed), usize::MAX, at).await?;
    let mut errors = failed.iter().filter_map(|task| task.error.as_ref());
    Ok(errors.any(|error| error.kind == FailureKind::Unplaceable.name()))
}

/// The project, if there is but one.
async fn only_project(client: &Client) -> Result<String, Failure> {
    let runs = reads::runs(client, None, None).await?;
    let projects: BTreeSet<_> = runs.into_iter().map(|run| run.project).collect();
    let mut names = projects.iter();
    match (names.next(), names.next()) {
        (Some(project), None) => Ok(project.clone()),
        (None, _) => {
            Err(Failure::new(Exit::NotFound, "there are no runs yet").help("`cairn submit PLAN` starts one"))
        }
        (Some(_), Some(_)) => {
            let names: Vec<_> = projects.into_iter().collect();
            Err(Failure::new(Exit::Usage, "there are runs of several projects: say which one")
                .help(format!("the projects are {}", names.join(", "))))
        }
    }
}

/// The tasks to show, what asks for attention first.
async fn tasks(
    client: &Client,
    status: &StatusBody,
    at: Option<&str>,
    limit: usize,
) -> Result<Vec<TaskRow>, Failure> {
    let total: u64 = status.counts.values().sum();
    let mut tasks = Vec::new();
    if total <= SMALL_RUN || limit == usize::MAX {
        tasks = reads::tasks_at(client, &status.run, None, usize::MAX, at).await?;
    } else {
        let mut kinds: Vec<_> = TaskStatus::ALL.iter().filter(|kind| count_of(status, **kind) > 0).collect();
        kinds.sort_by_key(|kind| task_interest(**kind, false));
        for kind in kinds {
            if tasks.len() < limit {
                let most = limit - tasks.len();
                tasks.extend(reads::tasks_at(client, &status.run, Some(*kind), most, at).await?);
            }
        }
    }
    // Their order is that of the plan: what is alike stays in it.
    tasks.sort_by_key(|task| task_interest(task.status, task.error.is_some()));
    tasks.truncate(limit);
    Ok(tasks)
}

fn count_of(status: &StatusBody, of: TaskStatus) -> u64 {
    status.counts.get(of.name()).copied().unwrap_or(0)
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(Timestamp::parse)
}

/// The last moment that is known of a run as it was: its clock stands still there.
fn last_known(status: &StatusBody, tasks: &[TaskRow]) -> Timestamp {
    let times = [Some(&status.submitted_at), status.started_at.as_ref(), status.finished_at.as_ref()];
    let of_tasks = tasks.iter().flat_map(|task| [task.started_at.as_ref(), task.finished_at.as_ref()]);
    let all = times.into_iter().chain(of_tasks).flatten();
    all.filter_map(|at| Timestamp::parse(at)).max().unwrap_or_default()
}

fn page(status: &StatusBody, tasks: &[TaskRow], now: Timestamp, limit: usize) -> Page {
    let counts: Vec<_> = TaskStatus::ALL.iter().map(|&kind| (kind, count_of(status, kind))).collect();
    let shown = |kind| tasks.iter().filter(|task| task.status == kind).count() as u64;
    let mut milestones: Vec<_> = status.milestones.iter().enumerate().collect();
    if milestones.len() > limit {
        milestones.sort_by_key(|(at, milestone)| (milestone_interest(milestone.status), *at));
        milestones.truncate(limit);
        milestones.sort_by_key(|(at, _)| *at);
    }
    Page {
        run: status.run.clone(),
        status: status.status,
        interrupted: false,
        cancelling: status.cancelling,
        progress: status.progress,
        tasks_total: status.counts.values().sum(),
        submitted_at: Timestamp::parse(&status.submitted_at).unwrap_or(now),
        finished_at: time(status.finished_at.as_deref()),
        now,
        plan: None,
        more_milestones: (status.milestones.len() - milestones.len()) as u64,
        milestones: milestones.into_iter().map(|(_, milestone)| milestone_line(milestone, now)).collect(),
        tasks: tasks.iter().map(|task| task_line(task, now)).collect(),
        more_tasks: counts.iter().map(|(kind, count)| (*kind, count.saturating_sub(shown(*kind)))).collect(),
        counts,
    }
}

fn milestone_line(milestone: &MilestoneRow, now: Timestamp) -> MilestoneLine {
    let due = time(milestone.due.as_deref());
    let is_open = matches!(
        milestone.status,
        MilestoneStatus::Planned | MilestoneStatus::Active | MilestoneStatus::Paused
    );
    MilestoneLine {
        id: milestone.id.clone(),
        status: milestone.status,
        progress: milestone.progress,
        total: milestone.tasks_total,
        completed: milestone.tasks_completed,
        took: None,
        due,
        // Of one that has ended it is not told when.
        is_late: due.is_some_and(|due| now > due) && is_open,
    }
}

fn task_line(task: &TaskRow, now: Timestamp) -> TaskLine {
    let error = task.error.as_ref().map(|error| one_line(&error.message));
    TaskLine {
        id: task.id.clone(),
        status: task.status,
        took: match task.status {
            TaskStatus::InProgress => time(task.started_at.as_deref()).map(|at| now.since(at)),
            _ => task.duration_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        },
        agent: task.agent.clone(),
        attempt: task.attempt,
        detail: match (task.status, error) {
            _ if task.cancelling => "cancelling".to_owned(),
            (TaskStatus::InProgress, _) if task.progress > 0.0 => {
                percent(task.progress).trim_start().to_owned()
            }
            (TaskStatus::Pending, Some(error)) => format!("waits for its next attempt: {error}"),
            (_, error) => error.unwrap_or_default(),
        },
    }
}
