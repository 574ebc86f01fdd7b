//! Tests of the wire from outside: what it looks like, what it survives, and that its documentation tells the truth.

mod any;
mod document;
mod golden;
mod hostile;
mod samples;
