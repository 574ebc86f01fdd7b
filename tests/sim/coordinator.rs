//! The shell around the engine, as small as it can be: append, wait until it is durable, then act.

use super::checker::Checker;
use super::world::{Happening, LEASE, Life, World};
use cairn_agent::machine::{AttemptId, Input, Work};
use cairn_engine::{Effect, RunStatus, State, apply, decide, next_deadline, react, recover};
use cairn_model::{
    Action, AgentIndex, Command, Event, MilestoneIndex, Report, ReportKind, RunSubmitted, Scope, TaskIndex,
    Timestamp,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often leases are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// Every so many looks at the leases, all that is owed is said again and all that is unknown asked again.
const LOOKS_PER_RESYNC: u64 = 3;

/// Events in order, of which the first `durable` survive a crash.
#[derive(Debug, Default)]
pub struct Log {
    pub events: Vec<(Timestamp, Event)>,
    pub durable: usize,
}

/// What waits until the log is durable up to `length`.
#[derive(Debug)]
struct Owed {
    length: usize,
    acknowledgements: Vec<(Life, AttemptId)>,
    answers: Vec<Effect>,
}

/// A coordinator's life.
pub struct Coordinator {
    life: u64,
    state: State,
    /// What a fold over the events gives: the same.
    folded: State,
    owed: VecDeque<Owed>,
    syncing: bool,
    /// When the state asked to be looked at again.
    tick_at: Option<Timestamp>,
    /// When each agent was heard last.
    heard: BTreeMap<u32, Timestamp>,
    looks: u64,
    /// What is owed to the world is to be said again as soon as all is durable.
    resync: bool,
}

impl World {
    /// The state that the durable log gives.
    pub fn replay(&self) -> State {
        let mut state = State::new(self.plan.clone(), self.graph.clone());
        self.log.events[..self.log.durable].iter().for_each(|(at, event)| apply(&mut state, event, *at));
        state
    }

    pub fn start_coordinator(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        let state = self.replay();
        self.ensure(state == self.durable, "a replay gives what was durable when the coordinator crashed");
        let life = self.summary.coordinator_crashes + 1;
        let now = self.now;
        let heard = (0..).zip(state.agents()).map(|(index, _)| (index, now)).collect();
        self.coordinator = Some(Coordinator {
            life,
            folded: state.clone(),
            owed: VecDeque::new(),
            syncing: false,
            tick_at: None,
            heard,
            looks: 0,
            resync: true,
            state,
        });
        self.after(WATCH, Happening::Watch(life));
        match self.durable.run().status {
            RunStatus::Absent => {
                let submitted = RunSubmitted {
                    run: "sim.1".into(),
                    options: self.options.clone(),
                    ..RunSubmitted::default()
                };
                self.decide(Command::Submit(Box::new(submitted)), Vec::new());
            }
            status if status.is_final() => self.sync(),
            _ => self.decide(Command::TakeOver { epoch: life }, Vec::new()),
        }
        if self.options.closed_fleet {
            (0..self.agents.len()).for_each(|agent| self.after(Duration::ZERO, Happening::AgentStart(agent)));
        }
    }

    /// The coordinator dies, with all that was not durable.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
        self.summary.coordinator_crashes += 1;
        self.summary.lost_events += (self.log.events.len() - self.log.durable) as u64;
        self.log.events.truncate(self.log.durable);
        self.checker =
            Checker::new(self.plan.clone(), self.graph.clone(), vec![true; self.plan.milestones().len()]);
        for (_, event) in &self.log.events {
            self.checker.take(event).expect("it was right before");
        }
        self.drop_messages();
        if self.options.closed_fleet {
            // They are threads of the same process.
            (0..self.agents.len()).for_each(|agent| self.crash_agent(agent));
        }
    }

    /// Decides; whatever follows waits until it is durable. A refused wish is forgotten.
    fn decide(&mut self, command: Command, acknowledgements: Vec<(Life, AttemptId)>) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let mut events = Vec::new();
        let answers = match decide(&mut coordinator.state, command, self.now, &mut events) {
            Ok(decision) => {
                self.summary.stale_reports += u64::from(decision.stale_reports);
                decision.answers
            }
            Err(rejection) => {
                if !self.weather.calm {
                    self.trace.note(format!("  refused: {rejection}"));
                }
                return;
            }
        };
        for event in events {
            self.trace.note(format!("  {event:?}"));
            let verdict = self.checker.take(&event);
            verdict.unwrap_or_else(|complaint| panic!("{complaint} (at {})", self.now));
            match &event {
                Event::AgentJoined(_) => {
                    let index = u32::try_from(coordinator.folded.agents().len()).expect("few");
                    coordinator.heard.insert(index, self.now);
                }
                // A closed fleet dies with its owner, who therefore knows for certain who is there.
                Event::TaskDispatched { agent, .. } if self.options.closed_fleet => {
                    let incarnation = coordinator.folded.agents()[agent.get()].spec.incarnation;
                    assert!(self.agents[0].has_life(incarnation), "work for the dead (at {})", self.now);
                }
                _ => {}
            }
            apply(&mut coordinator.folded, &event, self.now);
            self.log.events.push((self.now, event));
        }
        let same = coordinator.state == coordinator.folded;
        coordinator.owed.push_back(Owed { length: self.log.events.len(), acknowledgements, answers });
        self.ensure(same, "a fold over the events gives another state");
        self.check_books();
        self.sync();
        self.plan_tick();
    }

    /// What the engine booked for each agent is what is out there.
    fn check_books(&self) {
        let Some(coordinator) = &self.coordinator else { return };
        for (booked, counted) in coordinator.state.agents().iter().zip(&self.checker.agents) {
            let slots = booked.slots_used == counted.slots && booked.timers_used == counted.timers;
            let resources = booked.resources_used().all(|(name, used)| counted.taken[name] == used);
            self.ensure(booked.lost || (slots && resources), "the books are wrong");
        }
    }

    fn plan_tick(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let deadline = next_deadline(&coordinator.state).map(|at| at.max(self.now));
        if deadline.is_some() && deadline != coordinator.tick_at {
            coordinator.tick_at = deadline;
            let life = coordinator.life;
            self.at(deadline.unwrap_or(self.now), Happening::CoordinatorTick(life));
        }
    }

    pub fn tick_coordinator(&mut self, life: u64) {
        let now = self.now;
        let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.life == life)
        else {
            return;
        };
        coordinator.tick_at = None;
        if next_deadline(&coordinator.state).is_some_and(|at| at <= now) {
            let before = self.log.events.len();
            self.decide(Command::Tick, Vec::new());
            self.ensure(self.log.events.len() > before, "a decision that was asked for says nothing");
        } else {
            self.plan_tick();
        }
    }

    /// Makes durable what was appended, one batch at a time.
    fn sync(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if !coordinator.syncing && (!coordinator.owed.is_empty() || coordinator.resync) {
            coordinator.syncing = true;
            let (life, length) = (coordinator.life, self.log.events.len());
            let wait = Duration::from_micros(self.random.below(self.weather.max_sync_millis * 1_000 + 50));
            self.after(wait, Happening::Synced { coordinator: life, length });
        }
    }

    pub fn synced(&mut self, life: u64, length: usize) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.life == life)
        else {
            return;
        };
        coordinator.syncing = false;
        let (mut effects, mut acknowledgements, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (at, event) in &self.log.events[self.log.durable..length] {
            apply(&mut self.durable, event, *at);
            if let Event::TaskDispatched { task, attempt, .. } = event {
                self.dispatched.insert((*task, *attempt));
            }
            react(&coordinator.state, event, &mut effects);
        }
        self.log.durable = length;
        while let Some(owed) = coordinator.owed.pop_front_if(|owed| owed.length <= length) {
            acknowledgements.extend(owed.acknowledgements);
            answers.extend(owed.answers);
        }
        for (life, id) in acknowledgements {
            let row = self.durable.task(id.task);
            let out = row.status.is_out() && row.attempt == id.attempt;
            self.ensure(!out, "an end is acknowledged before it is durable");
            self.send(life.agent, &Happening::Order(life, Input::Acknowledge { id }));
        }
        self.carry_out(effects);
        self.carry_out(answers);
        self.say_again();
        self.sync();
    }

    /// Says again what is owed and asks for what is unknown, if all is durable.
    fn say_again(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        if !coordinator.resync || self.log.durable < self.log.events.len() {
            return;
        }
        coordinator.resync = false;
        let (effects, epoch) = (recover(&coordinator.state), coordinator.state.run().epoch);
        let present: Vec<_> =
            coordinator.state.agents().iter().filter(|agent| !agent.lost).cloned().collect();
        for agent in present {
            let life = self.life_of(&agent.spec.id, agent.spec.incarnation);
            self.send(life.agent, &Happening::Order(life, Input::Recall { run: 0, epoch }));
        }
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let Some(coordinator) = &self.coordinator else { return };
        let epoch = coordinator.state.run().epoch;
        for effect in effects {
            self.trace.note(format!("  {effect:?}"));
            let (task, attempt, agent) = match effect {
                Effect::Offer { task, attempt, agent }
                | Effect::Grant { task, attempt, agent }
                | Effect::Stop { task, attempt, agent } => (task, attempt, agent),
                Effect::Ended => {
                    for agent in 0..self.agents.len() {
                        let life = self.life(agent);
                        self.send(agent, &Happening::Order(life, Input::Forget { run: 0, epoch }));
                    }
                    continue;
                }
            };
            self.ensure(self.dispatched.contains(&(task, attempt)), "an order goes out before it is durable");
            let id = AttemptId { run: 0, task, attempt };
            let life = self.life_at(agent);
            let input = match effect {
                Effect::Grant { .. } => {
                    let row = self.durable.task(task);
                    let is_over = !row.status.is_out() || row.attempt != attempt;
                    self.ensure(is_over || row.is_granted(), "a grant goes out before it is durable");
                    self.send(life.agent, &Happening::Grant(life, id, epoch));
                    continue;
                }
                Effect::Offer { .. } => Input::Offer { id, epoch, work: self.work(task) },
                _ => Input::Stop { id, epoch },
            };
            self.send(life.agent, &Happening::Order(life, input));
        }
    }

    fn work(&self, task: TaskIndex) -> Work {
        match self.plan.action(task) {
            Action::Wait(length) => Work::Timer(length),
            _ => Work::Process,
        }
    }

    /// The life of an agent that a run knows under that index.
    fn life_at(&self, agent: AgentIndex) -> Life {
        let coordinator = self.coordinator.as_ref().expect("it sends");
        let spec = &coordinator.state.agents()[agent.get()].spec;
        self.life_of(&spec.id, spec.incarnation)
    }

    fn life_of(&self, id: &str, incarnation: u64) -> Life {
        let agent = self.agents.iter().position(|agent| agent.spec.id == id).expect("an agent of this world");
        Life { agent, incarnation }
    }

    /// The index under which the run knows an agent's life; the newest, if it was lost and came back.
    fn index_of(&self, life: Life) -> Option<AgentIndex> {
        let id = &self.agents[life.agent].spec.id;
        let same = |agent: &cairn_engine::AgentState| {
            agent.spec.id == *id && agent.spec.incarnation == life.incarnation
        };
        self.coordinator.as_ref()?.state.agents().iter().rposition(same).map(AgentIndex::new)
    }

    /// An agent says that it is there.
    pub fn greet(&mut self, life: Life) {
        let index = self.index_of(life);
        let Some(coordinator) = &mut self.coordinator else { return };
        match index.filter(|index| !coordinator.state.agents()[index.get()].lost) {
            Some(index) => drop(coordinator.heard.insert(index.0, self.now)),
            None => {
                let mut spec = self.agents[life.agent].spec.clone();
                spec.incarnation = life.incarnation;
                self.decide(Command::AgentJoined(Box::new(spec)), Vec::new());
            }
        }
    }

    /// Reports reach the coordinator. Ends are acknowledged once all that they led to is durable; so are those that
    /// say nothing new, for their attempts ended by something that stands in the log before.
    pub fn hear(&mut self, life: Life, told: Vec<(AttemptId, ReportKind)>) {
        let Some(agent) = self.index_of(life) else { return };
        let mut reports = Vec::new();
        let mut acknowledgements = Vec::new();
        for (id, kind) in told {
            if let ReportKind::Finished { .. } = kind {
                acknowledgements.push((life, id));
            }
            reports.push(Report { task: id.task, attempt: id.attempt, agent, kind });
        }
        let is_current = |report: &Report| {
            self.checker.tasks[report.task.get()].out == Some((report.attempt, report.agent))
        };
        if !reports.iter().any(is_current) {
            self.check_fenced(&reports);
        }
        self.decide(Command::Reports(reports), acknowledgements);
    }

    /// Reports of attempts that are not out change nothing: the same is decided without them.
    fn check_fenced(&self, reports: &[Report]) {
        let Some(coordinator) = &self.coordinator else { return };
        let consequences = |command| {
            let (mut state, mut events) = (coordinator.state.clone(), Vec::new());
            let decision = decide(&mut state, command, self.now, &mut events).expect("always accepted");
            (decision.stale_reports as usize, state, events)
        };
        let (stale, after, events) = consequences(Command::Reports(reports.to_vec()));
        let (_, without, without_events) = consequences(Command::Tick);
        self.ensure(after == without && events == without_events, "a stale report changed something");
        self.ensure(stale == reports.len(), "a stale report is not counted");
    }

    /// Looks after leases, and in calm weather after what people have left paused.
    pub fn watch(&mut self, life: u64) {
        let now = self.now;
        let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.life == life)
        else {
            return;
        };
        coordinator.looks += 1;
        coordinator.resync |= self.weather.asks_again && coordinator.looks.is_multiple_of(LOOKS_PER_RESYNC);
        let silent = |index: &u32| coordinator.heard.get(index).is_none_or(|heard| heard.plus(LEASE) < now);
        let present = (0..).zip(coordinator.state.agents()).filter(|(_, agent)| !agent.lost);
        let lost: Vec<u32> = present.map(|(index, _)| index).filter(silent).collect();
        for index in lost {
            self.decide(Command::AgentLost { agent: AgentIndex(index), reason: "silent".into() }, Vec::new());
        }
        if self.weather.calm {
            self.resume_all();
        }
        self.sync();
        self.after(WATCH, Happening::Watch(life));
    }

    fn scopes(&self) -> Vec<Scope> {
        let milestones =
            (0..self.plan.milestones().len()).map(|at| Scope::Milestone(MilestoneIndex::new(at)));
        [Scope::Run].into_iter().chain(milestones).chain(self.plan.tasks().map(Scope::Task)).collect()
    }

    fn resume_all(&mut self) {
        for scope in self.scopes() {
            self.decide(Command::Resume { scope }, Vec::new());
        }
    }

    /// Somebody wants something, seldom an end.
    pub fn wish(&mut self) {
        let scopes = self.scopes();
        let scope = *self.random.pick(&scopes);
        let reason: Box<str> = "a wish".into();
        let command = match self.random.below(20) {
            0..=5 => Command::Pause { scope, reason },
            6..=14 => Command::Resume { scope },
            15 => Command::Resume { scope: Scope::Run },
            16 | 17 => Command::Interrupt { reason },
            18 => Command::Cancel { scope, reason },
            _ => {
                let interrupt = Command::Interrupt { reason };
                self.decide(interrupt, Vec::new());
                Command::Resume { scope: Scope::Run }
            }
        };
        self.trace.note(format!("  {command:?}"));
        self.decide(command, Vec::new());
    }
}
