//! `cairn list` and `cairn history`: runs, a line each.

use crate::client::{self, reads};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{Stdout, print_text, print_value};
use crate::state_directory::{nearest, try_open, unreadable};
use crate::style::{Cell, Paint, Style, count, duration, grouped, moment, percent, table};
use crate::view;
use cairn_coordinator::http::model::RunRow;
use cairn_coordinator::projection::{RunOverview, list};
use cairn_engine::RunStatus;
use cairn_model::Timestamp;
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// List the runs of the state directory, or of a coordinator, the newest last
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only runs of this project
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Only runs that stand there: active, paused, completed, failed or cancelled
    #[arg(long, value_name = "STATUS", hide_possible_values = true)]
    status: Option<Status>,
}

const EXAMPLES: &str = "\
Examples:
  cairn list
  cairn list --project apollo --status failed
  cairn list --output jsonl | jq -r .run";

/// Show what became of a project's runs, and how long they took
#[derive(Debug, clap::Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub struct HistoryArgs {
    /// The project
    project: String,
}

const HISTORY_EXAMPLES: &str = "\
Examples:
  cairn history apollo
  cairn history apollo --output json | jq .mean_duration_seconds";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Status {
    Active,
    Paused,
    Completed,
    Failed,
    Cancelled,
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Paused => Self::Paused,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// A run of the list, of a state directory or of a coordinator.
fn row(run: &RunOverview) -> RunRow {
    RunRow {
        run: run.run.to_string(),
        project: run.run.project().to_owned(),
        status: run.status,
        interrupted: run.interrupted,
        cancelling: run.cancelling,
        progress: run.progress(),
        tasks_total: run.tasks,
        tasks_completed: run.completed,
        tasks_failed: run.failed,
        tasks_skipped: run.skipped,
        tasks_cancelled: run.cancelled,
        milestones_total: run.milestones,
        submitted_at: run.submitted_at.to_string(),
        started_at: run.started_at.map(|at| at.to_string()),
        finished_at: run.finished_at.map(|at| at.to_string()),
        duration_seconds: run.duration().map(|duration| duration.as_secs_f64()),
        plan: run.plan_name.clone(),
    }
}

/// Runs `cairn list`.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (project, status) = (args.project.as_deref(), args.status.map(RunStatus::from));
    let runs = match client::named(context)? {
        Some(client) => {
            let status = status.map(RunStatus::name);
            let runs = client::block_on(reads::runs(&client, project, status))?;
            if runs.is_empty() {
                view::note(context, &format!("there are no such runs at {}", client.target().url));
            }
            runs
        }
        None => {
            let mut runs = local(context)?;
            if runs.is_empty() {
                view::note(context, &format!("there are no runs in {}", context.state.display()));
            }
            runs.retain(|run| project.is_none_or(|project| run.project == project));
            runs.retain(|run| status.is_none_or(|status| run.status == status));
            runs
        }
    };
    if context.format == Format::Text {
        if !runs.is_empty() {
            print_text(&text(&runs, &Style::stdout(context)))?;
        }
        return Ok(Exit::Done);
    }
    let mut out = Stdout::new();
    out.list(context.format, &runs)?;
    out.flush()?;
    Ok(Exit::Done)
}

fn local(context: &Context) -> Result<Vec<RunRow>, Failure> {
    match try_open(context)? {
        Some(reader) => {
            let runs = list(&*reader).map_err(|error| unreadable(&error))?;
            Ok(runs.iter().map(row).collect())
        }
        None => Ok(Vec::new()),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn text(runs: &[RunRow], style: &Style) -> String {
    let head = ["RUN", "STATUS", "PROGRESS", "TASKS", "SUBMITTED", "DURATION"];
    let mut rows = vec![head.map(|name| Cell::new(name).paint(Paint::Dim)).to_vec()];
    rows.extend(runs.iter().map(|run| {
        let took = match run.duration_seconds {
            Some(took) => duration(seconds(took)),
            None if run.cancelling => "cancelling".to_owned(),
            None if run.interrupted => "interrupted".to_owned(),
            None => String::new(),
        };
        vec![
            Cell::new(run.run.clone()),
            Cell::state(style, run.status),
            Cell::right(percent(run.progress).trim_start()),
            Cell::right(format!("{}/{}", grouped(run.tasks_completed), grouped(run.tasks_total))),
            Cell::new(Timestamp::parse(&run.submitted_at).map(moment).unwrap_or_default()),
            Cell::new(took),
        ]
    }));
    table(style, "", &rows)
}

/// What became of a project's runs.
#[derive(Serialize)]
struct History<'a> {
    project: &'a str,
    completed: usize,
    failed: usize,
    cancelled: usize,
    unfinished: usize,
    /// Of the completed runs.
    mean_duration_seconds: Option<f64>,
    /// Of the newest completed run.
    last_duration_seconds: Option<f64>,
    runs: &'a [RunRow],
}

impl<'a> History<'a> {
    fn new(project: &'a str, runs: &'a [RunRow]) -> Self {
        let having = |status| runs.iter().filter(|run| run.status == status).count();
        let (completed, failed, cancelled) =
            (having(RunStatus::Completed), having(RunStatus::Failed), having(RunStatus::Cancelled));
        let finished = runs.iter().filter(|run| run.status == RunStatus::Completed);
        let durations: Vec<Duration> = finished.filter_map(|run| run.duration_seconds).map(seconds).collect();
        let count = u32::try_from(durations.len()).unwrap_or(u32::MAX);
        let mean = durations.iter().sum::<Duration>().checked_div(count);
        Self {
            project,
            completed,
            failed,
            cancelled,
            unfinished: runs.len() - completed - failed - cancelled,
            mean_duration_seconds: mean.map(|mean| mean.as_secs_f64()),
            last_duration_seconds: durations.last().map(Duration::as_secs_f64),
            runs,
        }
    }

    fn line(&self) -> String {
        let kinds = [
            (self.completed, "completed"),
            (self.failed, "failed"),
            (self.cancelled, "cancelled"),
            (self.unfinished, "unfinished"),
        ];
        let kinds =
            kinds.iter().filter(|(number, _)| *number > 0).map(|(number, name)| format!("{number} {name}"));
        let mut line = format!(
            "{}: {}: {}",
            self.project,
            count(self.runs.len() as u64, "run", "runs"),
            kinds.collect::<Vec<_>>().join(", "),
        );
        if let (Some(mean), Some(last)) = (self.mean_duration_seconds, self.last_duration_seconds) {
            line.push_str(&format!(
                "; completed runs took {} on average, the last one {}",
                duration(seconds(mean)),
                duration(seconds(last))
            ));
        }
        line
    }
}

/// Runs `cairn history`.
pub fn history(args: &HistoryArgs, context: &Context) -> Result<Exit, Failure> {
    let mut runs = match client::named(context)? {
        Some(client) => client::block_on(async {
            let runs = reads::runs(&client, Some(&args.project), None).await?;
            // Without any the names of the others are of use.
            if runs.is_empty() { reads::runs(&client, None, None).await } else { Ok(runs) }
        })?,
        None => local(context)?,
    };
    let projects: BTreeSet<String> = runs.iter().map(|run| run.project.clone()).collect();
    runs.retain(|run| run.project == args.project);
    if runs.is_empty() {
        let failure = Failure::new(
            Exit::NotFound,
            format!("there are no runs of a project {}", args.project.escape_debug()),
        );
        return Err(match nearest(&args.project, projects.iter().map(String::as_str)) {
            Some(near) => failure.help(format!("did you mean `{near}`?")),
            None => failure.help("`cairn list` shows all runs"),
        });
    }
    let history = History::new(&args.project, &runs);
    match context.format {
        Format::Text => {
            print_text(&format!("{}\n{}\n", text(&runs, &Style::stdout(context)), history.line()))?
        }
        Format::Jsonl => {
            let mut out = Stdout::new();
            out.list(Format::Jsonl, history.runs)?;
            out.flush()?;
        }
        Format::Json | Format::Yaml => print_value(context, &history)?,
    }
    Ok(Exit::Done)
}
