//! What `cairn run` and `cairn watch` show while a run goes on, on stderr: a live picture on a terminal, a line per change
//! elsewhere. Both show only what is durable.
//!
//! ```text
//! events of this process ─▶ model  ─┐
//!                                   ├─▶ frame ─▶ screen ─▶ canvas ─▶ terminal
//! events of a coordinator ─▶ remote ┘
//!                      either ─▶ change ─▶ lines ─▶ pipe
//! ```

mod canvas;
mod change;
mod frame;
mod lines;
mod model;
mod remote;
mod screen;

pub use canvas::write_above;
pub use remote::RemoteView;

use crate::context::Context;
use crate::output;
use crate::style::{Mark, Paint, Style};
use cairn_coordinator::runtime::Observer;
use cairn_engine::State;
use cairn_model::RunSubmitted;
use cairn_shared::clock::Clock;
use std::io::IsTerminal as _;
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
pub fn observer(
    context: &Context,
    state: &State,
    submitted: &RunSubmitted,
    jobs: NonZeroUsize,
    clock: Clock,
) -> View {
    if has_picture() {
        let model = model::shared(state, &submitted.run, jobs);
        let shown = model.clone();
        let frame = move |now| model::lock(&shown).frame(now);
        let painter = screen::Painter::start(frame, clock, Style::stderr(context));
        View {
            callback: Box::new(move |update| model::update(&model, update)),
            screen: Screen(Some(painter)),
        }
    } else {
        View { callback: lines::printer(Style::stderr(context)), screen: Screen(None) }
    }
}

/// Whether stderr can show a picture.
pub fn has_picture() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stderr().is_terminal() && !dumb
}

/// A line that tells what was done unasked.
pub fn note(context: &Context, text: &str) {
    output::say(&format!("{} {text}", Style::stderr(context).paint(Paint::Bold, "note:")));
}

/// The glyph of a state in its colour. The word stands beside it.
fn sign(style: &Style, state: impl Into<Mark>) -> String {
    let mark = state.into();
    style.paint(mark.paint, &style.glyph(mark).to_string())
}
