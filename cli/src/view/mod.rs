//! What `cairn run` shows while it runs, on stderr: a live picture on a terminal, a line per change elsewhere.
//! Both show only what is durable.

mod lines;
mod model;
mod screen;

use crate::context::Context;
use cairn_coordinator::runtime::Observer;
use cairn_engine::State;
use cairn_model::RunSubmitted;
use cairn_shared::clock::Clock;
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;

/// What shows a run: the part that hears of it, and the part that ends the picture.
pub struct View {
    /// Hears what is durable.
    pub callback: Observer,
    /// To be finished before anything else is printed.
    pub screen: Screen,
}

/// The picture, if there is one.
pub struct Screen(Option<screen::Painter>);

impl Screen {
    /// Takes the picture off the terminal.
    pub fn finish(self) {
        if let Some(painter) = self.0 {
            painter.finish();
        }
    }
}

/// Shows a run in the way that fits where stderr goes.
pub fn observer(context: &Context, state: &State, submitted: &RunSubmitted, jobs: NonZeroUsize, clock: Clock) -> View {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if std::io::stderr().is_terminal() && !dumb {
        let model = model::shared(state, &submitted.run, jobs);
        let painter = screen::Painter::start(model.clone(), clock, context.color_stderr());
        View { callback: Box::new(move |update| model::update(&model, update)), screen: Screen(Some(painter)) }
    } else {
        View { callback: lines::printer(context.color_stderr()), screen: Screen(None) }
    }
}

/// A line of talk on stderr. A closed stderr stops nobody.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line that tells what was done unasked.
pub fn note(context: &Context, text: &str) {
    let label = if context.color_stderr() { "\u{1b}[1mnote:\u{1b}[0m" } else { "note:" };
    say(&format!("{label} {text}"));
}
