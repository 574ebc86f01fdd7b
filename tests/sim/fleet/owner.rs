//! The loop that owns a run. It stands for `runtime::RunLoop`, function by function: [`Owner::take_in`],
//! [`Owner::decide`], [`Owner::release`], [`Owner::order_again`], and for `porter::carry` in
//! [`Owner::send`]. The engine and `Outstanding` are those that ship. What a planted bug does instead is in [`planted`].

mod planted;

use super::bug::Bug;
use super::env::{Env, Happening};
use super::shell::{POOL_PREFIX, Post};
use super::store::Entry;
use crate::sim::checker::Checker;
use cairn_coordinator::runtime::{AgentLife, Outstanding};
use cairn_engine::{Effect, State, TaskStatus, decide, next_deadline, react, recover};
use cairn_model::{AgentIndex, Command, Event, Report, ReportKind, TaskIndex, Timestamp};
use cairn_shared::message::wire::{Attempt, RunOrders, ToAgent, WireOrder};
use cairn_shared::message::{Order, OrderKind, convert};
use std::collections::VecDeque;
use std::ops::Range;

/// Appends that may be under way at a time.
const MAX_PENDING_APPENDS: usize = 4;

/// Events between two snapshots: few, so that there are some.
const SNAPSHOT_PACE: usize = 20;

/// What comes in.
pub enum Input {
    /// Who wishes it hears when it is durable.
    Command(Command, bool),
    Heard {
        from: AgentLife,
        reports: Vec<(TaskIndex, u32, ReportKind)>,
        tag: Option<u64>,
    },
    Held {
        from: AgentLife,
        attempts: Vec<(TaskIndex, u32)>,
    },
    Lost(AgentLife, Box<str>),
}

/// A decision whose events are on their way to the disk.
struct Pending {
    events: Range<usize>,
    after: After,
}

/// What is said once a decision is durable.
#[derive(Default)]
struct After {
    acknowledgements: Vec<(AgentLife, TaskIndex, u32)>,
    /// Replies to wishes: how many events of the run must be there.
    replies: Vec<usize>,
    /// What agents asked for that stands in the log before.
    answers: Vec<Effect>,
}

/// Whose run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ownership {
    Held,
    /// Another has taken it over, and this one does not know: the store will tell.
    Superseded,
    /// The store has refused an append (`AppendError::Fenced`): the loop ends.
    Fenced,
}

/// A run's loop.
pub struct Owner {
    run: usize,
    state: State,
    /// A second opinion on every event.
    checker: Checker,
    pending: VecDeque<Pending>,
    waiting: VecDeque<Input>,
    outstanding: Outstanding,
    owes_recovery: bool,
    refresh_is_due: bool,
    tick_at: Option<Timestamp>,
    snapshot_at: usize,
    ownership: Ownership,
    /// The run has a new owner, durably, since the last look.
    pub was_taken_over: bool,
}

impl Owner {
    /// A loop over what the log says (`RunLoop::new`, `connect_fleet`).
    pub fn new(env: &Env, run: usize) -> Self {
        let state = env.read_run(run);
        let planned = &env.plans[run];
        let owned = vec![true; planned.plan.milestones().len()];
        let mut checker = Checker::new(planned.plan.clone(), planned.graph.clone(), owned);
        for (_, event) in env.store.events(run) {
            checker.take(event).expect("it was right when it was decided");
        }
        let mut outstanding = Outstanding::default();
        for task in planned.plan.tasks() {
            let row = state.task(task);
            if let Some(agent) = row.agent().filter(|_| row.status == TaskStatus::InProgress) {
                outstanding.adopt(agent, task, row.attempt);
            }
        }
        let is_known = !state.run().id.is_empty();
        Self {
            run,
            state,
            checker,
            pending: VecDeque::new(),
            waiting: VecDeque::new(),
            outstanding,
            owes_recovery: is_known && !env.is(Bug::NoRecovery),
            refresh_is_due: false,
            tick_at: None,
            snapshot_at: env.store.durable,
            ownership: Ownership::Held,
            was_taken_over: false,
        }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Another takes the run over while this one is frozen. Whether there is anything left that it could do.
    pub fn is_superseded(&mut self) -> bool {
        self.ownership = Ownership::Superseded;
        self.tick_at = None;
        self.pending.is_empty()
    }

    pub fn is_fenced(&self) -> bool {
        self.ownership == Ownership::Fenced
    }

    /// Whether the run is over, durably.
    pub fn is_over(&self) -> bool {
        self.pending.is_empty() && self.state.run().status.is_final()
    }

    /// Takes something in, now or when appends are done (`RunLoop::take_in`).
    pub fn take_in(&mut self, env: &mut Env, post: &Post, input: Input) {
        self.waiting.push_back(input);
        self.go_on(env, post);
    }

    /// Does what can be done.
    pub fn go_on(&mut self, env: &mut Env, post: &Post) {
        while self.pending.len() < MAX_PENDING_APPENDS
            && !self.is_fenced()
            && let Some(input) = self.waiting.pop_front()
        {
            match input {
                Input::Command(command, is_wish) => {
                    let after =
                        After { replies: if is_wish { vec![0] } else { Vec::new() }, ..After::default() };
                    self.decide(env, post, command, after);
                }
                Input::Heard { from, reports, tag } => self.take_reports(env, post, &from, reports, tag),
                Input::Held { from, attempts } => {
                    if let Some(agent) = self.find(&from) {
                        self.outstanding.named(agent, &attempts);
                    }
                }
                Input::Lost(life, reason) => {
                    if let Some(agent) = self.find(&life) {
                        self.decide(env, post, Command::AgentLost { agent, reason }, After::default());
                    }
                }
            }
        }
        if self.is_fenced() {
            return;
        }
        if self.pending.is_empty() {
            if std::mem::take(&mut self.owes_recovery) {
                let effects = recover(&self.state);
                self.carry_out(env, post, effects);
            }
            if std::mem::take(&mut self.refresh_is_due) {
                self.snapshot(env, env.store.durable);
                self.order_again(env, post);
            }
        } else if env.is(Bug::SnapshotOfUndurable) {
            self.snapshot(env, env.store.log.len());
        }
        self.plan_tick(env, post.connection.life);
    }

    /// Once in a while (`RunLoop::drive`, at a refresh).
    pub fn refresh(&mut self, env: &mut Env, post: &Post) {
        self.refresh_is_due = true;
        self.go_on(env, post);
    }

    /// The state asked to be looked at again.
    pub fn tick(&mut self, env: &mut Env, post: &Post) {
        self.tick_at = None;
        if next_deadline(&self.state).is_some_and(|at| at <= env.now) {
            let before = env.store.log.len();
            self.decide(env, post, Command::Tick, After::default());
            env.ensure(
                env.store.log.len() > before || self.is_fenced(),
                "a decision that was asked for says nothing",
            );
        }
        self.go_on(env, post);
    }

    fn plan_tick(&mut self, env: &mut Env, life: u64) {
        let deadline = next_deadline(&self.state).map(|at| at.max(env.now));
        if let Some(at) = deadline.filter(|_| deadline != self.tick_at) {
            self.tick_at = deadline;
            env.at(at, Happening::RunTick(life, self.run));
        }
    }

    fn snapshot(&mut self, env: &mut Env, length: usize) {
        if length >= self.snapshot_at + SNAPSHOT_PACE && self.ownership == Ownership::Held {
            self.snapshot_at = length;
            env.keep_snapshot(self.run, &self.state, length);
        }
    }

    /// What agents say (`RunLoop::take_reports`).
    fn take_reports(
        &mut self,
        env: &mut Env,
        post: &Post,
        from: &AgentLife,
        said: Vec<(TaskIndex, u32, ReportKind)>,
        tag: Option<u64>,
    ) {
        let agent = self.find(from);
        let (mut reports, mut after) = (Vec::new(), After::default());
        for (task, mut attempt, kind) in said {
            let is_end = matches!(kind, ReportKind::Finished { .. });
            if is_end {
                after.acknowledgements.push((from.clone(), task, attempt));
            }
            let Some(agent) = agent else {
                env.summary.stale_reports += 1;
                continue;
            };
            if env.is(Bug::AttemptIgnored) {
                attempt = self.state.task(task).attempt.max(1);
            }
            if is_end || matches!(kind, ReportKind::Declined { .. }) {
                self.outstanding.ended(agent, task, attempt);
            } else {
                self.outstanding.answered(agent, task, attempt);
            }
            reports.push(Report { task, attempt, agent, kind });
        }
        if let Some(tag) = tag {
            env.acknowledge(tag);
        }
        self.decide_reports(env, post, reports, after);
    }

    fn decide_reports(&mut self, env: &mut Env, post: &Post, reports: Vec<Report>, after: After) {
        if reports.is_empty() {
            return self.settle(env, post, after);
        }
        let out = |report: &Report| self.checker.tasks[report.task.get()].out.map(|(attempt, _)| attempt);
        if reports.iter().all(|report| out(report) != Some(report.attempt)) {
            self.check_fenced(env, &reports);
        }
        self.decide(env, post, Command::Reports(reports), after);
    }

    /// Reports of attempts that are not out change nothing: the same is decided without them.
    fn check_fenced(&self, env: &Env, reports: &[Report]) {
        let consequences = |command| {
            let (mut state, mut events) = (self.state.clone(), Vec::new());
            let decision = decide(&mut state, command, env.now, &mut events).expect("always accepted");
            (decision.stale_reports as usize, state, events)
        };
        let (stale, after, events) = consequences(Command::Reports(reports.to_vec()));
        let (_, without, without_events) = consequences(Command::Tick);
        env.ensure(after == without && events == without_events, "a stale report changed something (I4)");
        env.ensure(stale == reports.len(), "a stale report is not counted (I4)");
    }

    /// The agent of the run in that life, if it is not lost (`RunLoop::find`).
    fn find(&self, life: &AgentLife) -> Option<AgentIndex> {
        let agent = self.state.find_agent(&life.id)?;
        (self.state.agents()[agent.get()].spec.incarnation == life.incarnation).then_some(agent)
    }

    /// Gives orders again that were not answered in time (`RunLoop::order_again`).
    fn order_again(&mut self, env: &mut Env, post: &Post) {
        if env.is(Bug::NothingOrderedAgain) {
            return;
        }
        let state = &self.state;
        let is_out = |agent, task, attempt| {
            let row = state.task(task);
            row.status.is_out() && row.attempt == attempt && row.agent() == Some(agent)
        };
        let overdue = self.outstanding.overdue(env.now, is_out);
        let orders = overdue.into_iter().map(|(agent, order)| (self.life_of(agent), order)).collect();
        self.send(env, post, orders);
    }

    /// Decides; whatever follows waits until it is durable (`RunLoop::decide_for`). A refused wish is forgotten.
    fn decide(&mut self, env: &mut Env, post: &Post, command: Command, mut after: After) {
        let mut events = Vec::new();
        let again = self.ends_again(env, &command);
        let name = &env.plans[self.run].run;
        self.state.lend(post.ledger.borrow().lend(name, self.state.agents(), &command));
        let decision = decide(&mut self.state, command, env.now, &mut events);
        let hungry = post.ledger.borrow_mut().settle(name, &self.state);
        post.wake(env, &hungry);
        match decision {
            Ok(decision) => {
                env.summary.stale_reports += u64::from(decision.stale_reports);
                after.answers = self.misjudged(env, decision.answers);
            }
            Err(rejection) => {
                if !env.weather.calm {
                    env.note(format!("  refused: {rejection}"));
                }
                return;
            }
        }
        if !events.is_empty() && self.ownership != Ownership::Held {
            self.ownership = Ownership::Fenced;
            return;
        }
        events.extend(again);
        let from = env.store.log.len();
        for event in events {
            env.note(format!("  {event:?}"));
            let verdict = self.checker.take(&event);
            verdict.unwrap_or_else(|complaint| panic!("{complaint} (I2, at {})", env.now));
            env.check_result(self.run, &event);
            env.store.log.push(Entry { run: self.run, at: env.now, event });
        }
        let there = env.store.log.iter().filter(|entry| entry.run == self.run).count();
        after.replies.iter_mut().for_each(|events| *events = there);
        let events = from..env.store.log.len();
        if events.is_empty() {
            return self.settle(env, post, after);
        }
        self.make_haste(env, post, &mut after, events.clone());
        self.pending.push_back(Pending { events, after });
        let wait = env.random.micros(env.weather.max_sync_millis * 1_000);
        let length = env.store.log.len();
        env.after(wait, Happening::Synced(post.connection.life, length));
    }

    /// Nothing new was decided (`RunLoop::settle`).
    fn settle(&mut self, env: &mut Env, post: &Post, after: After) {
        match self.pending.back_mut() {
            Some(last) if !env.is(Bug::AcknowledgeBeforeDurable) => {
                last.after.acknowledgements.extend(after.acknowledgements);
                last.after.replies.extend(after.replies);
                last.after.answers.extend(after.answers);
            }
            _ => self.say(env, post, after),
        }
    }

    /// What is durable is acted on (`RunLoop::release`).
    pub fn release(&mut self, env: &mut Env, post: &Post) {
        let durable = env.store.durable;
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.events.end <= durable) {
            let mut effects = Vec::new();
            for at in pending.events {
                let event = &env.store.log[at].event;
                self.was_taken_over |= matches!(event, Event::OwnerChanged { .. });
                react(&self.state, event, &mut effects);
                if let Event::TaskGranted { task, attempt, agent, .. } = event {
                    self.outstanding.adopt(*agent, *task, *attempt);
                }
            }
            if !env.is(Bug::OrderBeforeDurable) {
                self.carry_out(env, post, effects);
            }
            self.say(env, post, pending.after);
        }
        self.go_on(env, post);
    }

    fn say(&mut self, env: &mut Env, post: &Post, after: After) {
        self.carry_out(env, post, after.answers);
        let order = |(life, task, attempt)| (life, Order { task, attempt, kind: OrderKind::Acknowledge });
        let orders = after.acknowledgements.into_iter().map(order).collect();
        self.send(env, post, orders);
        after.replies.into_iter().for_each(|events| env.judge.was_answered(self.run, events));
    }

    fn carry_out(&mut self, env: &mut Env, post: &Post, effects: Vec<Effect>) {
        let mut orders = Vec::new();
        for effect in effects {
            let (agent, task, attempt, kind) = match effect {
                Effect::Offer { task, attempt, agent } => (agent, task, attempt, OrderKind::Offer),
                Effect::Grant { task, attempt, agent } => (agent, task, attempt, OrderKind::Grant),
                Effect::Stop { task, attempt, agent } => (agent, task, attempt, OrderKind::Stop),
                Effect::Ended => continue,
            };
            orders.push((self.life_of(agent), Order { task, attempt, kind }));
        }
        self.send(env, post, orders);
    }

    fn life_of(&self, agent: AgentIndex) -> AgentLife {
        let spec = &self.state.agents()[agent.get()].spec;
        AgentLife { id: spec.id.as_str().into(), incarnation: spec.incarnation }
    }

    /// Orders go out; those in a row to the same agent together (`Outbox::put`, `porter::carry`).
    fn send(&mut self, env: &mut Env, post: &Post, orders: Vec<(AgentLife, Order)>) {
        let mut orders = orders.into_iter().peekable();
        while let Some((life, first)) = orders.next() {
            let mut batch = vec![first];
            while let Some((_, order)) = orders.next_if(|(to, _)| *to == life) {
                batch.push(order);
            }
            let is_pool = |agent: &AgentIndex| self.state.agents()[agent.get()].is_pool();
            if let Some(agent) = self.find(&life).filter(|agent| !is_pool(agent)) {
                batch.iter().for_each(|&order| self.outstanding.ordered(agent, order, env.now));
            }
            let batch = batch.into_iter().map(|order| self.wire_order(order)).collect();
            self.tell(env, post, &life, batch);
        }
    }

    fn tell(&self, env: &mut Env, post: &Post, life: &AgentLife, orders: Vec<WireOrder>) {
        let (run, epoch) = (env.plans[self.run].run.clone(), self.state.run().epoch);
        let is_pool = life.id.starts_with(POOL_PREFIX);
        let incarnation = if is_pool { 0 } else { life.incarnation };
        let orders = ToAgent::Orders(RunOrders { run, epoch, incarnation, orders });
        match is_pool {
            true => post.offer(env, &orders),
            false => post.say(env, &life.id, &orders),
        }
    }

    /// Tells all agents that the run has known something about the run as a whole (`Service::note`, `Service::ended`).
    pub fn tell_all(&self, env: &mut Env, post: &Post, order: WireOrder) {
        for agent in self.state.agents().iter().filter(|agent| !agent.is_pool()) {
            let life = AgentLife { id: agent.spec.id.as_str().into(), incarnation: agent.spec.incarnation };
            self.tell(env, post, &life, vec![order.clone()]);
        }
    }

    fn wire_order(&self, order: Order) -> WireOrder {
        let attempt = Attempt { task: order.task.0, attempt: order.attempt };
        match order.kind {
            OrderKind::Offer => {
                WireOrder::Offer(Box::new(convert::offer(self.state.plan(), order.task, order.attempt)))
            }
            OrderKind::Grant => WireOrder::Grant(attempt),
            OrderKind::Stop => WireOrder::Stop(attempt),
            OrderKind::Acknowledge => WireOrder::Acknowledge(attempt),
        }
    }
}
