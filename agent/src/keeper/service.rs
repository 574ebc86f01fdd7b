//! The keeper's loop.

mod attempts;
mod contact;
mod ending;

use self::ending::LAST_WORDS_PATIENCE;
use super::core::{Core, Deed};
use super::launch::Child;
use super::logs::Logs;
use super::scribe::Scribe;
use super::{Ended, Event, KeeperError, Reload, Settings};
use crate::journal::Record;
use crate::lease::{Lease, Standing};
use crate::link::{LogName, Status, ToChild};
use crate::machine::{AttemptId, Input};
use crate::mailbox::Mailbox;
use crate::runner::{Runner, StopReason, Urgency};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::message::wire::WireReport;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a child may take from its start to its first word.
const CHILD_START_PATIENCE: Duration = Duration::from_secs(10);

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
}
