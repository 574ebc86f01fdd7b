//! The critical path, and what a plan asks of agents.

use super::Subject;
use crate::context::{Context, Format};
use crate::exit::Failure;
use crate::output::{print_text, print_value};
use crate::style::{Cell, Paint, Style, count, duration, grouped, table};
use cairn_coordinator::http::model::{OverviewBody, PathStep};
use cairn_coordinator::insight::{critical_path, level_sizes, run_critical_path};
use cairn_engine::{Order, TaskStatus};
use cairn_model::TaskIndex;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Rows of the critical path that people are shown.
const MAX_ROWS: usize = 20;

#[derive(Serialize)]
struct Overview {
    run: Option<String>,
    project: String,
    tasks: usize,
    /// The longest chain, in tasks.
    depth: usize,
    widest_level: Level,
    critical_path: Vec<Step>,
    critical_path_seconds: Option<f64>,
    /// What tasks ask of an agent; those that ask for the same are counted together.
    demands: Vec<Demand>,
    /// What is known of the length, and how many tasks of the path say nothing of theirs.
    #[serde(skip)]
    known: (Duration, usize),
}

#[derive(Serialize)]
struct Level {
    level: usize,
    tasks: usize,
}

#[derive(Serialize)]
struct Step {
    id: String,
    status: Option<TaskStatus>,
    expected_seconds: Option<f64>,
    /// How long it took, if it has ended.
    duration_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Demand {
    asks: String,
    tasks: usize,
}

/// Explains a plan, or a run, as a whole.
pub fn explain(subject: &Subject, context: &Context) -> Result<(), Failure> {
    let (state, plan) = (&subject.state, subject.plan());
    let path = if subject.is_run { run_critical_path(state) } else { critical_path(plan, state.graph()) };
    let sizes = level_sizes(plan, state.graph());
    let (level, tasks) = widest(&sizes);
    let overview = Overview {
        run: subject.is_run.then(|| subject.name.clone()),
        project: plan.project.clone(),
        tasks: plan.task_count(),
        depth: sizes.len(),
        widest_level: Level { level, tasks },
        critical_path: path.tasks.iter().map(|&task| step(subject, task)).collect(),
        critical_path_seconds: path.length().map(|length| length.as_secs_f64()),
        demands: demands(subject),
        known: (path.known, path.unknown),
    };
    match context.format {
        Format::Text => print_text(&text(&subject.name, &overview, &Style::stdout(context))),
        Format::Json | Format::Jsonl | Format::Yaml => print_value(context, &overview),
    }
}

/// What a coordinator says of a run as a whole, for people.
pub fn told(body: OverviewBody, style: &Style) -> String {
    let length = |step: &PathStep| step.duration_seconds.or(step.expected_seconds);
    let known = body.critical_path.iter().filter_map(length).sum::<f64>();
    let known = Duration::try_from_secs_f64(body.critical_path_seconds.unwrap_or(known)).unwrap_or_default();
    let unknown = body.critical_path.iter().filter(|step| length(step).is_none()).count();
    let step = |step: PathStep| Step {
        id: step.id,
        status: Some(step.status),
        expected_seconds: step.expected_seconds,
        duration_seconds: step.duration_seconds,
    };
    let overview = Overview {
        project: body.project,
        tasks: body.tasks,
        depth: body.depth,
        widest_level: Level { level: body.widest_level.level, tasks: body.widest_level.tasks },
        critical_path: body.critical_path.into_iter().map(step).collect(),
        critical_path_seconds: body.critical_path_seconds,
        demands: body
            .demands
            .into_iter()
            .map(|demand| Demand { asks: demand.asks, tasks: demand.tasks })
            .collect(),
        known: (known, unknown),
        run: None,
    };
    text(&body.run, &overview, style)
}

/// The first of the widest levels, from 1, and its tasks.
fn widest(sizes: &[usize]) -> (usize, usize) {
    let widest = sizes.iter().enumerate().rev().max_by_key(|(_, size)| **size);
    widest.map_or((0, 0), |(at, size)| (at + 1, *size))
}

fn step(subject: &Subject, task: TaskIndex) -> Step {
    let row = subject.state.task(task);
    let has_run = row.status.is_final() && row.attempt > 0;
    Step {
        id: subject.plan().task_name(task),
        status: subject.is_run.then_some(row.status),
        expected_seconds: subject.plan().expected_duration(task).map(|duration| duration.as_secs_f64()),
        duration_seconds: has_run.then_some(row.duration.as_secs_f64()),
    }
}

fn demands(subject: &Subject) -> Vec<Demand> {
    let (plan, order): (_, &Order) = (subject.plan(), subject.state.order());
    let mut counts = vec![0; order.classes().len()];
    for task in plan.tasks().filter(|&task| !plan.is_checkpoint(task)) {
        counts[order.class_of(task)] += 1;
    }
    let mut demands: Vec<Demand> = Vec::new();
    for (class, tasks) in order.classes().iter().zip(counts).filter(|(_, tasks)| *tasks > 0) {
        let asks = match class.takes_slot {
            true => class.describe(),
            false => "a timer".to_owned(),
        };
        // Classes may differ in what people do not ask for.
        match demands.iter_mut().find(|demand| demand.asks == asks) {
            Some(demand) => demand.tasks += tasks,
            None => demands.push(Demand { asks, tasks }),
        }
    }
    demands.sort_by_key(|demand| std::cmp::Reverse(demand.tasks));
    demands
}

fn text(name: &str, overview: &Overview, style: &Style) -> String {
    let (known, unknown) = overview.known;
    let length = match overview.critical_path_seconds {
        Some(_) => duration(known),
        None => format!("at least {}", duration(known)),
    };
    let path = &overview.critical_path;
    let mut out = format!(
        "{}: {}, {}\n\ncritical path: {} in {length}",
        style.paint(Paint::Bold, name),
        count(overview.tasks as u64, "task", "tasks"),
        count(overview.depth as u64, "level", "levels"),
        count(path.len() as u64, "task", "tasks"),
    );
    if unknown > 0 {
        let _ = write!(out, " ({unknown} of them without an `estimate`)");
    }
    out.push('\n');
    let seconds = |seconds: f64| duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let rows = path.iter().take(MAX_ROWS).map(|step| {
        let state = step.status.map_or_else(|| Cell::new(""), |status| Cell::state(style, status));
        let took = match (step.duration_seconds, step.expected_seconds) {
            (Some(took), _) => seconds(took),
            (None, Some(expected)) => format!("{} expected", seconds(expected)),
            (None, None) => "?".to_owned(),
        };
        vec![state, Cell::new(step.id.clone()), Cell::right(took)]
    });
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
    if path.len() > MAX_ROWS {
        let more = (path.len() - MAX_ROWS) as u64;
        let _ = writeln!(out, "  and {}", count(more, "more task", "more tasks"));
    }
    let Level { level, tasks } = overview.widest_level;
    let _ = writeln!(
        out,
        "\nwidest: level {level} with {}: more agents or slots than that cannot help",
        count(tasks as u64, "task", "tasks")
    );
    out.push_str("\nwhat tasks ask of an agent:\n");
    let rows = overview
        .demands
        .iter()
        .map(|demand| vec![Cell::right(grouped(demand.tasks as u64)), Cell::new(demand.asks.clone())]);
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
    out
}
