//! What is asked of read models: which rows, in which order, which page of them.
//!
//! A page ends with the key of its last row, and the next one begins behind that key: rows that come or go meanwhile
//! neither repeat nor hide others. Every kind of table gives the same rows in the same order.

use super::rows::MilestoneOverview;
use crate::projection::RunOverview;
use cairn_engine::{MilestoneStatus, RunStatus};
use cairn_model::Timestamp;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// Rows of a page, at most.
pub const MAX_PAGE_ROWS: usize = 1_000;

/// Steps of a dependency tree, at most.
pub const MAX_TREE_DEPTH: u32 = 64;

/// Nodes of a dependency tree, at most; the nearest are given.
pub const MAX_TREE_NODES: usize = 10_000;

/// Where rows without a time stand: last.
const NEVER: i64 = i64::MAX;

/// Which runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of these projects; of all without.
    pub projects: Option<Vec<String>>,
    /// That stand there.
    pub status: Option<RunStatus>,
    /// With this in the name of the run or its plan, large and small letters alike.
    pub text: Option<String>,
    /// Submitted then or later.
    pub from: Option<Timestamp>,
    /// Submitted earlier.
    pub until: Option<Timestamp>,
}

impl RunFilter {
    /// Whether a run is meant.
    #[must_use]
    pub fn is_wanted(&self, run: &RunOverview) -> bool {
        let Self { projects, status, text, from, until } = self;
        projects.as_ref().is_none_or(|all| all.iter().any(|project| project == run.run.project()))
            && status.is_none_or(|status| status == run.status)
            && text.as_ref().is_none_or(|text| run_text(run).contains(&text.to_lowercase()))
            && from.is_none_or(|from| run.submitted_at >= from)
            && until.is_none_or(|until| run.submitted_at < until)
    }
}

/// What a search for a run looks through.
#[must_use]
pub fn run_text(run: &RunOverview) -> String {
    format!("{}\n{}", run.run, run.plan_name).to_lowercase()
}

/// What runs are sorted by. Those that have no such time come last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSort {
    /// The order of submission.
    #[default]
    Submitted,
    /// When the first task was dispatched or done.
    Started,
    /// When they ended.
    Finished,
    /// How long they took.
    Duration,
}

impl RunSort {
    /// The number that a run is sorted by.
    #[must_use]
    pub fn value(self, run: &RunOverview, first: u64) -> i64 {
        let time = |at: Option<Timestamp>| at.map_or(NEVER, |at| at.0);
        match self {
            Self::Submitted => first.cast_signed(),
            Self::Started => time(run.started_at),
            Self::Finished => time(run.finished_at),
            Self::Duration => run.finished_at.map_or(NEVER, |at| at.0 - run.submitted_at.0),
        }
    }
}

/// Which milestones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MilestoneFilter {
    /// Of these projects; of all without.
    pub projects: Option<Vec<String>>,
    /// Of this run.
    pub run: Option<String>,
    /// That stand there.
    pub status: Option<MilestoneStatus>,
    /// Of this owner.
    pub owner: Option<String>,
    /// With this in id, title, description or owner, large and small letters alike.
    pub text: Option<String>,
    /// Due then or later.
    pub due_from: Option<Timestamp>,
    /// Due earlier.
    pub due_until: Option<Timestamp>,
}

impl MilestoneFilter {
    /// Whether a milestone of `project` is meant.
    #[must_use]
    pub fn is_wanted(&self, project: &str, milestone: &MilestoneOverview) -> bool {
        let Self { projects, run, status, owner, text, due_from, due_until } = self;
        projects.as_ref().is_none_or(|all| all.iter().any(|wanted| wanted == project))
            && run.as_ref().is_none_or(|run| *run == milestone.run)
            && status.is_none_or(|status| status == milestone.status)
            && owner.as_ref().is_none_or(|owner| milestone.owner.as_ref() == Some(owner))
            && text.as_ref().is_none_or(|text| milestone.text().contains(&text.to_lowercase()))
            && due_from.is_none_or(|from| milestone.due.is_some_and(|due| due >= from))
            && due_until.is_none_or(|until| milestone.due.is_some_and(|due| due < until))
    }
}

/// What milestones are sorted by. Those that have no such time come last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MilestoneSort {
    /// The order of their runs, in a run that of the plan.
    #[default]
    Submitted,
    /// When they are due.
    Due,
    /// When they started.
    Started,
    /// When they ended.
    Finished,
}

impl MilestoneSort {
    /// The number that a milestone is sorted by.
    #[must_use]
    pub fn value(self, milestone: &MilestoneOverview, first: u64) -> i64 {
        let time = |at: Option<Timestamp>| at.map_or(NEVER, |at| at.0);
        match self {
            Self::Submitted => first.cast_signed(),
            Self::Due => time(milestone.due),
            Self::Started => time(milestone.started_at),
            Self::Finished => time(milestone.finished_at),
        }
    }
}

/// Which page, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging<S> {
    /// By what.
    pub sort: S,
    /// The last first.
    pub descending: bool,
    /// Behind this row; from the beginning without.
    pub after: Option<Key>,
    /// Rows of the page, at most [`MAX_PAGE_ROWS`].
    pub limit: usize,
}

impl<S: Default> Default for Paging<S> {
    fn default() -> Self {
        Self { sort: S::default(), descending: false, after: None, limit: MAX_PAGE_ROWS }
    }
}

/// Where a row stands in an order; no two rows stand at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What is sorted by.
    pub value: i64,
    /// The position of the run's first event.
    pub first: i64,
    /// Of a milestone its place in the plan.
    pub place: i64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.value, self.first, self.place)
    }
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such cursor")]
pub struct NoKey;

impl FromStr for Key {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let mut parts = text.split('.').map(|part| part.parse().map_err(|_| NoKey));
        let mut next = || parts.next().unwrap_or(Err(NoKey));
        let key = Self { value: next()?, first: next()?, place: next()? };
        if parts.next().is_some() { Err(NoKey) } else { Ok(key) }
    }
}

/// Rows, and where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The key of the last of them, if there are more.
    pub next: Option<Key>,
}

impl<T> Page<T> {
    /// The page of rows that were found in order: at most one more than `limit`.
    #[must_use]
    pub fn of(mut found: Vec<(Key, T)>, limit: usize) -> Self {
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|(key, _)| *key);
        Self { rows: found.into_iter().map(|(_, row)| row).collect(), next }
    }
}

/// Which way a dependency tree is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What it needs.
    #[default]
    Needs,
    /// What needs it.
    NeededBy,
}

/// A node of a dependency tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeNode {
    /// `MILESTONE`, or `MILESTONE/TASK`.
    pub node: String,
    /// The fewest steps that lead to it.
    pub depth: u32,
}
