//! Read models: what people and machines are shown, fed by durable events.

mod milestone_files;

pub use milestone_files::{MAX_LISTED_TASKS, MilestoneFiles};
