//! Runs tasks: the pure machine of an agent, its runtime, and its runners.
#![forbid(unsafe_code)]

pub mod journal;
pub mod lease;
pub mod link;
pub mod machine;
mod mailbox;
pub mod runner;
pub mod runtime;
