//! The agents of a deployment: who is there, and until when that may be believed.
//!
//! [`Registry`] is pure: what agents say and the clock go in, what follows comes out. Which attempts an agent has is
//! the runs' business; the registry only says that it joined, changed or is lost.
//!
//! ```text
//!   hello ─▶ joined ◀─ heartbeats (each answered, each a new lease)
//!              │ lease over, goodbye, a later life
//!              ▼
//!            lost ─ hello ─▶ joined again
//! ```
//!
//! Not here: transport, runs, what is written to the log.

mod ledger;
mod registry;

pub use ledger::Ledger;
pub use registry::{Action, Gone, MAX_AGENTS, Member, Refusal, Registry, Timing, is_agent_id};
