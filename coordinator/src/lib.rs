//! Schedules runs: keeps their events, decides, dispatches, and tells what has happened.
//!
//! The rules are in `cairn-engine`; here is the shell around it.
#![forbid(unsafe_code)]

pub mod codec;
pub mod fleet;
pub mod http;
pub mod insight;
pub mod metric_definitions;
pub mod plans;
pub mod projection;
pub mod runtime;
pub mod service;
pub mod store;
pub mod telemetry;
