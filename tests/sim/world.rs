//! The world: virtual time, the network, the faults, and the loop. What coordinator and agents do is in their own
//! files.

use super::agents::Agent;
use super::checker::Checker;
use super::coordinator::{Coordinator, Log};
use super::plans;
use super::random::Random;
use cairn_agent::machine::{AttemptId, Input};
use cairn_engine::{RunStatus, State};
use cairn_model::{Graph, Plan, ReportKind, RunOptions, TaskIndex, Timestamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// After this time without a word an agent is taken for lost.
pub const LEASE: Duration = Duration::from_secs(5);
/// An agent that is cut off ends its tasks after this time: well before it is taken for lost.
const FENCE: Duration = Duration::from_secs(3);
/// How often an agent says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// What is on its way arrives within this time.
const AFTERMATH: Duration = Duration::from_secs(8);
/// The run must end within this time after the last fault.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// A world with more steps is stuck.
const MAX_STEPS: u64 = 200_000;
/// Steps shown of a world that failed.
const SHOWN_STEPS: usize = 40;

/// The last steps of a world, and a hash over all.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<Steps>>);

#[derive(Default)]
struct Steps {
    last: VecDeque<String>,
    hash: u64,
    is_shown: bool,
}

impl Trace {
    /// One that prints every step.
    pub fn shown() -> Self {
        let trace = Self::default();
        trace.0.borrow_mut().is_shown = true;
        trace
    }

    /// Prints what is no step, and not part of the hash.
    pub fn show(&self, text: &str) {
        if self.is_shown() {
            show(text);
        }
    }

    pub fn is_shown(&self) -> bool {
        self.0.borrow().is_shown
    }

    pub fn note(&self, step: String) {
        let mut steps = self.0.borrow_mut();
        // FNV-1a (Fowler, Noll and Vo), a byte at a time.
        for byte in step.bytes() {
            steps.hash = (steps.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if steps.is_shown {
            show(&step);
        }
        if steps.last.len() == SHOWN_STEPS {
            steps.last.pop_front();
        }
        steps.last.push_back(step);
    }

    pub fn tail(&self) -> String {
        self.0.borrow().last.iter().map(|step| format!("  {step}\n")).collect()
    }

    pub fn hash(&self) -> u64 {
        self.0.borrow().hash
    }
}

#[expect(clippy::print_stdout, reason = "somebody asked to see the steps")]
fn show(text: &str) {
    println!("{text}");
}

/// What happened in a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub hash: u64,
    pub steps: u64,
    pub events: u64,
    pub starts: u64,
    pub grants: u64,
    pub agent_crashes: u64,
    pub coordinator_crashes: u64,
    /// Events that a crash undid.
    pub lost_events: u64,
    pub lost_messages: u64,
    pub stale_reports: u64,
    pub stale_orders: u64,
    pub completed: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.hash ^= other.hash;
        for (sum, one) in [
            (&mut self.steps, other.steps),
            (&mut self.events, other.events),
            (&mut self.starts, other.starts),
            (&mut self.grants, other.grants),
            (&mut self.agent_crashes, other.agent_crashes),
            (&mut self.coordinator_crashes, other.coordinator_crashes),
            (&mut self.lost_events, other.lost_events),
            (&mut self.lost_messages, other.lost_messages),
            (&mut self.stale_reports, other.stale_reports),
            (&mut self.stale_orders, other.stale_orders),
            (&mut self.completed, other.completed),
            (&mut self.failed, other.failed),
            (&mut self.cancelled, other.cancelled),
        ] {
            *sum += one;
        }
    }
}

/// An agent's life: what is meant for one does not reach the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub agent: usize,
    pub incarnation: u64,
}

/// What is going to happen.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A message of a coordinator reaches an agent.
    Order(Life, Input),
    /// An agent may start what it asked for; the epoch is that of who says so.
    Grant(Life, AttemptId, u64),
    /// A message of an agent reaches whoever coordinates.
    Reports(Life, Vec<(AttemptId, ReportKind)>),
    Heartbeat(Life),
    /// An agent sends its next heartbeat.
    Beat(Life),
    AgentTick(Life),
    ProcessStarted(Life, AttemptId),
    ProcessProgress(Life, AttemptId, u16),
    ProcessFinished(Life, AttemptId),
    /// What was appended up to there is durable.
    Synced {
        coordinator: u64,
        length: usize,
    },
    CoordinatorTick(u64),
    /// The coordinator looks after leases, and asks again.
    Watch(u64),
    CoordinatorStart,
    CoordinatorCrash,
    AgentStart(usize),
    AgentCrash(usize),
    /// Nothing reaches an agent or comes from it for that time.
    Cut(usize, Duration),
    /// Somebody interferes.
    Wish,
    /// Faults stop.
    Calm,
}

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub calm: bool,
    pub max_delay_millis: u64,
    pub max_sync_millis: u64,
    pub loss_permille: u64,
    pub repeat_permille: u64,
    /// The coordinator asks again now and then. Where nothing is lost but by its own crash, it need not.
    pub asks_again: bool,
    /// Mean time between two faults of a kind.
    pub fault_every_millis: u64,
    pub wish_every_millis: u64,
}

impl Weather {
    fn new(random: &mut Random) -> Self {
        let loss_permille = *random.pick(&[0, 0, 50, 200]);
        Self {
            calm: false,
            max_delay_millis: *random.pick(&[1, 20, 300]),
            max_sync_millis: *random.pick(&[0, 3, 200]),
            loss_permille,
            asks_again: loss_permille > 0 || random.chance(500),
            repeat_permille: *random.pick(&[0, 100, 400]),
            fault_every_millis: *random.pick(&[1_500, 4_000, 12_000]),
            wish_every_millis: *random.pick(&[1_000, 5_000, 60_000]),
        }
    }

    /// No faults; messages still take their time.
    fn clear(&mut self) {
        (self.calm, self.loss_permille, self.repeat_permille) = (true, 0, 0);
    }
}

/// One coordinator's place, some agents, and all that is on its way between them.
pub struct World {
    pub random: Random,
    pub now: Timestamp,
    pub weather: Weather,
    pub plan: Arc<Plan>,
    pub graph: Arc<Graph>,
    pub options: RunOptions,
    pub agents: Vec<Agent>,
    pub coordinator: Option<Coordinator>,
    pub log: Log,
    /// Judges what is appended.
    pub checker: Checker,
    /// What a fold over the durable events gives.
    pub durable: State,
    /// Attempts whose dispatch is durable.
    pub dispatched: BTreeSet<(TaskIndex, u32)>,
    /// How often a process was started for an attempt.
    pub starts: BTreeMap<(TaskIndex, u32), u32>,
    pub summary: Summary,
    pub trace: Trace,
    queue: BTreeMap<(Timestamp, u64), Happening>,
    sequence: u64,
    calm_since: Timestamp,
}

impl World {
    pub fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let options = RunOptions { fail_fast: random.chance(100), seed, closed_fleet: random.chance(150) };
        let fleet = plans::fleet(&mut random, options.closed_fleet);
        let plan = Arc::new(plans::plan(&mut random, &fleet, 6, 10));
        let graph = Arc::new(Graph::new(&plan).expect("needs point backwards"));
        let all = vec![true; plan.milestones().len()];
        let now = Timestamp(1_000_000_000);
        let mut world = Self {
            weather: Weather::new(&mut random),
            agents: fleet.into_iter().map(|spec| Agent::new(spec, &mut random)).collect(),
            coordinator: None,
            log: Log::default(),
            checker: Checker::new(plan.clone(), graph.clone(), all),
            durable: State::new(plan.clone(), graph.clone()),
            dispatched: BTreeSet::new(),
            starts: BTreeMap::new(),
            summary: Summary::default(),
            queue: BTreeMap::new(),
            sequence: 0,
            calm_since: now,
            random,
            now,
            plan,
            graph,
            options,
            trace,
        };
        world.trace.note(format!("{:?} {:?} {}", world.weather, world.options, plans::describe(&world.plan)));
        world.after(Duration::ZERO, Happening::CoordinatorStart);
        (0..world.agents.len()).for_each(|agent| world.after(Duration::ZERO, Happening::AgentStart(agent)));
        let calm = Duration::from_millis(world.random.between(2_000, 30_000));
        world.after(calm, Happening::Calm);
        (0..3).for_each(|_| world.plan_fault());
        world.plan_wish();
        world
    }

    /// Lets everything happen, and says what it was.
    pub fn run(mut self) -> Summary {
        let mut end = None;
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            if end.is_some_and(|end| at > end) {
                break;
            }
            self.summary.steps += 1;
            self.ensure(self.summary.steps < MAX_STEPS, "a world without end");
            self.trace.note(format!("{at} {happening:?}"));
            self.happen(happening);
            let ended = self.durable.run().status.is_final();
            if ended && !self.weather.calm {
                self.calm();
            }
            if ended && end.is_none() && self.coordinator.is_some() {
                end = Some(self.now.plus(AFTERMATH));
            }
            let late = self.weather.calm && self.now > self.calm_since.plus(PATIENCE);
            self.ensure(ended || !late, "the run does not end");
        }
        self.judge();
        self.summary
    }

    /// Fails the world unless it `holds`.
    pub fn ensure(&self, holds: bool, complaint: &str) {
        assert!(holds, "{complaint} (at {})", self.now);
    }

    pub fn after(&mut self, wait: Duration, happening: Happening) {
        self.at(self.now.plus(wait), happening);
    }

    pub fn at(&mut self, at: Timestamp, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), happening);
    }

    /// Sends a message between an agent and whoever coordinates: it may be late, lost, or come twice.
    pub fn send(&mut self, agent: usize, message: &Happening) {
        let is_cut = self.agents[agent].is_cut(self.now);
        if is_cut || self.random.chance(self.weather.loss_permille) {
            self.summary.lost_messages += 1;
            return;
        }
        let copies = if self.random.chance(self.weather.repeat_permille) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = Duration::from_micros(self.random.below(self.weather.max_delay_millis * 1_000));
            self.after(delay, message.clone());
        }
    }

    /// Reports that are on their way to a coordinator that is gone may go with it; in a closed fleet all is in one
    /// process.
    pub fn drop_messages(&mut self) {
        let before = self.queue.len();
        let (random, closed) = (&mut self.random, self.options.closed_fleet);
        self.queue.retain(|_, happening| match happening {
            Happening::Reports(..) => !closed && random.chance(500),
            Happening::Order(..) | Happening::Grant(..) | Happening::Heartbeat(_) => !closed,
            _ => true,
        });
        self.summary.lost_messages += (before - self.queue.len()) as u64;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Order(life, input) => self.obey(life, input),
            Happening::Grant(life, id, epoch) => self.grant(life, id, epoch),
            Happening::Reports(life, reports) => self.hear(life, reports),
            Happening::Heartbeat(life) => self.greet(life),
            Happening::Beat(life) => {
                if self.is_alive(life) {
                    // A heartbeat is small and often repeated: only a cut holds it up.
                    if !self.agents[life.agent].is_cut(self.now) {
                        let delay =
                            Duration::from_micros(self.random.below(self.weather.max_delay_millis * 1_000));
                        self.after(delay, Happening::Heartbeat(life));
                    }
                    self.after(HEARTBEAT, Happening::Beat(life));
                }
            }
            Happening::AgentTick(life) => self.tick_agent(life),
            Happening::ProcessStarted(life, id) => self.process_started(life, id),
            Happening::ProcessProgress(life, id, permille) => self.process_progress(life, id, permille),
            Happening::ProcessFinished(life, id) => self.process_finished(life, id),
            Happening::Synced { coordinator, length } => self.synced(coordinator, length),
            Happening::CoordinatorTick(life) => self.tick_coordinator(life),
            Happening::Watch(life) => self.watch(life),
            Happening::CoordinatorStart => self.start_coordinator(),
            Happening::CoordinatorCrash => self.crash_coordinator(),
            Happening::AgentStart(agent) => self.start_agent(agent),
            Happening::AgentCrash(agent) => {
                // An agent of a closed fleet does not die alone.
                if !self.weather.calm && !self.options.closed_fleet {
                    self.crash_agent(agent);
                    let pause = Duration::from_millis(self.random.between(1, 8_000));
                    self.after(pause, Happening::AgentStart(agent));
                }
                self.plan_fault();
            }
            Happening::Cut(agent, length) => self.cut(agent, length),
            Happening::Wish => {
                if !self.weather.calm {
                    self.wish();
                    self.plan_wish();
                }
            }
            Happening::Calm => self.calm(),
        }
    }

    fn plan_fault(&mut self) {
        if self.weather.calm {
            return;
        }
        let wait = Duration::from_millis(self.random.below(2 * self.weather.fault_every_millis));
        let agent = self.random.index(self.agents.len());
        let fault = match self.random.below(10) {
            0..=3 => Happening::CoordinatorCrash,
            8.. if self.weather.asks_again => {
                Happening::Cut(agent, Duration::from_millis(self.random.between(100, 9_000)))
            }
            _ => Happening::AgentCrash(agent),
        };
        self.after(wait, fault);
    }

    fn plan_wish(&mut self) {
        let wait = Duration::from_millis(self.random.below(2 * self.weather.wish_every_millis));
        self.after(wait, Happening::Wish);
    }

    fn crash_coordinator(&mut self) {
        if !self.weather.calm && self.coordinator.is_some() {
            self.kill_coordinator();
            let pause = Duration::from_millis(*self.random.pick(&[1, 500, 9_000]));
            self.after(pause, Happening::CoordinatorStart);
        }
        self.plan_fault();
    }

    /// An agent that cannot be reached for long ends its tasks before the others give them to somebody else.
    fn cut(&mut self, agent: usize, length: Duration) {
        let is_cut = self.agents[agent].is_cut(self.now);
        if !self.weather.calm && self.agents[agent].is_up() && !is_cut && !self.options.closed_fleet {
            let until = self.now.plus(length);
            self.agents[agent].cut_until = until;
            if length >= FENCE {
                // The same as a crash at the end of its patience; it comes back when it is reached again.
                self.agents[agent].fence_at = Some(self.now.plus(FENCE));
                self.after(FENCE, Happening::AgentTick(self.life(agent)));
                self.at(until, Happening::AgentStart(agent));
            }
        }
        self.plan_fault();
    }

    /// Faults stop: everybody comes back, and somebody resumes what is paused.
    fn calm(&mut self) {
        if self.weather.calm {
            return;
        }
        self.weather.clear();
        self.calm_since = self.now;
        for agent in 0..self.agents.len() {
            self.agents[agent].cut_until = self.now;
            self.agents[agent].fence_at = None;
            self.after(Duration::ZERO, Happening::AgentStart(agent));
        }
        self.after(Duration::ZERO, Happening::CoordinatorStart);
    }

    /// What must hold when all is over.
    fn judge(&mut self) {
        self.ensure(self.log.durable == self.log.events.len(), "something is not durable");
        self.ensure(self.checker.ended, "the run has not ended");
        self.ensure(self.checker.tasks.iter().all(|task| task.end.is_some()), "a task has not ended");
        self.ensure(self.replay() == self.durable, "a replay gives another state");
        self.ensure(!cairn_engine::has_work(&self.durable), "there is work left over");
        self.ensure(cairn_engine::next_deadline(&self.durable).is_none(), "something is still waited for");
        self.ensure(self.agents.iter().all(Agent::is_idle), "an agent still works");
        self.summary.hash = self.trace.hash();
        self.summary.events = self.log.events.len() as u64;
        self.summary.stale_orders +=
            self.agents.iter().map(|agent| agent.machine.stale_orders()).sum::<u64>();
        match self.durable.run().status {
            RunStatus::Completed => self.summary.completed += 1,
            RunStatus::Failed => self.summary.failed += 1,
            RunStatus::Cancelled => self.summary.cancelled += 1,
            RunStatus::Absent | RunStatus::Active | RunStatus::Paused => {
                self.ensure(false, "no end of a run")
            }
        }
    }
}
