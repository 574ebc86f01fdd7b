//! A coordinator as a service: many runs over one fleet.
//!
//! ```text
//!   HTTP ─▶ Handle ─▶ service ─▶ run loops (one a run) ─▶ store
//!                        │           │ orders   ▲ reports
//!   agents ◀─ transport ◀┴───────────┘          │
//!          └─ transport ─▶ fleet (leases) ──────┘
//! ```
//!
//! Not here: rules of a run (the engine's), HTTP, formats of messages.

pub mod config;
mod handle;

pub use handle::{
    AgentView, Gone, Handle, HealthView, Look, Part, Request, Submission, SubmitError, Submitted, Wish,
    WishError,
};
