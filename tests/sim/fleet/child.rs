//! A child's life: the agent's network. It stands for `child::post::Post`. It is a part of the keeper's step here: the
//! socket between the two neither loses nor delays anything, and when one of them dies it takes what is on it along.

use super::broker::{Letter, Party, Place};
use super::env::{Env, HostHappening};
use super::hosts::{Host, agent_name};
use super::judge::Attempt;
use super::keeper::Event;
use cairn_model::{AgentIndex, ReportKind, Timestamp};
use cairn_shared::message::codec::{Codec, decode};
use cairn_shared::message::convert;
use cairn_shared::message::wire::{
    Heartbeat, Held, Hello, PROTOCOL, RunOrders, RunReports, ToAgent, ToCoordinator, WireOrder, WireReport,
};
use std::time::Duration;

/// How soon a queue is listened at again that somebody else has.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long an agent without room keeps its place at the shared queue.
const PLACE_PATIENCE: Duration = Duration::from_millis(200);

/// What a child says to its keeper.
pub enum Said {
    Attached,
    Linked(bool),
    Welcomed { lease: Duration, heartbeat: Duration },
    Answered(u64),
    Drain(bool),
    Orders { tag: u64, shared: bool, redelivered: bool, orders: RunOrders },
}

/// A child's life.
pub struct Child {
    pub life: u64,
    listens: bool,
    linked: bool,
    welcomed: bool,
    draining: bool,
    /// Attempts that it takes from the shared queue now.
    room: usize,
    has_place: bool,
    /// What it was handed there and has no room for.
    parked: Option<(u64, Letter)>,
    /// Until when the transport keeps the newest sign of life.
    beating_until: Timestamp,
}

impl Host {
    pub fn start_child(&mut self, env: &mut Env, keeper: u64) {
        if self.child.is_some() || self.keeper.as_ref().is_none_or(|known| known.life != keeper) {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let draining = self.keeper.as_ref().is_some_and(|keeper| keeper.core.machine.is_draining());
        self.child = Some(Child {
            life,
            listens: false,
            linked: false,
            welcomed: false,
            draining,
            room: 0,
            has_place: false,
            parked: None,
            beating_until: Timestamp::default(),
        });
        self.step(env, Event::Child(Said::Attached));
        self.judge_health(env);
        self.listen(env, life);
    }

    pub fn listen(&mut self, env: &mut Env, life: u64) {
        let connection = self.connection(life);
        let Some(child) = self.child.as_mut().filter(|child| child.life == life && !child.listens) else {
            return;
        };
        if env.subscribe(Place::Agent(self.number), connection) {
            child.listens = true;
            self.say_hello(env);
        } else {
            env.summary.refused_listeners += 1;
            env.on_host(self.index, RETRY_INTERVAL, HostHappening::Listen(life));
        }
    }

    /// The transport tells how it is (`Post::told_health`).
    pub fn judge_health(&mut self, env: &mut Env) {
        let linked = env.broker.is_up(Party::Host(self.index), env.now);
        let Some(child) = self.child.as_mut().filter(|child| child.linked != linked) else { return };
        child.linked = linked;
        self.step(env, Event::Child(Said::Linked(linked)));
        self.say_hello(env);
    }

    fn say_hello(&mut self, env: &mut Env) {
        let (Some(child), Some(keeper)) = (&self.child, &self.keeper) else { return };
        if !child.linked || !child.listens || child.welcomed {
            return;
        }
        let spec = self.spec.clone();
        let hello = Hello {
            agent: agent_name(self.number),
            incarnation: keeper.core.incarnation,
            protocol: (PROTOCOL, PROTOCOL),
            version: "model".into(),
            content_type: Codec::Bincode.content_type().to_owned(),
            slots: spec.slots,
            backlog: spec.backlog,
            timers: spec.timers,
            resources: spec.resources,
            labels: spec.labels,
            capability: self.capability.clone(),
            draining: child.draining,
        };
        self.sign_of_life(env, &ToCoordinator::Hello(hello));
    }

    /// One at a time: what is still on its way says all that a second one would.
    fn sign_of_life(&mut self, env: &mut Env, message: &ToCoordinator) {
        let Some(child) = self.child.as_mut().filter(|child| child.beating_until <= env.now) else { return };
        let life = child.life;
        child.beating_until = env.broker.held_until(Party::Host(self.index));
        env.publish(self.connection(life), Place::Coordinator, Codec::Bincode, message);
    }

    /// The keeper beats (`ToChild::Beat`).
    pub fn child_beats(&mut self, env: &mut Env, sequence: u64, draining: bool, holds: Vec<Held>) {
        let (Some(child), Some(keeper)) = (&mut self.child, &self.keeper) else { return };
        child.draining = draining;
        if child.linked && child.welcomed {
            let (agent, incarnation) = (agent_name(self.number), keeper.core.incarnation);
            let beat = Heartbeat { agent, incarnation, sequence, draining, holds };
            self.sign_of_life(env, &ToCoordinator::Heartbeat(beat));
        } else {
            self.say_hello(env);
        }
    }

    /// The keeper reports (`ToChild::Reports`).
    pub fn child_reports(&mut self, env: &mut Env, run: String, reports: Vec<WireReport>) {
        let (Some(child), Some(keeper)) = (&self.child, &self.keeper) else { return };
        let (agent, incarnation) = (agent_name(self.number), keeper.core.incarnation);
        if let Some(index) = env.run_of(&run) {
            let tasks = env.plans[index].plan.task_count();
            for report in &reports {
                let read = convert::report(report, AgentIndex(0), tasks, env.now)
                    .expect("an agent reports what it was offered");
                if let ReportKind::Finished { outcome, .. } = &read.kind {
                    let attempt = Attempt { run: index, task: read.task, number: read.attempt };
                    env.check_told((&agent, incarnation), attempt, outcome);
                }
            }
        }
        let reports = ToCoordinator::Reports(RunReports { agent, incarnation, run, reports });
        env.publish(self.connection(child.life), Place::Coordinator, Codec::Bincode, &reports);
    }

    /// The keeper tells how much it would take (`Keeper::work`, `ToChild::Room`).
    pub fn tell_room(&mut self, env: &mut Env) {
        let (Some(keeper), Some(child)) = (&mut self.keeper, &mut self.child) else { return };
        let room = keeper.core.machine.room();
        if self.capability.is_none() || keeper.told_room == Some(room) {
            return;
        }
        (keeper.told_room, child.room) = (Some(room), room);
        let (life, parked) = (child.life, if room > 0 { child.parked.take() } else { None });
        if room > 0 && !std::mem::replace(&mut child.has_place, true) {
            env.subscribe(Place::Work, self.connection(life));
        }
        if let Some((tag, letter)) = parked {
            self.delivered(env, tag, &letter);
        }
        self.lose_patience(env);
    }

    fn lose_patience(&self, env: &mut Env) {
        if let Some(child) = self.child.as_ref().filter(|child| child.has_place && child.room == 0) {
            env.on_host(self.index, PLACE_PATIENCE, HostHappening::LeavePlace(child.life));
        }
    }

    /// Others may have what it has no room for.
    pub fn leave_place(&mut self, env: &mut Env, life: u64) {
        let connection = self.connection(life);
        let without_room = |child: &&mut Child| child.life == life && child.has_place && child.room == 0;
        if let Some(child) = self.child.as_mut().filter(without_room) {
            env.summary.places_left += 1;
            (child.has_place, child.parked) = (false, None);
            env.leave(Place::Work, connection);
        }
    }

    /// A message has come (`Post::delivered`).
    pub fn delivered(&mut self, env: &mut Env, tag: u64, letter: &Letter) {
        let shared = letter.to == Place::Work;
        if let Some(child) = self.child.as_mut().filter(|child| shared && child.room == 0) {
            child.parked = Some((tag, letter.clone()));
            return;
        }
        let Ok(said) = decode::<ToAgent>(letter.content_type, &letter.body) else {
            return env.reject(tag);
        };
        let incarnation = self.keeper.as_ref().map_or(0, |keeper| keeper.core.incarnation);
        let Some(child) = &mut self.child else { return };
        match said {
            ToAgent::Orders(orders) => {
                let redelivered = letter.redelivered;
                if shared {
                    let offers = orders.orders.iter().filter(|order| matches!(order, WireOrder::Offer(_)));
                    child.room = child.room.saturating_sub(offers.count());
                    self.lose_patience(env);
                }
                return self.step(env, Event::Child(Said::Orders { tag, shared, redelivered, orders }));
            }
            _ if shared => {}
            ToAgent::Introduce => {
                child.welcomed = false;
                self.say_hello(env);
            }
            ToAgent::Welcome(welcome) if welcome.incarnation == incarnation => {
                child.welcomed = true;
                let lease = Duration::from_millis(welcome.lease_millis);
                let heartbeat = Duration::from_millis(welcome.heartbeat_millis);
                self.step(env, Event::Child(Said::Welcomed { lease, heartbeat }));
            }
            ToAgent::HeartbeatHeard { incarnation: whose, sequence } if whose == incarnation => {
                self.step(env, Event::Child(Said::Answered(sequence)));
            }
            ToAgent::Welcome(_) | ToAgent::HeartbeatHeard { .. } => {}
            ToAgent::Drain => self.step(env, Event::Child(Said::Drain(true))),
            ToAgent::Undrain => self.step(env, Event::Child(Said::Drain(false))),
        }
        env.acknowledge(tag);
    }
}
