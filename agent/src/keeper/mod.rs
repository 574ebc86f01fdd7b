//! The keeper: the small process that owns an agent's tasks. It has no network; all that it knows of the world comes
//! through the socket of its [child](crate::child), which it starts again whenever it ends.
//!
//! ```text
//!   child ──orders──▶ core (machine) ──records──▶ journal
//!     ▲                  │                          │ on disk
//!     └────reports───────┴──── starts ◀─────────────┘
//!                        └──── stops, the lease's end: at once
//! ```
//!
//! What holds:
//! - Nothing is said or started before what it rests on is in the journal ([`crate::journal`]); no attempt starts twice,
//!   whatever dies when.
//! - When the lease has ended ([`crate::lease`]) processes are ended, whatever network, child and disk do; after a sleep
//!   of the keeper before anything else.
//! - When the journal fails all processes are ended and the keeper stops.
//! - When the keeper dies its child, or the next keeper, ends what is left of its tasks.
//!
//! A coordinator on one machine has a keeper in its own process ([`Embedded`]), with the child as a task of it.
//!
//! Not here: what becomes of an attempt ([`crate::machine`]), how it runs ([`crate::runner`]), messages.

pub mod core;
mod embedded;
pub mod job;
mod launch;
pub(crate) mod lock;
mod logs;
pub mod runs;
mod scribe;
mod service;
mod start;

pub use embedded::Embedded;
pub use launch::Launch;
pub use lock::LockError;
pub use start::run;

use crate::journal::JournalError;
use crate::link::ToKeeper;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The variable by which the processes of an agent's tasks are recognised: its value is the agent's directory.
pub const MARKER: &str = "CAIRN_AGENT_DIRECTORY";

/// What an agent is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub id: String,
    /// The directory of its own, absolute.
    pub directory: PathBuf,
    /// Where tasks start, absolute.
    pub workspace: PathBuf,
    /// Where messages go.
    pub transport: String,
    /// Certificates (PEM) that vouch for it besides those of the system: what the file held that the configuration names.
    pub certificate_authority: Option<String>,
    /// Which kind of queue to ask a broker for.
    pub queue_type: Option<String>,
    /// Processes at a time.
    pub slots: NonZeroUsize,
    /// Attempts that may wait.
    pub backlog: u32,
    /// Timers at a time.
    pub timers: u32,
    /// Resources in thousandths, sorted by name.
    pub resources: Vec<(String, u64)>,
    /// Labels, sorted by name.
    pub labels: Vec<(String, String)>,
    /// The shared queue that it takes work from besides its own.
    pub capability: Option<String>,
    /// Tasks go on when the lease ends.
    pub hold: bool,
    /// Where to serve HTTP; nowhere if empty.
    pub listen: String,
    /// How long a task may take to end after SIGTERM.
    pub grace: Duration,
    /// Bytes of logs of attempts that have ended, at most.
    pub logs_limit: u64,
    /// Variables that tasks do not inherit.
    pub withheld: Vec<String>,
    /// How to start a child.
    pub launch: Launch,
    /// How the keeper was called, for who is told that it holds the directory.
    pub command_line: String,
}

/// Reads the settings again; `Err` says why they cannot be in force.
pub type Reload = Box<dyn Fn() -> Result<Settings, String>>;

/// How a keeper ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// In good order: its tasks had ended.
    Drained,
    /// Asked twice: its tasks were ended.
    Stopped,
}

/// Why a keeper could not begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another one has the directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// What cannot be recorded cannot be promised.
    #[error("{0}: all tasks of this agent were ended")]
    Journal(#[source] JournalError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] JournalError),
    /// The journal is another agent's, or of a later version.
    #[error("the journal in `{}` is of {whose}", directory.display())]
    Foreign {
        /// The agent's directory.
        directory: PathBuf,
        /// What it says.
        whose: String,
    },
    /// A directory or a file of the agent cannot be made.
    #[error("cannot make `{}`", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gives no threads, signals or event loop.
    #[error("cannot set up the keeper")]
    Setup(#[source] io::Error),
}

/// What a keeper hears.
#[derive(Debug)]
enum Event {
    /// A child says something.
    Said { generation: u64, said: ToKeeper },
    /// A child's socket is closed, or what came was no frame.
    Silent { generation: u64, error: Option<io::Error> },
    /// A child has ended.
    Gone { generation: u64, how: String },
    /// A piece of work of the journal is done.
    Written(Result<scribe::Written, JournalError>),
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
}
