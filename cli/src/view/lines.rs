//! A line for each change of state, for logs and pipes.

use super::change::Change;
use crate::style::Style;
use cairn_coordinator::runtime::Observer;
use std::io::{self, Write as _};

/// Prints a line for each change to stderr, in one write for all that became durable together.
pub fn printer(style: Style) -> Observer {
    let mut text = String::new();
    Box::new(move |update| {
        text.clear();
        let changes = update.events.iter().filter_map(|event| Change::of_event(event, update.state));
        changes.for_each(|change| change.write_line(&mut text, update.at, &style));
        print(&text);
    })
}

/// Prints lines to stderr.
pub fn print(text: &str) {
    if !text.is_empty() {
        // A closed stderr stops no run.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
