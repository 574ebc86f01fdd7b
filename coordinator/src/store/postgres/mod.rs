//! An event store in PostgreSQL, which several coordinators may write to at once.
//!
//! Everything is in one schema ([`DEFAULT_SCHEMA`]), made by `schema_*.sql`; people may read its tables. What matters:
//!
//! - **One call per batch.** The function `append` locks the end of the log, checks each append against the tables,
//!   inserts, and commits when it returns. Nothing is held between two messages, so a writer that freezes stops
//!   nobody. Whoever appends waits for who was first until that is visible: positions have neither gaps nor disorder.
//! - **Known once.** A writer numbers its batches, and the database keeps the answer to its last one. When a connection
//!   breaks, the same batch is sent again over a new one, and is answered as it was or made now; never twice.
//! - **Memory is not the truth.** Versions and epochs are checked in the database. The writer only guesses the hash
//!   chain ahead, which the database takes over if nobody else has written since, and computes itself otherwise.
//! - **A database that is away is waited for**, as long as [`Options::patience`] says. After that, or when it has
//!   forgotten what it acknowledged, the store stops.
//!
//! ```text
//! submit ─▶ queue ─▶ writer thread ─▶ append(...) ─▶ answers
//!                    (own connection)
//! read, snapshots, leases ─▶ service threads ─▶ up to READERS connections
//!                            one connection holds the session's lock and listens for hints
//! ```
//!
//! Connections belong to the store's own threads, so its futures can be awaited anywhere.
//!
//! Not here: projections and plans in tables, poolers that hand out a connection per transaction (a session's lock and
//! settings would not hold).

mod address;
mod batch;
mod connect;
mod leases;
mod read;
mod reader;
mod retry;
mod schema;
mod service;
mod session;
mod snapshots;
mod store;
mod submissions;
mod writer;

pub use address::{DatabaseUrl, DatabaseUrlError};
pub use connect::DEFAULT_SCHEMA;
pub use reader::{PostgresReader, Verified};
pub use session::Session;
pub use store::{Options, PATIENCE, PostgresStore};
pub use submissions::{PendingPlan, Submissions};
