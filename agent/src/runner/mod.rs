//! Runs the processes of tasks: starts them on the fast path, keeps their output, watches their time, and
//! ends the whole tree.
//!
//! One [`Runner`] has a number of slots. Each slot is an operating-system thread in a blocking loop, which
//! takes a [`Job`] from the queue, runs it to its end and reports a [`Finished`]. What the caller sees are
//! [`RunnerEvent`]s, handed to its sink on the threads of the slots.
//!
//! ```text
//! start ─▶ queue ─▶ slot: work directory ─▶ spawn ─▶ Started ─▶ watch ─▶ reap ─▶ end the rest ─▶ Finished
//!                              │               │                 │ time-out, stop: TERM, grace, KILL
//!                              └── NotStarted ─┘                 └ every 200 ms: Progress
//! ```
//!
//! What holds:
//! - A process is started by `posix_spawn` (no `pre_exec`, a resolved program), in its own process group, with
//!   nothing on its standard input, and both outputs in one pipe, so that their order is kept.
//! - A task is over when its main process ends. What it leaves running in its process group, or holding its
//!   output, has a moment to finish ([`LINGER`]) and is ended then. A process that has left the group and
//!   closed the output stays until the task is stopped or the runner shuts down; one that is meant to outlive
//!   even that is started without the marker: `env -u MARKER setsid …`.
//! - A signal goes only to the group of a main process that we have not reaped yet, or through a pidfd whose
//!   start time was compared: never to a stranger with the same pid.
//! - Every process of a task carries the runner's marker in its environment. After a crash [`find_leftovers`]
//!   finds them by it, at no cost for each start.
//! - The process that owns a runner becomes the reaper of its tasks' orphans. Other code in it may start
//!   children, but only in the process's own group.
//!
//! Not here: what to run and when (the agent's machine), retries, leases, sending output anywhere, and
//! cgroups, which would end even a process that hides its environment and its ancestry.

mod children;
mod directory;
mod exit;
mod job;
mod leftover;
mod log;
mod output;
mod pool;
mod procfs;
mod progress;
mod slot;
mod spawn;
mod tail;
mod tree;
mod watch;

#[cfg(test)]
mod tests;

pub use directory::sweep_abandoned;
pub use exit::{Exit, ProcessEnd, StartFailure, signal_name};
pub use job::{
    Clock, EventSink, Finished, Job, LINGER, LOG_LIMIT, PROGRESS_INTERVAL, Program, Progress, RunnerEvent,
    StopReason, Urgency,
};
pub use leftover::{Leftover, end_leftovers, find_leftovers};
pub use log::LOG_TAIL;
pub use output::{OUTPUT_FILE_LIMIT, OUTPUTS_MAX};
pub use pool::{QUEUED_JOBS_MAX, Refusal, Runner, Settings};
pub use progress::PROGRESS_MESSAGE_BYTES;
pub use tail::{harmless, tail};
