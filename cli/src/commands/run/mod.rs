//! `cairn run`: a plan, here and now, with nothing else installed.
//!
//! ```text
//! plan ─▶ could every task run here? ─▶ lock the state ─▶ a new run, or the one to resume ─▶ drive ─▶ summary
//! ```

pub mod local;
mod resume;
mod summary;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::plan_file::{self, PlanFile};
use crate::state_directory::not_opened;
use crate::style::count;
use crate::view;
use cairn_coordinator::plans;
use cairn_coordinator::projection::MilestoneFiles;
use cairn_coordinator::runtime::{Update, new_id};
use cairn_coordinator::store::file::lock_path;
use cairn_coordinator::store::{self, EventStore, Holder, InForce, Opened, StoreUrl, StreamHead, StreamId};
use cairn_engine::{Order, RunStatus, State};
use cairn_model::plan::{MEMORY, Plan};
use cairn_model::{FailureKind, Graph, RunId, RunOptions, RunSubmitted, Timestamp};
use cairn_shared::clock::Clock;
use local::{Ended, LocalError, LocalRun};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The variable by which processes of a state directory are found again after a crash.
const MARKER: &str = "CAIRN_STATE_ID";

/// Run a plan here and now
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan, YAML or JSON; `-` reads stdin
    pub plan: PathBuf,
    /// Processes at a time [default: one for each core]
    #[arg(long, short, value_name = "N", value_parser = plan_file::jobs)]
    pub jobs: Option<NonZeroUsize>,
    /// The value of a parameter of the plan; may be given several times
    #[arg(long = "param", value_name = "K=V", value_parser = plan_file::parameter)]
    pub params: Vec<(String, String)>,
    /// End the run at the first failure
    #[arg(long)]
    pub fail_fast: bool,
    /// Continue the project's newest run, if it is unfinished
    #[arg(long)]
    pub resume: bool,
    /// Where events are kept: `file:///DIR`, `sqlite:///DIR/cairn.db` or `postgres://USER@HOST/DB`; better without the
    /// password, which CAIRN_STORE and CAIRN_STORE_FILE keep from others [default: the state directory]
    #[arg(long, value_name = "URL")]
    pub store: Option<StoreUrl>,
}

const EXAMPLES: &str = "\
Examples:
  cairn run plan.yaml                  as many processes at a time as there are cores
  cairn run plan.yaml --jobs 8         eight at a time
  cairn run plan.yaml --param region=us
  cairn run plan.yaml --resume         after Ctrl-C, a crash or a power cut
  cairn import --from wfcommons trace.json | cairn run -

Exit codes: 0 completed, 1 tasks failed, 2 the plan is invalid, 5 the state cannot be written,
6 cancelled, 8 a task could never run here, 130 interrupted.";

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let file = plan_file::read(&args.plan, &args.params)?;
    let jobs = args.jobs.or(context.jobs).unwrap_or_else(default_jobs);
    refuse_unplaceable(&file.plan, &file.graph, jobs)?;
    let clock = Clock::start(Timestamp(0));
    let state_directory = std::path::absolute(&context.state).map_err(|error| {
        Failure::new(Exit::OutOfReach, format!("cannot tell where {} is: {error}", context.state.display()))
    })?;
    let configured = args.store.as_ref().or(context.store.as_ref());
    let InForce { url, opened: Opened { store, store_id, .. }, lock: _lock } =
        open_store(&state_directory, configured, context, &clock)?;
    let marker = match url.is_inside(&state_directory) {
        true => store_id.to_string(),
        // Others may have the same log.
        false => format!("{store_id} {}", state_directory.display()),
    };
    let marker = (MARKER.to_owned(), marker);
    let found = cairn_agent::runner::end_leftovers(
        (&marker.0, &marker.1),
        cairn_agent::runtime::STOP_GRACE,
        &(Arc::new({
            let clock = clock.clone();
            move || clock.now()
        }) as cairn_agent::runner::Clock),
    );
    cairn_agent::runner::sweep_abandoned(&state_directory.join("work"));
    if !found.is_empty() {
        view::note(
            context,
            &format!(
                "ended {} left over of a run that was killed",
                count(found.len() as u64, "process", "processes")
            ),
        );
    }
    let begun = match resume::find(args, context, &file, &state_directory, &url)? {
        resume::Found::Finished(exit) => return Ok(exit),
        resume::Found::Unfinished(run) => {
            view::note(
                context,
                &format!("{} is continued: {}", run.submitted.run, summary::standing(&run.state)),
            );
            Begun { state: run.state, versions: run.versions, submitted: run.submitted }
        }
        resume::Found::Nothing => begin(args, file, &*store, &state_directory, &clock)?,
    };
    let epoch = begun.state.run().epoch + 1;
    let clock = Clock::start(begun.state.last_event_at());
    let run_name = begun.submitted.run.clone();
    let resume_command = crate::state_directory::resume_command(context, &begun.submitted);
    let view = view::observer(context, &begun.state, &begun.submitted, jobs, clock.clone());
    let mut files = MilestoneFiles::new(&state_directory, &run_name, &begun.state);
    let mut show = view.callback;
    let observer = move |update: &Update<'_>| {
        show(update);
        files.observe(update);
    };
    let local = LocalRun {
        store,
        marker,
        state: begun.state,
        versions: begun.versions,
        submitted: begun.submitted,
        epoch,
        jobs,
        state_directory: state_directory.clone(),
        clock,
        observer: Box::new(observer),
    };
    let ended = local::drive(local);
    view.screen.finish();
    let ended = ended.map_err(|error| stopped(&run_name, &error))?;
    summary::print(context, &ended, &state_directory, &resume_command);
    refuse_lost_state(&run_name, &state_directory)?;
    Ok(exit_of(&ended))
}

/// What was written to files that somebody has removed meanwhile is gone, though every write succeeded.
fn refuse_lost_state(run: &str, state_directory: &Path) -> Result<(), Failure> {
    if lock_path(state_directory).exists() {
        return Ok(());
    }
    let message = format!(
        "the state directory {} was removed while {run} went on: what became of it is not recorded",
        state_directory.display()
    );
    Err(Failure::new(Exit::OutOfReach, message)
        .help("keep the state directory out of what the tasks remove, or name another one with --state DIR"))
}

fn default_jobs() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A run to be driven.
struct Begun {
    state: State,
    versions: HashMap<StreamId, u64>,
    submitted: RunSubmitted,
}

fn begin(
    args: &Args,
    file: PlanFile,
    store: &dyn EventStore,
    state_directory: &Path,
    clock: &Clock,
) -> Result<Begun, Failure> {
    let project = file.plan.project.clone();
    let run = first_free_run(store, &project)?;
    let plan_hash = plans::save(state_directory, &file.text).map_err(|error| {
        Failure::because(Exit::OutOfReach, &error)
            .help("make room or mend the disk, or name another state directory with --state DIR")
    })?;
    let submitted = RunSubmitted {
        run: run.to_string(),
        plan_hash,
        plan_name: file.name,
        plan_directory: file.directory.to_string_lossy().into_owned(),
        parameters: args
            .params
            .iter()
            .cloned()
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_iter()
            .collect(),
        // 32 bits of it are enough, and every JSON reader keeps them exactly.
        options: RunOptions {
            fail_fast: args.fail_fast,
            seed: clock.now().0 as u64 & 0xffff_ffff,
            closed_fleet: true,
        },
        tasks: file.plan.task_count() as u64,
        milestones: file.plan.milestones().len() as u64,
        key: None,
    };
    drop(file.text);
    let state = State::new(Arc::new(file.plan), Arc::new(file.graph));
    Ok(Begun { state, versions: HashMap::new(), submitted })
}

/// The first run of the project whose stream is still empty.
fn first_free_run(store: &dyn EventStore, project: &str) -> Result<RunId, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot set up an event loop: {error}")))?;
    let head = |number| -> Result<StreamHead, Failure> {
        let stream = StreamId::new(RunId::new(project, number).to_string());
        runtime
            .block_on(store.stream_head(&stream))
            .map_err(|error| Failure::because(Exit::OutOfReach, &error))
    };
    let mut number = 1;
    while head(number)?.version > 0 {
        number += 1;
    }
    Ok(RunId::new(project, number))
}

/// Tasks that this machine could never run are told before anything runs.
fn refuse_unplaceable(plan: &Plan, graph: &Graph, jobs: NonZeroUsize) -> Result<(), Failure> {
    let agent = local::local_agent(jobs, 0);
    let order = Order::new(plan, graph);
    let unfit: Vec<bool> = order.classes().iter().map(|class| !class.fits(&agent)).collect();
    if !unfit.contains(&true) {
        return Ok(());
    }
    let tasks: Vec<_> =
        plan.tasks().filter(|&task| !plan.is_checkpoint(task) && unfit[order.class_of(task)]).collect();
    let Some(&first) = tasks.first() else { return Ok(()) };
    let class = &order.classes()[order.class_of(first)];
    let others = match tasks.len() - 1 {
        0 => String::new(),
        more => format!(", and {} more", count(more as u64, "task", "tasks")),
    };
    let amount = |(name, amount): &(String, u64)| match name.as_str() {
        MEMORY => format!("{name} {} MiB", (amount / 1000) >> 20),
        _ => format!("{name} {}", amount / 1000),
    };
    let has: Vec<String> = agent.resources.iter().map(amount).collect();
    let labels: Vec<String> = agent.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    Err(Failure::new(
        Exit::Unplaceable,
        format!("{} could never run here: it asks for {}{others}", plan.task_name(first), class.describe()),
    )
    .help(format!("this machine has {}, and the labels {}; lower `resources`, change `requires`, or run the plan on a fleet that has them", has.join(", "), labels.join(", "))))
}

fn open_store(
    state: &Path,
    configured: Option<&StoreUrl>,
    context: &Context,
    clock: &Clock,
) -> Result<InForce, Failure> {
    std::fs::create_dir_all(state).map_err(|error| {
        Failure::new(Exit::OutOfReach, format!("cannot use the state directory {}: {error}", state.display()))
            .help("make the state directory writable, or name another one with --state DIR")
    })?;
    let holder = Holder::this_process(context.command_line.clone(), clock.now());
    store::open_in_force(state, configured, &[], &holder, new_id())
        .map_err(|error| not_opened(&error, "wait for the other one to end"))
}

fn stopped(run: &str, error: &LocalError) -> Failure {
    Failure::because(Exit::OutOfReach, error).help(format!(
        "nothing that was recorded is lost; make room or mend the disk, then continue {run} with the same command and --resume"
    ))
}

fn exit_of(ended: &Ended) -> Exit {
    let state = &ended.state;
    let unplaceable = || {
        let kinds = state.plan().tasks().filter_map(|task| state.failure(task)).map(|failure| failure.kind);
        kinds.into_iter().any(|kind| kind == FailureKind::Unplaceable)
    };
    match state.run().status {
        RunStatus::Completed => Exit::Done,
        RunStatus::Cancelled => Exit::Cancelled,
        RunStatus::Failed if unplaceable() => Exit::Unplaceable,
        RunStatus::Failed => Exit::Failed,
        RunStatus::Absent | RunStatus::Active | RunStatus::Paused if ended.interrupted => Exit::Interrupted,
        RunStatus::Absent | RunStatus::Active | RunStatus::Paused => Exit::Bug,
    }
}
