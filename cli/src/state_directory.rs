//! What the commands that only look need of a state directory. Takes no lock, changes nothing.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::plan_file::STDIN_NAME;
use crate::settings::DEFAULT_STATE;
use cairn_coordinator::codec::Decoder;
use cairn_coordinator::projection::{self, At, PastError};
use cairn_coordinator::runtime::{
    LoadError, LoadedRun, RunSummary, belongs, each_record, find_run, list_runs, load_run,
};
use cairn_coordinator::store::file::lock_path;
use cairn_coordinator::store::lock::{LockError, last_holder};
use cairn_coordinator::store::{
    self, Cursor, EventReader, Holder, InForceError, IoFailure, OpenError, ReadError, SchemaError, StoreUrl,
};
use cairn_engine::{RunStatus, State, apply};
use cairn_model::{Event, FailureKind, MilestoneIndex, Plan, RunSubmitted, TaskIndex, Timestamp};
use cairn_shared::clock::Clock;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// The least likeness (Jaro-Winkler) at which a word is taken for a misspelt name.
const LIKENESS: f64 = 0.7;

/// What to do about a database that cannot be opened.
pub const DATABASE_HELP: &str = "see that the database runs and takes this user; CAIRN_STORE, or a file that \
                                 CAIRN_STORE_FILE names, holds the address with its password: \
                                 postgres://USER:PASSWORD@HOST/DATABASE";

/// The store that the events of the state directory are in. Whoever only looks follows the pointer, even where the settings
/// name another store for runs to come; they have the password of a database.
fn in_force(context: &Context) -> Result<StoreUrl, Failure> {
    match store::in_force(&context.state, context.store.as_ref(), &[]) {
        Ok(url) | Err(InForceError::Elsewhere { in_force: url, .. }) => Ok(url),
        Err(error) => Err(Failure::because(Exit::OutOfReach, &error)),
    }
}

/// The log of the state directory; `None` if there is none.
///
/// # Errors
/// It cannot be read.
pub fn try_open(context: &Context) -> Result<Option<Box<dyn EventReader>>, Failure> {
    let url = in_force(context)?;
    match (store::open_reader(&url), &url) {
        (Ok(reader), _) => Ok(Some(reader)),
        (Err(ReadError::Schema(SchemaError::Absent { .. })), _) => Ok(None),
        (Err(error @ ReadError::Io(_)), StoreUrl::Postgres(_)) => {
            Err(Failure::because(Exit::OutOfReach, &error).help(DATABASE_HELP))
        }
        (Err(ReadError::Io(failure)), _) if failure.source.kind() == io::ErrorKind::NotFound => Ok(None),
        (Err(error @ ReadError::Io(_)), _) => Err(Failure::because(Exit::OutOfReach, &error)
            .help("make it a state directory that you can read, or name another one with --state DIR")),
        (Err(error), _) => Err(Failure::because(Exit::OutOfReach, &error)),
    }
}

/// Why the store of a state directory was not opened for writing, and what to do; `if_held` is what to do about another
/// process that has it.
pub fn not_opened(error: &InForceError, if_held: &str) -> Failure {
    let failure = Failure::because(Exit::OutOfReach, error);
    let InForceError::Open(error) = error else { return failure };
    match error {
        OpenError::Lock(LockError::Held { .. }) => {
            failure.help(format!("{if_held}, or name another state directory with --state DIR"))
        }
        OpenError::Io(IoFailure { path, .. }) if path.to_string_lossy().starts_with("postgres://") => {
            failure.help(DATABASE_HELP)
        }
        OpenError::Lock(LockError::Io(_)) | OpenError::Io(_) => {
            failure.help("make the state directory writable, or name another one with --state DIR")
        }
        OpenError::Damaged(_) | OpenError::Schema(_) => failure,
    }
}

/// The log of the state directory.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn open(context: &Context) -> Result<Box<dyn EventReader>, Failure> {
    try_open(context)?.ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("there are no runs in {}", context.state.display()))
            .help("`cairn run PLAN` starts one; `--state DIR` looks elsewhere")
    })
}

/// The run of that name (`apollo.3`, or `apollo` for its newest); without a name the newest run, if all runs are of
/// one project.
///
/// # Errors
/// There is no such run, or the log cannot be read.
pub fn find(reader: &dyn EventReader, name: Option<&str>) -> Result<RunSummary, Failure> {
    let Some(name) = name else { return find_only(reader) };
    match find_run(reader, name) {
        Ok(run) => Ok(run),
        Err(LoadError::NoSuchRun { .. }) => Err(no_such_run(reader, name)?),
        Err(error) => Err(unreadable(&error)),
    }
}

fn find_only(reader: &dyn EventReader) -> Result<RunSummary, Failure> {
    let mut runs = list_runs(reader).map_err(|error| unreadable(&error))?;
    let projects: BTreeSet<_> = runs.iter().map(|run| run.run.project().to_owned()).collect();
    if projects.len() > 1 {
        let names: Vec<_> = projects.into_iter().collect();
        return Err(Failure::new(Exit::Usage, "there are runs of several projects: say which one")
            .help(format!("the projects are {}", names.join(", "))));
    }
    runs.sort_by_key(|run| run.run.number());
    runs.pop().ok_or_else(|| {
        Failure::new(Exit::NotFound, "there are no runs yet").help("`cairn run PLAN` starts one")
    })
}

fn no_such_run(reader: &dyn EventReader, name: &str) -> Result<Failure, Failure> {
    let runs = list_runs(reader).map_err(|error| unreadable(&error))?;
    let names: BTreeSet<_> =
        runs.iter().flat_map(|run| [run.run.to_string(), run.run.project().to_owned()]).collect();
    let failure = Failure::new(Exit::NotFound, format!("there is no run {}", name.escape_debug()));
    Ok(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean `{near}`? `cairn list` shows all")),
        None => failure.help("`cairn list` shows all"),
    })
}

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = candidates.map(|candidate| (strsim::jaro_winkler(word, candidate), candidate));
    let best = rated.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= LIKENESS).then_some(best.1)
}

/// Folds a run.
///
/// # Errors
/// Log or plan cannot be read.
pub fn load(context: &Context, reader: &dyn EventReader, run: &RunSummary) -> Result<LoadedRun, Failure> {
    load_run(&context.state, reader, run, None).map_err(|error| not_loaded(&error))
}

/// Folds a run as it was.
///
/// # Errors
/// The run began later, or log or plan cannot be read.
pub fn load_at(
    context: &Context,
    reader: &dyn EventReader,
    name: &str,
    at: At,
) -> Result<LoadedRun, Failure> {
    projection::load_at(&context.state, reader, name, at).map_err(|error| match error {
        PastError::NotYet { position, .. } => {
            Failure::new(Exit::NotFound, error.to_string()).help(format!("use --at {position} or later"))
        }
        PastError::Load(error) => not_loaded(&error),
    })
}

/// What a run that cannot be folded means for a command.
pub fn not_loaded(error: &LoadError) -> Failure {
    match error {
        LoadError::Plan { run, .. } => unreadable(error).help(format!(
            "put the file back from a backup; `cairn events {run}` tells what happened without it"
        )),
        LoadError::Read(_) | LoadError::NoSuchRun { .. } | LoadError::Parse { .. } | LoadError::Decode(_) => {
            unreadable(error)
        }
    }
}

/// What a log that cannot be read means for a command.
pub fn unreadable(error: &dyn std::error::Error) -> Failure {
    Failure::because(Exit::OutOfReach, error)
}

/// The process that writes to the state directory now, as far as can be seen from here.
pub fn writer(context: &Context) -> Option<Holder> {
    last_holder(&lock_path(&context.state)).filter(Holder::is_running)
}

/// The command that continues an unfinished run.
pub fn resume_command(context: &Context, submitted: &RunSubmitted) -> String {
    let mut words = vec!["cairn".to_owned(), "run".to_owned(), plan_path(submitted).display().to_string()];
    if context.state != Path::new(DEFAULT_STATE) {
        words.extend(["--state".to_owned(), context.state.display().to_string()]);
    }
    for (name, value) in &submitted.parameters {
        words.extend(["--param".to_owned(), format!("{name}={value}")]);
    }
    words.push("--resume".to_owned());
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it back.
fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Where the plan was read from, as seen from here.
pub fn plan_path(submitted: &RunSubmitted) -> PathBuf {
    let name = Path::new(&submitted.plan_name).file_name().filter(|name| *name != STDIN_NAME);
    let Some(name) = name else { return "-".into() };
    let path = Path::new(&submitted.plan_directory).join(name);
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or(path)
}

/// The time of a run: where nobody works, its clock stands still at the last event.
pub fn now(state: &State, writer: Option<&Holder>) -> Timestamp {
    let last = state.last_event_at();
    if writer.is_some() { Clock::start(last).now() } else { last }
}

/// How a command ends that is to end like the run; a run that has not ended is not waited for.
pub fn exit_of(state: &State) -> Exit {
    match state.run().status {
        RunStatus::Completed => Exit::Done,
        RunStatus::Cancelled => Exit::Cancelled,
        RunStatus::Failed => {
            let mut failures = state.plan().tasks().filter_map(|task| state.failure(task));
            match failures.any(|failure| failure.kind == FailureKind::Unplaceable) {
                true => Exit::Unplaceable,
                false => Exit::Failed,
            }
        }
        RunStatus::Absent | RunStatus::Active | RunStatus::Paused => Exit::TimedOut,
    }
}

/// What a user names in a plan: a task by `milestone/task`, or by its id where that is enough; or a milestone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A task.
    Task(TaskIndex),
    /// A milestone.
    Milestone(MilestoneIndex),
}

/// Finds what a user names.
///
/// # Errors
/// There is no such thing in the plan, or several tasks have that id.
pub fn find_named(plan: &Plan, name: &str) -> Result<Named, Failure> {
    if let Some(task) = plan.find_task_name(name) {
        return Ok(Named::Task(task));
    }
    if let Some(milestone) = plan.find_milestone(name) {
        return Ok(Named::Milestone(milestone));
    }
    let milestones = (0..plan.milestones().len()).map(MilestoneIndex::new);
    let found: Vec<_> = milestones.filter_map(|milestone| plan.find_task(milestone, name)).take(2).collect();
    match found[..] {
        [task] => Ok(Named::Task(task)),
        [] => {
            let failure =
                Failure::new(Exit::NotFound, format!("{} has no task {}", plan.project, name.escape_debug()));
            Err(match nearest_task(plan, name) {
                Some(near) => failure.help(format!("did you mean `{near}`?")),
                None => failure.help("a task is named `milestone/task`"),
            })
        }
        [first, second, ..] => Err(Failure::new(Exit::Usage, format!("several tasks are called {name}"))
            .help(format!("say which: {} or {}", plan.task_name(first), plan.task_name(second)))),
    }
}

/// The task whose name, or id if there is no milestone in `name`, is most like it.
fn nearest_task(plan: &Plan, name: &str) -> Option<String> {
    let likeness = |task: TaskIndex| match name.contains('/') {
        true => strsim::jaro_winkler(name, &plan.task_name(task)),
        false => strsim::jaro_winkler(name, plan.task_id(task)),
    };
    let rated = plan.tasks().map(|task| (likeness(task), task));
    let best = rated.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= LIKENESS).then(|| plan.task_name(best.1))
}

/// A run that is read while it goes on.
pub struct Follower {
    reader: Box<dyn EventReader>,
    cursor: Cursor,
    /// The run as far as it was read.
    pub state: State,
}

impl Follower {
    /// Begins where the run was loaded to.
    pub fn new(reader: Box<dyn EventReader>, run: LoadedRun) -> Self {
        Self { reader, cursor: Cursor::all(run.position + 1), state: run.state }
    }

    /// Reads what was written since, and hands each event to `take` after it was applied.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn poll(&mut self, mut take: impl FnMut(&State, &Event)) -> Result<(), Failure> {
        let Self { reader, cursor, state } = self;
        let (plan, graph) = (state.plan().clone(), state.graph().clone());
        let agents = state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
        let mut decoder = Decoder::new(&plan, &graph, agents);
        let run = state.run().id.clone();
        each_record(&**reader, cursor, |record| {
            if belongs(record.stream.as_str(), &run) {
                decoder.decode(record, |event, at| {
                    apply(state, &event, at);
                    take(state, &event);
                })?;
            }
            Ok::<(), LoadError>(())
        })
        .map_err(|error| unreadable(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(plan_name: &str, parameters: &[(&str, &str)]) -> RunSubmitted {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        RunSubmitted {
            plan_name: plan_name.to_owned(),
            plan_directory: "/plans".to_owned(),
            parameters: parameters.collect(),
            ..RunSubmitted::default()
        }
    }

    #[test]
    fn the_command_that_continues_can_be_pasted_into_a_shell() {
        let context = |state: &str| Context {
            format: crate::context::Format::Text,
            color: crate::context::ColorChoice::Never,
            state: state.into(),
            store: None,
            jobs: None,
            coordinator: crate::settings::Setting { value: None, origin: crate::settings::Origin::Default },
            token: None,
            command_line: String::new(),
        };
        let command = |state, submitted: &RunSubmitted| resume_command(&context(state), submitted);
        assert_eq!(command(".milestones", &submitted("x/p.yaml", &[])), "cairn run /plans/p.yaml --resume");
        assert_eq!(command(".milestones", &submitted("stdin", &[])), "cairn run - --resume");
        assert_eq!(
            command("my state", &submitted("p.yaml", &[("who", "it's me")])),
            "cairn run /plans/p.yaml --state 'my state' --param 'who=it'\\''s me' --resume"
        );
    }
}
