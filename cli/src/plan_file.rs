//! Plans as the command line gives them: a file, or stdin.

use crate::exit::{Exit, Failure};
use cairn_model::Graph;
use cairn_model::plan::{MAX_PLAN_BYTES, Plan};
use cairn_shared::plan::{Diagnostics, Limits, Options, Source, parse};
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

/// What a plan from stdin is called.
pub const STDIN_NAME: &str = "stdin";

/// A plan that was read.
pub struct PlanFile {
    /// What it is called in messages.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The directory that its tasks start in, absolute.
    pub directory: PathBuf,
    /// The plan.
    pub plan: Plan,
    /// Its graph.
    pub graph: Graph,
    /// What is probably meant otherwise.
    pub warnings: Diagnostics,
}

/// Reads `K=V` of `--param`.
pub fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Reads the number of `--jobs`.
pub fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "write a whole number from 1".to_owned())
}

/// The text of a plan, at most as long as a plan may be, and what it is called. `-` is stdin.
///
/// # Errors
/// It cannot be read, or is too long.
pub fn read_source(path: &Path) -> Result<Source, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { STDIN_NAME.to_owned() } else { path.display().to_string() };
    let limits = Limits::local();
    let file =
        if is_stdin { io::stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(path) };
    let file = file.map_err(|error| cannot_read(&name, &error))?;
    let metadata = file.metadata().map_err(|error| cannot_read(&name, &error))?;
    // What is too long is refused before it is read, where its length is known.
    let length = if metadata.is_file() { usize::try_from(metadata.len()).unwrap_or(usize::MAX) } else { 0 };
    Source::check_length(&name, length, &limits).map_err(Failure::invalid_plan)?;
    let mut bytes = Vec::with_capacity(length);
    // One byte more than a plan may have shows that it is too long, whatever its length.
    let read = file.take(MAX_PLAN_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| cannot_read(&name, &error))?;
    Source::from_bytes(name, bytes, &limits).map_err(Failure::invalid_plan)
}

fn cannot_read(name: &str, error: &io::Error) -> Failure {
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
    let failure = Failure::new(exit, format!("cannot read {name}: {error}"));
    match error.kind() {
        io::ErrorKind::IsADirectory => failure.help("name a file in it"),
        _ => failure,
    }
}

/// Reads, checks and draws up a plan.
///
/// # Errors
/// It cannot be read, or is not valid: all that is wrong with it.
pub fn read(path: &Path, params: &[(String, String)]) -> Result<PlanFile, Failure> {
    let source = read_source(path)?;
    let parsed =
        parse(&source, &Options { params, limits: Limits::local() }).map_err(Failure::invalid_plan)?;
    let graph = parsed.graph(&source).map_err(Failure::invalid_plan)?;
    let directory = directory_of(path)?;
    let Source { name, text } = source;
    Ok(PlanFile { name, text, directory, plan: parsed.plan, graph, warnings: parsed.warnings })
}

fn directory_of(path: &Path) -> Result<PathBuf, Failure> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    std::path::absolute(directory).map_err(|error| cannot_read(&directory.display().to_string(), &error))
}
