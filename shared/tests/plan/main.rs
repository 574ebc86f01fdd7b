//! Tests of the plan language from outside: what it accepts, what it says to what it does not, what it survives.

mod broken;
mod hostile;
mod import;
mod language;
