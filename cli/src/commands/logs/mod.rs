//! `cairn logs`: what tasks wrote.
//!
//! One task's log goes out byte by byte, so that it can be piped; on a terminal nothing in it can steer the
//! terminal. Of several tasks each line begins with the task's name; tasks come in the order of their start.

mod follow;
mod printer;
mod remote;

use crate::client;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::state_directory::{Named, find, find_named, load, open, writer};
use crate::style::Style;
use crate::view;
use cairn_engine::{State, TaskStatus};
use cairn_model::{Plan, TaskIndex};
use printer::{Form, Printer};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

/// Show what tasks wrote
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run: `apollo.3`, or `apollo` for its newest
    run: String,
    /// Only this task (`build/unit`), or the tasks of this milestone
    task: Option<String>,
    /// Go on with what is still to come, until the run, or the task, has ended
    #[arg(long, short)]
    follow: bool,
    /// The attempt [default: the newest one that wrote something]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only the last lines of each log
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

const EXAMPLES: &str = "\
Examples:
  cairn logs apollo                        all tasks, in the order of their start
  cairn logs apollo.3 build/unit | less
  cairn logs apollo build/unit --attempt 1 --tail 20
  cairn logs apollo --follow";

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.follow && matches!(context.format, Format::Json | Format::Yaml) {
        return Err(Failure::new(Exit::Usage, "what is still to come is no single value")
            .help("follow with `--output jsonl`"));
    }
    match client::named(context)? {
        Some(client) => client::block_on(remote::execute(args, &client, context)),
        None => local(args, context),
    }
}

/// How logs are shown: as they are if it is one.
fn form(context: &Context, is_one: bool) -> Form {
    let is_terminal = std::io::stdout().is_terminal();
    match context.format {
        Format::Jsonl => Form::Lines,
        Format::Json | Format::Yaml => Form::Value(context.format),
        Format::Text if is_one => Form::Verbatim { is_terminal },
        Format::Text => Form::Prefixed { is_terminal },
    }
}

fn local(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let reader = open(context)?;
    let run = load(context, &*reader, &find(&*reader, Some(&args.run))?)?;
    let state = &run.state;
    let selection = Selection::new(args, state.plan())?;
    let logs = Logs { directory: context.state.join("logs").join(&state.run().id), attempt: args.attempt };
    let tasks = started(state, &selection);
    let width = tasks.iter().map(|&task| state.plan().task_name(task).len()).max().unwrap_or(0);
    let mut printer =
        Printer::new(form(context, selection.is_one()), args.tail, width, Style::stdout(context));
    if args.follow {
        if writer(context).is_none() && !state.run().status.is_final() {
            view::note(context, &format!("no process works on {} now; waiting for one", state.run().id));
        }
        follow::follow(reader, run, &selection, &logs, &tasks, printer)?;
        return Ok(Exit::Done);
    }
    let mut is_empty = true;
    for &task in &tasks {
        if let Some((attempt, path)) = logs.find(state, task) {
            is_empty &= printer.whole(&state.plan().task_name(task), attempt, &path)? == 0;
        }
    }
    printer.finish(&state.run().id)?;
    if is_empty {
        view::note(context, &nothing(state, &selection, &logs));
    }
    Ok(Exit::Done)
}

/// Which tasks are asked for.
struct Selection(Option<Named>);

impl Selection {
    fn new(args: &Args, plan: &Plan) -> Result<Self, Failure> {
        args.task.as_deref().map(|name| find_named(plan, name)).transpose().map(Self)
    }

    fn one(&self) -> Option<TaskIndex> {
        match self.0 {
            Some(Named::Task(task)) => Some(task),
            Some(Named::Milestone(_)) | None => None,
        }
    }

    fn is_one(&self) -> bool {
        self.one().is_some()
    }

    fn wants(&self, plan: &Plan, task: TaskIndex) -> bool {
        match self.0 {
            Some(Named::Task(wanted)) => wanted == task,
            Some(Named::Milestone(milestone)) => plan.milestone_of(task) == milestone,
            None => true,
        }
    }
}

/// The tasks that have a log, perhaps, in the order of their start. Only processes write.
fn started(state: &State, selection: &Selection) -> Vec<TaskIndex> {
    let plan = state.plan();
    let tasks = plan.tasks().filter(|&task| plan.takes_slot(task) && state.task(task).attempt > 0);
    let mut tasks: Vec<_> = tasks.filter(|&task| selection.wants(plan, task)).collect();
    tasks.sort_by_key(|&task| (state.task(task).since, task));
    tasks
}

/// Where logs are.
struct Logs {
    directory: PathBuf,
    /// The attempt that is asked for.
    attempt: Option<u32>,
}

impl Logs {
    fn path(&self, plan: &Plan, task: TaskIndex, attempt: u32) -> PathBuf {
        let milestone = &plan.milestone(plan.milestone_of(task)).id;
        self.directory.join(milestone).join(format!("{}.{attempt}.log", plan.task_id(task)))
    }

    /// The log that is asked for, else that of the newest attempt which wrote something.
    fn find(&self, state: &State, task: TaskIndex) -> Option<(u32, PathBuf)> {
        let with_path = |attempt| (attempt, self.path(state.plan(), task, attempt));
        let is_there = |(_, path): &(u32, PathBuf)| Path::exists(path);
        match self.attempt {
            Some(attempt) => Some(with_path(attempt)).filter(is_there),
            None => (1..=state.task(task).attempt).rev().map(with_path).find(is_there),
        }
    }
}

/// Why there is nothing to show.
fn nothing(state: &State, selection: &Selection, logs: &Logs) -> String {
    let Some(task) = selection.one() else { return "nothing was written".to_owned() };
    let (name, row) = (state.plan().task_name(task), state.task(task));
    match (logs.attempt, row.attempt) {
        _ if !state.plan().takes_slot(task) => format!("{name} starts no process that could write"),
        (_, 0) => format!("{name} has not been started: it is {}", row.status.name()),
        (Some(wanted), newest) if wanted > newest => {
            format!("{name} has had {newest} attempts, not {wanted}")
        }
        (wanted, newest) if row.status == TaskStatus::InProgress && wanted.unwrap_or(newest) == newest => {
            format!("{name} has written nothing yet")
        }
        (Some(wanted), _) => format!("{name} wrote nothing in attempt {wanted}"),
        (None, _) => format!("{name} wrote nothing"),
    }
}
