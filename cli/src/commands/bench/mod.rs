//! `cairn bench`: what this machine can do, and how much of it is used. Each figure stands beside a limit that is
//! measured in the same run, because machines differ and are noisy: quote the ratio.

mod amqp;
mod limit;
mod stores;
mod workload;

use super::run::local::{self, LocalRun};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output;
use cairn_coordinator::plans;
use cairn_coordinator::runtime::new_id;
use cairn_coordinator::store::file::Options;
use cairn_coordinator::store::{FileStore, Holder};
use cairn_engine::{RunStatus, State};
use cairn_model::{Command, Event, Outcome, Report, ReportKind, RunOptions, RunSubmitted, Timestamp};
use cairn_shared::clock::Clock;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use workload::Shape;

/// Measure this machine, and what Cairn makes of it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What is measured
    #[arg(value_enum)]
    pub what: What,
    /// Tasks, or for `store` events [default: 10000]
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tasks: u32,
    /// How the tasks hang together [default: independent; for `amqp` also layered]
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// Processes at a time
    #[arg(long, short, value_name = "N", default_value = "2")]
    pub jobs: NonZeroUsize,
    /// For `store`: which one
    #[arg(long, value_enum, value_name = "STORE", default_value_t)]
    pub store: stores::Kind,
    /// For `amqp`: the broker. No fleet may use its vhost
    #[arg(long, value_name = "URL", env = "CAIRN_TRANSPORT", hide_env_values = true)]
    pub transport: Option<String>,
    /// For `amqp`: which kind of queues
    #[arg(long, value_enum, value_name = "TYPE", env = "CAIRN_QUEUE_TYPE", default_value_t)]
    pub queue_type: amqp::QueueType,
}

impl Args {
    fn shape(&self) -> Shape {
        self.shape.unwrap_or_default()
    }
}

const EXAMPLES: &str = "\
Examples:
  cairn bench spawn                    10,000 processes, two at a time, against bare spawning
  cairn bench spawn --shape chain --tasks 40
  cairn bench noop --tasks 1000000     the whole path of a task but its process
  cairn bench store                    appends of 100 events of 200 bytes against bare writes
  cairn bench store --store sqlite     the same against bare transactions
  cairn bench amqp --transport amqp://user:pass@broker/bench

The files are made in a temporary directory inside the working directory: it decides which disk is measured.";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Processes that do nothing, with a durable log and captured output; limit: bare spawning
    Spawn,
    /// Tasks that start no process, with a durable log; limit: writing and syncing the same log
    Noop,
    /// A coordinator and an agent over RabbitMQ, tasks that start no process; limit: the broker itself
    Amqp,
    /// Appends of 100 events of 200 bytes; limit: writing and syncing the same bytes, or rows
    Store,
    /// Decisions alone, in memory; limit: walking the graph once
    Engine,
}

/// One measurement, as JSON gives it.
#[derive(Debug, serde::Serialize)]
struct Row {
    name: &'static str,
    tasks: u32,
    seconds: f64,
    tasks_per_second: f64,
    limit_per_second: f64,
    ratio: f64,
    peak_rss_bytes: u64,
    /// What one sync of 4 KiB costs at the median, where that is what limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    sync_seconds: Option<f64>,
    /// What the limit is.
    #[serde(skip)]
    limit: &'static str,
}

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let broken = |error: &dyn std::error::Error| Failure::because(Exit::OutOfReach, error);
    let directory = tempfile::Builder::new()
        .prefix(".cairn-bench-")
        .tempdir_in(".")
        .map_err(|error| broken(&error).help("start it in a directory that you can write to"))?;
    let row = match args.what {
        What::Spawn => spawn(args, directory.path())?,
        What::Noop => noop(args, directory.path())?,
        What::Store => stores::execute(args, directory.path())?,
        What::Engine => engine(args),
        What::Amqp => return amqp::execute(args, context, directory.path()),
    };
    match context.format {
        Format::Text => output::print_text(&text(&row))?,
        _ => output::print_value(context, &row)?,
    }
    Ok(Exit::Done)
}

fn text(row: &Row) -> String {
    let mut text = format!(
        "{}: {} tasks in {:.3} s, {:.0} a second\n{}: {:.0} a second\nratio: {:.3}\npeak memory: {} MiB\n",
        row.name,
        row.tasks,
        row.seconds,
        row.tasks_per_second,
        row.limit,
        row.limit_per_second,
        row.ratio,
        row.peak_rss_bytes >> 20
    );
    if let Some(seconds) = row.sync_seconds {
        text.push_str(&format!("one sync: {:.3} ms\n", seconds * 1e3));
    }
    text
}

impl Row {
    fn new(
        name: &'static str,
        tasks: u32,
        took: Duration,
        limit: &'static str,
        limit_per_second: f64,
    ) -> Self {
        let seconds = took.as_secs_f64();
        let tasks_per_second = f64::from(tasks) / seconds;
        let ratio = tasks_per_second / limit_per_second;
        let peak_rss_bytes = peak_rss_bytes("self");
        let sync_seconds = None;
        Self {
            name,
            tasks,
            seconds,
            tasks_per_second,
            limit_per_second,
            ratio,
            peak_rss_bytes,
            sync_seconds,
            limit,
        }
    }
}

/// The most memory that a process has had, from the kernel.
fn peak_rss_bytes(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn spawn(args: &Args, directory: &Path) -> Result<Row, Failure> {
    let jobs = if args.shape() == Shape::Chain { NonZeroUsize::MIN } else { args.jobs };
    // Before and after, because a machine's speed drifts.
    let before = limit::spawn(args.tasks, jobs)?;
    let took = run(args, directory, workload::Work::True)?;
    let after = limit::spawn(args.tasks, jobs)?;
    Ok(Row::new("spawn", args.tasks, took, "bare spawning with pipes", (before + after) / 2.0))
}

fn noop(args: &Args, directory: &Path) -> Result<Row, Failure> {
    let took = run(args, directory, workload::Work::Nothing)?;
    let peak = peak_rss_bytes("self");
    let limit = limit::rewrite(&directory.join("state/events"), &directory.join("rewritten"), args.tasks)?;
    let row = Row::new("noop", args.tasks, took, "writing and syncing the same log", limit);
    Ok(Row { peak_rss_bytes: peak, ..row })
}

/// Runs a workload as `cairn run` does, from its submission to its durable end.
fn run(args: &Args, directory: &Path, work: workload::Work) -> Result<Duration, Failure> {
    let broken = |error: &dyn std::error::Error| Failure::because(Exit::OutOfReach, error);
    let state_directory = std::path::absolute(directory.join("state")).map_err(|error| broken(&error))?;
    let clock = Clock::start(Timestamp(0));
    let holder = Holder::this_process("cairn bench", clock.now());
    let store =
        FileStore::open(&state_directory, &holder, Options::new(new_id())).map_err(|error| broken(&error))?;
    let text = workload::plan(args.tasks, args.shape(), work);
    let plan_hash = plans::save(&state_directory, &text).map_err(|error| broken(&error))?;
    let (plan, graph) = cairn_coordinator::runtime::read_plan("bench", text, &[])
        .map_err(|error| Failure::new(Exit::Bug, error.render(false)))?;
    let state = State::new(plan, graph);
    let began = clock.now();
    let submitted = RunSubmitted {
        run: "bench.1".to_owned(),
        plan_hash,
        plan_name: "bench".to_owned(),
        plan_directory: directory.to_string_lossy().into_owned(),
        parameters: Vec::new(),
        options: RunOptions { closed_fleet: true, ..RunOptions::default() },
        tasks: u64::from(args.tasks),
        milestones: 1,
        key: None,
    };
    let local = LocalRun {
        marker: ("CAIRN_STATE_ID".to_owned(), store.store_id().to_string()),
        store: Arc::new(store),
        state,
        versions: HashMap::new(),
        submitted,
        epoch: 1,
        jobs: args.jobs,
        state_directory,
        clock: clock.clone(),
        observer: Box::new(|_| {}),
    };
    let ended = local::drive(local).map_err(|error| broken(&error))?;
    let status = ended.state.run().status;
    if status != RunStatus::Completed {
        let state = &ended.state;
        let cause = state.plan().tasks().find_map(|task| state.failure(task)).map(|failure| &failure.message);
        let cause =
            cause.map_or_else(|| status.name().to_owned(), |message| format!("a task failed: {message}"));
        return Err(Failure::new(Exit::Failed, format!("the run did not complete: {cause}")));
    }
    Ok(clock.now().since(began))
}

/// An agent that completes everything at once, without store or channels.
fn engine(args: &Args) -> Row {
    let clock = Clock::start(Timestamp(0));
    let text = workload::plan(args.tasks, args.shape(), workload::Work::Nothing);
    let read = cairn_coordinator::runtime::read_plan("bench", text, &[]);
    let (plan, graph) = read.expect("the workload is a valid plan");
    let began = clock.now();
    let order = graph.order();
    let limit = order.len() as f64 / clock.now().since(began).as_secs_f64().max(1e-6);
    let mut state = State::new(plan, graph);
    let began = clock.now();
    let mut events = Vec::new();
    let submitted = RunSubmitted { run: "bench.1".to_owned(), ..RunSubmitted::default() };
    let agent = local::local_agent(args.jobs, 1);
    let mut commands =
        VecDeque::from([Command::Submit(Box::new(submitted)), Command::AgentJoined(Box::new(agent))]);
    while !state.run().status.is_final() {
        events.clear();
        let command = commands.pop_front().unwrap_or(Command::Tick);
        let now = clock.now();
        let decided = cairn_engine::decide(&mut state, command, now, &mut events);
        decided.map(drop).expect("the commands fit the state");
        let done = |event: &Event| match *event {
            Event::TaskDispatched { task, attempt, agent } => {
                let kind =
                    ReportKind::Finished { outcome: Outcome::Completed, started_at: now, finished_at: now };
                Some(Report { task, attempt, agent, kind })
            }
            _ => None,
        };
        let reports: Vec<Report> = events.iter().filter_map(done).collect();
        if !reports.is_empty() {
            commands.push_back(Command::Reports(reports));
        }
    }
    Row::new("engine", args.tasks, clock.now().since(began), "one topological order of the graph", limit)
}
