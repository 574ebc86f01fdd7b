//! Execution traces of scientific workflows in WfFormat 1.5 and 1.6 (<https://wfcommons.org>).
//!
//! A task of the trace becomes a task that takes as long as the recorded one, times a scale, and needs its
//! parents. The children that the trace names too must say the same. The recorded command becomes the title.
//! What the trace says of machines (cores, memory, nodes) is **not** made into `resources` or `requires`: it is
//! where the task happened to run, not what it needs, and no agent would fit.

use super::yaml_text::{duration, scalar, seconds};
use crate::plan::reader::project_id_from;
use crate::plan::scalar::MAX_DURATION;
use cairn_model::ids::{MAX_ID_BYTES, is_id, is_project_id};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

/// What an imported task does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runner {
    /// A process that sleeps: `exec: [sleep, "1.5"]`.
    #[default]
    Sleep,
    /// A timer of the agent: `wait: 1.5s`.
    Wait,
}

/// How a trace is imported.
#[derive(Clone, Copy, Debug)]
pub struct WfCommonsOptions<'a> {
    /// Recorded runtimes are multiplied by this; more than zero.
    pub scale: f64,
    /// What tasks do.
    pub runner: Runner,
    /// The project's id; by default it is made from the workflow's name.
    pub project: Option<&'a str>,
}

impl Default for WfCommonsOptions<'_> {
    fn default() -> Self {
        Self { scale: 1.0, runner: Runner::default(), project: None }
    }
}

/// Why a trace cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum WfCommonsError {
    /// It is not JSON, or not of this form.
    #[error("this is not a WfFormat file")]
    Format(#[source] serde_json::Error),
    /// Another version, with another form.
    #[error("WfFormat {found} is not known; versions 1.5 and 1.6 are")]
    Version {
        /// The version of the file.
        found: String,
    },
    /// The scale is of no use.
    #[error("a scale is a number above zero, not {scale}")]
    Scale {
        /// The scale.
        scale: f64,
    },
    /// The given project cannot be one.
    #[error("`{project}` cannot be a project's id: use small letters, digits and `-`, at most 63")]
    Project {
        /// What was given.
        project: String,
    },
    /// There is nothing to import.
    #[error("the workflow has no tasks")]
    NoTasks,
    /// Two tasks have one id.
    #[error("two tasks have the id `{id}`")]
    DuplicateTask {
        /// The id.
        id: String,
    },
    /// Two ids of the trace become one in the plan.
    #[error("the ids `{first}` and `{second}` both become `{id}` in a plan")]
    IdClash {
        /// An id of the trace.
        first: String,
        /// Another one.
        second: String,
        /// What both become.
        id: String,
    },
    /// A task has an empty id.
    #[error("a task has an empty id")]
    EmptyId,
    /// An edge leads to a task that does not exist.
    #[error("the task `{task}` names `{other}` as its {relation}, but there is no such task")]
    UnknownTask {
        /// Who names it.
        task: String,
        /// What it names.
        other: String,
        /// `parent` or `child`.
        relation: &'static str,
    },
    /// The two ends of an edge do not agree.
    #[error("the task `{parent}` names `{child}` as its child, but `{child}` does not name it as a parent")]
    ChildWithoutParent {
        /// The upper end.
        parent: String,
        /// The lower end.
        child: String,
    },
    /// The two ends of an edge do not agree.
    #[error("the task `{child}` names `{parent}` as its parent, but `{parent}` does not name it as a child")]
    ParentWithoutChild {
        /// The upper end.
        parent: String,
        /// The lower end.
        child: String,
    },
    /// A task was not recorded.
    #[error("the task `{task}` has no recorded runtime")]
    NoRuntime {
        /// The task.
        task: String,
    },
    /// A runtime is of no use.
    #[error("the task `{task}` has the runtime {seconds} s, which is no duration of a plan")]
    Runtime {
        /// The task.
        task: String,
        /// Its runtime.
        seconds: f64,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(rename = "schemaVersion", default)]
    version: Option<String>,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    #[serde(default)]
    specification: Option<Specification>,
    #[serde(default)]
    execution: Option<Execution>,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<Specified>,
}

#[derive(Deserialize)]
struct Specified {
    id: String,
    #[serde(default)]
    name: Option<String>,
    parents: Vec<String>,
    children: Vec<String>,
}

#[derive(Deserialize)]
struct Execution {
    tasks: Vec<Executed>,
}

#[derive(Deserialize)]
struct Executed {
    id: String,
    #[serde(rename = "runtimeInSeconds", default)]
    seconds: Option<f64>,
    #[serde(default)]
    command: Option<Command>,
}

#[derive(Deserialize)]
struct Command {
    #[serde(default)]
    program: Option<String>,
    #[serde(default)]
    arguments: Vec<String>,
}

/// Versions of the format that have this form.
const VERSIONS: [&str; 2] = ["1.5", "1.6"];
/// Most characters of a title.
const MAX_TITLE: usize = 80;
/// A list of needs that is longer is written with a line for each.
const MAX_FLOW_NEEDS: usize = 6;

/// Makes a plan of a trace.
///
/// # Errors
/// What in the trace cannot be said in a plan, or contradicts itself.
pub fn wfcommons(text: &str, options: &WfCommonsOptions<'_>) -> Result<String, WfCommonsError> {
    if !(options.scale > 0.0 && options.scale.is_finite()) {
        return Err(WfCommonsError::Scale { scale: options.scale });
    }
    let document: Document = serde_json::from_str(text).map_err(WfCommonsError::Format)?;
    let version = document.version.as_deref().unwrap_or_default();
    if !VERSIONS.contains(&version) {
        let found = if version.is_empty() { "without a version" } else { version };
        return Err(WfCommonsError::Version { found: found.to_string() });
    }
    let tasks =
        document.workflow.specification.as_ref().map_or(&[][..], |specification| &specification.tasks);
    if tasks.is_empty() {
        return Err(WfCommonsError::NoTasks);
    }
    let ids = plan_ids(tasks)?;
    check_edges(tasks)?;
    let executed = document.workflow.execution.as_ref().map_or(&[][..], |execution| &execution.tasks);
    let executed: HashMap<&str, &Executed> = executed.iter().map(|task| (task.id.as_str(), task)).collect();

    let mut out = header(&document, version, options)?;
    for task in tasks {
        let record = executed.get(task.id.as_str());
        let runtime = runtime(task, record.copied(), options.scale)?;
        let title =
            record.and_then(|record| command_line(record.command.as_ref()?)).or_else(|| task.name.clone());
        write_task(&mut out, task, &ids, runtime, title.as_deref(), options.runner);
    }
    Ok(out)
}

fn header(
    document: &Document,
    version: &str,
    options: &WfCommonsOptions<'_>,
) -> Result<String, WfCommonsError> {
    let name = document.name.as_deref().unwrap_or_default();
    let project = match options.project {
        Some(project) if is_project_id(project) => project.to_string(),
        Some(project) => return Err(WfCommonsError::Project { project: project.to_string() }),
        None => match project_id_from(name.strip_suffix(".json").unwrap_or(name)) {
            project if project.is_empty() => "workflow".to_string(),
            project => project,
        },
    };
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "# Imported from WfFormat {version}; recorded runtimes times {}.", options.scale);
    let _ = writeln!(out, "version: 1\nproject: {}", scalar(&project));
    if !name.is_empty() {
        let _ = writeln!(out, "title: {}", scalar(&literal(name)));
    }
    if let Some(description) = document.description.as_deref().filter(|text| !text.is_empty()) {
        let _ = writeln!(out, "description: {}", scalar(&literal(description)));
    }
    out.push_str("tasks:\n");
    Ok(out)
}

fn write_task(
    out: &mut String,
    task: &Specified,
    ids: &HashMap<&str, String>,
    runtime: Duration,
    title: Option<&str>,
    runner: Runner,
) {
    let id = &ids[task.id.as_str()];
    let _ = writeln!(out, "  - id: {}", scalar(id));
    if let Some(title) = title.filter(|title| !title.is_empty() && *title != id) {
        let _ = writeln!(out, "    title: {}", scalar(&literal(&cut(title))));
    }
    let mut seen = HashSet::new();
    let parents = task.parents.iter().filter(|parent| seen.insert(parent.as_str()));
    let needs: Vec<String> = parents.map(|parent| scalar(&ids[parent.as_str()])).collect();
    match needs.len() {
        0 => {}
        1..=MAX_FLOW_NEEDS => {
            let _ = writeln!(out, "    needs: [{}]", needs.join(", "));
        }
        _ => {
            let _ = writeln!(out, "    needs:\n      - {}", needs.join("\n      - "));
        }
    }
    let _ = match runner {
        Runner::Sleep => writeln!(out, "    exec: [sleep, \"{}\"]", seconds(runtime)),
        Runner::Wait => writeln!(out, "    wait: {}", duration(runtime)),
    };
    let _ = writeln!(out, "    estimate: {}", duration(runtime));
}

/// The id in the plan of each task.
fn plan_ids(tasks: &[Specified]) -> Result<HashMap<&str, String>, WfCommonsError> {
    let mut ids: HashMap<&str, String> = HashMap::with_capacity(tasks.len());
    let mut taken: HashMap<String, &str> = HashMap::with_capacity(tasks.len());
    for task in tasks {
        if task.id.is_empty() {
            return Err(WfCommonsError::EmptyId);
        }
        let id = plan_id(&task.id);
        if ids.insert(&task.id, id.clone()).is_some() {
            return Err(WfCommonsError::DuplicateTask { id: task.id.clone() });
        }
        if let Some(first) = taken.insert(id.clone(), &task.id) {
            return Err(WfCommonsError::IdClash { first: first.to_string(), second: task.id.clone(), id });
        }
    }
    Ok(ids)
}

/// The id itself where a plan can have it; else what is nearest.
fn plan_id(id: &str) -> String {
    if is_id(id) {
        return id.to_string();
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '#' | '-');
    let mut out: String = id.chars().map(|c| if is_part(c) { c } else { '_' }).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        out.insert(0, '_');
    }
    out.truncate(MAX_ID_BYTES);
    out
}

/// Parents and children are mirror images of each other, and name tasks that exist.
fn check_edges(tasks: &[Specified]) -> Result<(), WfCommonsError> {
    let known: HashSet<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    let mut by_parents: HashSet<(&str, &str)> = HashSet::new();
    let mut by_children: HashSet<(&str, &str)> = HashSet::new();
    for task in tasks {
        let unknown = |other: &str, relation| WfCommonsError::UnknownTask {
            task: task.id.clone(),
            other: other.to_string(),
            relation,
        };
        for parent in &task.parents {
            if !known.contains(parent.as_str()) {
                return Err(unknown(parent, "parent"));
            }
            by_parents.insert((parent, &task.id));
        }
        for child in &task.children {
            if !known.contains(child.as_str()) {
                return Err(unknown(child, "child"));
            }
            by_children.insert((&task.id, child));
        }
    }
    // In the order of the file, so that the same file always gives the same error.
    for task in tasks {
        let id = task.id.as_str();
        if let Some(parent) = task.parents.iter().find(|parent| !by_children.contains(&(parent.as_str(), id)))
        {
            return Err(WfCommonsError::ParentWithoutChild { parent: parent.clone(), child: id.to_string() });
        }
        if let Some(child) = task.children.iter().find(|child| !by_parents.contains(&(id, child.as_str()))) {
            return Err(WfCommonsError::ChildWithoutParent { parent: id.to_string(), child: child.clone() });
        }
    }
    Ok(())
}

fn runtime(task: &Specified, record: Option<&Executed>, scale: f64) -> Result<Duration, WfCommonsError> {
    let seconds = record
        .and_then(|record| record.seconds)
        .ok_or_else(|| WfCommonsError::NoRuntime { task: task.id.clone() })?;
    let unusable = || WfCommonsError::Runtime { task: task.id.clone(), seconds };
    let runtime = Duration::try_from_secs_f64(seconds * scale).map_err(|_| unusable())?;
    if runtime > MAX_DURATION {
        return Err(unusable());
    }
    Ok(runtime)
}

fn command_line(command: &Command) -> Option<String> {
    let program = command.program.as_deref().filter(|program| !program.is_empty())?;
    let mut line = program.to_string();
    for argument in &command.arguments {
        if line.len() > 4 * MAX_TITLE {
            break;
        }
        line.push(' ');
        line.push_str(argument);
    }
    Some(line)
}

/// One line of at most [`MAX_TITLE`] characters.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// Text of a trace is never an expression.
fn literal(text: &str) -> String {
    text.replace("${{", "$ {{").replace('\0', "")
}

#[cfg(test)]
#[path = "wfcommons_tests.rs"]
mod tests;
