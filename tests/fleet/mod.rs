//! A fleet as users have it: a real broker, a coordinator and agents as processes, driven by the command line.

mod chaos;
mod control;
mod frozen;
mod restarts;
mod runs;
mod support;
mod timeouts;
mod traces;
