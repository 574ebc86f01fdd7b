//! The built binary, command by command.

mod place;
mod plans;
mod runs;
