//! What can be said of a plan or a run beyond its state: the critical path, the score, the difference between two
//! plans, and why a task is not running.
//!
//! Everything here is computed from a plan, its graph and a folded state; nothing reads a clock or a file. What is
//! not known is absent, never made up.
//!
//! Not here: forecasts, risk, velocity; how any of it is shown.

mod difference;
mod explain;
mod misfit;
mod path;
mod score;

pub use difference::differences;
pub use explain::{
    AgentRoom, Explanation, FailureView, MAX_LISTED, Need, Reason, ResourceRoom, Waiting, explain_task,
};
pub use misfit::misfit;
pub use path::{CriticalPath, Timing, critical_path, level_sizes, run_critical_path};
pub use score::{
    COORDINATION_WEIGHT, Coordination, Profile, Scale, Score, Terms, USERS_WINDOW_SECONDS, coordination,
    milestone_depth, score,
};

#[cfg(test)]
pub(crate) mod tests;
