//! The real binary, driven as a user drives it.

mod examples;
mod interrupt;
mod kill;
mod readme;
mod real_input;
pub mod support;
mod trouble;
