//! The HTTP interface over a coordinator without agents.

mod access;
mod events;
mod fuzz;
mod guide;
mod logs;
mod openapi;
mod runs;
mod served;
mod support;
mod tokens;
