//! The pure part of an agent: which attempts it has, which of them run, and what it has to say about them.
//!
//! No clock, no processes, no channels: the shell feeds inputs in and carries out what comes back. An attempt
//! goes through here once, whatever is said twice:
//!
//! ```text
//!   offer ─▶ queued ─▶ running ─▶ ended (kept until acknowledged, to be told again) ─▶ settled
//!               └──── stop ────────▶
//! ```
//!
//! Of a settled attempt only its number is kept, so that an order that comes late or again starts nothing. It is
//! dropped when the run is over.

use cairn_model::{Outcome, ReportKind, TaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long an attempt runs before it is announced as started. One that ends sooner says so with its end, which
/// halves the messages of short tasks.
pub const START_ANNOUNCED_AFTER: Duration = Duration::from_millis(50);

/// An attempt as an agent knows it: the fencing token with what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The agent's own number for the run.
    pub run: u32,
    /// Which task.
    pub task: TaskIndex,
    /// The attempt's number, from 1.
    pub attempt: u32,
}

/// What an attempt needs of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A process, and so a slot.
    Process,
    /// A timer of that length.
    Timer(Duration),
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Run this.
    Offer {
        /// What to call it.
        id: AttemptId,
        /// The epoch of who says so.
        epoch: u64,
        /// What it needs.
        work: Work,
    },
    /// End this.
    Stop {
        /// Which attempt.
        id: AttemptId,
        /// The epoch of who says so.
        epoch: u64,
    },
    /// The end of this attempt is durable; nobody will ask for it again.
    Acknowledge {
        /// Which attempt.
        id: AttemptId,
    },
    /// A new owner of the run, or one that may have missed something, asks for all that there is to say: reports
    /// that were on their way to the owner before are lost.
    Recall {
        /// The agent's own number for the run.
        run: u32,
        /// The epoch of who asks; from here on, orders of those before are refused.
        epoch: u64,
    },
    /// The run is over, durably: nothing of it is asked for again, whoever asks.
    Forget {
        /// The agent's own number for the run.
        run: u32,
    },
    /// A process has started.
    ProcessStarted {
        /// Of which attempt.
        id: AttemptId,
        /// When.
        at: Timestamp,
    },
    /// A process told how far it is.
    ProcessProgress {
        /// Of which attempt.
        id: AttemptId,
        /// Thousandths of the work done.
        permille: u16,
        /// What it said.
        message: Option<Box<str>>,
    },
    /// A process has ended, or could not be started.
    ProcessFinished {
        /// Of which attempt.
        id: AttemptId,
        /// How.
        outcome: Outcome,
        /// When it began.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
    },
    /// Time has passed.
    Tick,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the process of an attempt.
    Start(AttemptId),
    /// End the process of an attempt.
    Stop(AttemptId),
    /// Tell the coordinator.
    Report(AttemptId, ReportKind),
}

#[derive(Clone, Debug)]
struct Running {
    work: Work,
    started_at: Option<Timestamp>,
    stopping: bool,
}

#[derive(Clone, Debug)]
struct Ended {
    outcome: Outcome,
    started_at: Timestamp,
    finished_at: Timestamp,
}

/// In place of an epoch: the run is over, and no order about it is current.
const OVER: u64 = u64::MAX;

/// The attempts of one agent.
#[derive(Clone, Debug)]
pub struct Machine {
    slots: usize,
    processes: usize,
    queue: VecDeque<AttemptId>,
    running: BTreeMap<AttemptId, Running>,
    timers: BTreeSet<(Timestamp, AttemptId)>,
    unannounced: BTreeSet<(Timestamp, AttemptId)>,
    ended: BTreeMap<AttemptId, Ended>,
    /// Of each task of a run that is not over, the highest attempt that was acknowledged: at most a row a task.
    settled: BTreeMap<(u32, TaskIndex), u32>,
    /// The highest epoch heard of each run; [`OVER`] of one that is over. A row a run.
    epochs: BTreeMap<u32, u64>,
    /// Orders of an epoch that is over, or about an attempt that is settled.
    stale_orders: u64,
}

impl Machine {
    /// An agent that runs up to `slots` processes at a time.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            processes: 0,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            timers: BTreeSet::new(),
            unannounced: BTreeSet::new(),
            ended: BTreeMap::new(),
            settled: BTreeMap::new(),
            epochs: BTreeMap::new(),
            stale_orders: 0,
        }
    }

    /// Takes one input in and appends what follows to `actions`.
    pub fn handle(&mut self, input: Input, now: Timestamp, actions: &mut Vec<Action>) {
        match input {
            Input::Offer { id, epoch, work } => {
                if self.is_current(id.run, epoch) && !self.is_settled(id) {
                    self.offer(id, work, now, actions);
                }
            }
            Input::Stop { id, epoch } => {
                if self.is_current(id.run, epoch) && !self.is_settled(id) {
                    self.stop(id, now, actions);
                }
            }
            Input::Acknowledge { id } => {
                if self.ended.remove(&id).is_some() {
                    let settled = self.settled.entry((id.run, id.task)).or_insert(id.attempt);
                    *settled = id.attempt.max(*settled);
                }
            }
            Input::Recall { run, epoch } => {
                if self.is_current(run, epoch) {
                    self.recall(run, actions);
                }
            }
            Input::Forget { run } => self.forget(run, actions),
            Input::ProcessStarted { id, at } => self.started(id, at),
            Input::ProcessProgress { id, permille, message } => {
                if self.running.contains_key(&id) && self.epochs.get(&id.run) != Some(&OVER) {
                    self.announce(id, actions);
                    actions.push(Action::Report(id, ReportKind::Progress { permille, message }));
                }
            }
            Input::ProcessFinished { id, outcome, started_at, finished_at } => {
                if self.running.contains_key(&id) {
                    self.end(id, Ended { outcome, started_at, finished_at }, actions);
                    self.fill_slots(actions);
                }
            }
            Input::Tick => self.tick(now, actions),
        }
    }

    /// When to be told [`Input::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let announcement = self.unannounced.first().map(|(at, _)| *at);
        timer.into_iter().chain(announcement).min()
    }

    /// Attempts that are queued or run.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.queue.len() + self.running.len()
    }

    /// Processes that run.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// Orders that came from a coordinator whose epoch is over, or about an attempt that is settled.
    #[must_use]
    pub fn stale_orders(&self) -> u64 {
        self.stale_orders
    }

    fn is_current(&mut self, run: u32, epoch: u64) -> bool {
        let highest = self.epochs.entry(run).or_insert(epoch);
        *highest = epoch.max(*highest);
        let current = *highest == epoch && epoch != OVER;
        self.stale_orders += u64::from(!current);
        current
    }

    /// Whether the end of the attempt, or of a later one of the task, is durable: there is no more to say of it.
    fn is_settled(&mut self, id: AttemptId) -> bool {
        let settled = self.settled.get(&(id.run, id.task)).is_some_and(|&newest| id.attempt <= newest);
        self.stale_orders += u64::from(settled);
        settled
    }

    /// Says again what was said and not acknowledged. Attempts that wait have nothing to say, and what has just
    /// started is announced in its time.
    fn recall(&self, run: u32, actions: &mut Vec<Action>) {
        let running = self.running.iter().filter(|(id, _)| id.run == run);
        actions.extend(running.filter_map(|(&id, running)| self.said_at(id, running)));
        let ended = self.ended.iter().filter(|(id, _)| id.run == run);
        actions.extend(ended.map(|(&id, ended)| Action::Report(id, ended.report())));
    }

    /// The announcement of an attempt, if it was made.
    fn said_at(&self, id: AttemptId, running: &Running) -> Option<Action> {
        let at = running.started_at?;
        let announced = !self.unannounced.contains(&(at.plus(START_ANNOUNCED_AFTER), id));
        announced.then_some(Action::Report(id, ReportKind::Started { at }))
    }

    /// Whatever should still be there of a run that is over is ended and not reported.
    fn forget(&mut self, run: u32, actions: &mut Vec<Action>) {
        self.epochs.insert(run, OVER);
        self.queue.retain(|id| id.run != run);
        self.ended.retain(|id, _| id.run != run);
        self.settled.retain(|&(of, _), _| of != run);
        self.unannounced.retain(|(_, id)| id.run != run);
        self.timers.retain(|(_, id)| id.run != run);
        self.running.retain(|id, running| id.run != run || running.work == Work::Process);
        for (&id, running) in self.running.iter_mut().filter(|(id, _)| id.run == run) {
            if !std::mem::replace(&mut running.stopping, true) {
                actions.push(Action::Stop(id));
            }
        }
    }

    fn offer(&mut self, id: AttemptId, work: Work, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(ended) = self.ended.get(&id) {
            actions.push(Action::Report(id, ended.report()));
            return;
        }
        if let Some(running) = self.running.get(&id) {
            actions.extend(self.said_at(id, running));
            return;
        }
        if self.queue.contains(&id) {
            return;
        }
        match work {
            Work::Timer(length) if length.is_zero() => {
                let ended = Ended { outcome: Outcome::Completed, started_at: now, finished_at: now };
                actions.push(Action::Report(id, ended.report()));
                self.ended.insert(id, ended);
            }
            Work::Timer(length) => {
                self.running.insert(id, Running { work, started_at: None, stopping: false });
                self.timers.insert((now.plus(length), id));
                self.started(id, now);
            }
            Work::Process => {
                self.queue.push_back(id);
                self.fill_slots(actions);
            }
        }
    }

    fn stop(&mut self, id: AttemptId, now: Timestamp, actions: &mut Vec<Action>) {
        let stopped = |outcome, started_at| Ended { outcome, started_at, finished_at: now };
        if let Some(running) = self.running.get_mut(&id) {
            match running.work {
                Work::Process if !running.stopping => {
                    running.stopping = true;
                    actions.push(Action::Stop(id));
                }
                Work::Process => {}
                Work::Timer(_) => {
                    let started_at = running.started_at.unwrap_or(now);
                    self.end(id, stopped(Outcome::Stopped, started_at), actions);
                }
            }
        } else if let Some(ended) = self.ended.get(&id) {
            actions.push(Action::Report(id, ended.report()));
        } else {
            // Queued, or never heard of: in both cases it must not start any more.
            self.queue.retain(|queued| *queued != id);
            let ended = stopped(Outcome::NotStarted, now);
            actions.push(Action::Report(id, ended.report()));
            self.ended.insert(id, ended);
        }
    }

    fn started(&mut self, id: AttemptId, at: Timestamp) {
        if let Some(running) = self.running.get_mut(&id)
            && running.started_at.is_none()
            && self.epochs.get(&id.run) != Some(&OVER)
        {
            running.started_at = Some(at);
            self.unannounced.insert((at.plus(START_ANNOUNCED_AFTER), id));
        }
    }

    fn announce(&mut self, id: AttemptId, actions: &mut Vec<Action>) {
        if let Some(at) = self.running.get(&id).and_then(|running| running.started_at)
            && self.unannounced.remove(&(at.plus(START_ANNOUNCED_AFTER), id))
        {
            actions.push(Action::Report(id, ReportKind::Started { at }));
        }
    }

    fn tick(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            let started_at = self.running.get(&id).and_then(|running| running.started_at).unwrap_or(now);
            self.end(id, Ended { outcome: Outcome::Completed, started_at, finished_at: now }, actions);
        }
        while let Some(&(at, id)) = self.unannounced.first()
            && at <= now
        {
            self.announce(id, actions);
        }
    }

    fn fill_slots(&mut self, actions: &mut Vec<Action>) {
        while self.processes < self.slots
            && let Some(id) = self.queue.pop_front()
        {
            self.processes += 1;
            self.running.insert(id, Running { work: Work::Process, started_at: None, stopping: false });
            actions.push(Action::Start(id));
        }
    }

    fn end(&mut self, id: AttemptId, ended: Ended, actions: &mut Vec<Action>) {
        let Some(running) = self.running.remove(&id) else { return };
        if let Some(at) = running.started_at {
            self.unannounced.remove(&(at.plus(START_ANNOUNCED_AFTER), id));
            if let Work::Timer(length) = running.work {
                self.timers.remove(&(at.plus(length), id));
            }
        }
        if running.work == Work::Process {
            self.processes -= 1;
        }
        if self.epochs.get(&id.run) != Some(&OVER) {
            actions.push(Action::Report(id, ended.report()));
            self.ended.insert(id, ended);
        }
    }
}

impl Ended {
    fn report(&self) -> ReportKind {
        ReportKind::Finished {
            outcome: self.outcome.clone(),
            started_at: self.started_at,
            finished_at: self.finished_at,
        }
    }
}

#[cfg(test)]
mod tests;
