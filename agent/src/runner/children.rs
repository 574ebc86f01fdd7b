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

/// How often orphans that have ended are looked for while tasks run: a look costs a scan of `/proc`, some
/// milliseconds, so that a process that leaves daemons behind all the time has a second's worth of zombies.
const ORPHANS_INTERVAL: Duration = Duration::from_secs(1);

struct Children {
    /// Spawns under way: their child exists, and its pid is not in `mains` yet.
    spawning: usize,
    mains: HashMap<Pid, u64>,
    last_token: u64,
    orphans_looked_for_at: Option<Timestamp>,
}

fn children() -> MutexGuard<'static, Children> {
    static CHILDREN: OnceLock<Mutex<Children>> = OnceLock::new();
    CHILDREN
        .get_or_init(|| {
            let (mains, last_token) = (HashMap::new(), 0);
            Mutex::new(Children { spawning: 0, mains, last_token, orphans_looked_for_at: None })
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
    {
        let mut children = children();
        match children.orphans_looked_for_at {
            Some(last) if now.since(last) < ORPHANS_INTERVAL => return,
            _ => children.orphans_looked_for_at = Some(now),
        }
    }
    let any = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if let Ok(Some(_)) = rustix::process::waitid(WaitId::All, any) {
        reap_orphans();
    }
}

/// Reaps the orphans that came to us and have ended.
///
/// A main process whose spawn is under way is told apart by its own group in our session, which an orphan has
/// only if a shell with job control made it; such an orphan waits for a moment without spawns.
pub(super) fn reap_orphans() {
    let own = rustix::process::getpid();
    let own_group = rustix::process::getpgrp();
    let own_session = rustix::process::getsid(None).ok();
    for info in procfs::processes() {
        if !info.is_zombie || info.parent != Some(own) || info.group == Some(own_group) {
            continue;
        }
        let children = children();
        let may_be_main = info.group == Some(info.pid) && info.session == own_session;
        if children.mains.contains_key(&info.pid) || (may_be_main && children.spawning > 0) {
            continue;
        }
        // The list is locked: no slot can be about to wait for this pid without being on it.
        let _ = rustix::process::waitid(WaitId::Pid(info.pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
