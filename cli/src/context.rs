//! What every command is given: how to print, and where the state is.

use crate::settings::{Coordinator, Setting, TokenSource};
use cairn_coordinator::store::StoreUrl;
use clap::ValueEnum;
use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// The form of what is printed to stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON value.
    Json,
    /// One JSON value a line.
    Jsonl,
    /// One YAML document.
    Yaml,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal that can show them, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The form of what is printed to stdout.
    pub format: Format,
    /// When to use colours.
    pub color: ColorChoice,
    /// The state directory.
    pub state: PathBuf,
    /// Where events are to be kept, as the environment or a file says; a flag of the command goes before it.
    pub store: Option<StoreUrl>,
    /// Processes at a time, as the environment or a file says; a flag of the command goes before it.
    pub jobs: Option<NonZeroUsize>,
    /// Where a coordinator is said to be, and by whom.
    pub coordinator: Setting<Option<Coordinator>>,
    /// What holds the token for it, if that is said.
    pub token: Option<TokenSource>,
    /// The command line as it was typed, for those who are told who holds a lock.
    pub command_line: String,
}

impl Context {
    /// Whether to colour what goes to stdout.
    pub fn color_stdout(&self) -> bool {
        self.color.is_on(std::io::stdout().is_terminal())
    }

    /// Whether to colour what goes to stderr.
    pub fn color_stderr(&self) -> bool {
        self.color.is_on(std::io::stderr().is_terminal())
    }
}

impl ColorChoice {
    /// Whether to use colours on a terminal, or on what is none.
    pub fn is_on(self, is_terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if set("NO_COLOR") => false,
            Self::Auto => is_terminal && !dumb || set("CLICOLOR_FORCE"),
        }
    }
}
