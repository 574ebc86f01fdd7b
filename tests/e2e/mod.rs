//! The real binary, driven as a user drives it.

mod examples;
mod interrupt;
pub mod kill;
pub mod past;
mod readme;
pub mod real_input;
pub mod support;
mod trouble;
