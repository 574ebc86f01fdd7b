//! A run as it was: at a position of the log, or at a moment.
//!
//! Contract: what is shown is the fold of exactly the events up to there, by the same code that folds a run of today.
//! A point behind the newest event means the newest. `PROJECT` means the run that was its newest then.
//!
//! Not here: the fold (`runtime::load_run`).

use super::head::Head;
use crate::runtime::{LoadError, LoadedRun, RunSummary, belongs, list_runs, load_run};
use crate::store::{Cursor, EventReader, ReadError};
use cairn_model::{RunId, Timestamp};
use serde::Deserialize;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A point of a run's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum At {
    /// The event at this position of the log is the last that counts.
    Position(u64),
    /// What happened later does not count.
    Time(Timestamp),
}

/// A text that names no point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position of the log (`412`) nor a time (`2026-12-01T12:00:00Z`)")]
pub struct AtError;

impl FromStr for At {
    type Err = AtError;

    fn from_str(text: &str) -> Result<Self, AtError> {
        match text.parse() {
            Ok(position) => Ok(Self::Position(position)),
            Err(_) => Timestamp::parse(text).map(Self::Time).ok_or(AtError),
        }
    }
}

impl TryFrom<String> for At {
    type Error = AtError;

    fn try_from(text: String) -> Result<Self, AtError> {
        text.parse()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// Why a run cannot be shown as it was.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// It began later.
    #[error("run {run} begins at position {position}, {submitted_at}: there was none at {at}")]
    NotYet {
        /// The run.
        run: RunId,
        /// The position of its first event.
        position: u64,
        /// When that was.
        submitted_at: Timestamp,
        /// Where it was looked for.
        at: At,
    },
    /// It cannot be read back.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The run of that name (`PROJECT.N`, or `PROJECT` for its newest then) as it was.
///
/// # Errors
/// There is no such run, it began later, or it cannot be read back.
pub fn load_at(
    state_directory: &Path,
    reader: &dyn EventReader,
    name: &str,
    at: At,
) -> Result<LoadedRun, PastError> {
    let run = find(reader, name, at)?;
    let until = match at {
        At::Position(position) => position,
        At::Time(time) => last_until(reader, &run, time).map_err(LoadError::from)?,
    };
    Ok(load_run(state_directory, reader, &run, Some(until))?)
}

fn find(reader: &dyn EventReader, name: &str, at: At) -> Result<RunSummary, PastError> {
    let exact = RunId::parse(name);
    let is_meant = |run: &RunSummary| match &exact {
        Some(exact) => run.run == *exact,
        None => run.run.project() == name,
    };
    let has_begun = |run: &RunSummary| match at {
        At::Position(position) => run.position <= position,
        At::Time(time) => run.submitted_at <= time,
    };
    let mut runs = list_runs(reader).map_err(LoadError::from)?;
    runs.retain(is_meant);
    let first = runs.first().cloned().ok_or_else(|| LoadError::NoSuchRun { run: name.to_owned() })?;
    let newest = runs.into_iter().filter(has_begun).max_by_key(|run| run.run.number());
    newest.ok_or(PastError::NotYet {
        run: first.run,
        position: first.position,
        submitted_at: first.submitted_at,
        at,
    })
}

/// The position of the run's last event that happened by then. The times of a run's events never fall.
fn last_until(reader: &dyn EventReader, run: &RunSummary, time: Timestamp) -> Result<u64, ReadError> {
    let name = run.run.to_string();
    let (mut last, mut cursor) = (run.position, Cursor::all(run.position));
    loop {
        let page = reader.read(&mut cursor)?;
        if page.is_empty() {
            return Ok(last);
        }
        for record in page.iter().filter(|record| belongs(record.stream.as_str(), &name)) {
            // A record whose time cannot be read is refused by whoever folds it.
            if Head::of(&record.body).and_then(|head| head.at()).is_some_and(|at| at > time) {
                return Ok(last);
            }
            last = record.next_position() - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_position_or_a_time() {
        assert_eq!("412".parse(), Ok(At::Position(412)));
        let noon = Timestamp::parse("2026-12-01T12:00:00Z").expect("a time");
        assert_eq!("2026-12-01T13:00:00+01:00".parse(), Ok(At::Time(noon)));
        assert_eq!(At::Time(noon).to_string().parse(), Ok(At::Time(noon)));
        for wrong in ["", "-1", "yesterday", "2026-12-01", "1.5"] {
            assert_eq!(wrong.parse::<At>(), Err(AtError), "{wrong}");
        }
    }
}
