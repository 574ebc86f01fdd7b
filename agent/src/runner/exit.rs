//! How an attempt ended, each case with a text for people.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use cairn_model::event::FailureKind;

use super::job::StopReason;

/// How an attempt ended. Its `Display` is a sentence fragment for people.
#[derive(Debug)]
pub enum Exit {
    /// The process ended by itself, with this code.
    Code(i32),
    /// A signal that we did not send ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the system wrote a core dump.
        core_dumped: bool,
    },
    /// It ran longer than its time-out and was ended.
    TimedOut {
        /// The time-out.
        limit: Duration,
        /// What the process did.
        end: ProcessEnd,
    },
    /// We stopped it because the caller said so.
    Stopped {
        /// Why.
        reason: StopReason,
        /// What the process did; `None` if it had not been started.
        end: Option<ProcessEnd>,
    },
    /// It wanted to use the terminal, which a task does not have, and would have waited for ever.
    TerminalWanted {
        /// What the process did when it was ended.
        end: ProcessEnd,
    },
    /// There was no process.
    NotStarted(StartFailure),
}

/// What a process did at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEnd {
    /// It ended with this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the system wrote a core dump.
        core_dumped: bool,
    },
}

/// Why a process could not be started. The machine is in doubt only where [`StartFailure::is_transient`] says so.
#[derive(Debug, thiserror::Error)]
pub enum StartFailure {
    /// The plan names no program.
    #[error("there is no program to execute: `exec` is empty")]
    NoProgram,
    /// No file of that name.
    #[error("program `{program}` was not found{}", SearchPath(.path))]
    ProgramNotFound {
        /// As the plan has it.
        program: String,
        /// The `PATH` that was searched, if it was.
        path: Option<String>,
    },
    /// A file is there, and the system does not execute it.
    #[error("`{program}` cannot be executed: {why}")]
    NotExecutable {
        /// The file.
        program: PathBuf,
        /// What stands in the way.
        why: NotExecutable,
    },
    /// The file is a script whose first line names an interpreter that is not there.
    #[error("`{program}` wants the interpreter `{interpreter}`, which was not found")]
    BadInterpreter {
        /// The file.
        program: PathBuf,
        /// What follows its `#!`.
        interpreter: String,
    },
    /// The directory to start in is missing, no directory, or closed to us.
    #[error("the working directory `{path}` cannot be entered")]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The attempt's own directory could not be made.
    #[error("the directory `{path}` cannot be made")]
    WorkDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The script is too long for an argument, and could not be written to a file of the attempt.
    #[error("the script cannot be written to `{path}`")]
    Script {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Arguments and environment are longer than the system takes.
    #[error(
        "arguments and environment are {bytes} bytes, more than the system takes (one argument: 131072 bytes; \
         all together: a quarter of the stack limit); put what is long into a file"
    )]
    ArgumentsTooLong {
        /// Their sizes together.
        bytes: usize,
    },
    /// An argument, a variable or a path contains a NUL character.
    #[error("an argument, a variable or a path contains a NUL character")]
    NulCharacter,
    /// The machine has no more processes, memory or files to give at the moment.
    #[error("the machine has no room for another process")]
    NoRoom(#[source] io::Error),
    /// The system refused for another reason.
    #[error("the process could not be started")]
    Refused(#[source] io::Error),
}

/// What keeps a file from being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExecutable {
    /// Its mode does not let us, or that of a directory on the way.
    #[error("permission denied (`chmod +x` makes a file executable)")]
    Permission,
    /// It is a directory or a device.
    #[error("it is not a file")]
    NotAFile,
    /// It is neither a program of this machine nor a script that starts with `#!`.
    #[error("it is neither a program for this machine nor a script that starts with `#!`")]
    Format,
    /// Somebody is writing to it.
    #[error("it is open for writing")]
    Busy,
}

impl StartFailure {
    /// Whether the same start may well succeed a little later, unlike with a wrong plan.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoRoom(_) | Self::NotExecutable { why: NotExecutable::Busy, .. } => true,
            Self::WorkDirectory { source, .. } | Self::Script { source, .. } => {
                source.kind() == io::ErrorKind::StorageFull
            }
            Self::NoProgram
            | Self::ProgramNotFound { .. }
            | Self::NotExecutable { .. }
            | Self::BadInterpreter { .. }
            | Self::WorkingDirectory { .. }
            | Self::ArgumentsTooLong { .. }
            | Self::NulCharacter
            | Self::Refused(_) => false,
        }
    }
}

impl Exit {
    /// Whether the attempt succeeded: the process ended by itself with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// The exit code, where the process gave one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(*code),
            Self::TimedOut { end, .. }
            | Self::TerminalWanted { end }
            | Self::Stopped { end: Some(end), .. } => end.code(),
            Self::Signal { .. } | Self::Stopped { end: None, .. } | Self::NotStarted(_) => None,
        }
    }

    /// The kind of failure; `None` for a success and for what the caller stopped.
    #[must_use]
    pub fn failure_kind(&self) -> Option<FailureKind> {
        match self {
            Self::Code(0) | Self::Stopped { .. } => None,
            Self::Code(_) => Some(FailureKind::ExitCode),
            Self::Signal { .. } | Self::TerminalWanted { .. } => Some(FailureKind::Signal),
            Self::TimedOut { .. } => Some(FailureKind::Timeout),
            Self::NotStarted(failure) => Some(match failure {
                StartFailure::NoProgram | StartFailure::ProgramNotFound { .. } => {
                    FailureKind::ProgramNotFound
                }
                StartFailure::NotExecutable { .. } | StartFailure::BadInterpreter { .. } => {
                    FailureKind::NotExecutable
                }
                StartFailure::WorkingDirectory { .. } => FailureKind::WorkingDirectory,
                StartFailure::ArgumentsTooLong { .. } => FailureKind::ArgumentsTooLong,
                StartFailure::WorkDirectory { .. }
                | StartFailure::Script { .. }
                | StartFailure::NulCharacter
                | StartFailure::NoRoom(_)
                | StartFailure::Refused(_) => FailureKind::StartFailed,
            }),
        }
    }
}

impl ProcessEnd {
    /// Reads what `wait` said.
    pub(super) fn of(status: ExitStatus) -> Self {
        match status.signal() {
            Some(signal) => Self::Signal { signal, core_dumped: status.core_dumped() },
            None => Self::Code(status.code().unwrap_or(0)),
        }
    }

    /// The exit code, if it was not a signal.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal { .. } => None,
        }
    }
}

impl From<ProcessEnd> for Exit {
    fn from(end: ProcessEnd) -> Self {
        match end {
            ProcessEnd::Code(code) => Self::Code(code),
            ProcessEnd::Signal { signal, core_dumped } => Self::Signal { signal, core_dumped },
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => ProcessEnd::Code(*code).fmt(f),
            Self::Signal { signal, core_dumped } => {
                ProcessEnd::Signal { signal: *signal, core_dumped: *core_dumped }.fmt(f)
            }
            Self::TimedOut { limit, end } => write!(f, "timed out after {limit:?}, then {end}"),
            Self::Stopped { reason, end: Some(end) } => write!(f, "stopped ({reason}), then {end}"),
            Self::Stopped { reason, end: None } => write!(f, "stopped before it started ({reason})"),
            Self::TerminalWanted { end } => {
                write!(f, "wanted to use the terminal, which a task does not have, then {end}")
            }
            Self::NotStarted(failure) => {
                write!(f, "not started: {failure}")?;
                match std::error::Error::source(failure) {
                    Some(source) => write!(f, ": {source}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { signal, core_dumped } => {
                match signal_name(signal) {
                    Some(name) => write!(f, "ended by {name} (signal {signal})")?,
                    None => write!(f, "ended by signal {signal}")?,
                }
                f.write_str(if core_dumped { ", core dumped" } else { "" })
            }
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::LeaseEnded => "its lease ended",
            Self::ShuttingDown => "the agent is shutting down",
        })
    }
}

/// The end of the sentence about a program that was not found.
struct SearchPath<'a>(&'a Option<String>);

impl fmt::Display for SearchPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " in PATH ({path})"),
            None => Ok(()),
        }
    }
}

/// The name of a signal, as `kill -l` has it on Linux for x86 and ARM.
#[must_use]
pub fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    NAMES.get(usize::try_from(signal).ok()?.checked_sub(1)?).copied()
}
