//! Events as they are stored: JSON records, and back.
//!
//! A record holds one or more consecutive like events of one stream. What all of them share stands once in
//! `event_data`; what differs stands in `each`, a column per field:
//!
//! ```text
//! {"event_id":"0198…","event_type":"TaskDispatched","schema":1,
//!  "metadata":{"timestamp":"2026-…Z","user_id":"ada","correlation_id":"0198…","causation_id":null},
//!  "event_data":{"agent":"local-1","attempt":1},"each":{"task":["build/a","build/b"]}}
//! ```
//!
//! The events of a record have consecutive ids, versions and positions. Names stand in full: a log can be read
//! without the plan. [`expand`] gives the events one by one, [`Decoder`] gives them to the engine.
//!
//! Invariant: what was ever written here can be read for ever. A change of a field raises `schema` and adds an
//! upcaster in `decode.rs` and a golden log in `tests/golden`.

mod columns;
mod decode;
mod encode;
mod expand;

pub(crate) use decode::read_submitted;
pub use decode::{DecodeError, Decoder, Reason};
pub use encode::{Encoder, Envelope};
pub use expand::{StoredEvent, expand};

use cairn_model::{MilestoneIndex, Plan};

/// The version of the form in which events are written.
pub const SCHEMA: u32 = 1;

/// How many events a record holds at most: whoever reads one back holds all of them.
pub const MAX_RECORD_EVENTS: u32 = 1 << 16;

/// The stream of a milestone of a run.
fn milestone_stream(run: &str, plan: &Plan, milestone: MilestoneIndex) -> String {
    format!("{run}/{}", plan.milestone(milestone).id)
}

#[cfg(test)]
mod tests;
