//! The children of this process: which are main processes of tasks, and which came to us as orphans.
//!
//! A process has one table of children, whatever the number of runners in it, hence the one static here. A
//! main process is waited for by its slot and by nobody else. An orphan of a task becomes our child because we
//! are its "subreaper", and stays a zombie if nobody waits for it. Children that other code in this process
//! starts in our own process group are never touched.

use std::collections::{HashMap, HashSet};
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cairn_model::Timestamp;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::procfs;

/// How soon orphans that have ended are looked for again if there were some, and how late if there never are: a
/// look costs a scan of `/proc`, 15 µs for each process of the machine.
const ORPHANS_INTERVAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

struct Children {
    /// Spawns under way: their child exists, and its pid is not in `mains` yet.
    spawning: usize,
    mains: HashMap<Pid, u64>,
    last_token: u64,
    /// When orphans are looked for next, and how long it was to be until then.
    next_look: (Timestamp, Duration),
}

fn children() -> MutexGuard<'static, Children> {
    static CHILDREN: OnceLock<Mutex<Children>> = OnceLock::new();
    CHILDREN
        .get_or_init(|| {
            let (mains, last_token) = (HashMap::new(), 0);
            let next_look = (Timestamp(i64::MIN), ORPHANS_INTERVAL.0);
            Mutex::new(Children { spawning: 0, mains, last_token, next_look })
        })
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process the reaper of its descendants' orphans. Where the system refuses, they go to the first
/// process instead, which is as good.
pub(super) fn adopt_orphans() {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::debug!(%error, "orphans of tasks are left to the system's first process");
    }
}

/// A main process and its place on the list.
pub(super) struct Main {
    child: Child,
    /// Tells it from a later one with the same pid.
    token: u64,
}

impl Main {
    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end and reaps it.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        let pid = self.pid();
        // It leaves the list after the wait, or it would look like an orphan; by then another slot may have started
        // a process that was given the same pid.
        let result = self.child.wait();
        let mut children = children();
        if children.mains.get(&pid) == Some(&self.token) {
            children.mains.remove(&pid);
        }
        result
    }
}

/// Starts a main process.
pub(super) fn spawn(command: &mut Command) -> io::Result<Main> {
    children().spawning += 1;
    let result = command.spawn();
    let mut children = children();
    children.spawning -= 1;
    let child = result?;
    children.last_token += 1;
    let token = children.last_token;
    children.mains.insert(Pid::from_child(&child), token);
    Ok(Main { child, token })
}

/// The main processes of all slots of this process that have not been reaped.
pub(super) fn mains() -> HashSet<Pid> {
    children().mains.keys().copied().collect()
}

/// Reaps orphans that came to us and have ended, at most once in a while.
pub(super) fn reap_orphans_now_and_then(now: Timestamp) {
    let interval = {
        let mut children = children();
        let (next, interval) = children.next_look;
        if now < next {
            return;
        }
        children.next_look.0 = now.plus(interval);
        interval
    };
    let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let is_some_zombie = matches!(rustix::process::waitid(WaitId::All, any), Ok(Some(_)));
    let found = is_some_zombie && reap_orphans() > 0;
    children().next_look.1 = if found { ORPHANS_INTERVAL.0 } else { ORPHANS_INTERVAL.1.min(interval * 2) };
}

/// Reaps the orphans that came to us and have ended; how many.
///
/// A main process whose spawn is under way is told apart by its own group in our session, which an orphan has
/// only if a shell with job control made it; such an orphan waits for a moment without spawns.
pub(super) fn reap_orphans() -> usize {
    let mut reaped = 0;
    // Not by getsid and getpgrp: rustix takes neither for 0, which is what they say in a namespace of processes
    // whose session or group was made outside of it.
    let Some(own) = procfs::process(rustix::process::getpid()) else { return reaped };
    for info in procfs::processes() {
        if !info.is_zombie || info.parent != Some(own.pid) || info.group == own.group {
            continue;
        }
        let children = children();
        let may_be_main = info.group == Some(info.pid) && info.session == own.session;
        if children.mains.contains_key(&info.pid) || (may_be_main && children.spawning > 0) {
            continue;
        }
        // The list is locked: no slot can be about to wait for this pid without being on it.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if let Ok(Some(_)) = rustix::process::waitid(WaitId::Pid(info.pid), options) {
            reaped += 1;
        }
    }
    reaped
}
