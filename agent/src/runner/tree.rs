//! The processes of one attempt beyond its main process: found, told to end, killed, reaped.
//!
//! Whom a signal may hit is decided here and nowhere else. The process group may be signalled as a whole only
//! while its leader has not been reaped: until then its number belongs to nobody else. Every other process is
//! held by a pidfd, opened after it was seen in a scan and kept only if its start time is still the one seen.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::time::Timespec;

use super::children;
use super::procfs::{self, ProcessInfo};

/// How often a kill looks for processes that were forked meanwhile. Stopped processes fork no more, so that two
/// looks are the rule; a number of looks that this does not end means processes that we may not stop.
const FREEZE_ROUNDS_MAX: usize = 16;

/// How long a look waits for execs that are under way: until its end nobody can tell whose process it is. An exec takes
/// 0.3 ms, much more where the machine is busy or the program must come from a disk; one that takes longer than this is
/// taken for a stranger's.
const EXEC_PATIENCE: Duration = Duration::from_secs(2);

/// How often an environment is read again that was shorter than the system says. A process can make its own unreadable.
const SHORT_READS_MAX: usize = 16;

/// How often it is looked at meanwhile.
const EXEC_INTERVAL: Duration = Duration::from_millis(1);

/// The processes of one attempt, or all that carry a variable.
pub(super) struct Tree {
    /// The main process, whose pid is also the number of the group; `None` if there is only a variable.
    main: Option<Pid>,
    /// `NAME=VALUE`, which is in the environment of no other tree; it may go on with `:…` there.
    variable: Vec<u8>,
    main_is_reaped: bool,
    /// Right after the reaping the number of the group cannot have been given away yet: the system hands out all
    /// other numbers before.
    group_is_fresh: bool,
    members: Vec<Member>,
}

/// A process that was found, other than the main one.
pub(super) struct Member {
    info: ProcessInfo,
    handle: OwnedFd,
    in_group: bool,
    was_told: bool,
}

impl Tree {
    /// The tree under a main process that has just been started.
    pub(super) fn of_attempt(main: Pid, variable: Vec<u8>) -> Self {
        Self { main: Some(main), variable, main_is_reaped: false, group_is_fresh: false, members: Vec::new() }
    }

    /// All processes with a variable, whoever started them, and their descendants.
    pub(super) fn of_variable(variable: Vec<u8>) -> Self {
        Self { main: None, variable, main_is_reaped: true, group_is_fresh: false, members: Vec::new() }
    }

    /// The main process, while its number and that of its group are certainly its own.
    fn unreaped_main(&self) -> Option<Pid> {
        self.main.filter(|_| !self.main_is_reaped)
    }

    /// Asks the process group to end. SIGCONT follows, so that a stopped process hears it.
    pub(super) fn ask_to_end(&mut self) {
        if let Some(main) = self.unreaped_main() {
            let _ = rustix::process::kill_process_group(main, Signal::TERM);
            let _ = rustix::process::kill_process_group(main, Signal::CONT);
        }
    }

    /// Notes that the main process was reaped; whether its group has other processes. To be asked at once.
    pub(super) fn main_was_reaped(&mut self) -> bool {
        self.main_is_reaped = true;
        // Signal 0 harms nobody, were the number somebody else's already.
        self.group_is_fresh =
            self.main.is_some_and(|main| rustix::process::test_kill_process_group(main).is_ok());
        self.group_is_fresh
    }

    /// Looks for processes of the attempt that are not known yet; how many there were. Costs a scan of `/proc`,
    /// milliseconds, or two: a process that forked and ended during the first one has left a child that it did not see.
    pub(super) fn look(&mut self) -> usize {
        match self.scan() {
            0 => self.scan(),
            found => found,
        }
    }

    fn scan(&mut self) -> usize {
        self.drop_dead();
        let processes = procfs::processes();
        let group_is_ours = self.unreaped_main().is_some()
            || self.group_is_fresh
            || self.members.iter().any(|member| member.in_group && !is_over(&member.handle));
        self.group_is_fresh = false;
        let children = by_parent(&processes);
        let family = self.family(&children);
        let strangers = strangers(&processes, &children, self.main);
        let (mut found, mut patience) = (0, EXEC_PATIENCE);
        for info in processes {
            let is_known = self.members.iter().any(|member| member.info.pid == info.pid);
            if info.is_zombie
                || self.unreaped_main() == Some(info.pid)
                || is_known
                || strangers.contains(&info.pid)
            {
                continue;
            }
            let in_group = group_is_ours && info.group.is_some() && info.group == self.main;
            let belongs = in_group || family.contains(&info.pid) || self.is_marked(&info, &mut patience);
            if belongs && let Some(handle) = hold(&info) {
                self.members.push(Member { info, handle, in_group, was_told: false });
                found += 1;
            }
        }
        found
    }

    /// The processes that were found and still run.
    pub(super) fn members(&mut self) -> &[Member] {
        self.drop_dead();
        &self.members
    }

    /// Sends SIGTERM to the processes found that have not had one; how many these were.
    pub(super) fn ask_members_to_end(&mut self, group_was_asked: bool) -> usize {
        let mut asked = 0;
        for member in self.members.iter_mut().filter(|member| !member.was_told) {
            member.was_told = true;
            if !(group_was_asked && member.in_group) {
                send(&member.handle, Signal::TERM);
                send(&member.handle, Signal::CONT);
                asked += 1;
            }
        }
        asked
    }

    /// Kills everything, the main process too if it is not reaped. All are stopped first, and looked for again
    /// until nobody new turns up: a process that forks faster than we kill would get away otherwise.
    pub(super) fn kill(&mut self) {
        for _ in 0..FREEZE_ROUNDS_MAX {
            self.signal_all(Signal::STOP);
            if self.look() == 0 {
                break;
            }
        }
        self.signal_all(Signal::KILL);
    }

    fn signal_all(&self, signal: Signal) {
        if let Some(main) = self.unreaped_main() {
            let _ = rustix::process::kill_process_group(main, signal);
        }
        for member in &self.members {
            send(&member.handle, signal);
        }
    }

    /// Forgets members that have ended, and reaps those that had become our children.
    fn drop_dead(&mut self) {
        self.members.retain(|member| {
            let over = is_over(&member.handle);
            if over {
                reap(&member.handle);
            }
            !over
        });
    }

    /// The descendants of the main process and of all known members, as far as the chain is unbroken.
    fn family(&self, children: &HashMap<Pid, Vec<Pid>>) -> HashSet<Pid> {
        let known = self.members.iter().map(|member| member.info.pid);
        descendants(children, known.chain(self.unreaped_main()).collect())
    }

    /// Whether our variable is in the environment of a process. An exec takes the environment away, at any moment of
    /// our reading, and gives a new one at its end: what was not read in full is read again. A task that starts
    /// something at the moment of its end must not lose it to us.
    fn is_marked(&self, info: &ProcessInfo, patience: &mut Duration) -> bool {
        // Threads of the kernel have no group.
        if info.group.is_none() {
            return false;
        }
        let (mut seen, mut short_reads) = (*info, 0);
        loop {
            let Some(environment) = procfs::environment(info.pid) else { return false };
            let is_marked = procfs::has_mark(&environment, &self.variable);
            if is_marked || seen.environment_bytes == Some(environment.len()) {
                return is_marked;
            }
            if seen.environment_bytes.is_some() {
                short_reads += 1;
            } else {
                std::thread::sleep(EXEC_INTERVAL);
                *patience = patience.saturating_sub(EXEC_INTERVAL);
            }
            if short_reads > SHORT_READS_MAX || patience.is_zero() {
                return false;
            }
            seen = match procfs::process(info.pid) {
                Some(now) if now.start_time == info.start_time && !now.is_zombie => now,
                _ => return false,
            };
        }
    }
}

impl Member {
    /// What the scan saw.
    pub(super) fn info(&self) -> &ProcessInfo {
        &self.info
    }

    /// Readable once the process has ended.
    pub(super) fn handle(&self) -> &OwnedFd {
        &self.handle
    }
}

/// Whom no signal may hit: ourselves, our ancestors, and, for the tree of an attempt, those of other slots.
fn strangers(
    processes: &[ProcessInfo],
    children: &HashMap<Pid, Vec<Pid>>,
    main: Option<Pid>,
) -> HashSet<Pid> {
    let is_other = |pid: &Pid| main.is_some_and(|main| main != *pid);
    let other_mains: Vec<Pid> = children::mains().into_iter().filter(is_other).collect();
    let mut strangers = descendants(children, other_mains.clone());
    strangers.extend(other_mains);
    let parents: HashMap<Pid, Option<Pid>> = processes.iter().map(|info| (info.pid, info.parent)).collect();
    let mut next = Some(rustix::process::getpid());
    while let Some(pid) = next
        && strangers.insert(pid)
    {
        next = parents.get(&pid).copied().flatten();
    }
    strangers
}

/// The children of each process.
fn by_parent(processes: &[ProcessInfo]) -> HashMap<Pid, Vec<Pid>> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for info in processes {
        if let Some(parent) = info.parent {
            children.entry(parent).or_default().push(info.pid);
        }
    }
    children
}

/// All processes below `roots`, without these.
fn descendants(children: &HashMap<Pid, Vec<Pid>>, roots: Vec<Pid>) -> HashSet<Pid> {
    let mut found = HashSet::new();
    let mut waiting = roots;
    while let Some(pid) = waiting.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            if found.insert(child) {
                waiting.push(child);
            }
        }
    }
    found
}

/// A pidfd for exactly the process that a scan saw.
fn hold(info: &ProcessInfo) -> Option<OwnedFd> {
    let handle = rustix::process::pidfd_open(info.pid, PidfdFlags::empty()).ok()?;
    (procfs::process(info.pid)?.start_time == info.start_time).then_some(handle)
}

/// Sends a signal; to a process that has ended this does nothing.
fn send(handle: &OwnedFd, signal: Signal) {
    let _ = rustix::process::pidfd_send_signal(handle, signal);
}

/// Whether the process of a pidfd has ended.
fn is_over(handle: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(handle, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// Reaps an ended process if it is our child; it is not if its own parent still runs.
fn reap(handle: &OwnedFd) {
    let _ =
        rustix::process::waitid(WaitId::PidFd(handle.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}
