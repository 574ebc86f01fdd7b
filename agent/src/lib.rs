//! Runs tasks: the pure machine of an agent, its runtime, and its runners.
#![forbid(unsafe_code)]

pub mod child;
pub mod config;
pub mod journal;
pub mod keeper;
pub mod lease;
pub mod link;
pub mod machine;
mod mailbox;
mod metric_definitions;
pub mod runner;
pub mod runtime;
