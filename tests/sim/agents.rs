//! The shell around an agent's machine, with processes that are made of virtual time.

use super::random::Random;
use super::world::{Happening, Life, World};
use cairn_agent::machine::{Action, AttemptId, Input, Machine, Work};
use cairn_model::{AgentSpec, FailureKind, Outcome, ReportKind, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process: what it will come to, unless it is stopped.
#[derive(Clone, Debug)]
struct Process {
    outcome: Outcome,
    started_at: Timestamp,
}

/// An agent's place: its lives come one after the other.
pub struct Agent {
    /// What it offers; the incarnation is that of the present life, or of the last one.
    pub spec: AgentSpec,
    pub machine: Machine,
    pub cut_until: Timestamp,
    /// When it ends its tasks because it is cut off.
    pub fence_at: Option<Timestamp>,
    up: bool,
    processes: BTreeMap<AttemptId, Process>,
    /// What it has been offered, and starts on a grant.
    held: BTreeMap<AttemptId, Work>,
    /// The highest epoch that this life has heard of.
    epoch: u64,
    /// How far its clock is ahead of the coordinator's, or behind.
    clock_offset_micros: i64,
    tick_at: Option<Timestamp>,
}

impl Agent {
    pub fn new(spec: AgentSpec, random: &mut Random) -> Self {
        let offset = i64::try_from(random.below(4_000_000)).expect("small") - 2_000_000;
        let offset = if random.chance(500) { 0 } else { offset };
        Self {
            machine: Machine::new(spec.slots as usize),
            spec: AgentSpec { incarnation: 0, ..spec },
            cut_until: Timestamp::default(),
            fence_at: None,
            up: false,
            processes: BTreeMap::new(),
            held: BTreeMap::new(),
            epoch: 0,
            clock_offset_micros: offset,
            tick_at: None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether it lives, in that incarnation.
    pub fn has_life(&self, incarnation: u64) -> bool {
        self.up && self.spec.incarnation == incarnation
    }

    pub fn is_cut(&self, now: Timestamp) -> bool {
        now < self.cut_until
    }

    pub fn is_idle(&self) -> bool {
        self.machine.busy() == 0 && self.processes.is_empty() && self.held.is_empty()
    }

    fn clock(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0 + self.clock_offset_micros)
    }
}

impl World {
    pub fn life(&self, agent: usize) -> Life {
        Life { agent, incarnation: self.agents[agent].spec.incarnation }
    }

    pub fn is_alive(&self, life: Life) -> bool {
        self.agents[life.agent].has_life(life.incarnation)
    }

    pub fn start_agent(&mut self, agent: usize) {
        let place = &mut self.agents[agent];
        // An agent of a closed fleet is a thread of the coordinator.
        if place.up || (self.options.closed_fleet && self.coordinator.is_none()) {
            return;
        }
        (place.up, place.epoch) = (true, 0);
        place.spec.incarnation += 1;
        place.machine = Machine::new(place.spec.slots as usize);
        place.tick_at = None;
        self.after(Duration::ZERO, Happening::Beat(self.life(agent)));
    }

    /// The agent and all its processes are gone.
    pub fn crash_agent(&mut self, agent: usize) {
        let place = &mut self.agents[agent];
        if place.up {
            self.summary.agent_crashes += 1;
            self.summary.stale_orders += place.machine.stale_orders();
        }
        place.up = false;
        place.fence_at = None;
        place.processes.clear();
        place.held.clear();
        place.machine = Machine::new(0);
    }

    /// Gives the machine something and does what it says.
    fn give(&mut self, agent: usize, input: Input) {
        let now = self.now;
        let place = &mut self.agents[agent];
        let clock = place.clock(now);
        let mut actions = Vec::new();
        place.machine.handle(input, clock, &mut actions);
        let mut reports = Vec::new();
        for action in actions {
            match action {
                Action::Start(id) => self.start_process(agent, id),
                Action::Stop(id) => self.stop_process(agent, id),
                Action::Report(id, kind) => reports.push((id, kind)),
                Action::Record(_) => {}
            }
        }
        if !reports.is_empty() {
            let life = self.life(agent);
            self.send(agent, &Happening::Reports(life, reports));
        }
        let place = &mut self.agents[agent];
        let deadline = place.machine.next_deadline();
        if let Some(at) = deadline.filter(|_| deadline != place.tick_at) {
            place.tick_at = deadline;
            let at = Timestamp(at.0 - place.clock_offset_micros);
            self.at(at, Happening::AgentTick(self.life(agent)));
        }
    }

    pub fn obey(&mut self, life: Life, order: Input) {
        let place = &mut self.agents[life.agent];
        if !place.has_life(life.incarnation) || place.is_cut(self.now) {
            return;
        }
        let is_old = epoch_of(&order).is_some_and(|epoch| epoch < place.epoch);
        match order {
            Input::Stop { id, .. } if !is_old => drop(place.held.remove(&id)),
            Input::Forget { .. } => place.held.clear(),
            Input::Recall { .. } if !is_old => self.ask_for_grants(life),
            Input::Offer { id, work, .. } if !is_old && self.needs_grant(id) => {
                self.agents[life.agent].held.insert(id, work);
                return self.ask_for_grants(life);
            }
            _ => {}
        }
        let place = &mut self.agents[life.agent];
        place.epoch = place.epoch.max(epoch_of(&order).unwrap_or_default());
        let stale = place.machine.stale_orders();
        self.give(life.agent, order);
        let refused = self.agents[life.agent].machine.stale_orders() > stale;
        self.ensure(refused || !is_old, "an order of an epoch that is over is obeyed");
    }

    fn needs_grant(&self, id: AttemptId) -> bool {
        self.plan.settings(id.task).at_most_once && !self.options.closed_fleet
    }

    fn ask_for_grants(&mut self, life: Life) {
        let held = self.agents[life.agent].held.keys();
        let asks: Vec<_> = held.map(|&id| (id, ReportKind::Accepted { awaits_grant: true })).collect();
        if !asks.is_empty() {
            self.send(life.agent, &Happening::Reports(life, asks));
        }
    }

    /// What was asked for may start; what is not held any more has started, or must not.
    pub fn grant(&mut self, life: Life, id: AttemptId, epoch: u64) {
        let place = &mut self.agents[life.agent];
        if !place.has_life(life.incarnation) || place.is_cut(self.now) || epoch < place.epoch {
            return;
        }
        if let Some(work) = place.held.remove(&id) {
            place.epoch = epoch;
            self.summary.grants += 1;
            self.give(life.agent, Input::Offer { id, epoch, work });
        }
    }

    pub fn tick_agent(&mut self, life: Life) {
        if !self.is_alive(life) {
            return;
        }
        if self.agents[life.agent].fence_at.is_some_and(|at| at <= self.now) {
            self.crash_agent(life.agent);
            return;
        }
        self.agents[life.agent].tick_at = None;
        self.give(life.agent, Input::Tick);
    }

    fn start_process(&mut self, agent: usize, id: AttemptId) {
        self.summary.starts += 1;
        self.check_start(agent, id);
        let settings = self.plan.settings(id.task).clone();
        let mut length = Duration::from_micros(match self.random.below(4) {
            0 => self.random.between(100, 9_000),
            1 | 2 => self.random.between(1_000, 400_000),
            _ => self.random.between(100_000, 4_000_000),
        });
        let mut outcome = match self.random.below(40) {
            0..=35 => Outcome::Completed,
            36 => failed(FailureKind::ProgramNotFound),
            37 => failed(FailureKind::Signal),
            _ => failed(FailureKind::ExitCode),
        };
        if let Some(timeout) =
            settings.timeout.filter(|timeout| length >= *timeout || self.random.chance(100))
        {
            // Ended by the agent in time, or, if that fails, at the coordinator's word.
            outcome = failed(FailureKind::Timeout);
            length = if self.random.chance(500) { timeout } else { Duration::from_secs(3_600) };
        }
        let started_at = self.agents[agent].clock(self.now);
        self.agents[agent].processes.insert(id, Process { outcome, started_at });
        let life = self.life(agent);
        // A process says that it has started, but for one that is gone before anybody has looked.
        if length > Duration::from_millis(10) || self.random.chance(500) {
            let wait = Duration::from_micros(self.random.below(5_000));
            self.after(wait, Happening::ProcessStarted(life, id));
        }
        if self.random.chance(200) {
            let permille = u16::try_from(self.random.below(1_200)).expect("small");
            self.after(length / 2, Happening::ProcessProgress(life, id, permille));
        }
        self.after(length, Happening::ProcessFinished(life, id));
    }

    /// What must hold whenever a process starts. Ends only make it easier, so it holds always.
    fn check_start(&mut self, agent: usize, id: AttemptId) {
        self.ensure(
            self.dispatched.contains(&(id.task, id.attempt)),
            "a process whose dispatch is not durable",
        );
        let row = self.durable.task(id.task);
        let is_out = row.status.is_out() && row.attempt == id.attempt;
        self.ensure(is_out, "a process of an attempt whose end is durable");
        self.ensure(!self.needs_grant(id) || row.is_granted(), "a process whose grant is not durable");
        let count = self.starts.entry((id.task, id.attempt)).or_insert(0);
        *count += 1;
        let again = *count > 1;
        self.ensure(!again, "an attempt starts twice");
        let mut starts = self.starts.range((id.task, 0)..=(id.task, u32::MAX));
        let others = starts.any(|((_, attempt), _)| *attempt != id.attempt);
        self.ensure(
            !(others && self.plan.settings(id.task).at_most_once),
            "an at_most_once task starts twice",
        );
        let elsewhere = |agent: &Agent| agent.processes.keys().any(|running| running.task == id.task);
        self.ensure(!self.agents.iter().any(elsewhere), "two attempts of a task run at the same time");
        let place = &self.agents[agent];
        self.ensure(self.checker.fits(id.task, &place.spec), "an agent runs what it cannot");
        let running = || place.processes.keys().chain([&id]);
        self.ensure(running().count() <= place.spec.slots as usize, "more processes than slots");
        for (name, amount) in &place.spec.resources {
            let takes = |id: &AttemptId| {
                let resources = &self.plan.settings(id.task).resources;
                resources.iter().find(|(wanted, _)| wanted == name).map_or(0, |(_, amount)| *amount)
            };
            self.ensure(running().map(takes).sum::<u64>() <= *amount, "processes take more than there is");
        }
    }

    /// A process ends soon after it was asked to, in most cases because of it.
    fn stop_process(&mut self, agent: usize, id: AttemptId) {
        let soon = Duration::from_micros(self.random.below(300_000));
        let obeys = self.random.chance(800);
        if let Some(process) = self.agents[agent].processes.get_mut(&id) {
            if obeys {
                process.outcome = Outcome::Stopped;
            }
            self.after(soon, Happening::ProcessFinished(self.life(agent), id));
        }
    }

    pub fn process_started(&mut self, life: Life, id: AttemptId) {
        if self.is_alive(life)
            && let Some(process) = self.agents[life.agent].processes.get(&id)
        {
            let at = process.started_at;
            self.give(life.agent, Input::ProcessStarted { id, at });
        }
    }

    pub fn process_progress(&mut self, life: Life, id: AttemptId, permille: u16) {
        if self.is_alive(life) && self.agents[life.agent].processes.contains_key(&id) {
            self.give(
                life.agent,
                Input::ProcessProgress { id, permille, message: Some("on its way".into()) },
            );
        }
    }

    pub fn process_finished(&mut self, life: Life, id: AttemptId) {
        if self.is_alive(life)
            && let Some(Process { outcome, started_at }) = self.agents[life.agent].processes.remove(&id)
        {
            let finished_at = self.agents[life.agent].clock(self.now);
            self.give(life.agent, Input::ProcessFinished { id, outcome, started_at, finished_at });
        }
    }
}

/// The epoch of who gives an order, where it is one that can be out of date.
fn epoch_of(order: &Input) -> Option<u64> {
    match order {
        Input::Offer { epoch, .. } | Input::Stop { epoch, .. } | Input::Recall { epoch, .. } => Some(*epoch),
        _ => None,
    }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed {
        kind,
        message: "it failed".into(),
        exit_code: (kind == FailureKind::ExitCode).then_some(1),
    }
}
