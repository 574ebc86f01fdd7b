//! One process from its start to the end of its tree: output, progress, time-out, stop.
//!
//! ```text
//! running ──────────────────────────── main process ends ─▶ reap ─▶ lingering ─▶ asked ─▶ killed
//!    │ time-out, stop, terminal wanted        ▲                        (skipped where nothing is left)
//!    └─▶ SIGTERM ─ grace ─▶ SIGKILL ──────────┘
//! ```

use std::os::fd::OwnedFd;
use std::time::Duration;

use cairn_model::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::time::Timespec;

use super::children::Main;
use super::directory::Place;
use super::exit::{Exit, ProcessEnd};
use super::job::{Clock, Job, LINGER, PROGRESS_INTERVAL, Progress, StopReason, Urgency};
use super::log::Log;
use super::progress::ProgressFile;
use super::slot::{Control, Running};
use super::tree::Tree;

/// How often the process is asked for its state where the system gives no pidfd.
const BLIND_INTERVAL: Duration = Duration::from_millis(10);

/// How long another slot's spawn may take from its fork to its exec: some 0.3 ms, more on a busy machine.
const SPAWN_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// How long a process may take to vanish after SIGKILL until it is killed again.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// How often what is left is killed, before it is given up.
const KILL_ROUNDS_MAX: usize = 5;

/// How many buffers of output are read without looking at anything else. With a buffer of 64 KiB this is the
/// largest pipe that a task may make, so that after its end one drain has all that it wrote.
const DRAIN_READS_MAX: usize = 16;

/// A running attempt, watched by its slot.
pub(super) struct Watch<'a> {
    job: &'a Job,
    clock: &'a Clock,
    control: &'a Control,
    buffer: &'a mut [u8],
    main: Main,
    /// Readable once the main process has ended.
    end_event: Option<OwnedFd>,
    /// `None` after the end of the output.
    output: Option<OwnedFd>,
    log: Log<'a>,
    progress: ProgressFile<'a>,
    tree: Tree,
    started_at: Timestamp,
    look_at: Timestamp,
    ending: Option<Ending>,
}

/// What a watch hands back.
pub(super) struct Watched<'a> {
    pub(super) exit: Exit,
    pub(super) finished_at: Timestamp,
    pub(super) log: Log<'a>,
    pub(super) progress: ProgressFile<'a>,
    pub(super) left_behind: usize,
}

/// We are ending the process.
struct Ending {
    cause: Cause,
    kill_at: Timestamp,
    is_killed: bool,
}

enum Cause {
    TimedOut(Duration),
    Stopped(StopReason),
    TerminalWanted,
}

/// What happens to the processes that are left after the main one.
enum Rest {
    Lingering { until: Timestamp },
    Asked { until: Timestamp },
    Killed { rounds: usize, until: Timestamp },
}

/// What a poll reported.
struct Ready {
    control: bool,
    end: bool,
    output: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        job: &'a Job,
        place: &'a Place,
        Running { spawned, started_at, variable }: Running,
        (clock, control): (&'a Clock, &'a Control),
        buffer: &'a mut [u8],
    ) -> Self {
        let main = spawned.main.pid();
        Self {
            job,
            clock,
            control,
            buffer,
            main: spawned.main,
            end_event: rustix::process::pidfd_open(main, PidfdFlags::empty()).ok(),
            output: Some(spawned.output),
            log: Log::new(&job.log_path, job.log_limit),
            progress: ProgressFile::new(&place.progress),
            tree: Tree::of_attempt(main, variable),
            started_at,
            look_at: started_at.plus(PROGRESS_INTERVAL),
            ending: None,
        }
    }

    /// Watches until the whole tree is gone. `on_progress` hears of every change.
    pub(super) fn run(mut self, mut on_progress: impl FnMut(Progress)) -> Watched<'a> {
        let end = self.until_main_ends(&mut on_progress);
        let finished_at = (self.clock)();
        let group_is_left = self.tree.main_was_reaped();
        self.drain();
        let is_clean = self.ending.is_none() && !group_is_left && self.output_is_closed_soon();
        let left_behind = if is_clean { 0 } else { self.end_the_rest(finished_at) };
        let exit = match self.ending {
            None => end.into(),
            Some(Ending { cause: Cause::TimedOut(limit), .. }) => Exit::TimedOut { limit, end },
            Some(Ending { cause: Cause::Stopped(reason), .. }) => Exit::Stopped { reason, end: Some(end) },
            Some(Ending { cause: Cause::TerminalWanted, .. }) => Exit::TerminalWanted { end },
        };
        Watched { exit, finished_at, log: self.log, progress: self.progress, left_behind }
    }

    fn until_main_ends(&mut self, on_progress: &mut impl FnMut(Progress)) -> ProcessEnd {
        let mut now = self.started_at;
        loop {
            let ready = self.wait_until(self.wake_at(now), now);
            if let Some(end) = self.reap_if_over(ready.end) {
                return end;
            }
            now = (self.clock)();
            if ready.output {
                self.read_output();
            }
            if ready.control
                && let Some((reason, urgency)) = self.control.take(self.job.key)
            {
                self.stop(Cause::Stopped(reason), urgency, now);
            }
            if now >= self.look_at {
                self.look_at = now.plus(PROGRESS_INTERVAL);
                if let Some(progress) = self.progress.look() {
                    on_progress(progress);
                }
                if self.ending.is_none() && self.wants_terminal() {
                    self.stop(Cause::TerminalWanted, Urgency::Immediate, now);
                }
            }
            self.act_on_time(now);
        }
    }

    /// The next moment at which something is to be done whatever happens.
    fn wake_at(&self, now: Timestamp) -> Timestamp {
        let deadline = match &self.ending {
            None => self.job.timeout.map(|timeout| self.started_at.plus(timeout)),
            Some(ending) => Some(ending.kill_at).filter(|_| !ending.is_killed),
        };
        let look_at = if self.end_event.is_none() { now.plus(BLIND_INTERVAL) } else { self.look_at };
        deadline.map_or(look_at, |deadline| deadline.min(look_at))
    }

    fn act_on_time(&mut self, now: Timestamp) {
        match (&mut self.ending, self.job.timeout) {
            (None, Some(timeout)) if now >= self.started_at.plus(timeout) => {
                self.stop(Cause::TimedOut(timeout), Urgency::Graceful, now);
            }
            (Some(ending), _) if !ending.is_killed && now >= ending.kill_at => {
                ending.is_killed = true;
                self.tree.kill();
            }
            _ => {}
        }
    }

    /// Begins to end the process, or hurries if that had begun. The first cause is the one that is told.
    fn stop(&mut self, cause: Cause, urgency: Urgency, now: Timestamp) {
        if self.ending.is_none() {
            self.ending = Some(Ending { cause, kill_at: now.plus(self.job.grace), is_killed: false });
            // Before anything ends: afterwards, who has left the group is known by its environment only.
            self.tree.look();
            if urgency == Urgency::Graceful {
                self.tree.ask_to_end();
            }
        }
        if urgency == Urgency::Immediate
            && let Some(ending) = &mut self.ending
        {
            ending.kill_at = ending.kill_at.min(now);
        }
        self.act_on_time(now);
    }

    /// Whether the main process is stopped because it used the terminal from the background. It would be for ever.
    fn wants_terminal(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.main.pid()), options);
        let signal = status.ok().flatten().and_then(|status| status.stopping_signal());
        [Signal::TTIN, Signal::TTOU].iter().any(|wanted| signal == Some(wanted.as_raw()))
    }

    fn reap_if_over(&mut self, is_over: bool) -> Option<ProcessEnd> {
        if !is_over && self.end_event.is_some() {
            return None;
        }
        if self.end_event.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            rustix::process::waitid(WaitId::Pid(self.main.pid()), options).ok().flatten()?;
        }
        Some(match self.main.wait() {
            Ok(status) => ProcessEnd::of(status),
            Err(error) => {
                tracing::error!(%error,  "the exit status of a task was taken by somebody else");
                ProcessEnd::Code(-1)
            }
        })
    }

    /// Whether nobody holds the output any more. A process that another slot is just starting has a copy of our end
    /// of the pipe until its exec; that is not somebody who was left behind.
    fn output_is_closed_soon(&mut self) -> bool {
        for _ in 0..DRAIN_READS_MAX {
            let Some(output) = &self.output else { return true };
            let mut polled = [PollFd::new(output, PollFlags::IN)];
            if let Ok(0) = rustix::event::poll(&mut polled, Some(&SPAWN_PATIENCE)) {
                return false;
            }
            self.drain();
        }
        self.output.is_none()
    }

    /// Ends what the main process left behind; how many processes had to be told.
    fn end_the_rest(&mut self, mut now: Timestamp) -> usize {
        // Who was known and has ended since may have left a child that only a look after its end shows. So nothing is
        // left only when a look that began without anybody known found nobody.
        let mut is_alone = self.tree.members().is_empty() & (self.tree.look() == 0);
        let mut told = 0;
        let mut rest = match &self.ending {
            None => Rest::Lingering { until: now.plus(LINGER) },
            Some(ending) => {
                told += self.tree.ask_members_to_end(true);
                Rest::Asked { until: ending.kill_at }
            }
        };
        loop {
            self.drain();
            if self.tree.members().is_empty() {
                let gives_up_output = !matches!(rest, Rest::Lingering { .. });
                if !is_alone {
                    is_alone = self.tree.look() == 0;
                    continue;
                }
                if self.output.is_none() || gives_up_output {
                    return told;
                }
            } else {
                is_alone = false;
            }
            match rest {
                Rest::Lingering { until } if now >= until => {
                    told += self.tree.ask_members_to_end(false);
                    rest = Rest::Asked { until: now.plus(self.job.grace) };
                    continue;
                }
                Rest::Asked { until } if now >= until => {
                    self.tree.kill();
                    rest = Rest::Killed { rounds: 1, until: now.plus(KILL_PATIENCE) };
                }
                Rest::Killed { rounds, until } if now >= until => {
                    if rounds == KILL_ROUNDS_MAX {
                        let processes = self.tree.members().len();
                        tracing::warn!(processes, "processes of a task could not be ended");
                        return told;
                    }
                    self.tree.kill();
                    rest = Rest::Killed { rounds: rounds + 1, until: now.plus(KILL_PATIENCE) };
                }
                Rest::Lingering { .. } | Rest::Asked { .. } | Rest::Killed { .. } => {}
            }
            let (Rest::Lingering { until } | Rest::Asked { until } | Rest::Killed { until, .. }) = rest;
            let is_stopped = self.wait_for_rest(until.since(now));
            now = (self.clock)();
            if let Some(urgency) = is_stopped {
                rest = hurried(rest, urgency, now);
            }
        }
    }

    /// Waits until something of the rest ends, writes or closes, or somebody asks for haste.
    fn wait_for_rest(&mut self, patience: Duration) -> Option<Urgency> {
        let mut polled = vec![PollFd::new(self.control.event(), PollFlags::IN)];
        polled.extend(self.output.as_ref().map(|output| PollFd::new(output, PollFlags::IN)));
        polled.extend(self.tree.members().iter().map(|member| PollFd::new(member.handle(), PollFlags::IN)));
        let _ = rustix::event::poll(&mut polled, Timespec::try_from(patience).ok().as_ref());
        let is_asked = !polled[0].revents().is_empty();
        is_asked.then(|| self.control.take(self.job.key)).flatten().map(|(_, urgency)| urgency)
    }

    fn wait_until(&self, until: Timestamp, now: Timestamp) -> Ready {
        let timeout = Timespec::try_from(until.since(now)).ok();
        let control = self.control.event();
        // The control's descriptor stands in for one that is not there: that it is ready twice does no harm.
        let [end, output] = [&self.end_event, &self.output].map(|fd| fd.as_ref().unwrap_or(control));
        let mut polled = [control, end, output].map(|fd| PollFd::new(fd, PollFlags::IN));
        if rustix::event::poll(&mut polled, timeout.as_ref()).is_err() {
            // Interrupted by a signal, or out of memory for a moment: look again.
            return Ready { control: false, end: false, output: false };
        }
        let is_ready = |at: usize| !polled[at].revents().is_empty();
        Ready {
            control: is_ready(0),
            end: self.end_event.is_some() && is_ready(1),
            output: self.output.is_some() && is_ready(2),
        }
    }

    /// Reads all output that is there.
    fn drain(&mut self) {
        for _ in 0..DRAIN_READS_MAX {
            if !self.read_output() {
                return;
            }
        }
    }

    /// Reads output once; whether there may be more now.
    fn read_output(&mut self) -> bool {
        let Some(output) = &self.output else { return false };
        match rustix::io::read(output, &mut *self.buffer) {
            Ok(0) => {
                self.output = None;
                false
            }
            Ok(count) => {
                self.log.write(&self.buffer[..count]);
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            Err(error) => {
                tracing::warn!(%error, "the output of a task cannot be read any more");
                self.output = None;
                false
            }
        }
    }
}

/// The rest after somebody asked to stop a task whose main process has ended already.
fn hurried(rest: Rest, urgency: Urgency, now: Timestamp) -> Rest {
    match (rest, urgency) {
        (Rest::Lingering { .. }, Urgency::Graceful) => Rest::Lingering { until: now },
        (Rest::Lingering { .. } | Rest::Asked { .. }, Urgency::Immediate) => Rest::Asked { until: now },
        (rest, _) => rest,
    }
}
