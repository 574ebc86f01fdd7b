//! Tests of the engine through its five functions. Examples use plans written as text (see [`rig::plan`]); the
//! properties run random plans against random agents and scripts. Every event of every test goes through the
//! [`checker`], and every state is compared with a fold over its events.

mod checker;
mod control;
mod grants;
mod loans;
mod lost;
mod properties;
mod readiness;
mod recovery;
mod reopening;
mod retries;
mod rig;
mod scheduling;
mod scopes;
mod script;
