//! Read models: what people and programs are shown of runs.
//!
//! [`StatusView`] is one run, folded with its plan; [`RunOverview`] is a line of a list, made from the records alone, so
//! that a thousand runs are listed without reading a plan. [`load_at`] is a run as it was. [`MilestoneFiles`] are files
//! for people, fed by durable events.
//!
//! Not here: how it is printed.

mod head;
mod milestone_files;
pub mod models;
mod past;
mod runs;
mod status;

pub use milestone_files::{MAX_LISTED_TASKS, MilestoneFiles};
pub use past::{At, AtError, PastError, load_at};
pub use runs::{RunOverview, RunsFold, list};
pub use status::{STATUS_SCHEMA, StatusView, TaskView, milestone_progress, progress};
