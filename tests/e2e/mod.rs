//! The real binary, driven as a user drives it.

mod examples;
mod interrupt;
pub mod kill;
pub mod past;
pub mod postgres;
mod readme;
pub mod real_input;
mod stores;
pub mod support;
mod trouble;
