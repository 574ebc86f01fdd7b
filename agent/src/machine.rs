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
//!
//! A machine of a fleet ([`Machine::of_fleet`]) also says what it has accepted, waits for grants, judges resources, says
//! again what was not answered, and names the facts ([`Fact`]) that must be durable before what follows them in the list
//! of actions is done.

mod fleet;
mod queue;
mod words;

pub use fleet::{Capacity, Held, RETELL_AFTER, Restored};
pub use words::{Action, AttemptId, Fact, Input, Terms, Work};

use cairn_model::{Outcome, ReportKind, TaskIndex, Timestamp};
use queue::Queue;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an attempt runs before it is announced as started. One that ends sooner says so with its end, which
/// halves the messages of short tasks.
pub const START_ANNOUNCED_AFTER: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
struct Running {
    terms: Terms,
    started_at: Option<Timestamp>,
    stopping: bool,
    /// It is ended because the right to run it has: what to say if it has no result of its own.
    lost: Option<Box<str>>,
}

#[derive(Clone, Debug)]
struct Ended {
    outcome: Outcome,
    started_at: Timestamp,
    finished_at: Timestamp,
}

/// What is said of an attempt that waits for a slot, or has just started.
const ACCEPTED: ReportKind = ReportKind::Accepted { awaits_grant: false };

/// Who owns a run, as far as was heard.
#[derive(Clone, Copy, Debug)]
struct RunEpoch {
    highest: u64,
    /// That owner said that the run is over: none of its orders is current.
    is_over: bool,
}

/// The attempts of one agent.
#[derive(Clone, Debug)]
pub struct Machine {
    slots: usize,
    processes: usize,
    queue: Queue,
    fleet: Option<fleet::Fleet>,
    running: BTreeMap<AttemptId, Running>,
    timers: BTreeSet<(Timestamp, AttemptId)>,
    unannounced: BTreeSet<(Timestamp, AttemptId)>,
    ended: BTreeMap<AttemptId, Ended>,
    /// Of each task of a run that is not over, the highest attempt that was acknowledged: at most a row a task.
    settled: BTreeMap<(u32, TaskIndex), u32>,
    /// The highest epoch heard of each run. A row a run.
    epochs: BTreeMap<u32, RunEpoch>,
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
            queue: Queue::default(),
            fleet: None,
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
                    self.offer(id, work.into(), now, actions);
                }
            }
            Input::Take { id, epoch, terms } => {
                if self.is_current(id.run, epoch) && !self.is_settled(id) {
                    self.offer(id, terms, now, actions);
                }
            }
            Input::Grant { id, epoch } => {
                if self.is_current(id.run, epoch) && !self.is_settled(id) {
                    self.grant(id, now, actions);
                }
            }
            Input::Stop { id, epoch } => {
                if self.is_current(id.run, epoch) && !self.is_settled(id) {
                    self.stop(id, now, actions);
                }
            }
            Input::Acknowledge { id } => {
                if self.ended.remove(&id).is_some() {
                    self.is_answered(id);
                    self.record(Fact::Settled(id), actions);
                    let settled = self.settled.entry((id.run, id.task)).or_insert(id.attempt);
                    *settled = id.attempt.max(*settled);
                }
            }
            Input::Recall { run, epoch } => {
                if self.is_current(run, epoch) {
                    self.recall(|of| of == run, now, actions);
                }
            }
            Input::Forget { run, epoch } => self.forget(run, epoch, actions),
            Input::ProcessStarted { id, at } => self.started(id, at),
            Input::ProcessProgress { id, permille, message } => {
                if self.running.contains_key(&id) && !self.is_over(id.run) {
                    self.announce(id, now, actions);
                    actions.push(Action::Report(id, ReportKind::Progress { permille, message }));
                }
            }
            Input::ProcessFinished { id, outcome, started_at, finished_at } => {
                if self.running.contains_key(&id) {
                    self.end(id, Ended { outcome, started_at, finished_at }, now, actions);
                    self.fill_slots(actions);
                }
            }
            Input::Fence { reason } => self.fence(Some(&reason), now, actions),
            Input::StopAll => self.fence(None, now, actions),
            Input::Drain(on) => self.drain(on, now, actions),
            Input::Suspend(on) => self.suspend(on, now, actions),
            Input::RecallAll => self.recall(|_| true, now, actions),
            Input::Tick => self.tick(now, actions),
        }
    }

    /// When to be told [`Input::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let announcement = self.unannounced.first().map(|(at, _)| *at);
        timer.into_iter().chain(announcement).chain(self.next_retelling()).min()
    }

    /// Attempts that are queued or run.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.queue.len() + self.awaiting() + self.running.len()
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
        let known = self.hear_epoch(run, epoch);
        let current = known.highest == epoch && !known.is_over;
        self.stale_orders += u64::from(!current);
        current
    }

    /// Takes in who spoke of a run. A run that was over goes on when it has a later owner: it was retried.
    fn hear_epoch(&mut self, run: u32, epoch: u64) -> RunEpoch {
        let known = self.epochs.entry(run).or_insert(RunEpoch { highest: epoch, is_over: false });
        if epoch > known.highest {
            *known = RunEpoch { highest: epoch, is_over: false };
        }
        *known
    }

    fn is_over(&self, run: u32) -> bool {
        self.epochs.get(&run).is_some_and(|known| known.is_over)
    }

    /// Whether the end of the attempt, or of a later one of the task, is durable: there is no more to say of it.
    fn is_settled(&mut self, id: AttemptId) -> bool {
        let settled = self.settled.get(&(id.run, id.task)).is_some_and(|&newest| id.attempt <= newest);
        self.stale_orders += u64::from(settled);
        settled
    }

    /// Says again what was said and not acknowledged. In one process attempts that wait have nothing to say; what has
    /// just started is announced in its time.
    fn recall(&mut self, of: impl Fn(u32) -> bool, now: Timestamp, actions: &mut Vec<Action>) {
        self.recall_waiting(&of, now, actions);
        let running = self.running.iter().filter(|(id, _)| of(id.run));
        actions.extend(running.filter_map(|(&id, running)| self.said_at(id, running)));
        let ended: Vec<_> = self.ended.iter().filter(|(id, _)| of(id.run)).map(|(&id, _)| id).collect();
        ended.into_iter().for_each(|id| self.tell_end(id, now, actions));
    }

    /// The announcement of an attempt, if it was made.
    fn said_at(&self, id: AttemptId, running: &Running) -> Option<Action> {
        let Some(at) = running.started_at else {
            return self.fleet.is_some().then_some(ACCEPTED).map(|kind| Action::Report(id, kind));
        };
        let announced = !self.unannounced.contains(&(at.plus(START_ANNOUNCED_AFTER), id));
        match announced {
            true => Some(Action::Report(id, ReportKind::Started { at })),
            false => self.fleet.is_some().then_some(Action::Report(id, ACCEPTED)),
        }
    }

    /// Whatever should still be there of a run that is over is ended and not reported.
    fn forget(&mut self, run: u32, epoch: u64, actions: &mut Vec<Action>) {
        if self.hear_epoch(run, epoch).highest > epoch {
            // It goes on under a later owner.
            self.stale_orders += 1;
            return;
        }
        self.epochs.insert(run, RunEpoch { highest: epoch, is_over: true });
        self.queue.retain(|id, _| id.run != run);
        self.forget_waiting(run);
        self.ended.retain(|id, _| id.run != run);
        self.settled.retain(|&(of, _), _| of != run);
        self.unannounced.retain(|(_, id)| id.run != run);
        self.timers.retain(|(_, id)| id.run != run);
        self.running.retain(|id, running| id.run != run || running.terms.work == Work::Process);
        for (&id, running) in self.running.iter_mut().filter(|(id, _)| id.run == run) {
            if !std::mem::replace(&mut running.stopping, true) {
                actions.push(Action::Stop(id));
            }
        }
    }

    fn offer(&mut self, id: AttemptId, terms: Terms, now: Timestamp, actions: &mut Vec<Action>) {
        if self.tell_state(id, now, actions) || self.declines(id, actions) {
            return;
        }
        let waits = self.fleet.is_some() && terms.awaits_grant;
        if !waits && terms.work == Work::Timer(Duration::ZERO) {
            // It has ended before anything could be said of it: its end says all.
            self.enqueue(id, terms, now, actions);
            return;
        }
        self.record(Fact::Accepted(id), actions);
        if waits {
            self.await_grant(id, terms, now, actions);
            return;
        }
        if self.fleet.is_some() {
            actions.push(Action::Report(id, ACCEPTED));
        }
        self.enqueue(id, terms, now, actions);
    }

    /// Of an attempt that is known already: says how it stands.
    fn tell_state(&mut self, id: AttemptId, now: Timestamp, actions: &mut Vec<Action>) -> bool {
        if self.ended.contains_key(&id) {
            self.tell_end(id, now, actions);
            true
        } else if let Some(running) = self.running.get(&id) {
            actions.extend(self.said_at(id, running));
            true
        } else {
            self.tell_waiting(id, actions)
        }
    }

    /// An attempt that may start as soon as there is room.
    fn enqueue(&mut self, id: AttemptId, terms: Terms, now: Timestamp, actions: &mut Vec<Action>) {
        match terms.work {
            Work::Timer(length) if length.is_zero() => {
                self.ends(
                    id,
                    Ended { outcome: Outcome::Completed, started_at: now, finished_at: now },
                    now,
                    actions,
                );
            }
            Work::Timer(length) => {
                self.record(Fact::Started(id), actions);
                self.running.insert(id, Running { terms, started_at: None, stopping: false, lost: None });
                self.timers.insert((now.plus(length), id));
                self.started(id, now);
            }
            Work::Process => {
                self.queue.push(id, terms);
                self.fill_slots(actions);
            }
        }
    }

    fn stop(&mut self, id: AttemptId, now: Timestamp, actions: &mut Vec<Action>) {
        let stopped = |outcome, started_at| Ended { outcome, started_at, finished_at: now };
        if let Some(running) = self.running.get_mut(&id) {
            match running.terms.work {
                Work::Process if !running.stopping => {
                    running.stopping = true;
                    actions.push(Action::Stop(id));
                }
                Work::Process => {}
                Work::Timer(_) => {
                    let started_at = running.started_at.unwrap_or(now);
                    self.end(id, stopped(Outcome::Stopped, started_at), now, actions);
                }
            }
        } else if self.ended.contains_key(&id) {
            self.tell_end(id, now, actions);
        } else {
            // Waiting, or never heard of: in both cases it must not start any more.
            self.queue.remove(id);
            self.awaits_no_more(id);
            self.ends(id, stopped(Outcome::NotStarted, now), now, actions);
        }
    }

    fn started(&mut self, id: AttemptId, at: Timestamp) {
        if !self.is_over(id.run)
            && let Some(running) = self.running.get_mut(&id)
            && running.started_at.is_none()
        {
            running.started_at = Some(at);
            self.unannounced.insert((at.plus(START_ANNOUNCED_AFTER), id));
        }
    }

    fn announce(&mut self, id: AttemptId, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(at) = self.running.get(&id).and_then(|running| running.started_at)
            && self.unannounced.remove(&(at.plus(START_ANNOUNCED_AFTER), id))
        {
            actions.push(Action::Report(id, ReportKind::Started { at }));
            self.tell_start_again(id, now);
        }
    }

    fn tick(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            let started_at = self.running.get(&id).and_then(|running| running.started_at).unwrap_or(now);
            self.end(id, Ended { outcome: Outcome::Completed, started_at, finished_at: now }, now, actions);
        }
        while let Some(&(at, id)) = self.unannounced.first()
            && at <= now
        {
            self.announce(id, now, actions);
        }
        self.retell(now, actions);
    }

    fn fill_slots(&mut self, actions: &mut Vec<Action>) {
        while let Some((id, terms)) = self.next_to_start() {
            self.record(Fact::Started(id), actions);
            self.processes += 1;
            self.running.insert(id, Running { terms, started_at: None, stopping: false, lost: None });
            actions.push(Action::Start(id));
        }
    }

    fn next_to_start(&mut self) -> Option<(AttemptId, Terms)> {
        match &mut self.fleet {
            None if self.processes < self.slots => self.queue.take(&[], false),
            None => None,
            Some(fleet) => fleet.next_to_start(&mut self.queue, self.slots, self.processes),
        }
    }

    fn end(&mut self, id: AttemptId, mut ended: Ended, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(running) = self.running.remove(&id) else { return };
        if let Some(at) = running.started_at {
            self.unannounced.remove(&(at.plus(START_ANNOUNCED_AFTER), id));
            if let Work::Timer(length) = running.terms.work {
                self.timers.remove(&(at.plus(length), id));
            }
        }
        if running.terms.work == Work::Process {
            self.processes -= 1;
            self.gives_back(&running.terms, &ended);
        }
        if let (Some(reason), Outcome::Stopped) = (running.lost, &ended.outcome) {
            ended.outcome = Outcome::Lost { reason };
        }
        if !self.is_over(id.run) {
            self.ends(id, ended, now, actions);
        }
    }

    /// Keeps an end until it is acknowledged, and tells it.
    fn ends(&mut self, id: AttemptId, ended: Ended, now: Timestamp, actions: &mut Vec<Action>) {
        self.ended.insert(id, ended);
        self.record(Fact::Ended(id), actions);
        self.tell_end(id, now, actions);
    }

    fn tell_end(&mut self, id: AttemptId, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(ended) = self.ended.get(&id) {
            actions.push(Action::Report(id, ended.report()));
            self.tell_again(id, now);
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
