//! The pure core: what happens next in a run.
//!
//! Five functions over one [`State`]:
//!
//! ```text
//! decide(state, command, now) ─▶ events     a wish becomes facts, or is rejected
//! apply(state, event, at)                   the only mutation, the same live and in replay
//! react(state, event) ─▶ effects            what the world is owed once the event is durable
//! recover(state) ─▶ effects                 what the world is still owed after a crash
//! next_deadline(state)                      when to decide again without being asked
//! ```
//!
//! Architecture invariant: no clock, no ids made here, no randomness, no async, no IO, and no iteration over a
//! hash map into an output. The same code runs live, in replay, in the simulator and in forecasts.
//!
//! `decide` applies each event as it emits it, so that one decision sees what it has just decided; an event that
//! is never made durable is undone by reading the state again. Consequences that follow from the state alone
//! (skips, ends of milestones, attempts of a lost agent) stand on an agenda inside the state. A decision works
//! it off within [`MAX_EVENTS_PER_DECISION`]; whatever prefix of a decision survives a crash, replay rebuilds
//! the agenda and the next decision goes on from there.
#![forbid(unsafe_code)]

mod agenda;
mod alarm;
mod apply;
mod attempt;
mod decide;
mod effect;
mod fleet;
mod hear;
mod image;
mod loan;
mod needs;
mod order;
mod ready;
mod reopen;
mod retry;
mod schedule;
mod state;
mod status;

pub use agenda::POISON_LOSSES;
pub use apply::apply;
pub use decide::{Decision, Rejection, decide, has_work, next_deadline};
pub use effect::{Effect, react, recover};
pub use image::{IMAGE_FORM, Image, ImageRef};
pub use loan::{Loan, Taken};
pub use order::{Class, ClassIndex, Order, describe_amount, path_weight};
pub use retry::delay as retry_delay;
pub use schedule::{MAX_EVENTS_PER_DECISION, could_ever_run, takers, unplaceable};
pub use state::{AgentState, MilestoneState, RunState, State, TaskState};
pub use status::{MilestoneStatus, RunStatus, TaskStatus};

#[cfg(test)]
mod tests;
