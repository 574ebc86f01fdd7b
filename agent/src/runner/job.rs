//! What a caller hands to the runner and what it gets back.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cairn_model::Timestamp;

use super::exit::Exit;

/// How many bytes of a task's output its log keeps, unless the caller says otherwise: 16 MiB, some 200,000 lines.
pub const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// How often a running task's progress file is looked at.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How long what a task leaves behind may go on after the end of its main process: enough for the other end of
/// a pipe (`> >(tee log)`) to write its last lines.
pub const LINGER: Duration = Duration::from_millis(200);

/// The caller's clock: never goes backwards, and is read on the threads of the slots.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where events go. It is called on the threads of the slots (and on the caller's, by [`Runner::stop`] for a
/// job that had not started), must not call the runner's `shutdown`, and holds up its slot while it blocks.
///
/// [`Runner::stop`]: super::Runner::stop
pub type EventSink = Arc<dyn Fn(RunnerEvent) + Send + Sync>;

/// One attempt to run.
#[derive(Clone, Debug)]
pub struct Job {
    /// The caller's name for this attempt; unique among the jobs that are queued or running.
    pub key: u64,
    /// What to execute.
    pub program: Program,
    /// Variables that many jobs share. The runner's own environment is below them, `own_env` above.
    pub env: Arc<[(OsString, OsString)]>,
    /// Variables of this job. The runner adds `CAIRN_WORK`, `CAIRN_PROGRESS`, `CAIRN_OUTPUT` and its marker.
    pub own_env: Vec<(OsString, OsString)>,
    /// Where the process starts.
    pub working_dir: PathBuf,
    /// If the attempt fails and has left something in `$CAIRN_WORK`, the directory stays, and a link of this name
    /// leads to it. It is empty at the start, and gone soon after a success.
    pub kept_link: PathBuf,
    /// Where output goes. The file and its directories come into being with the first byte.
    pub log_path: PathBuf,
    /// How many bytes of output the log keeps; see [`LOG_LIMIT`].
    pub log_limit: u64,
    /// How long the process may run.
    pub timeout: Option<Duration>,
    /// How long after SIGTERM comes SIGKILL.
    pub grace: Duration,
}

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A script, passed unchanged to `/bin/sh -c`, or in a file if it is too long for an argument.
    Shell(OsString),
    /// A program and its arguments. A name without `/` is looked up in the task's `PATH`; a relative path counts
    /// from the working directory.
    Exec(Vec<OsString>),
}

/// Why the caller stops a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody cancelled it.
    Cancelled,
    /// The right to run it has ended.
    LeaseEnded,
    /// The agent is going away.
    ShuttingDown,
}

/// How a job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// SIGTERM, the job's grace, SIGKILL.
    Graceful,
    /// SIGKILL now.
    Immediate,
}

/// What a task says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 1000.
    pub permille: u16,
    /// A line for people, without control characters; may be empty.
    pub message: String,
}

/// What happened. For one key: `Started` at most once, then any number of `Progress`, then `Finished` exactly
/// once; `Finished` alone if nothing was started.
#[derive(Debug)]
pub enum RunnerEvent {
    /// The process runs.
    Started {
        /// The job.
        key: u64,
        /// The main process, which is also the leader of its process group.
        pid: u32,
        /// Just before the spawn.
        at: Timestamp,
    },
    /// The task reported something new.
    Progress {
        /// The job.
        key: u64,
        /// What it reported.
        progress: Progress,
    },
    /// The job is over and its process tree is gone.
    Finished(Box<Finished>),
}

/// How a job ended.
#[derive(Debug)]
pub struct Finished {
    /// The job.
    pub key: u64,
    /// How it ended.
    pub exit: Exit,
    /// Just before the spawn; `None` if there was none.
    pub started_at: Option<Timestamp>,
    /// When the main process was seen to have ended.
    pub finished_at: Timestamp,
    /// How many bytes the task wrote to its outputs.
    pub output_bytes: u64,
    /// How many of these the log leaves out.
    pub left_out_bytes: u64,
    /// Why the log is incomplete, if writing it failed. The task was not disturbed.
    pub log_error: Option<io::Error>,
    /// The last progress that the task reported.
    pub progress: Option<Progress>,
    /// The `key=value` lines of `$CAIRN_OUTPUT`, the last value of each key, in the order of the file.
    pub outputs: Vec<(String, String)>,
    /// How many lines of `$CAIRN_OUTPUT` were no outputs, or were beyond its limits.
    pub outputs_ignored: usize,
    /// Where the attempt's `$CAIRN_WORK` was kept: if it failed and had left something there.
    pub kept_work: Option<PathBuf>,
    /// Why files of the attempt remain although it succeeded.
    pub cleanup_error: Option<io::Error>,
    /// How many processes the main process left behind and the runner ended.
    pub left_behind: usize,
}

impl Finished {
    /// A job that never became a process.
    pub(super) fn without_process(key: u64, exit: Exit, finished_at: Timestamp) -> Box<Self> {
        Box::new(Self {
            key,
            exit,
            started_at: None,
            finished_at,
            output_bytes: 0,
            left_out_bytes: 0,
            log_error: None,
            progress: None,
            outputs: Vec::new(),
            outputs_ignored: 0,
            kept_work: None,
            cleanup_error: None,
            left_behind: 0,
        })
    }
}
