//! The words of Cairn as data. Everything depends on this package; it depends on next to nothing.
//!
//! Not here: parsing (the plan language is in `cairn-shared`), decisions (`cairn-engine`), IO of any kind.
#![forbid(unsafe_code)]

pub mod command;
pub mod event;
pub mod graph;
pub mod ids;
pub mod plan;
pub mod time;

pub use command::{AgentRole, AgentSpec, Command, Outcome, Report, ReportKind, Scope};
pub use event::{Ended, Event, Failure, FailureKind, RunOptions, RunSubmitted};
pub use graph::{Cycle, CycleStep, Graph, NodeKind};
pub use ids::{AgentIndex, MilestoneIndex, NodeIndex, RunId, TaskIndex};
pub use plan::{Action, Need, Plan, PlanBuilder, Retry, TaskSettings};
pub use time::Timestamp;
