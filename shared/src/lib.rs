//! What all parts of Cairn share: the plan language, and what coordinators and agents say to each other.
//!
//! Not here: storage, HTTP, child processes.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod message;
pub mod plan;
pub mod telemetry;
pub mod transport;
