//! Processes of an earlier life: found by the marker in their environment after the process that owned them was
//! killed, and ended.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::time::Timespec;

use super::job::Clock;
use super::procfs;
use super::tree::Tree;

/// How often what is left is looked for and ended again, before the rest is given up.
const ROUNDS_MAX: usize = 5;

/// How long a process may take to vanish after SIGKILL.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// A process that carries the marker. Its pid and start time together name it for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The process.
    pub pid: u32,
    /// Its process group.
    pub group: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// `CAIRN_RUN` in its environment.
    pub run: Option<String>,
    /// `CAIRN_MILESTONE`.
    pub milestone: Option<String>,
    /// `CAIRN_TASK`.
    pub task: Option<String>,
    /// `CAIRN_ATTEMPT`.
    pub attempt: Option<u32>,
}

/// All processes with the variable `marker` in their environment, apart from ourselves and our ancestors. Costs a
/// scan of `/proc`, some milliseconds.
#[must_use]
pub fn find_leftovers(marker: (&str, &str)) -> Vec<Leftover> {
    let mut tree = Tree::of_variable(variable(marker));
    tree.look();
    leftovers(&mut tree)
}

/// Ends all processes with the variable `marker` and their descendants: SIGTERM, after `grace` SIGKILL, until none
/// is found or those that are left resist. Returns those that were found.
///
/// To be called when nothing else uses the marker: at the start of an agent, under the lock of its state, or
/// after its last task.
pub fn end_leftovers(marker: (&str, &str), grace: Duration, clock: &Clock) -> Vec<Leftover> {
    let mut tree = Tree::of_variable(variable(marker));
    let mut found: Vec<Leftover> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        // In this order: who ends during the look may have left a child that it did not see.
        let nobody_was_known = tree.members().is_empty();
        if tree.look() == 0 && nobody_was_known {
            break;
        }
        for leftover in leftovers(&mut tree) {
            if !found.contains(&leftover) {
                found.push(leftover);
            }
        }
        tree.ask_members_to_end(false);
        wait(&mut tree, grace, clock);
        if !tree.members().is_empty() {
            tree.kill();
            wait(&mut tree, KILL_PATIENCE, clock);
        }
    }
    let resisting = tree.members().len();
    if resisting > 0 {
        tracing::warn!(processes = resisting, "left-over processes could not be ended");
    }
    found
}

fn variable((name, value): (&str, &str)) -> Vec<u8> {
    format!("{name}={value}").into_bytes()
}

fn leftovers(tree: &mut Tree) -> Vec<Leftover> {
    let raw = |pid: rustix::process::Pid| pid.as_raw_nonzero().get().unsigned_abs();
    let of_member = |info: &procfs::ProcessInfo| {
        let environment = procfs::environment(info.pid).unwrap_or_default();
        let value = |name| procfs::variable(&environment, name);
        Leftover {
            pid: raw(info.pid),
            group: info.group.map_or(0, raw),
            start_time: info.start_time,
            run: value("CAIRN_RUN"),
            milestone: value("CAIRN_MILESTONE"),
            task: value("CAIRN_TASK"),
            attempt: value("CAIRN_ATTEMPT").and_then(|attempt| attempt.parse().ok()),
        }
    };
    tree.members().iter().map(|member| of_member(member.info())).collect()
}

/// Waits until all members have ended, or for `patience`.
fn wait(tree: &mut Tree, patience: Duration, clock: &Clock) {
    let until = clock().plus(patience);
    loop {
        let left = until.since(clock());
        let members = tree.members();
        if members.is_empty() || left.is_zero() {
            return;
        }
        let mut polled: Vec<PollFd<'_>> =
            members.iter().map(|member| PollFd::new(member.handle(), PollFlags::IN)).collect();
        let _ = rustix::event::poll(&mut polled, Timespec::try_from(left).ok().as_ref());
    }
}
