//! What a machine of a fleet does beyond one in the coordinator's process: grants, resources, the lease's end, draining,
//! saying things again, and its state after a restart.

use super::{ACCEPTED, Action, AttemptId, Ended, Fact, Machine, Queue, Terms, Work};
use cairn_model::{Outcome, ReportKind, TaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After how long what was not answered is said again.
pub const RETELL_AFTER: Duration = Duration::from_secs(5);

/// After how long the start of what still runs is said again: nobody acknowledges it, and who has not heard it shows the
/// attempt as waiting and does not judge how long it takes.
pub const START_RETOLD_AFTER: Duration = Duration::from_secs(30);

/// Beyond the slots, attempts are handed to the runner as far as they are likely to start within this time, so that no
/// slot waits for the disk between two short tasks.
const AHEAD_SPAN: Duration = Duration::from_millis(80);

/// Processes that must have ended before anybody judges how long the next ones will take.
const MIN_SAMPLES: u32 = 16;

/// Attempts handed to the runner beyond its slots, for each slot, at most.
const MAX_AHEAD_PER_SLOT: u64 = 64;

/// What an agent of a fleet has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Processes at a time.
    pub slots: usize,
    /// Attempts that may wait, for a slot or a grant.
    pub backlog: usize,
    /// Timers at a time.
    pub timers: usize,
    /// Resources in thousandths.
    pub resources: Vec<u64>,
}

/// An attempt as it was when the process before this one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It was taken and had not started.
    Waiting(Terms),
    /// It had started.
    Started,
    /// It had ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// When it began.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
    },
    /// Its end had been acknowledged.
    Settled,
}

/// What is held of a run and was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The highest epoch that was heard for it.
    pub epoch: u64,
    /// Attempts, sorted.
    pub attempts: Vec<(TaskIndex, u32)>,
}

#[derive(Clone, Debug)]
pub(super) struct Fleet {
    capacity: Capacity,
    free: Vec<u64>,
    awaiting: BTreeMap<AttemptId, Terms>,
    /// What was said and not answered, with when to say it again.
    unanswered: BTreeSet<(Timestamp, AttemptId)>,
    unanswered_at: BTreeMap<AttemptId, Timestamp>,
    draining: bool,
    suspended: bool,
    /// How long a process takes, as a moving mean in microseconds.
    mean_micros: u64,
    /// How many have ended, up to [`MIN_SAMPLES`].
    samples: u32,
}

impl Fleet {
    fn ahead(&self) -> usize {
        if self.samples < MIN_SAMPLES {
            return 0;
        }
        let span = u64::try_from(AHEAD_SPAN.as_micros()).unwrap_or(u64::MAX);
        usize::try_from((span / self.mean_micros).min(MAX_AHEAD_PER_SLOT)).unwrap_or(0) * self.capacity.slots
    }

    pub fn next_to_start(
        &mut self,
        queue: &mut Queue,
        slots: usize,
        processes: usize,
    ) -> Option<(AttemptId, Terms)> {
        if self.suspended || processes >= slots + self.ahead() {
            return None;
        }
        let (id, terms) = queue.take(&self.free, processes >= slots)?;
        for &(resource, amount) in &terms.resources {
            self.free[resource] -= amount;
        }
        Some((id, terms))
    }

    fn tell_again(&mut self, id: AttemptId, at: Timestamp) {
        self.is_answered(id);
        self.unanswered.insert((at, id));
        self.unanswered_at.insert(id, at);
    }

    fn is_answered(&mut self, id: AttemptId) {
        if let Some(at) = self.unanswered_at.remove(&id) {
            self.unanswered.remove(&(at, id));
        }
    }
}

impl Machine {
    /// A machine of an agent of a fleet. It starts nothing before it is told [`super::Input::Suspend`] `(false)`.
    #[must_use]
    pub fn of_fleet(capacity: Capacity) -> Self {
        let fleet = Fleet {
            free: capacity.resources.clone(),
            awaiting: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            unanswered_at: BTreeMap::new(),
            draining: false,
            suspended: true,
            mean_micros: 0,
            samples: 0,
            capacity,
        };
        Self { fleet: Some(fleet), ..Self::new(0) }.with_slots()
    }

    fn with_slots(mut self) -> Self {
        self.slots = self.fleet.as_ref().map_or(0, |fleet| fleet.capacity.slots);
        self
    }

    /// Puts an attempt back that is known from an earlier process. What had started is lost.
    pub fn restore(&mut self, id: AttemptId, restored: Restored, now: Timestamp, actions: &mut Vec<Action>) {
        match restored {
            Restored::Waiting(terms) if terms.awaits_grant => {
                self.await_grant(id, terms, now, actions);
            }
            Restored::Waiting(terms) => self.enqueue(id, terms, now, actions),
            Restored::Started => {
                let reason = "the agent's keeper ended while it ran".into();
                let ended = Ended { outcome: Outcome::Lost { reason }, started_at: now, finished_at: now };
                self.ends(id, ended, now, actions);
            }
            Restored::Ended { outcome, started_at, finished_at } => {
                self.ended.insert(id, Ended { outcome, started_at, finished_at });
                self.tell_end(id, now, actions);
            }
            Restored::Settled => {
                let settled = self.settled.entry((id.run, id.task)).or_insert(id.attempt);
                *settled = id.attempt.max(*settled);
            }
        }
    }

    /// Puts back the highest epoch that was heard for a run.
    pub fn restore_epoch(&mut self, run: u32, epoch: u64) {
        self.hear_epoch(run, epoch);
    }

    /// The highest epoch that was heard for a run that is not over.
    #[must_use]
    pub fn epoch(&self, run: u32) -> Option<u64> {
        self.epochs.get(&run).filter(|known| !known.is_over).map(|known| known.highest)
    }

    /// The highest epoch that was heard for a run, which may be over.
    #[must_use]
    pub fn highest_epoch(&self, run: u32) -> Option<u64> {
        self.epochs.get(&run).map(|known| known.highest)
    }

    /// Drops what is left of a run that is over: orders about it would be obeyed again.
    pub fn drop_run(&mut self, run: u32) {
        if self.is_over(run) {
            self.epochs.remove(&run);
        }
    }

    /// How an attempt ended that was not acknowledged.
    #[must_use]
    pub fn end_of(&self, id: AttemptId) -> Option<(&Outcome, Timestamp, Timestamp)> {
        self.ended.get(&id).map(|ended| (&ended.outcome, ended.started_at, ended.finished_at))
    }

    /// Of each task the highest attempt whose end was acknowledged, for runs that are not over.
    pub fn settled(&self) -> impl Iterator<Item = AttemptId> {
        self.settled.iter().map(|(&(run, task), &attempt)| AttemptId { run, task, attempt })
    }

    /// All that is held and was not acknowledged, by run.
    #[must_use]
    pub fn holds(&self) -> BTreeMap<u32, Held> {
        let awaiting = self.fleet.iter().flat_map(|fleet| fleet.awaiting.keys().copied());
        let waiting = self.queue.iter().map(|(id, _)| id).chain(awaiting);
        let mut all: Vec<_> =
            waiting.chain(self.running.keys().copied()).chain(self.ended.keys().copied()).collect();
        all.sort_unstable();
        let mut holds: BTreeMap<u32, Held> = BTreeMap::new();
        for id in all {
            let Some(epoch) = self.epoch(id.run) else { continue };
            let held = holds.entry(id.run).or_insert_with(|| Held { epoch, attempts: Vec::new() });
            held.attempts.push((id.task, id.attempt));
        }
        holds
    }

    /// Whether an attempt is known and has not ended.
    #[must_use]
    pub fn is_under_way(&self, id: AttemptId) -> bool {
        self.running.contains_key(&id) || self.queue.contains(id) || self.awaits(id).is_some()
    }

    /// Whether an attempt has started and not ended.
    #[must_use]
    pub fn is_running(&self, id: AttemptId) -> bool {
        self.running.contains_key(&id)
    }

    /// Whether an attempt waits for a grant.
    #[must_use]
    pub fn is_awaiting_grant(&self, id: AttemptId) -> bool {
        self.awaits(id).is_some()
    }

    /// Whether an attempt that was to be started is to be stopped instead.
    #[must_use]
    pub fn is_stopping(&self, id: AttemptId) -> bool {
        self.running.get(&id).is_none_or(|running| running.stopping)
    }

    /// How many attempts more it would take from a shared queue now.
    #[must_use]
    pub fn room(&self) -> usize {
        let Some(fleet) = self.fleet.as_ref().filter(|fleet| !fleet.draining && !fleet.suspended) else {
            return 0;
        };
        (self.slots + fleet.ahead()).saturating_sub(self.processes + self.queue.len() + fleet.awaiting.len())
    }

    /// Whether nothing is left, not even something to be acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.busy() == 0 && self.ended.is_empty()
    }

    /// Whether it takes nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.draining)
    }

    pub(super) fn record(&self, fact: Fact, actions: &mut Vec<Action>) {
        if self.fleet.is_some() {
            actions.push(Action::Record(fact));
        }
    }

    pub(super) fn awaiting(&self) -> usize {
        self.fleet.as_ref().map_or(0, |fleet| fleet.awaiting.len())
    }

    fn awaits(&self, id: AttemptId) -> Option<&Terms> {
        self.fleet.as_ref()?.awaiting.get(&id)
    }

    pub(super) fn next_retelling(&self) -> Option<Timestamp> {
        self.fleet.as_ref()?.unanswered.first().map(|&(at, _)| at)
    }

    pub(super) fn is_answered(&mut self, id: AttemptId) {
        if let Some(fleet) = &mut self.fleet {
            fleet.is_answered(id);
        }
    }

    pub(super) fn tell_again(&mut self, id: AttemptId, now: Timestamp) {
        if let Some(fleet) = &mut self.fleet {
            fleet.tell_again(id, now.plus(RETELL_AFTER));
        }
    }

    pub(super) fn tell_start_again(&mut self, id: AttemptId, now: Timestamp) {
        if let Some(fleet) = &mut self.fleet {
            fleet.tell_again(id, now.plus(START_RETOLD_AFTER));
        }
    }

    pub(super) fn await_grant(
        &mut self,
        id: AttemptId,
        terms: Terms,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.awaiting.insert(id, terms);
        fleet.tell_again(id, now.plus(RETELL_AFTER));
        actions.push(Action::Report(id, ReportKind::Accepted { awaits_grant: true }));
    }

    /// Whether the attempt waited for a grant; it does not any more.
    pub(super) fn awaits_no_more(&mut self, id: AttemptId) -> Option<Terms> {
        let fleet = self.fleet.as_mut()?;
        let terms = fleet.awaiting.remove(&id)?;
        fleet.is_answered(id);
        Some(terms)
    }

    pub(super) fn grant(&mut self, id: AttemptId, now: Timestamp, actions: &mut Vec<Action>) {
        if self.fleet.as_ref().is_some_and(|fleet| fleet.suspended) && self.awaits(id).is_some() {
            // Whether the attempt is still out is not known before somebody listens: then it is asked for again.
            return;
        }
        if let Some(terms) = self.awaits_no_more(id) {
            self.record(Fact::Granted(id), actions);
            self.enqueue(id, Terms { awaits_grant: false, ..terms }, now, actions);
        } else if !self.tell_state(id, now, actions) {
            let reason = "it is not held here".into();
            actions.push(Action::Report(id, ReportKind::Declined { reason }));
        }
    }

    /// Says no to a new attempt if there is a reason.
    pub(super) fn declines(&self, id: AttemptId, actions: &mut Vec<Action>) -> bool {
        let Some(fleet) = &self.fleet else { return false };
        let waiting = self.queue.len() + fleet.awaiting.len();
        let reason = if fleet.draining {
            "the agent takes no new work"
        } else if waiting + self.processes >= fleet.capacity.slots + fleet.capacity.backlog
            || self.timers.len() >= fleet.capacity.timers
        {
            "the agent has no room for it"
        } else {
            return false;
        };
        actions.push(Action::Report(id, ReportKind::Declined { reason: reason.into() }));
        true
    }

    /// Says how an attempt stands that has not started; whether there is one.
    pub(super) fn tell_waiting(&self, id: AttemptId, actions: &mut Vec<Action>) -> bool {
        let awaits_grant = self.awaits(id).is_some();
        let is_waiting = awaits_grant || self.queue.contains(id);
        if is_waiting && self.fleet.is_some() {
            actions.push(Action::Report(id, ReportKind::Accepted { awaits_grant }));
        }
        is_waiting
    }

    pub(super) fn recall_waiting(
        &mut self,
        of: &impl Fn(u32) -> bool,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if self.fleet.is_none() {
            return;
        }
        let queued = self.queue.iter().map(|(id, _)| id).filter(|id| of(id.run));
        actions.extend(queued.map(|id| Action::Report(id, ACCEPTED)));
        self.ask_again(of, now, actions);
    }

    /// Asks for the grants that are waited for.
    fn ask_again(&mut self, of: impl Fn(u32) -> bool, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(fleet) = &mut self.fleet else { return };
        let awaiting: Vec<_> = fleet.awaiting.keys().copied().filter(|id| of(id.run)).collect();
        for id in awaiting {
            fleet.tell_again(id, now.plus(RETELL_AFTER));
            actions.push(Action::Report(id, ReportKind::Accepted { awaits_grant: true }));
        }
    }

    pub(super) fn forget_waiting(&mut self, run: u32) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.awaiting.retain(|id, _| id.run != run);
        fleet.unanswered.retain(|(_, id)| id.run != run);
        fleet.unanswered_at.retain(|id, _| id.run != run);
    }

    /// Says again what is due.
    pub(super) fn retell(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(&(at, id)) = self.fleet.as_ref().and_then(|fleet| fleet.unanswered.first())
            && at <= now
        {
            self.is_answered(id);
            if self.awaits(id).is_some() {
                self.tell_again(id, now);
                self.tell_waiting(id, actions);
            } else if let Some(running) = self.running.get(&id) {
                actions.extend(self.said_at(id, running));
                self.tell_start_again(id, now);
            } else {
                self.tell_end(id, now, actions);
            }
        }
    }

    pub(super) fn gives_back(&mut self, terms: &Terms, ended: &Ended) {
        let Some(fleet) = &mut self.fleet else { return };
        for &(resource, amount) in &terms.resources {
            fleet.free[resource] += amount;
        }
        if ended.outcome != Outcome::NotStarted {
            let took = ended.finished_at.since(ended.started_at).as_micros();
            let took = u64::try_from(took).unwrap_or(u64::MAX).max(1);
            // An eighth of each new one: a change of kind is followed within some ten tasks.
            let mean = if fleet.samples == 0 { took } else { fleet.mean_micros };
            fleet.samples = MIN_SAMPLES.min(fleet.samples + 1);
            fleet.mean_micros = (mean - mean / 8).saturating_add(took / 8).max(1);
        }
    }

    pub(super) fn drain(&mut self, on: bool, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.draining = on;
        if on {
            self.give_back(now, actions);
        }
    }

    pub(super) fn suspend(&mut self, on: bool, now: Timestamp, actions: &mut Vec<Action>) {
        if let Some(fleet) = &mut self.fleet {
            fleet.suspended = on;
            self.fill_slots(actions);
            self.ask_again(|_| true, now, actions);
        }
    }

    /// Ends what may not go on: with a reason for which it is lost, or all of it as planned.
    pub(super) fn fence(&mut self, lost: Option<&str>, now: Timestamp, actions: &mut Vec<Action>) {
        let concerns = |terms: &Terms| lost.is_none() || !terms.hold;
        // Without a lease nothing new starts, whatever may go on.
        self.give_back(now, actions);
        let ids = self.running.iter().filter(|(_, running)| concerns(&running.terms));
        for id in ids.map(|(&id, _)| id).collect::<Vec<_>>() {
            let Some(running) = self.running.get_mut(&id) else { continue };
            if running.lost.is_none() {
                running.lost = lost.map(Into::into);
            }
            match running.terms.work {
                Work::Process if running.stopping => {}
                Work::Process => {
                    running.stopping = true;
                    actions.push(Action::Stop(id));
                }
                Work::Timer(_) => {
                    let started_at = running.started_at.unwrap_or(now);
                    self.end(
                        id,
                        Ended { outcome: Outcome::Stopped, started_at, finished_at: now },
                        now,
                        actions,
                    );
                }
            }
        }
    }

    /// Gives back what waits.
    fn give_back(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let awaiting = self.fleet.iter().flat_map(|fleet| fleet.awaiting.keys().copied());
        let waiting = self.queue.iter().map(|(id, _)| id).chain(awaiting);
        for id in waiting.collect::<Vec<_>>() {
            self.queue.remove(id);
            self.awaits_no_more(id);
            let ended = Ended { outcome: Outcome::NotStarted, started_at: now, finished_at: now };
            self.ends(id, ended, now, actions);
        }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
