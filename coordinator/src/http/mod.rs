//! The coordinator's HTTP interface: translates between HTTP and [`Handle`](crate::service::Handle), and decides who
//! may do what.
//!
//! ```text
//!   socket ─▶ gate (host, token, rate) ─▶ route ─▶ Handle, event store, logs
//!                └─ audit ◀─ answer ◀───────┘
//! ```
//!
//! Invariants: every route but the few that tell nothing needs a token; a route asks [`access::may`] about the project
//! that it really touches before it looks at anything; every error is a [`problem::Problem`] that says what to do; what
//! a client sends, opens or does not read is bounded by a constant of `limits`.
//!
//! Not here: rules of a run, what is durable when, how things are printed.

pub mod access;
mod context;
mod extract;
mod followers;
mod gate;
mod limits;
pub mod model;
mod past;
pub mod problem;
mod replays;
mod router;
mod routes;
mod runs_index;
mod server;
mod stream;
pub mod tokens;

pub use context::{LogIsComplete, Metrics, Parts, Rules};
pub use router::{openapi, router};
pub use server::{DEFAULT_LISTEN, Reload, ServeError, Server, Settings, TlsFiles};
pub use tokens::{NewToken, Role, TokenError, Tokens};
