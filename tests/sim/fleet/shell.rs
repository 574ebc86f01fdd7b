//! A coordinator's life. It stands for `service::Service`: [`Shell::start`] for `start` and `take_over_all`,
//! [`Shell::deliver`] for `hear`, `hear_heartbeat`, `hear_reports` and `bury`, [`Shell::act`] for `act`,
//! `note` and `ended`; what follows from agents for runs is in [`agents`]. The registry of the fleet is the one that ships; messages are read and written by the codec.

mod agents;

pub use agents::POOL_PREFIX;

use super::broker::{Connection, Letter, Party, Place};
use super::bug::Bug;
use super::env::{Env, Happening};
use super::hosts::{agent_name, agent_number};
use super::owner::{Input, Owner};
use cairn_coordinator::fleet::{Action, Gone, Ledger, Registry, Timing};
use cairn_coordinator::runtime::AgentLife;
use cairn_engine::RunStatus;
use cairn_model::{AgentIndex, Command, ReportKind, RunOptions, RunSubmitted, Scope, TaskIndex, Timestamp};
use cairn_shared::message::codec::{Codec, decode};
use cairn_shared::message::convert;
use cairn_shared::message::wire::{Heartbeat, RunOrders, RunReports, ToAgent, ToCoordinator, WireOrder};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an agent is believed to be there after it was heard.
pub const LEASE: Duration = Duration::from_secs(10);

/// Heartbeats after which also runs that an agent has nothing of are told so.
const TELL_ALL_EVERY: u64 = 5;

/// How often loops refresh.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// What says things to agents (`service::Post`).
pub struct Post {
    pub connection: Connection,
    /// What the runs use of the fleet (`runtime::Shares`).
    pub ledger: RefCell<Ledger>,
    codecs: BTreeMap<String, Codec>,
}

impl Post {
    pub fn say(&self, env: &mut Env, agent: &str, message: &ToAgent) {
        // A queue that nobody makes.
        let Some(number) = agent_number(agent) else { return };
        let codec = self.codecs.get(agent).copied().unwrap_or(Codec::Json);
        env.publish(self.connection, Place::Agent(number), codec, message);
    }

    /// Offers to whoever takes them first (`Post::offer`).
    pub fn offer(&self, env: &mut Env, message: &ToAgent) {
        env.publish(self.connection, Place::Work, Codec::Bincode, message);
    }

    /// Runs that wait for room look again.
    pub fn wake(&self, env: &mut Env, hungry: &BTreeSet<String>) {
        for run in hungry.iter().filter_map(|name| env.run_of(name)).collect::<Vec<_>>() {
            env.after(Duration::ZERO, Happening::Room(self.connection.life, run));
        }
    }

    fn learn(&mut self, registry: &Registry, agent: &str) {
        let content_type = registry.member(agent).map(|member| member.content_type.as_str());
        if let Some(codec) = content_type.and_then(Codec::of_content_type) {
            self.codecs.insert(agent.to_owned(), codec);
        }
    }
}

/// A coordinator's life.
pub struct Shell {
    registry: Registry,
    post: Post,
    owners: BTreeMap<usize, Owner>,
    /// Which runs each agent has named lately, with the heartbeat that did last.
    named: BTreeMap<String, BTreeMap<usize, u64>>,
    actions: Vec<Action>,
    leases_at: Timestamp,
    /// It is frozen.
    pub is_asleep: bool,
    /// Another has taken over since.
    is_superseded: bool,
}

impl Shell {
    pub fn start(env: &mut Env, life: u64) -> Self {
        let connection = Connection { party: Party::Coordinator, life };
        let mut shell = Self {
            registry: Registry::new("model", Timing { lease: LEASE }, env.now),
            post: Post { connection, ledger: RefCell::default(), codecs: BTreeMap::new() },
            owners: BTreeMap::new(),
            named: BTreeMap::new(),
            actions: Vec::new(),
            leases_at: Timestamp::default(),
            is_asleep: false,
            is_superseded: false,
        };
        for run in 0..env.plans.len() {
            let status = env.store.folded[run].run().status;
            if status != RunStatus::Absent && !status.is_final() {
                shell.take_over(env, run, None);
            }
        }
        env.subscribe(Place::Coordinator, connection);
        env.subscribe(Place::Dead, connection);
        env.after(REFRESH_INTERVAL, Happening::Refresh(life));
        shell.act(env);
        shell
    }

    pub fn life(&self) -> u64 {
        self.post.connection.life
    }

    /// Frozen, while another takes over. Of loops with an append under way nothing will come: it is refused.
    pub fn asleep(mut self) -> Self {
        (self.is_asleep, self.is_superseded) = (true, true);
        self.owners.retain(|_, owner| owner.is_superseded());
        self
    }

    /// It goes on as if nothing had been, and hears nobody: another listens now.
    pub fn wake(&mut self, env: &mut Env) {
        self.is_asleep = false;
        let life = self.life();
        env.after(Duration::ZERO, Happening::Leases(life));
        env.after(Duration::ZERO, Happening::Refresh(life));
    }

    /// Becomes the owner of a run of the log (`Service::take_over`); `then` is what it is taken over for.
    fn take_over(&mut self, env: &mut Env, run: usize, then: Option<Command>) {
        let owner = Owner::new(env, run);
        for agent in owner.state().agents().iter().filter(|agent| !agent.lost) {
            self.registry.expect(&agent.spec, env.now, &mut self.actions);
        }
        let epoch = owner.state().run().epoch + 1;
        let lost =
            owner.state().agents().iter().filter(|agent| !agent.lost && env.is(Bug::NoGraceAfterRestart));
        let lost: Vec<_> = lost.map(|agent| agent.spec.clone()).collect();
        self.owners.insert(run, owner);
        if !(env.is(Bug::RetryKeepsEpoch) && then.is_some()) {
            self.command(env, run, Command::TakeOver { epoch });
        }
        if let Some(command) = then {
            self.give(env, run, Input::Command(command, true));
        }
        for spec in lost {
            let life = AgentLife { id: spec.id.as_str().into(), incarnation: spec.incarnation };
            self.give(env, run, Input::Lost(life, "it was not heard".into()));
        }
        self.introduce_fleet(env, run);
    }

    /// Starts a run (`Service::submit`).
    pub fn submit(&mut self, env: &mut Env, run: usize) {
        if env.store.folded[run].run().status == RunStatus::Absent && !self.owners.contains_key(&run) {
            self.owners.insert(run, Owner::new(env, run));
            let submitted = RunSubmitted {
                run: env.plans[run].run.clone(),
                options: RunOptions { fail_fast: env.random.chance(100), seed: 7, closed_fleet: false },
                ..RunSubmitted::default()
            };
            self.give(env, run, Input::Command(Command::Submit(Box::new(submitted)), true));
            self.command(env, run, Command::TakeOver { epoch: 1 });
            self.introduce_fleet(env, run);
        }
        self.act(env);
    }

    /// Somebody wishes something of a run, and hears when it is durable. One that has ended can be retried
    /// (`Service::wish_of_ended`, `Service::reopen`).
    pub fn wish(&mut self, env: &mut Env, run: usize, command: Command) {
        let has_ended = env.store.folded[run].run().status.is_final();
        if matches!(command, Command::Retry { .. }) && has_ended && !self.owners.contains_key(&run) {
            self.take_over(env, run, Some(command));
        } else {
            self.give(env, run, Input::Command(command, true));
        }
        self.act(env);
    }

    /// The same without an answer, for what may not be paused at all.
    pub fn resume(&mut self, env: &mut Env, run: usize, scope: Scope) {
        self.command(env, run, Command::Resume { scope });
        self.act(env);
    }

    /// Whether no run is under way.
    pub fn is_idle(&self) -> bool {
        self.owners.is_empty()
    }

    /// Gives an agent nothing new, or work again (`Service::drain`).
    pub fn drain(&mut self, env: &mut Env, agent: usize, drain: bool) {
        self.registry.drain(&agent_name(agent), drain, &mut self.actions);
        self.act(env);
    }

    fn command(&mut self, env: &mut Env, run: usize, command: Command) {
        self.give(env, run, Input::Command(command, false));
    }

    fn give(&mut self, env: &mut Env, run: usize, input: Input) {
        if let Some(owner) = self.owners.get_mut(&run) {
            owner.take_in(env, &self.post, input);
        }
    }

    fn give_all(&mut self, env: &mut Env, input: impl Fn() -> Input) {
        for owner in self.owners.values_mut() {
            owner.take_in(env, &self.post, input());
        }
    }

    /// What was appended is durable.
    pub fn synced(&mut self, env: &mut Env) {
        for owner in self.owners.values_mut() {
            owner.release(env, &self.post);
        }
        self.act(env);
    }

    pub fn refresh(&mut self, env: &mut Env) {
        for owner in self.owners.values_mut() {
            owner.refresh(env, &self.post);
        }
        env.after(REFRESH_INTERVAL, Happening::Refresh(self.life()));
        self.act(env);
    }

    pub fn tick_run(&mut self, env: &mut Env, run: usize) {
        if let Some(owner) = self.owners.get_mut(&run) {
            owner.tick(env, &self.post);
        }
        self.act(env);
    }

    /// There may be room that there was not (`RunLoop::drive`: `room`).
    pub fn look_for_room(&mut self, env: &mut Env, run: usize) {
        self.command(env, run, Command::Tick);
        self.act(env);
    }

    /// Looks after leases.
    pub fn look_at_leases(&mut self, env: &mut Env) {
        if self.registry.next_deadline() <= env.now {
            self.registry.tick(env.now, &mut self.actions);
        }
        self.act(env);
    }

    /// Leases are counted only while agents can be heard (`Service::judge_health`).
    pub fn judge_health(&mut self, env: &mut Env) {
        let is_up = env.broker.is_up(Party::Coordinator, env.now);
        self.registry.set_hearing(is_up, env.now);
        self.act(env);
    }

    /// Takes a message in (`Service::hear`).
    pub fn deliver(&mut self, env: &mut Env, tag: u64, letter: &Letter) {
        if letter.to == Place::Dead {
            self.bury(env, letter);
            env.acknowledge(tag);
            return self.act(env);
        }
        let Ok(mut message) = decode::<ToCoordinator>(letter.content_type, &letter.body) else {
            return env.reject(tag);
        };
        if env.is(Bug::IncarnationIgnored) {
            self.rewrite_incarnation(&mut message);
        }
        match message {
            ToCoordinator::Reports(reports) => {
                self.hear_reports(env, reports, tag);
                return self.act(env);
            }
            ToCoordinator::Hello(hello) => {
                let known = self.registry.member(&hello.agent);
                let known =
                    known.filter(|known| !known.is_lost && known.spec.incarnation < hello.incarnation);
                if let Some(known) = known.map(|known| known.spec.incarnation) {
                    env.summary.namesakes += 1;
                    if env.is(Bug::NamesakeAdmitted) {
                        self.registry.goodbye(&hello.agent, known, &mut self.actions);
                    }
                }
                self.registry.hello(hello, env.now, &mut self.actions);
            }
            ToCoordinator::Heartbeat(beat) => self.hear_heartbeat(env, beat),
            ToCoordinator::Goodbye { agent, incarnation } => {
                self.registry.goodbye(&agent, incarnation, &mut self.actions);
            }
            ToCoordinator::Output(_) => {}
        }
        env.acknowledge(tag);
        self.act(env);
    }

    fn rewrite_incarnation(&self, message: &mut ToCoordinator) {
        let (agent, incarnation) = match message {
            ToCoordinator::Reports(reports) => (&reports.agent, &mut reports.incarnation),
            ToCoordinator::Hello(hello) => (&hello.agent, &mut hello.incarnation),
            ToCoordinator::Heartbeat(beat) => (&beat.agent, &mut beat.incarnation),
            ToCoordinator::Goodbye { .. } | ToCoordinator::Output(_) => return,
        };
        if let Some(known) = self.registry.member(agent) {
            *incarnation = known.spec.incarnation;
        }
    }

    fn hear_heartbeat(&mut self, env: &mut Env, beat: Heartbeat) {
        if !self.registry.heartbeat(&beat, env.now, &mut self.actions) {
            return;
        }
        let life = AgentLife { id: beat.agent.as_str().into(), incarnation: beat.incarnation };
        let mut told = Vec::new();
        for of_run in beat.holds {
            let Some(run) = env.run_of(&of_run.run).filter(|run| self.owners.contains_key(run)) else {
                self.order(env, &life, &of_run.run, of_run.epoch, WireOrder::Forget);
                continue;
            };
            let mut attempts: Vec<_> =
                of_run.attempts.iter().map(|held| (TaskIndex(held.task), held.attempt)).collect();
            attempts.sort_unstable();
            self.give(env, run, Input::Held { from: life.clone(), attempts });
            told.push(run);
        }
        let named = self.named.entry(beat.agent).or_default();
        named.extend(told.iter().map(|run| (*run, beat.sequence)));
        named.retain(|_, last| last.saturating_add(TELL_ALL_EVERY) > beat.sequence);
        let is_time = beat.sequence.is_multiple_of(TELL_ALL_EVERY);
        let others = self.owners.keys().copied().filter(|run| !told.contains(run));
        for run in others.filter(|run| is_time || named.contains_key(run)).collect::<Vec<_>>() {
            self.give(env, run, Input::Held { from: life.clone(), attempts: Vec::new() });
        }
    }

    fn hear_reports(&mut self, env: &mut Env, said: RunReports, tag: u64) {
        if !self.registry.is_current(&said.agent, said.incarnation, &mut self.actions) {
            env.summary.stale_reports += said.reports.len() as u64;
            return env.acknowledge(tag);
        }
        let from = AgentLife { id: said.agent.as_str().into(), incarnation: said.incarnation };
        let Some(run) = env.run_of(&said.run).filter(|run| self.owners.contains_key(run)) else {
            env.summary.stale_reports += said.reports.len() as u64;
            self.order(env, &from, &said.run, 0, WireOrder::Forget);
            return env.acknowledge(tag);
        };
        let tasks = env.plans[run].plan.task_count();
        let read = said
            .reports
            .iter()
            .filter_map(|report| convert::report(report, AgentIndex(0), tasks, env.now).ok());
        let reports = read.map(|report| (report.task, report.attempt, report.kind)).collect();
        self.give(env, run, Input::Heard { from, reports, tag: Some(tag) });
    }

    /// An offer that nobody could take is as good as declined (`Service::bury`).
    fn bury(&mut self, env: &mut Env, letter: &Letter) {
        let Some(Place::Agent(agent)) = letter.origin else { return };
        let Ok(ToAgent::Orders(orders)) = decode::<ToAgent>(letter.content_type, &letter.body) else {
            return;
        };
        let Some(run) = env.run_of(&orders.run) else { return };
        let declined = orders.orders.iter().filter_map(|order| match order {
            WireOrder::Offer(offer) => {
                let reason = "its offer could not be taken from its agent's queue".into();
                Some((TaskIndex(offer.task), offer.attempt, ReportKind::Declined { reason }))
            }
            _ => None,
        });
        let from = AgentLife { id: agent_name(agent).as_str().into(), incarnation: orders.incarnation };
        self.give(env, run, Input::Heard { from, reports: declined.collect(), tag: None });
    }

    fn order(&self, env: &mut Env, life: &AgentLife, run: &str, epoch: u64, order: WireOrder) {
        let orders =
            RunOrders { run: run.to_owned(), epoch, incarnation: life.incarnation, orders: vec![order] };
        self.post.say(env, &life.id, &ToAgent::Orders(orders));
    }

    /// Carries out what the registry asks for, and what follows from the loops (`Service::act`, `note`, `ended`).
    fn act(&mut self, env: &mut Env) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Say { agent, message } => self.post.say(env, &agent, &message),
                Action::Joined { agent } | Action::Changed { agent } => self.present(env, &agent),
                Action::Lost { agent, incarnation, reason, gone } => {
                    let is_expired = gone == Gone::Silent;
                    let is_missed = env.is(Bug::LeaseNeverEndsAtCoordinator) && is_expired;
                    if !is_missed {
                        env.note(format!("  {agent} of life {incarnation} is lost: {reason}"));
                        if is_expired && !self.is_superseded {
                            env.expired.push((agent.clone(), incarnation));
                        }
                        let life = AgentLife { id: agent.as_str().into(), incarnation };
                        self.lost(env, &life, &reason);
                    }
                }
                Action::Refused { agent, why } => panic!("{agent} is one of ours, and was refused: {why}"),
            }
        }
        self.see_to_loops(env);
        let deadline = self.registry.next_deadline();
        if deadline != self.leases_at {
            self.leases_at = deadline;
            env.at(deadline, Happening::Leases(self.life()));
        }
    }

    fn see_to_loops(&mut self, env: &mut Env) {
        self.owners.retain(|_, owner| !owner.is_fenced());
        for (&run, owner) in &mut self.owners {
            if std::mem::take(&mut owner.was_taken_over) {
                let there = self.registry.members().filter(|member| !member.is_lost);
                for spec in there.map(|member| &member.spec) {
                    let epoch = owner.state().run().epoch;
                    let orders = RunOrders {
                        run: env.plans[run].run.clone(),
                        epoch,
                        incarnation: spec.incarnation,
                        orders: vec![WireOrder::Recall],
                    };
                    self.post.say(env, &spec.id, &ToAgent::Orders(orders));
                }
            }
        }
        let over: Vec<usize> =
            self.owners.iter().filter(|(_, owner)| owner.is_over()).map(|(run, _)| *run).collect();
        for run in over {
            if let Some(owner) = self.owners.remove(&run) {
                owner.tell_all(env, &self.post, WireOrder::Forget);
                let hungry = self.post.ledger.borrow_mut().forget(&env.plans[run].run);
                self.post.wake(env, &hungry);
            }
        }
    }
}
