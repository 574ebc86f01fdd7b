//! What a keeper does with what it is told, without IO: the machine with names instead of numbers, and the order in which
//! things become durable and are done.
//!
//! ```text
//!   orders, events ─▶ machine ─▶ records ─▶ journal ─▶ deeds: starts, reports, receipts
//!                        └─────▶ stops: at once, whatever the disk does
//! ```

use super::job::JobMaker;
use super::runs::Runs;
use crate::journal::{FORMAT, Key, Record};
use crate::link::LogName;
use crate::machine::{Action, AttemptId, Fact, Input, Machine, Restored};
use cairn_model::{AgentIndex, Outcome, Report, ReportKind, TaskIndex, Timestamp};
use cairn_shared::message::convert::{report, wire_report};
use cairn_shared::message::wire::{
    Held, Offer, RunOrders, WireOrder, WireOutcome, WireReport, WireReportKind,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What is done once all that was recorded before is on disk.
#[derive(Debug, PartialEq)]
pub enum Deed {
    /// Start the process of an attempt.
    Start(AttemptId),
    /// Tell the coordinator.
    Report(u32, WireReport),
    /// Tell the child that the orders of a delivery are dealt with.
    Taken(u64),
    /// An attempt's end was acknowledged: its log may go once it has been shipped.
    Settled(LogName),
    /// A run is over.
    Over(String),
}

/// A keeper without IO. Public for the simulator, which drives it as the keeper does.
pub struct Core {
    /// The attempts of the agent.
    pub machine: Machine,
    /// Its numbers for runs.
    pub runs: Runs,
    /// What it can run.
    pub jobs: JobMaker,
    /// Its life.
    pub incarnation: u64,
    /// The lease has ended. What is offered now was perhaps given to somebody else, and nobody would end it here.
    pub is_fenced: bool,
    /// The lease had a gap not long ago. What is offered now may be of before it, and somebody else's since: it is asked for.
    pub is_doubtful: bool,
    offers: HashMap<AttemptId, Arc<Offer>>,
    epochs: HashMap<u32, u64>,
    /// What was declined stays so, in the next keeper as well: a second copy of its offer may come when somebody else has
    /// the task. Of runs that are not over.
    declined: BTreeSet<AttemptId>,
    actions: Vec<Action>,
    stops: Vec<AttemptId>,
    batch: Vec<Record>,
    /// Records that nothing waits for.
    lazy: Vec<Record>,
    after: Vec<Deed>,
    stale_orders: u64,
}

/// Records that nothing waits for are written at the latest when there are so many.
const MAX_LAZY: usize = 1024;

impl Core {
    /// A core with nothing to do.
    #[must_use]
    pub fn new(machine: Machine, jobs: JobMaker, incarnation: u64) -> Self {
        Self {
            machine,
            runs: Runs::default(),
            jobs,
            incarnation,
            is_fenced: false,
            is_doubtful: false,
            offers: HashMap::new(),
            epochs: HashMap::new(),
            declined: BTreeSet::new(),
            actions: Vec::new(),
            stops: Vec::new(),
            batch: Vec::new(),
            lazy: Vec::new(),
            after: Vec::new(),
            stale_orders: 0,
        }
    }

    /// Gives the machine something.
    pub fn give(&mut self, input: Input, now: Timestamp) {
        self.machine.handle(input, now, &mut self.actions);
        self.sort();
    }

    /// Orders of one delivery. It is dealt with when its [`Deed::Taken`] is done.
    ///
    /// What comes from a shared queue starts on a grant only. Another agent may have a second copy of it (the broker handed
    /// it out again, a coordinator sent it again, a new owner offered it again), and a first delivery may have lain there
    /// until another attempt followed: only the log knows whose it is.
    pub fn obey(&mut self, (delivery, shared): (u64, bool), orders: RunOrders, now: Timestamp) {
        if shared || orders.incarnation == self.incarnation {
            self.obey_all(orders, shared || self.is_doubtful, now);
        } else {
            // Meant for an earlier life of this agent, of which nothing is left.
            self.stale_orders += orders.orders.len() as u64;
        }
        self.after.push(Deed::Taken(delivery));
    }

    fn obey_all(
        &mut self,
        RunOrders { run, epoch, orders, .. }: RunOrders,
        may_be_twice: bool,
        now: Timestamp,
    ) {
        let is_about_new =
            orders.iter().any(|order| matches!(order, WireOrder::Offer(_) | WireOrder::Stop(_)));
        let number = match self.runs.find(&run) {
            Some(number) => number,
            // Of a run that was never heard of there is nothing to acknowledge, to tell or to forget.
            None if !is_about_new || cairn_model::RunId::parse(&run).is_none() => return,
            None => {
                let (number, _) = self.runs.number(&run);
                self.batch.push(Record::Run { number, name: run.clone() });
                number
            }
        };
        let id_of = |task, attempt| AttemptId { run: number, task: TaskIndex(task), attempt };
        for order in orders {
            let input = match order {
                WireOrder::Offer(offer) => {
                    self.offered(id_of(offer.task, offer.attempt), &run, epoch, *offer, may_be_twice, now);
                    continue;
                }
                WireOrder::Grant(of) => Input::Grant { id: id_of(of.task, of.attempt), epoch },
                WireOrder::Stop(of) => Input::Stop { id: id_of(of.task, of.attempt), epoch },
                WireOrder::Acknowledge(of) => Input::Acknowledge { id: id_of(of.task, of.attempt) },
                WireOrder::Recall => Input::Recall { run: number, epoch },
                WireOrder::Forget => {
                    self.forget(number, epoch, now);
                    continue;
                }
            };
            self.give(input, now);
        }
        if let Some(epoch) = self.machine.epoch(number)
            && self.epochs.insert(number, epoch) != Some(epoch)
        {
            self.runs.goes_on(number);
            self.batch.push(Record::Epoch { run: number, epoch });
        }
    }

    fn offered(
        &mut self,
        id: AttemptId,
        run: &str,
        epoch: u64,
        offer: Offer,
        may_be_twice: bool,
        now: Timestamp,
    ) {
        let terms = match self.jobs.terms(run, &offer, offer.needs_grant || may_be_twice) {
            Ok(terms) => terms,
            Err(unfit) => return self.decline(id, ReportKind::Declined { reason: unfit.to_string().into() }),
        };
        let is_new = !self.offers.contains_key(&id);
        if is_new && (self.is_fenced || self.declined.contains(&id)) {
            let reason =
                if self.is_fenced { "the agent has no lease" } else { "the agent has declined it before" };
            return self.decline(id, ReportKind::Declined { reason: reason.into() });
        }
        if is_new {
            self.offers.insert(id, Arc::new(offer));
        }
        self.give(Input::Take { id, epoch, terms }, now);
        if is_new && !self.machine.is_under_way(id) && self.machine.end_of(id).is_none() {
            self.offers.remove(&id);
        }
    }

    fn decline(&mut self, id: AttemptId, kind: ReportKind) {
        if self.declined.insert(id) {
            self.batch.push(Record::Declined(id.into()));
        }
        self.after.push(deed_of(id, kind));
    }

    fn forget(&mut self, number: u32, epoch: u64, now: Timestamp) {
        self.give(Input::Forget { run: number, epoch }, now);
        if self.machine.epoch(number).is_some() {
            // It goes on under a later owner.
            return;
        }
        let ids: Vec<_> = self.offers.keys().copied().filter(|id| id.run == number).collect();
        ids.into_iter().for_each(|id| self.settle(id));
        self.after.extend(self.runs.name(number).map(|name| Deed::Over(name.to_owned())));
        self.epochs.remove(&number);
        self.declined.retain(|id| id.run != number);
        // In its place, not when there is time: what is taken of the run if it goes on stands behind it.
        self.batch.append(&mut self.lazy);
        self.batch.push(Record::Forgotten { run: number });
        if let Some(oldest) = self.runs.is_over(number) {
            self.machine.drop_run(oldest);
        }
    }

    /// An attempt that is about to end has printed nothing. To be told before its end, so that both go in one message.
    pub fn printed_nothing(&mut self, id: AttemptId) {
        let kind = WireReportKind::Silent;
        self.after.push(Deed::Report(id.run, WireReport { task: id.task.0, attempt: id.attempt, kind }));
    }

    /// Says what is to be stopped now.
    pub fn take_stops(&mut self) -> Vec<AttemptId> {
        std::mem::take(&mut self.stops)
    }

    /// What is to be recorded now, and done once that is durable. With `all` also what nothing waits for.
    pub fn take_batch(&mut self, all: bool) -> (Vec<Record>, Vec<Deed>) {
        if all || !self.batch.is_empty() || self.lazy.len() >= MAX_LAZY {
            self.batch.append(&mut self.lazy);
        }
        (std::mem::take(&mut self.batch), std::mem::take(&mut self.after))
    }

    /// Whether there is something to record or to do.
    pub fn has_work(&self) -> bool {
        !self.batch.is_empty() || !self.after.is_empty() || self.lazy.len() >= MAX_LAZY
    }

    /// The offer of an attempt that is held.
    pub fn offer(&self, id: AttemptId) -> Option<Arc<Offer>> {
        self.offers.get(&id).cloned()
    }

    /// All that is held and was not acknowledged, as a heartbeat says it.
    pub fn holds(&self) -> Vec<Held> {
        let attempt = |&(task, attempt): &(TaskIndex, u32)| cairn_shared::message::wire::Attempt {
            task: task.0,
            attempt,
        };
        let holds = self.machine.holds().into_iter().filter_map(|(run, held)| {
            let attempts = held.attempts.iter().map(attempt).collect();
            Some(Held { run: self.runs.name(run)?.to_owned(), epoch: held.epoch, attempts })
        });
        holds.collect()
    }

    /// Orders that were refused because they were stale.
    pub fn stale_orders(&self) -> u64 {
        self.stale_orders + self.machine.stale_orders()
    }

    fn sort(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Start(id) => self.after.push(Deed::Start(id)),
                Action::Stop(id) => self.stops.push(id),
                Action::Report(id, kind @ ReportKind::Declined { .. }) => self.decline(id, kind),
                Action::Report(id, kind) => self.after.push(deed_of(id, kind)),
                Action::Record(fact) => self.record(fact),
            }
        }
        self.actions = actions;
    }

    fn record(&mut self, fact: Fact) {
        match fact {
            Fact::Accepted(id) => {
                if let Some(offer) = self.offers.get(&id) {
                    // Whether it waits for a grant is known when the machine has put it away.
                    let awaits_grant = self.machine.is_awaiting_grant(id);
                    let offer = Box::new(Offer::clone(offer));
                    self.batch.push(Record::Offered { key: id.into(), awaits_grant, offer });
                }
            }
            Fact::Granted(id) => self.batch.push(Record::Granted(id.into())),
            Fact::Started(id) => self.batch.push(Record::Started(id.into())),
            Fact::Ended(id) => self.batch.extend(ended(&self.machine, id)),
            Fact::Settled(id) => {
                self.settle(id);
                self.lazy.push(Record::Settled(id.into()));
            }
        }
    }

    fn settle(&mut self, id: AttemptId) {
        self.after.extend(self.log_name(id).map(Deed::Settled));
        self.offers.remove(&id);
    }

    /// The log of an attempt that is held.
    pub fn log_name(&self, id: AttemptId) -> Option<LogName> {
        let (offer, run) = (self.offers.get(&id)?, self.runs.name(id.run)?);
        Some(LogName { run: run.to_owned(), task: offer.name.clone(), attempt: id.attempt })
    }

    /// The logs of all attempts that are held.
    pub fn held_logs(&self) -> Vec<LogName> {
        self.offers.keys().filter_map(|&id| self.log_name(id)).collect()
    }

    /// All that a new journal must hold.
    pub fn snapshot(&self) -> Vec<Record> {
        let agent = self.jobs.agent.clone();
        let mut records = vec![Record::Life { format: FORMAT, agent, incarnation: self.incarnation }];
        for (number, name, is_over) in self.runs.iter() {
            records.push(Record::Run { number, name: name.to_owned() });
            records
                .extend(self.machine.highest_epoch(number).map(|epoch| Record::Epoch { run: number, epoch }));
            if is_over {
                records.push(Record::Forgotten { run: number });
            }
        }
        records.extend(self.machine.settled().map(|id| Record::Settled(id.into())));
        records.extend(self.declined.iter().map(|&id| Record::Declined(id.into())));
        for (run, held) in self.machine.holds() {
            for (task, attempt) in held.attempts {
                let id = AttemptId { run, task, attempt };
                if let Some(offer) = self.offers.get(&id) {
                    let awaits_grant = self.machine.is_awaiting_grant(id);
                    let offer = Box::new(Offer::clone(offer));
                    records.push(Record::Offered { key: id.into(), awaits_grant, offer });
                }
                if self.machine.is_running(id) {
                    records.push(Record::Started(id.into()));
                }
                records.extend(ended(&self.machine, id));
            }
        }
        records
    }

    /// Takes in what a journal says of an earlier life of this process.
    pub fn restore(&mut self, records: Vec<Record>, now: Timestamp) {
        let mut known = AllKnown::default();
        for record in records {
            match record {
                Record::Life { .. } => {}
                Record::Run { number, name } => self.runs.restore(number, name),
                Record::Epoch { run, epoch } => {
                    self.machine.restore_epoch(run, epoch);
                    self.epochs.insert(run, epoch);
                    self.runs.goes_on(run);
                }
                Record::Offered { key, offer, .. } => {
                    known.of(key).offer = Some(offer);
                }
                // It asks again, and is answered again.
                Record::Granted(_) => {}
                Record::Started(key) => {
                    known.of(key).started = true;
                }
                Record::Ended { key, outcome, started_micros, finished_micros } => {
                    known.of(key).end = restored_end(outcome, started_micros, finished_micros);
                }
                Record::Settled(key) => {
                    known.of(key).settled = true;
                }
                Record::Declined(key) => {
                    self.declined.insert(key.into());
                }
                Record::Forgotten { run } => {
                    known.forget(run);
                    let epoch = self.machine.highest_epoch(run).unwrap_or_default();
                    self.machine.handle(Input::Forget { run, epoch }, now, &mut self.actions);
                    self.epochs.remove(&run);
                    self.declined.retain(|id| id.run != run);
                    if let Some(oldest) = self.runs.is_over(run) {
                        self.machine.drop_run(oldest);
                    }
                }
            }
        }
        for (id, Known { offer, started, end, settled }) in known.in_order() {
            let run = self.runs.name(id.run).unwrap_or_default().to_owned();
            // How long nobody was here is not known. What had not started may be somebody else's by now: it is asked for.
            let terms = offer.as_ref().map(|offer| self.jobs.terms(&run, offer, true));
            let restored = match (settled, end, started, terms) {
                (true, ..) => Restored::Settled,
                (false, Some(end), ..) => end,
                (false, None, true, _) => Restored::Started,
                (false, None, false, Some(Ok(terms))) => Restored::Waiting(terms),
                // The agent has less than it had: it cannot run here any more.
                (false, None, false, Some(Err(_))) => {
                    Restored::Ended { outcome: Outcome::NotStarted, started_at: now, finished_at: now }
                }
                (false, None, false, None) => continue,
            };
            if let (false, Some(offer)) = (settled, offer) {
                self.offers.insert(id, Arc::new(*offer));
            }
            self.machine.restore(id, restored, now, &mut self.actions);
        }
        self.sort();
    }
}

/// What a journal says of an attempt.
#[derive(Default)]
struct Known {
    offer: Option<Box<Offer>>,
    started: bool,
    end: Option<Restored>,
    settled: bool,
}

/// The same of all attempts, in the order in which they were taken.
#[derive(Default)]
struct AllKnown {
    places: HashMap<AttemptId, usize>,
    rows: Vec<(AttemptId, Known)>,
}

impl AllKnown {
    fn of(&mut self, key: Key) -> &mut Known {
        let id = AttemptId::from(key);
        let place = *self.places.entry(id).or_insert_with(|| {
            self.rows.push((id, Known::default()));
            self.rows.len() - 1
        });
        &mut self.rows[place].1
    }

    fn forget(&mut self, run: u32) {
        self.rows.retain(|(id, _)| id.run != run);
        self.places = self.rows.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
    }

    fn in_order(self) -> Vec<(AttemptId, Known)> {
        self.rows
    }
}

fn deed_of(id: AttemptId, kind: ReportKind) -> Deed {
    // Who says so stands once, beside all reports of a message.
    let agent = AgentIndex(0);
    Deed::Report(id.run, wire_report(&Report { task: id.task, attempt: id.attempt, agent, kind }))
}

/// The record of an end.
fn ended(machine: &Machine, id: AttemptId) -> Option<Record> {
    let (outcome, started_at, finished_at) = machine.end_of(id)?;
    let kind = ReportKind::Finished { outcome: outcome.clone(), started_at, finished_at };
    match deed_of(id, kind) {
        Deed::Report(
            _,
            WireReport {
                kind: WireReportKind::Finished { outcome, started_micros, finished_micros }, ..
            },
        ) => Some(Record::Ended { key: id.into(), outcome, started_micros, finished_micros }),
        _ => None,
    }
}

fn restored_end(outcome: WireOutcome, started_micros: i64, finished_micros: i64) -> Option<Restored> {
    let kind = WireReportKind::Finished { outcome, started_micros, finished_micros };
    match report(&WireReport { task: 0, attempt: 1, kind }, AgentIndex(0), 1, Timestamp(0)).ok()?.kind {
        ReportKind::Finished { outcome, started_at, finished_at } => {
            Some(Restored::Ended { outcome, started_at, finished_at })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
