//! The real binary, driven as a user drives it.

mod interrupt;
mod kill;
mod real_input;
mod support;
