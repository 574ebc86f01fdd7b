//! A client of the coordinator's HTTP interface.
//!
//! ```text
//! settings, state directory ─▶ Target ─▶ Client ─▶ GET, keyed writes (tried again while the coordinator restarts)
//!                                           └────▶ EventStream (goes on where it broke off)
//! ```
//!
//! Contract: a token leaves this process only in a header to the target, never in a message; a write carries an
//! `Idempotency-Key` and is the same write however often it is sent; every failure says what was tried and what to do.
//!
//! Not here: the bodies (the coordinator's `http::model`), what is printed.

mod events;
mod logs;
mod problem;
pub mod reads;
mod send;
mod sse;
mod target;

pub use events::EventStream;
pub use logs::LogStream;
pub use send::{Body, Client};
pub use target::{Target, Token, URL_FILE, admin_token_file};

use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Runs what talks to a coordinator.
///
/// # Errors
/// The system gives no event loop, or what `work` says.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot set up an event loop: {error}")))?;
    let done = runtime.block_on(work);
    // A look-up of a name that hangs keeps nobody waiting.
    runtime.shutdown_background();
    done
}

/// The coordinator that is named (flag, variable, profile), for commands that also look at a state directory.
///
/// # Errors
/// What names it is wrong, or its token cannot be read.
pub fn named(context: &Context) -> Result<Option<Client>, Failure> {
    Target::named(context)?.map(Client::new).transpose()
}

/// The coordinator that is named, else the one that serves the state directory.
///
/// # Errors
/// There is none, what names it is wrong, or its token cannot be read.
pub fn required(context: &Context) -> Result<Client, Failure> {
    Client::new(Target::required(context)?)
}
