//! The keeper's loop.

mod contact;

use super::core::{Core, Deed};
use super::launch::Child;
use super::logs::Logs;
use super::scribe::{Scribe, Written};
use super::start::job_maker;
use super::{Ended, Event, KeeperError, Reload, Settings};
use crate::journal::{JournalError, Record};
use crate::lease::{Lease, Standing};
use crate::link::{LogName, Status, ToChild};
use crate::machine::{AttemptId, Input};
use crate::mailbox::Mailbox;
use crate::runner::{Finished, Runner, RunnerEvent, StopReason, Urgency};
use crate::runtime::{POLL_INTERVAL, outcome_of, reason_of};
use cairn_model::{FailureKind, Outcome, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::WireReport;
use sd_notify::NotifyState;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a child may take from its start to its first word.
const CHILD_START_PATIENCE: Duration = Duration::from_secs(10);

/// How long an agent that ends waits, with nothing running any more, for acknowledgements and for its logs to be taken.
/// What was not acknowledged stands in the journal and is told by the next keeper.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits for its goodbye to be said.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(3);

/// Reports in a message at most.
const MAX_REPORTS: usize = 512;

/// What a keeper is made of.
pub(super) struct Parts {
    pub settings: Settings,
    pub clock: Clock,
    pub core: Core,
    pub runner: Runner,
    pub scribe: Scribe,
    pub logs: Logs,
    pub mailbox: Arc<Mailbox>,
    pub events: mpsc::Sender<Event>,
    pub reload: Reload,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    /// Nothing new is taken; what runs goes on.
    Draining,
    /// What runs is ended.
    Stopping,
    /// Goodbye is being said.
    Leaving {
        until: Timestamp,
    },
}

pub(super) struct Keeper {
    parts: Parts,
    lease: Lease,
    heartbeat: Option<Duration>,
    /// Deeds that wait for the batch that is being written.
    in_flight: Option<Vec<Deed>>,
    reports: BTreeMap<u32, Vec<WireReport>>,
    keys: HashMap<u64, AttemptId>,
    ids: HashMap<AttemptId, u64>,
    next_key: u64,
    /// Logs of attempts that run.
    open_logs: BTreeMap<u64, LogName>,
    child: Option<Child>,
    generation: u64,
    child_since: Timestamp,
    start_child_at: Option<Timestamp>,
    failures: u32,
    own_image: bool,
    linked: bool,
    beat_at: Timestamp,
    /// What the child was told last; `None`: it has to be told.
    told_room: Option<u32>,
    poll_at: Option<Timestamp>,
    /// When attempts whose lease has ended are killed if they still run.
    hurry_at: Option<Timestamp>,
    fenced: Vec<AttemptId>,
    phase: Phase,
    signals: u32,
    drained_by_coordinator: bool,
    quiet_since: Option<Timestamp>,
    said_goodbye: bool,
    status: Status,
}

impl Keeper {
    pub fn new(parts: Parts, fresh: Vec<Record>) -> Self {
        let now = parts.clock.now();
        let is_new_life = !fresh.is_empty();
        let in_flight = is_new_life.then(Vec::new);
        if is_new_life {
            parts.scribe.append(fresh);
        }
        Self {
            parts,
            lease: if is_new_life { Lease::of_new_life() } else { Lease::default() },
            heartbeat: None,
            in_flight,
            reports: BTreeMap::new(),
            keys: HashMap::new(),
            ids: HashMap::new(),
            next_key: 0,
            open_logs: BTreeMap::new(),
            child: None,
            generation: 0,
            child_since: now,
            start_child_at: Some(now),
            failures: 0,
            own_image: false,
            linked: false,
            beat_at: now,
            told_room: None,
            poll_at: None,
            hurry_at: None,
            fenced: Vec::new(),
            phase: Phase::Working,
            signals: 0,
            drained_by_coordinator: false,
            quiet_since: None,
            said_goodbye: false,
            status: Status::default(),
        }
    }

    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) -> Result<Ended, KeeperError> {
        let mailbox = self.parts.mailbox.clone();
        let ended = loop {
            let wait = self.next_deadline().map(|at| self.parts.clock.until(at));
            let event = tokio::select! {
                event = events.recv() => event,
                () = mailbox.is_worth_a_look() => None,
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => None,
            };
            // First of all, whatever came: this process may have been asleep.
            self.look_at_lease();
            match event {
                Some(Event::Written(result)) => match self.written(result) {
                    Ok(()) => {}
                    Err(error) => break Err(KeeperError::Journal(error)),
                },
                Some(event) => self.hear(event),
                None => {}
            }
            self.read_mailbox(&mailbox);
            self.on_time();
            self.work();
            if let Some(ended) = self.is_over() {
                break Ok(ended);
            }
        };
        if let Some(child) = &self.child {
            child.kill();
        }
        let runner = self.parts.runner;
        let _ = tokio::task::spawn_blocking(move || runner.shutdown(Urgency::Immediate)).await;
        ended
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let beat = self.child.as_ref().map(|child| match child.is_attached {
            true => self.beat_at,
            false => self.child_since.plus(CHILD_START_PATIENCE),
        });
        let phase = match self.phase {
            Phase::Leaving { until } => Some(until),
            _ => self.quiet_since.map(|since| since.plus(LAST_WORDS_PATIENCE)),
        };
        let deadlines = [
            self.parts.core.machine.next_deadline(),
            self.lease.deadline(),
            beat,
            self.start_child_at,
            self.poll_at,
            self.hurry_at,
            phase,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn look_at_lease(&mut self) {
        let now = self.now();
        if self.lease.look(now) != Standing::JustEnded {
            return;
        }
        let goes_on = if self.parts.settings.hold { "goes on, as on_partition says" } else { "is ended" };
        tracing::warn!("the lease has ended: no coordinator has answered in time; what runs {goes_on}");
        let reason = "the agent had no answer from a coordinator in time".into();
        self.parts.core.give(Input::Fence { reason }, now);
        let stops = self.parts.core.take_stops();
        let is_late = self.lease.ends_at().is_some_and(|at| now >= at.plus(self.lease.margin()));
        let urgency = if is_late { Urgency::Immediate } else { Urgency::Graceful };
        stops.iter().for_each(|&id| self.stop(id, StopReason::LeaseEnded, urgency));
        self.hurry_at = (!is_late && !stops.is_empty()).then(|| now.plus(self.lease.margin() / 2));
        self.fenced = stops;
    }

    fn hear(&mut self, event: Event) {
        let is_current = |generation| self.child.as_ref().is_some_and(|child| child.generation == generation);
        match event {
            Event::Said { generation, said } if is_current(generation) => self.child_said(said),
            Event::Silent { generation, error } if is_current(generation) => {
                if let Some(error) = error {
                    tracing::warn!(%error, "the child cannot be understood");
                }
                self.replace_child();
            }
            Event::Gone { generation, how } if is_current(generation) => self.child_is_gone(&how),
            Event::Said { .. } | Event::Silent { .. } | Event::Gone { .. } | Event::Written(_) => {}
            Event::Terminate => self.terminate(),
            Event::Reload => self.reload(),
        }
    }

    fn terminate(&mut self) {
        let now = self.now();
        self.signals += 1;
        match self.signals {
            1 => {
                tracing::info!("draining: what runs goes on to its end; a second signal ends it");
                self.tell_service_manager(NotifyState::Stopping);
                self.phase = Phase::Draining;
                self.parts.core.give(Input::Drain(true), now);
                self.beat_at = now;
            }
            2 => {
                tracing::info!("stopping: what runs is ended");
                self.phase = Phase::Stopping;
                self.parts.core.give(Input::StopAll, now);
            }
            _ => self.parts.runner.stop_all(StopReason::ShuttingDown, Urgency::Immediate),
        }
    }

    fn reload(&mut self) {
        match (self.parts.reload)() {
            Err(why) => tracing::error!("the configuration stays as it was: {why}"),
            Ok(mut settings) => {
                let old = &self.parts.settings;
                let fixed = |settings: &Settings| {
                    (
                        settings.id.clone(),
                        settings.slots,
                        settings.resources.clone(),
                        settings.backlog,
                        settings.timers,
                    )
                };
                if fixed(old) != fixed(&settings) || old.directory != settings.directory {
                    tracing::warn!(
                        "id, state, slots, backlog, timers and resources change with a restart only"
                    );
                    settings.id.clone_from(&old.id);
                    settings.directory.clone_from(&old.directory);
                    settings.resources.clone_from(&old.resources);
                    (settings.slots, settings.backlog, settings.timers) =
                        (old.slots, old.backlog, old.timers);
                }
                tracing::info!("the configuration was read again");
                self.parts.core.jobs = job_maker(&settings);
                self.parts.settings = settings;
                // A new child introduces the agent as it is now, from the program that is on disk now.
                self.failures = 0;
                self.own_image = false;
                self.replace_child();
            }
        }
    }

    fn read_mailbox(&mut self, mailbox: &Mailbox) {
        if self.poll_at.is_some_and(|at| at > self.now()) {
            return;
        }
        loop {
            mailbox.take().into_iter().for_each(|event| self.runner_said(event));
            let is_polled = self.keys.len() > self.parts.settings.slots.get();
            self.poll_at = is_polled.then(|| self.now().plus(POLL_INTERVAL));
            if !mailbox.hand_over(is_polled) {
                return;
            }
        }
    }

    fn runner_said(&mut self, event: RunnerEvent) {
        let now = self.now();
        let input = match event {
            RunnerEvent::Started { key, at, .. } => {
                let Some(&id) = self.keys.get(&key) else { return };
                Input::ProcessStarted { id, at }
            }
            RunnerEvent::Progress { key, progress } => {
                let Some(&id) = self.keys.get(&key) else { return };
                let message = (!progress.message.is_empty()).then(|| progress.message.into());
                Input::ProcessProgress { id, permille: progress.permille, message }
            }
            RunnerEvent::Finished(finished) => match self.process_finished(&finished) {
                Some(input) => input,
                None => return,
            },
        };
        self.parts.core.give(input, now);
    }

    fn process_finished(&mut self, finished: &Finished) -> Option<Input> {
        let id = self.keys.remove(&finished.key)?;
        self.ids.remove(&id);
        if let Some(name) = self.open_logs.remove(&finished.key) {
            tell_log(&name, self.parts.core.runs.trace(id.run), "attempt ended");
            if finished.output_bytes > 0 {
                // The file has a line more where bytes were left out; the bound need not be that exact.
                self.parts.logs.ended(name.clone(), finished.output_bytes - finished.left_out_bytes);
                self.tell(ToChild::Ended(name));
            } else {
                self.tell(ToChild::Silent(name));
                self.parts.core.printed_nothing(id);
            }
        }
        let started_at = finished.started_at.unwrap_or(finished.finished_at);
        let outcome = outcome_of(finished);
        Some(Input::ProcessFinished { id, outcome, started_at, finished_at: finished.finished_at })
    }

    /// What is due.
    fn on_time(&mut self) {
        let now = self.now();
        if self.parts.core.machine.next_deadline().is_some_and(|at| at <= now) {
            self.parts.core.give(Input::Tick, now);
        }
        if self.hurry_at.is_some_and(|at| at <= now) {
            self.hurry_at = None;
            for id in std::mem::take(&mut self.fenced) {
                self.stop(id, StopReason::LeaseEnded, Urgency::Immediate);
            }
        }
        if self.start_child_at.is_some_and(|at| at <= now) {
            self.start_child(now);
        }
        match &self.child {
            Some(child) if !child.is_attached && now >= self.child_since.plus(CHILD_START_PATIENCE) => {
                tracing::warn!("the child says nothing: it is replaced");
                child.kill();
                self.child_since = now;
            }
            Some(child) if child.is_attached && now >= self.beat_at => self.beat(now),
            _ => {}
        }
    }

    /// Does what follows from all that was heard.
    fn work(&mut self) {
        self.flush(false);
        self.flush_reports();
        let room = u32::try_from(self.parts.core.machine.room()).unwrap_or(u32::MAX);
        if self.parts.settings.capability.is_some() && self.told_room != Some(room) {
            self.told_room = Some(room);
            self.tell(ToChild::Room(room));
        }
    }

    /// Stops what is to be stopped, records what is to be recorded, and does what waits for nothing.
    fn flush(&mut self, all: bool) {
        let mut all = all;
        loop {
            for id in self.parts.core.take_stops() {
                self.stop(id, StopReason::Cancelled, Urgency::Graceful);
            }
            if self.in_flight.is_some() || !(all || self.parts.core.has_work()) {
                return;
            }
            let (records, deeds) = self.parts.core.take_batch(std::mem::take(&mut all));
            if records.is_empty() {
                self.perform(deeds);
            } else {
                self.parts.scribe.append(records);
                self.in_flight = Some(deeds);
            }
        }
    }

    fn written(&mut self, result: Result<Written, JournalError>) -> Result<(), JournalError> {
        let written = result?;
        self.status.appends += 1;
        self.status.append_micros = u64::try_from(written.took.as_micros()).unwrap_or(u64::MAX);
        let deeds = self.in_flight.take().unwrap_or_default();
        self.perform(deeds);
        if written.is_long {
            self.parts.scribe.rewrite(self.parts.core.snapshot());
            self.in_flight = Some(Vec::new());
        }
        Ok(())
    }

    fn perform(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Start(id) => self.start(id),
                // What is not said now is said when messages flow again: the machine knows it.
                Deed::Report(run, report) if self.linked => {
                    let reports = self.reports.entry(run).or_default();
                    reports.push(report);
                    if reports.len() >= MAX_REPORTS {
                        self.flush_reports();
                    }
                }
                Deed::Report(..) => {}
                Deed::Taken(delivery) => {
                    self.flush_reports();
                    self.tell(ToChild::Taken { delivery });
                }
                Deed::Settled(name) => self.parts.logs.settled(&name),
                Deed::Over(run) => self.parts.logs.run_is_over(&run),
            }
        }
    }

    fn flush_reports(&mut self) {
        for (run, reports) in std::mem::take(&mut self.reports) {
            let trace = self.parts.core.runs.trace(run);
            if let Some(run) = self.parts.core.runs.name(run) {
                self.tell(ToChild::Reports { run: run.to_owned(), trace, reports });
            }
        }
    }

    fn start(&mut self, id: AttemptId) {
        let now = self.now();
        let core = &mut self.parts.core;
        // What was about to start when this process fell asleep does not, even if it may go on without a lease.
        let may_start = !core.machine.is_stopping(id) && !self.lease.has_ended(now);
        let offer = core.offer(id).filter(|_| may_start);
        let (Some(offer), Some(name)) = (offer, core.log_name(id)) else {
            let outcome = Outcome::NotStarted;
            core.give(Input::ProcessFinished { id, outcome, started_at: now, finished_at: now }, now);
            return;
        };
        let key = self.next_key;
        self.next_key += 1;
        let trace = core.runs.trace(id.run).map(|trace| trace.of_attempt(id.task.0, id.attempt));
        tell_log(&name, trace, "attempt starts");
        if let Err(refusal) = self.parts.runner.start(core.jobs.job(key, &name.run, &offer, trace)) {
            let message = reason_of(&refusal);
            core.printed_nothing(id);
            let outcome = Outcome::Failed { kind: FailureKind::StartFailed, message, exit_code: None };
            core.give(Input::ProcessFinished { id, outcome, started_at: now, finished_at: now }, now);
            return;
        }
        self.keys.insert(key, id);
        self.ids.insert(id, key);
        self.open_logs.insert(key, name.clone());
        self.tell(ToChild::Started(name));
    }

    fn stop(&mut self, id: AttemptId, reason: StopReason, urgency: Urgency) {
        // One that is still to be started is not started.
        if let Some(&key) = self.ids.get(&id) {
            self.parts.runner.stop(key, reason, urgency);
        }
    }

    /// How the keeper has ended, if it has.
    fn is_over(&mut self) -> Option<Ended> {
        let ended = match self.phase {
            Phase::Working => return None,
            Phase::Draining => Ended::Drained,
            Phase::Stopping => Ended::Stopped,
            Phase::Leaving { until } => {
                let ended = if self.signals > 1 { Ended::Stopped } else { Ended::Drained };
                return (self.said_goodbye || self.now() >= until || self.child.is_none()).then_some(ended);
            }
        };
        let core = &self.parts.core;
        if core.machine.busy() > 0 || core.has_work() || self.in_flight.is_some() {
            self.quiet_since = None;
            return None;
        }
        let now = self.now();
        let since = *self.quiet_since.get_or_insert(now);
        if core.machine.is_empty() && self.parts.logs.unshipped().next().is_none() && self.linked {
            self.quiet_since = None;
            self.phase = Phase::Leaving { until: now.plus(GOODBYE_PATIENCE) };
            self.tell(ToChild::Goodbye);
            return None;
        }
        (now >= since.plus(LAST_WORDS_PATIENCE)).then_some(ended)
    }
}

/// What becomes of an attempt, with the trace by which it is found in the coordinator's log.
fn tell_log(name: &LogName, trace: Option<TraceContext>, what: &str) {
    let LogName { run, task, attempt } = name;
    tracing::debug!(run, task, attempt, trace = trace.map(|trace| display(trace.id())), "{what}");
}
