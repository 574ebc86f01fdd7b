//! Read models: rows of runs and milestones, dependency trees and daily totals, fed by the log.
//!
//! ```text
//! log ─▶ Feeder ─▶ Fold (pure) ─▶ Batch ─▶ ReadModels: in memory, SQLite, PostgreSQL ─▶ queries
//! ```
//!
//! Contract: what [`ReadModels`] tell is a pure function of the events up to their position, the same in each of them;
//! one suite (`coordinator/tests/models`) says so. They hold nothing that the log does not have, and may be deleted at
//! any time. Feeding never makes an append wait; feeding does nothing but change rows, so doing it again is harmless.
//!
//! Not here: the state that decisions are made of (the engine's), runs as they were (`past`).

mod feeder;
mod fold;
mod memory;
mod query;
mod rows;
mod statistics;

pub use feeder::{FeedError, Feeder, PlanSource};
pub use fold::{Batch, Fold, PlanOf, RunChange};
pub use memory::MemoryModels;
pub use query::{
    Direction, Key, MAX_PAGE_ROWS, MAX_TREE_DEPTH, MAX_TREE_NODES, MilestoneFilter, MilestoneSort, NoKey,
    Page, Paging, RunFilter, RunSort, TreeNode, run_text,
};
pub use rows::{
    DayTotals, Durations, MAX_TREE_NEEDS, MAX_TREE_TASKS, Memory, MilestoneOverview, NeedRow, RunRows, Span,
};
pub use statistics::{Spread, Statistics, statistics};

use super::RunOverview;
use crate::store::IoFailure;
use cairn_engine::RunStatus;

/// The version of rows and of what they are made from. Rows of another version are made again from the log.
pub const FORMAT: u32 = 1;

/// How far tables know the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The position of the last event that they know; 0 if they know nothing.
    pub position: u64,
    /// The checksum of the record that ends there: whether that log is this one.
    pub mark: u32,
}

/// Why tables cannot be asked or fed.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// A row is not one of ours.
    #[error("a row of {table} cannot be understood")]
    Row {
        /// Of which table.
        table: &'static str,
    },
    /// The process is ending.
    #[error("the tables are being closed")]
    ShuttingDown,
}

/// Tables that are fed by the log, and asked. Calls block: an asynchronous task makes them on a thread that may.
///
/// A query sees whole batches. Its rows and their order are the same in every implementation.
pub trait ReadModels: Send + Sync {
    /// How far they know the log.
    ///
    /// # Errors
    /// They cannot be read.
    fn known(&self) -> Result<Known, ModelError>;

    /// Changes rows, all of them or none, and knows the log up to the batch's end. `false` if the batch does not begin
    /// where the tables end: it was made already, or another feeder has been faster; then nothing is changed.
    ///
    /// # Errors
    /// They cannot be written; the batch was made or not.
    fn apply(&self, batch: &Batch) -> Result<bool, ModelError>;

    /// Forgets everything.
    ///
    /// # Errors
    /// They cannot be written.
    fn clear(&self) -> Result<(), ModelError>;

    /// All that is kept of a run, to go on with.
    ///
    /// # Errors
    /// They cannot be read.
    fn load(&self, run: &str) -> Result<Option<RunRows>, ModelError>;

    /// A page of runs.
    ///
    /// # Errors
    /// They cannot be read.
    fn runs(&self, filter: &RunFilter, paging: &Paging<RunSort>) -> Result<Page<RunOverview>, ModelError>;

    /// A page of milestones.
    ///
    /// # Errors
    /// They cannot be read.
    fn milestones(
        &self,
        filter: &MilestoneFilter,
        paging: &Paging<MilestoneSort>,
    ) -> Result<Page<MilestoneOverview>, ModelError>;

    /// What a milestone or task (`MILESTONE/TASK`) of a run needs, or what needs it, the nearest first, then by name.
    /// A task also needs what its milestone needs; a milestone also needs what its tasks need outside of it.
    ///
    /// # Errors
    /// They cannot be read.
    fn dependency_tree(
        &self,
        run: &str,
        node: &str,
        direction: Direction,
        depth: u32,
    ) -> Result<Vec<TreeNode>, ModelError>;

    /// Totals of a project's days (since 1970-01-01, both included), those without any left out.
    ///
    /// # Errors
    /// They cannot be read.
    fn days(&self, project: &str, from: i64, to: i64) -> Result<Vec<(i64, DayTotals)>, ModelError>;

    /// How many runs of a project there are, by where they stand.
    ///
    /// # Errors
    /// They cannot be read.
    fn run_counts(&self, project: &str) -> Result<Vec<(RunStatus, u64)>, ModelError>;
}
