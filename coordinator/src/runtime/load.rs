//! Runs read back from a log: the same fold that a live run is.

use super::snapshot::{self, Restored};
use crate::codec::{DecodeError, Decoder, expand, read_submitted};
use crate::plans::{self, PlanError};
use crate::store::{Cursor, EventReader, ReadError, StoredRecord, StreamId};
use cairn_engine::{State, apply};
use cairn_model::{Event, Graph, Plan, RunId, RunSubmitted, Timestamp};
use cairn_shared::plan::{Diagnostics, Limits, Options, Source, parse};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Why a run cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no such run.
    #[error("there is no run {run}")]
    NoSuchRun {
        /// Which one.
        run: String,
    },
    /// Its plan is gone or was changed.
    #[error("the plan of run {run} cannot be had")]
    Plan {
        /// Which one.
        run: String,
        /// Why.
        #[source]
        source: PlanError,
    },
    /// Its plan cannot be read by this version.
    #[error("the stored plan of run {run} cannot be read:\n{}", diagnostics.render(false))]
    Parse {
        /// Which one.
        run: String,
        /// What is wrong with it.
        diagnostics: Box<Diagnostics>,
    },
    /// Its events cannot be understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A run as its log tells it.
#[derive(Debug)]
pub struct LoadedRun {
    /// What it was submitted with.
    pub submitted: RunSubmitted,
    /// The plan that it executes.
    pub plan: Arc<Plan>,
    /// Where it stands.
    pub state: State,
    /// The versions of its streams.
    pub versions: HashMap<StreamId, u64>,
    /// The position of its last event.
    pub position: u64,
}

/// What a list of runs shows of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// The position of its first event.
    pub position: u64,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// What it was submitted with.
    pub submitted: RunSubmitted,
    /// Who submitted it.
    pub user: String,
}

/// All runs of a log, in the order of their submission.
///
/// # Errors
/// The log cannot be read.
pub fn list_runs(reader: &dyn EventReader) -> Result<Vec<RunSummary>, ReadError> {
    let mut runs = Vec::new();
    let mut cursor = Cursor::all(1);
    each_record(reader, &mut cursor, |record| {
        let is_first = record.first_version == 1;
        if let Some(run) = RunId::parse(record.stream.as_str()).filter(|_| is_first)
            && let Some(read) = read_submitted(record)
        {
            let (submitted_at, submitted, user) = (read.at, read.what, read.user);
            runs.push(RunSummary { run, position: record.position, submitted_at, submitted, user });
        }
        Ok::<(), ReadError>(())
    })?;
    Ok(runs)
}

/// The moment of the last event of a log; a clock goes on from there.
///
/// # Errors
/// The log cannot be read.
pub fn last_moment(reader: &dyn EventReader) -> Result<Timestamp, ReadError> {
    let head = reader.head()?;
    let mut last = Timestamp(0);
    if head.position == 0 {
        return Ok(last);
    }
    each_record(reader, &mut Cursor::all(head.position), |record| {
        // A record that cannot be understood is met where its run is read.
        let _ = expand(record, |event| {
            last = last.max(Timestamp::parse(&event.metadata.timestamp).unwrap_or(last));
        });
        Ok::<(), ReadError>(())
    })?;
    Ok(last)
}

/// The run that a user names: `PROJECT.N`, or the newest of `PROJECT`.
///
/// # Errors
/// The log cannot be read, or has no such run.
pub fn find_run(reader: &dyn EventReader, name: &str) -> Result<RunSummary, LoadError> {
    let runs = list_runs(reader)?;
    let exact = RunId::parse(name);
    let wanted = |summary: &&RunSummary| match &exact {
        Some(run) => summary.run == *run,
        None => summary.run.project() == name,
    };
    let newest = runs.iter().filter(wanted).max_by_key(|summary| summary.run.number());
    newest.cloned().ok_or_else(|| LoadError::NoSuchRun { run: name.to_owned() })
}

/// Reads a plan's text as it was submitted: what is read once is read alike ever after.
///
/// # Errors
/// It is not a plan (any more).
pub fn read_plan(
    name: &str,
    text: String,
    parameters: &[(String, String)],
) -> Result<(Arc<Plan>, Arc<Graph>), Diagnostics> {
    let source = Source { name: name.to_owned(), text };
    let parsed = parse(&source, &Options { params: parameters, limits: Limits::local() })?;
    let graph = parsed.graph(&source)?;
    Ok((Arc::new(parsed.plan), Arc::new(graph)))
}

/// Folds a run from its log up to, and with, the event at `until`; the whole of it without one.
///
/// # Errors
/// The log, the plan or an event cannot be read.
pub fn load_run(
    state_directory: &Path,
    reader: &dyn EventReader,
    run: &RunSummary,
    until: Option<u64>,
) -> Result<LoadedRun, LoadError> {
    let id = run.run.to_string();
    let submitted = run.submitted.clone();
    let text = plans::load(state_directory, &submitted.plan_hash)
        .map_err(|source| LoadError::Plan { run: id.clone(), source })?;
    let (plan, graph) = read_plan(&submitted.plan_name, text, &submitted.parameters)
        .map_err(|diagnostics| LoadError::Parse { run: id.clone(), diagnostics: Box::new(diagnostics) })?;
    let (mut state, mut versions, mut position) = match restore(reader, &submitted, &plan, &graph, until) {
        Some(restored) => restored,
        None => (State::new(plan.clone(), graph.clone()), HashMap::new(), 0),
    };
    let agents = state.agents().iter().map(|agent| agent.spec.id.clone()).collect();
    let mut decoder = Decoder::new(&plan, &graph, agents);
    let folded = position;
    let mut cursor = Cursor::all(position + 1);
    each_record(reader, &mut cursor, |record| {
        let is_wanted = record.position > folded && until.is_none_or(|until| record.position <= until);
        if !is_wanted || !belongs(record.stream.as_str(), &id) {
            return Ok(());
        }
        versions.insert(record.stream.clone(), record.first_version + u64::from(record.count) - 1);
        let mut at_position = record.position;
        decoder.decode(record, |event: Event, at| {
            if until.is_none_or(|until| at_position <= until) {
                apply(&mut state, &event, at);
                position = at_position;
            }
            at_position += 1;
        })?;
        Ok::<(), LoadError>(())
    })?;
    Ok(LoadedRun { submitted, plan, state, versions, position })
}

/// The newest snapshot of a run that is not ahead of `until`. Whatever is wrong with one, the log has all of it.
fn restore(
    reader: &dyn EventReader,
    submitted: &RunSubmitted,
    plan: &Arc<Plan>,
    graph: &Arc<Graph>,
    until: Option<u64>,
) -> Option<(State, HashMap<StreamId, u64>, u64)> {
    let loaded = reader.load_snapshot(&submitted.run).ok()?;
    let snapshot = loaded.snapshot.filter(|snapshot| until.is_none_or(|until| snapshot.position <= until))?;
    let Restored { image, versions } = snapshot::read(&snapshot, &submitted.plan_hash)?;
    let state = State::restore(plan.clone(), graph.clone(), image)?;
    Some((state, versions, snapshot.position))
}

/// Whether a stream is that of the run or of one of its milestones.
#[must_use]
pub fn belongs(stream: &str, run: &str) -> bool {
    stream.strip_prefix(run).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Hands every record from the cursor to the end of the log to `take`.
///
/// # Errors
/// The log cannot be read, or `take` refuses a record.
pub fn each_record<E: From<ReadError>>(
    reader: &dyn EventReader,
    cursor: &mut Cursor,
    mut take: impl FnMut(&StoredRecord) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let page = reader.read(cursor)?;
        if page.is_empty() {
            return Ok(());
        }
        page.iter().try_for_each(&mut take)?;
    }
}
