//! The built binary, command by command.

mod fake;
mod place;
mod plans;
mod remote;
mod runs;
