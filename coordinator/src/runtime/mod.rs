//! The shell around the engine: one loop owns a run.
//!
//! ```text
//!   reports, commands, clock ─▶ decide ─▶ events ─▶ store ─(durable)─▶ react ─▶ orders to agents
//!                                                        └───────────▶ observer, files for people
//! ```
//!
//! Invariant: nothing leaves the loop before the events that justify it are durable. The state runs ahead of the
//! store by a bounded number of appends, so that the next decision is made while the last one is written.
//!
//! Not here: rules (the engine's), formats (the codec's), processes (the agent's).

mod link;
mod load;
mod outstanding;
mod run_loop;
mod snapshot;

pub use link::{AgentLife, Parcel};
pub use load::{
    LoadError, LoadedRun, RunSummary, belongs, each_record, find_run, last_moment, list_runs, load_run,
    read_plan,
};
pub use outstanding::{ANSWER_EXPECTED_WITHIN, Outstanding};
pub use run_loop::{Heard, Input, Observer, RunConfig, RunError, RunLoop, Update};

use uuid::Uuid;

/// A fresh id that sorts by time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where the shell makes ids")]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}
