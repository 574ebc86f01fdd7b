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

mod active;
mod agents;
mod budget;
pub mod config;
mod ending;
mod feed;
mod handle;
mod hearing;
mod keys;
mod output;
mod porter;
mod post;
mod reading;
#[expect(clippy::module_inception, reason = "the loop of the service; the folder is all of it")]
mod service;
mod show;
mod side_log;
mod sql_submissions;
mod submit;
mod trace;
mod wishes;

pub use handle::{
    AgentView, Gone, Handle, HealthView, Look, Part, Request, Submission, SubmitError, Submitted, Wish,
    WishError,
};
pub use output::LogEnds;
pub use reading::ReadPlan;
pub use service::{Service, ServiceConfig, ServiceError};
pub use sql_submissions::serve_submissions;
