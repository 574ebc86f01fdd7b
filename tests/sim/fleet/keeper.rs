//! A keeper's life. It stands for `keeper::service::Keeper` and `keeper::start::open`: look at the lease before anything
//! else, take in what came, write one batch of the journal at a time, and do what rests on it when it is on disk. Core,
//! machine, lease and journal are those that ship.

mod leaving;
mod obey;

use super::bug::Bug;
use super::child::Said;
use super::env::{Env, HostHappening};
use super::hosts::{Host, agent_name};
use cairn_agent::journal::{Content, Record, decode, encode};
use cairn_agent::keeper::core::{Core, Deed};
use cairn_agent::keeper::job::JobMaker;
use cairn_agent::lease::{Lease, Standing};
use cairn_agent::machine::{AttemptId, Capacity, Input, Machine};
use cairn_model::{Outcome, TaskIndex, Timestamp};
use cairn_shared::message::wire::{WireReport, WireReportKind};
use leaving::{LAST_WORDS_PATIENCE, Leaving};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often an agent says hello that nobody has welcomed.
const HELLO_INTERVAL: Duration = Duration::from_secs(1);

/// How often an agent beats that was welcomed and has had no answer to a beat yet.
const FIRST_BEAT_INTERVAL: Duration = Duration::from_millis(250);

/// What a keeper takes in.
pub enum Event {
    /// Time has passed.
    Time,
    /// A batch is on disk.
    Written,
    /// A process did something.
    Process(Input),
    /// The child said something.
    Child(Said),
}

/// A keeper's life.
pub struct Keeper {
    pub life: u64,
    pub core: Core,
    pub lease: Lease,
    heartbeat: Option<Duration>,
    /// Deeds that wait for the batch that is being written.
    in_flight: Option<Vec<Deed>>,
    /// The processes of attempts.
    pub keys: BTreeMap<AttemptId, u64>,
    pub linked: bool,
    /// How many attempts more the child was told to take from the shared queue.
    pub told_room: Option<usize>,
    beat_at: Timestamp,
    /// When attempts whose lease has ended are killed if they still run.
    hurry: Option<(Timestamp, Vec<AttemptId>)>,
    tick_at: Option<Timestamp>,
    /// The highest epoch that was heard for each run.
    epochs: BTreeMap<String, u64>,
    /// How far its end in good order has come.
    pub leaving: Leaving,
    quiet_since: Option<Timestamp>,
    /// Planted: ends that were told.
    told: BTreeSet<AttemptId>,
}

impl Keeper {
    pub fn child_is_gone(&mut self) {
        (self.linked, self.told_room) = (false, None);
    }

    fn next_deadline(&self, has_child: bool) -> Option<Timestamp> {
        let beat = has_child.then_some(self.beat_at);
        let hurry = self.hurry.as_ref().map(|(at, _)| *at);
        let last_words = self.quiet_since.map(|since| since.plus(LAST_WORDS_PATIENCE));
        [self.core.machine.next_deadline(), self.lease.deadline(), beat, hurry, last_words]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Host {
    /// A keeper starts from its journal (`start::run_here`): what an earlier one left is ended first.
    pub fn start_keeper(&mut self, env: &mut Env) {
        if self.keeper.is_some() {
            return;
        }
        self.happen(env, HostHappening::Sweep);
        let (mut records, bytes) = match decode(&self.disk.journal) {
            Content::Records { records, bytes } => (records, bytes),
            Content::Damaged { .. } => (Vec::new(), 0),
        };
        self.disk.journal.truncate(bytes);
        self.disk.synced = bytes;
        let known = match records.first() {
            Some(Record::Life { incarnation, .. }) => Some(*incarnation),
            _ => None,
        };
        // `start::next_incarnation`: by the clock, so that namesakes do not have the same.
        let by_clock = if env.is(Bug::IncarnationReused) { 0 } else { env.now.0.unsigned_abs() };
        let incarnation = known.unwrap_or(by_clock.max(self.disk.incarnation + 1));
        self.disk.incarnation = incarnation;
        if env.is(Bug::JournalNotRead) {
            records.clear();
        }
        if env.is(Bug::StartedAgainAfterRestart) {
            records.retain(|record| !matches!(record, Record::Started(_)));
        }
        let mut core = Core::new(Machine::of_fleet(self.capacity()), self.jobs(), incarnation);
        let fresh = if known.is_none() { core.snapshot() } else { Vec::new() };
        core.restore(records, env.now);
        self.lives += 1;
        self.drained = None;
        self.keeper = Some(Keeper {
            life: self.lives,
            core,
            lease: if fresh.is_empty() { Lease::default() } else { Lease::of_new_life() },
            heartbeat: None,
            in_flight: None,
            keys: BTreeMap::new(),
            linked: false,
            told_room: None,
            beat_at: env.now,
            hurry: None,
            tick_at: None,
            epochs: BTreeMap::new(),
            leaving: Leaving::No,
            quiet_since: None,
            told: BTreeSet::new(),
        });
        if !fresh.is_empty() {
            self.append(env, &fresh, Vec::new());
        }
        env.on_host(self.index, Duration::ZERO, HostHappening::StartChild(self.lives));
        self.step(env, Event::Time);
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            slots: self.spec.slots as usize,
            backlog: self.spec.backlog as usize,
            timers: self.spec.timers as usize,
            resources: self.spec.resources.iter().map(|(_, amount)| *amount).collect(),
        }
    }

    fn jobs(&self) -> JobMaker {
        JobMaker {
            agent: agent_name(self.number),
            workspace: "/".into(),
            directory: "/".into(),
            grace: Duration::from_secs(1),
            resources: self.spec.resources.clone(),
            hold: self.holds,
        }
    }

    /// One turn of the keeper's loop.
    pub fn step(&mut self, env: &mut Env, event: Event) {
        self.look_at_lease(env);
        let Some(keeper) = &mut self.keeper else { return };
        match event {
            Event::Time => {}
            Event::Written => {
                let deeds = keeper.in_flight.take().unwrap_or_default();
                self.disk.synced = self.disk.journal.len();
                self.perform(env, deeds);
            }
            Event::Process(input) => {
                if let Input::ProcessFinished { id, .. } = &input {
                    keeper.keys.remove(id);
                }
                keeper.core.give(input, env.now);
            }
            Event::Child(said) => self.child_said(env, said),
        }
        self.on_time(env);
        self.flush(env, false);
        if self.end_in_good_order(env) {
            return;
        }
        self.plan_tick(env);
        self.tell_room(env);
    }

    fn plan_tick(&mut self, env: &mut Env) {
        let has_child = self.child.is_some();
        let Some(keeper) = &mut self.keeper else { return };
        let deadline = keeper.next_deadline(has_child).map(|at| at.max(env.now));
        if let Some(at) = deadline.filter(|_| deadline != keeper.tick_at) {
            keeper.tick_at = deadline;
            let happening = HostHappening::KeeperTick(keeper.life);
            env.on_host(self.index, at.since(env.now), happening);
        }
    }

    fn look_at_lease(&mut self, env: &mut Env) {
        let Some(keeper) = &mut self.keeper else { return };
        if env.is(Bug::LeaseNeverEndsAtAgent) || keeper.lease.look(env.now) != Standing::JustEnded {
            return;
        }
        env.note(format!("  the lease of host {} has ended", self.index));
        env.summary.lease_ends += 1;
        let reason = "the agent had no answer from a coordinator in time".into();
        let is_ignored = env.is(Bug::HoldIgnored);
        keeper.core.give(if is_ignored { Input::StopAll } else { Input::Fence { reason } }, env.now);
        let stops = keeper.core.take_stops();
        let (holds, goes_on) = (self.holds, stops.is_empty());
        env.ensure(!holds || goes_on, "what may go on without a lease is ended");
        let margin = keeper.lease.margin();
        let is_late = keeper.lease.ends_at().is_some_and(|at| env.now >= at.plus(margin));
        keeper.hurry = (!is_late && !stops.is_empty()).then(|| (env.now.plus(margin / 2), stops.clone()));
        stops.into_iter().for_each(|id| self.stop_process(env, id, is_late));
    }

    /// What the child says (`Keeper::child_said`).
    fn child_said(&mut self, env: &mut Env, said: Said) {
        let Some(keeper) = &mut self.keeper else { return };
        match said {
            Said::Attached => keeper.beat_at = env.now,
            Said::Linked(linked) => {
                keeper.linked = linked;
                if linked {
                    keeper.core.give(Input::RecallAll, env.now);
                }
            }
            Said::Welcomed { lease, heartbeat } => {
                keeper.lease.welcomed(lease, env.now);
                keeper.heartbeat = Some(heartbeat.min(lease / 4));
                keeper.beat_at = env.now;
            }
            Said::Answered(sequence) => {
                let mut is_first = keeper.lease.answered(sequence);
                if env.is(Bug::LeaseCountedFromAnswer) {
                    let sequence = keeper.lease.sent(env.now);
                    is_first |= keeper.lease.answered(sequence);
                }
                if is_first {
                    keeper.core.give(Input::Suspend(false), env.now);
                }
            }
            Said::Drain(on) => {
                let on = on || keeper.leaving != Leaving::No;
                let started = |held: &AttemptId| keeper.core.machine.is_running(*held);
                let held = keeper.core.machine.holds();
                let held = held.into_iter().flat_map(|(run, held)| {
                    held.attempts.into_iter().map(move |(task, attempt)| AttemptId { run, task, attempt })
                });
                self.drained = on.then(|| held.filter(started).collect());
                if !env.is(Bug::DrainIgnored) {
                    keeper.core.give(Input::Drain(on), env.now);
                }
                keeper.beat_at = env.now;
            }
            Said::Orders { tag, shared, redelivered, orders } => {
                self.obey(env, (tag, shared, redelivered), orders);
            }
        }
    }

    /// What is due (`Keeper::on_time`).
    fn on_time(&mut self, env: &mut Env) {
        let has_child = self.child.is_some();
        let Some(keeper) = &mut self.keeper else { return };
        if keeper.core.machine.next_deadline().is_some_and(|at| at <= env.now) {
            keeper.core.give(Input::Tick, env.now);
        }
        if keeper.hurry.as_ref().is_some_and(|(at, _)| *at <= env.now) {
            let fenced = keeper.hurry.take().map(|(_, fenced)| fenced).unwrap_or_default();
            fenced.into_iter().for_each(|id| self.stop_process(env, id, true));
        }
        if has_child && self.keeper.as_ref().is_some_and(|keeper| keeper.beat_at <= env.now) {
            self.beat(env);
        }
    }

    fn beat(&mut self, env: &mut Env) {
        let Some(keeper) = &mut self.keeper else { return };
        let heartbeat = keeper.heartbeat.unwrap_or(HELLO_INTERVAL);
        let is_awaited = keeper.heartbeat.is_some() && keeper.lease.is_held(env.now).is_none();
        keeper.beat_at =
            env.now.plus(if is_awaited { heartbeat.min(FIRST_BEAT_INTERVAL) } else { heartbeat });
        let sequence = keeper.lease.sent(env.now);
        let holds = keeper.core.holds();
        let draining = keeper.core.machine.is_draining();
        self.child_beats(env, sequence, draining, holds);
        self.flush(env, true);
    }

    /// Stops what is to be stopped, records what is to be recorded, and does what waits for nothing (`Keeper::flush`).
    fn flush(&mut self, env: &mut Env, mut all: bool) {
        loop {
            let Some(keeper) = &mut self.keeper else { return };
            let stops = keeper.core.take_stops();
            if !env.is(Bug::StopIgnored) {
                stops.into_iter().for_each(|id| self.stop_process(env, id, false));
            }
            let Some(keeper) = &mut self.keeper else { return };
            if keeper.in_flight.is_some() || !(all || keeper.core.has_work()) {
                return;
            }
            let (records, deeds) = keeper.core.take_batch(std::mem::take(&mut all));
            if records.is_empty() {
                self.perform(env, deeds);
            } else {
                self.append(env, &records, deeds);
            }
        }
    }

    /// Writes a batch; what rests on it waits.
    fn append(&mut self, env: &mut Env, records: &[Record], mut deeds: Vec<Deed>) {
        self.disk.journal.extend(encode(records));
        let is_end = |deed: &Deed| match deed {
            Deed::Report(_, report) => matches!(report.kind, WireReportKind::Finished { .. }),
            _ => false,
        };
        let hasty = match env.bug {
            Some(Bug::JournalNotSynced) => std::mem::take(&mut deeds),
            Some(Bug::EndToldBeforeDurable) => deeds.extract_if(.., |deed| is_end(deed)).collect(),
            _ => Vec::new(),
        };
        let Some(keeper) = &mut self.keeper else { return };
        keeper.in_flight = Some(deeds);
        let wait = env.random.micros(env.weather.max_sync_millis * 1_000);
        env.on_host(self.index, wait, HostHappening::Written(keeper.life));
        self.perform(env, hasty);
    }

    fn perform(&mut self, env: &mut Env, deeds: Vec<Deed>) {
        let mut reports: BTreeMap<u32, Vec<WireReport>> = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Start(id) => self.start(env, id),
                Deed::Report(run, report) => {
                    if self.keeper.as_ref().is_some_and(|keeper| keeper.linked)
                        && self.may_tell(env, run, &report)
                    {
                        reports.entry(run).or_default().push(report);
                    }
                }
                Deed::Taken(tag) => {
                    self.tell(env, std::mem::take(&mut reports));
                    env.acknowledge(tag);
                }
                Deed::Settled(_) | Deed::Over(_) => {}
            }
        }
        self.tell(env, reports);
    }

    fn may_tell(&mut self, env: &mut Env, run: u32, report: &WireReport) -> bool {
        let Some(keeper) = &mut self.keeper else { return false };
        let is_end = matches!(report.kind, WireReportKind::Finished { .. });
        let id = AttemptId { run, task: TaskIndex(report.task), attempt: report.attempt };
        !(is_end && env.is(Bug::EndsToldOnce)) || keeper.told.insert(id)
    }

    fn tell(&mut self, env: &mut Env, reports: BTreeMap<u32, Vec<WireReport>>) {
        for (run, reports) in reports {
            let Some(name) = self.keeper.as_ref().and_then(|keeper| keeper.core.runs.name(run)) else {
                continue;
            };
            let name = name.to_owned();
            self.child_reports(env, name, reports);
        }
    }

    /// Starts an attempt, unless it is to be stopped instead (`Keeper::start`).
    fn start(&mut self, env: &mut Env, id: AttemptId) {
        let Some(keeper) = &mut self.keeper else { return };
        let has_ended = keeper.lease.has_ended(env.now) && !env.is(Bug::LeaseNeverEndsAtAgent);
        if keeper.core.offer(id).is_none() || keeper.core.machine.is_stopping(id) || has_ended {
            let outcome = Outcome::NotStarted;
            let (started_at, finished_at) = (env.now, env.now);
            keeper.core.give(Input::ProcessFinished { id, outcome, started_at, finished_at }, env.now);
            return;
        }
        self.start_process(env, id);
    }
}
