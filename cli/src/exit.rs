//! How a command ends: the frozen exit codes, and errors that say what to do next.

use cairn_shared::plan::Diagnostics;
use std::fmt;

/// The exit codes. They stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; of a run: it completed.
    Done = 0,
    /// The run ended with failures.
    Failed = 1,
    /// Wrong usage, or an invalid plan.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Not allowed.
    NotAllowed = 4,
    /// Coordinator, broker or store out of reach.
    OutOfReach = 5,
    /// The run was cancelled.
    Cancelled = 6,
    /// Waited too long.
    TimedOut = 7,
    /// No agent could ever run it.
    Unplaceable = 8,
    /// Our bug.
    Bug = 70,
    /// Interrupted by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The stable name of the code in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::NotAllowed => "not_allowed",
            Self::OutOfReach => "out_of_reach",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Unplaceable => "unplaceable",
            Self::Bug => "bug",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What happened, without a final stop. May have several lines.
    pub message: String,
    /// What to do now.
    pub help: Option<String>,
    /// What is wrong with a plan, shown before the message.
    pub diagnostics: Option<Box<Diagnostics>>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None, diagnostics: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A plan that is not valid.
    pub fn invalid_plan(diagnostics: Diagnostics) -> Self {
        let found = match diagnostics.len() {
            1 => "one problem".to_owned(),
            count => format!("{count} problems"),
        };
        let message = format!("{} is not a valid plan: {found}", diagnostics.file);
        Self { diagnostics: Some(Box::new(diagnostics)), ..Self::new(Exit::Usage, message) }
    }

    /// Whoever reads our output has gone away: nothing is left to do, and nobody to tell.
    pub fn nobody_listens() -> Self {
        Self::new(Exit::Done, "")
    }

    /// Whether there is nothing to say.
    pub fn is_silent(&self) -> bool {
        self.exit == Exit::Done
    }

    /// A failure that says why, cause by cause.
    pub fn because(exit: Exit, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // A transparent wrapper says what its cause says.
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        Self::new(exit, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
