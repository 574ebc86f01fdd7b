//! What a coordinator measures: events and states go in, metrics go out.
//!
//! Everything here takes hold of its metrics when it is made, so it is made after the recorder of the process was
//! installed; what follows is plain arithmetic and a few atomic writes.
//!
//! Not here: names and meanings (`metric_definitions`), how metrics are kept and shown (`cairn_shared::telemetry`).

mod fleet;
mod outlook;
mod projects;
mod run;
mod store;
mod unplaceable;

pub use fleet::FleetMetrics;
pub use projects::{MAX_DUE_MILESTONES, Projects};
pub use run::RunMetrics;
pub use store::StoreMetrics;
pub use unplaceable::Unplaceable;

#[cfg(test)]
mod tests;
