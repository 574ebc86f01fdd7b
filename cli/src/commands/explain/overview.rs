//! The critical path, and what a plan asks of agents.

use super::Subject;
use crate::context::{Context, Format};
use crate::exit::Failure;
use crate::output::{print_text, print_value};
use crate::style::{Cell, Paint, Style, count, duration, grouped, table};
use cairn_coordinator::insight::{CriticalPath, critical_path, level_sizes, run_critical_path};
use cairn_engine::Order;
use cairn_model::TaskIndex;
use serde::Serialize;
use std::fmt::Write as _;

/// Rows of the critical path that people are shown.
const MAX_ROWS: usize = 20;

#[derive(Serialize)]
struct Overview<'a> {
    run: Option<&'a str>,
    project: &'a str,
    tasks: usize,
    /// The longest chain, in tasks.
    depth: usize,
    widest_level: Level,
    critical_path: Vec<Step>,
    critical_path_seconds: Option<f64>,
    /// What tasks ask of an agent; those that ask for the same are counted together.
    demands: Vec<Demand>,
}

#[derive(Serialize)]
struct Level {
    level: usize,
    tasks: usize,
}

#[derive(Serialize)]
struct Step {
    id: String,
    status: Option<&'static str>,
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
        run: subject.is_run.then_some(subject.name.as_str()),
        project: &plan.project,
        tasks: plan.task_count(),
        depth: sizes.len(),
        widest_level: Level { level, tasks },
        critical_path: path.tasks.iter().map(|&task| step(subject, task)).collect(),
        critical_path_seconds: path.length().map(|length| length.as_secs_f64()),
        demands: demands(subject),
    };
    match context.format {
        Format::Text => print_text(&text(subject, &overview, &path, &Style::stdout(context))),
        Format::Json | Format::Jsonl | Format::Yaml => print_value(context, &overview),
    }
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
        status: subject.is_run.then(|| row.status.name()),
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

fn text(subject: &Subject, overview: &Overview<'_>, path: &CriticalPath, style: &Style) -> String {
    let length = match path.length() {
        Some(length) => duration(length),
        None => format!("at least {}", duration(path.known)),
    };
    let mut out = format!(
        "{}: {}, {}\n\ncritical path: {} in {length}",
        style.paint(Paint::Bold, &subject.name),
        count(overview.tasks as u64, "task", "tasks"),
        count(overview.depth as u64, "level", "levels"),
        count(path.tasks.len() as u64, "task", "tasks"),
    );
    if path.unknown > 0 {
        let _ = write!(out, " ({} of them without an `estimate`)", path.unknown);
    }
    out.push('\n');
    let seconds =
        |seconds: f64| duration(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let rows = path.tasks.iter().zip(&overview.critical_path).take(MAX_ROWS).map(|(&task, step)| {
        let state = match subject.is_run {
            true => Cell::state(style, subject.state.task(task).status),
            false => Cell::new(""),
        };
        let took = match (step.duration_seconds, step.expected_seconds) {
            (Some(took), _) => seconds(took),
            (None, Some(expected)) => format!("{} expected", seconds(expected)),
            (None, None) => "?".to_owned(),
        };
        vec![state, Cell::new(step.id.clone()), Cell::right(took)]
    });
    out.push_str(&table(style, "  ", &rows.collect::<Vec<_>>()));
    if path.tasks.len() > MAX_ROWS {
        let more = (path.tasks.len() - MAX_ROWS) as u64;
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
