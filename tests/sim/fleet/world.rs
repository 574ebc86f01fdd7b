//! The world: who is in it, what goes wrong, and how it ends.

use super::broker::{Party, Place, Way};
use super::bug::Bug;
use super::env::{Env, Happening, HostHappening, Planned, Summary};
use super::hosts::{Host, agent_name};
use super::shell::Shell;
use crate::sim::plans;
use crate::sim::random::Random;
use crate::sim::world::Trace;
use cairn_engine::RunStatus;
use cairn_model::{AgentSpec, Command, Graph, MilestoneIndex, Plan, Scope};
use std::sync::Arc;
use std::time::Duration;

/// All runs must end within this time after the last fault, and everybody must know.
const PATIENCE: Duration = Duration::from_secs(900);
/// A world with more steps is stuck.
const MAX_STEPS: u64 = 200_000;
/// How often two agents have one name.
const NAMESAKE_PERMILLE: u64 = 150;
/// When the second one starts: never at the moment of another life.
const NAMESAKE_STARTS_AFTER: Duration = Duration::from_micros(1_500_001);
/// The capability of agents that share a queue.
const CAPABILITY: &str = "any";
/// How often somebody looks after what people have left undone, in calm weather.
const PUT_RIGHT_INTERVAL: Duration = Duration::from_secs(2);

/// A coordinator's place, the hosts of a fleet, and all that is between them.
pub struct World {
    env: Env,
    shell: Option<Shell>,
    /// A coordinator that is frozen, or was, while another took over.
    zombie: Option<Shell>,
    shells: u64,
    hosts: Vec<Host>,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let mut fleet = plans::fleet(&mut random, false);
        fleet.truncate(3);
        let is_shared = random.chance(400);
        if is_shared {
            // Of one capability are agents that can do the same.
            let (labels, resources) = (fleet[0].labels.clone(), fleet[0].resources.clone());
            for spec in &mut fleet {
                (spec.labels, spec.resources) = (labels.clone(), resources.clone());
            }
        }
        let runs = random.between(1, 2);
        let planned: Vec<Planned> = (0..runs)
            .map(|run| {
                let plan = Arc::new(plans::plan(&mut random, &fleet, 3, 4));
                let graph = Arc::new(Graph::new(&plan).expect("needs point backwards"));
                Planned { run: format!("sim{run}.1"), plan, graph }
            })
            .collect();
        // A spare that may be lost for good: what it can do, the first one can.
        let spare = AgentSpec { id: format!("agent{}", fleet.len()), ..fleet[0].clone() };
        let has_spare = random.chance(700);
        fleet.extend(has_spare.then_some(spare));
        let host = |(at, spec)| Host::new(at, at, spec, is_shared.then(|| CAPABILITY.to_owned()));
        let mut hosts: Vec<Host> = fleet.into_iter().enumerate().map(host).collect();
        // Somebody copied the configuration of the first agent. Chance of its own: the other worlds stay as they were.
        let spare_at = hosts.len() - 1;
        if Random::new(!seed).chance(NAMESAKE_PERMILLE) {
            let (spec, capability) = (hosts[0].spec.clone(), hosts[0].capability.clone());
            hosts.push(Host::new(hosts.len(), 0, spec, capability));
        }
        let holds = random.chance(200);
        hosts.iter_mut().for_each(|host| host.holds = holds && random.chance(700));
        let mut env = Env::new(random, bug, planned, is_shared, trace);
        env.note(format!("{:?}", env.weather));
        for at in 0..env.plans.len() {
            env.note(plans::describe(&env.plans[at].plan));
        }
        env.after(Duration::ZERO, Happening::CoordinatorStart);
        for host in &hosts {
            let is_namesake = host.index != host.number;
            let wait = if is_namesake { NAMESAKE_STARTS_AFTER } else { Duration::ZERO };
            env.on_host(host.index, wait, HostHappening::StartKeeper);
        }
        for run in 0..env.plans.len() {
            let wait = Duration::from_millis(env.random.below(3_000));
            env.after(wait, Happening::Submit(run));
        }
        let calm = Duration::from_millis(env.random.between(3_000, 40_000));
        env.after(calm, Happening::Calm);
        let mut world = Self { env, shell: None, zombie: None, shells: 0, hosts };
        world.plan_faults(has_spare.then_some(spare_at));
        world
    }

    fn plan_faults(&mut self, spare: Option<usize>) {
        let env = &mut self.env;
        let every = 2 * env.weather.fault_every_millis;
        for fault in [Happening::CoordinatorCrash, Happening::NetworkFault, Happening::HostFault] {
            if env.random.chance(800) {
                let wait = Duration::from_millis(env.random.below(every));
                env.after(wait, fault);
            }
        }
        if let Some(spare) = spare
            && env.random.chance(300)
        {
            let wait = Duration::from_millis(env.random.below(20_000));
            env.on_host(spare, wait, HostHappening::Destroy);
        }
        let wait = Duration::from_millis(env.random.below(2 * env.weather.wish_every_millis));
        env.after(wait, Happening::Wish);
    }

    /// Lets everything happen, and says what it was.
    pub fn run(mut self) -> Summary {
        let mut calm_since = None;
        while let Some(happening) = self.env.next() {
            self.env.summary.steps += 1;
            self.env.ensure(self.env.summary.steps < MAX_STEPS, "a world without end");
            self.env.note(format!("{} {happening:?}", self.env.now));
            self.happen(happening);
            self.check_leases();
            if self.env.weather.calm {
                let since = *calm_since.get_or_insert(self.env.now);
                let Some(open) = self.still_open() else { break };
                if self.env.now > since.plus(PATIENCE) {
                    self.env.note(self.standing());
                    panic!("{open} after the last fault (I7, at {})", self.env.now);
                }
            }
        }
        self.judge();
        self.env.summary
    }

    fn happen(&mut self, happening: Happening) {
        let env = &mut self.env;
        match happening {
            Happening::Arrives(letter, keeper) => {
                let is_lost = keeper.is_some_and(|from| match from.party {
                    Party::Coordinator => {
                        let mut shells = self.shell.iter().chain(&self.zombie);
                        !shells.any(|shell| shell.life() == from.life)
                    }
                    Party::Host(host) => {
                        self.hosts[host].child.as_ref().is_none_or(|child| child.life != from.life)
                    }
                });
                if !is_lost {
                    env.arrives(letter);
                }
            }
            Happening::Hand(place) => self.hand(place),
            Happening::Health(party) => self.judge_health(party),
            Happening::Reconnect(party) => env.reconnect(party),
            Happening::Synced(life, length) => {
                if let Some(shell) = self.shell.as_mut().filter(|shell| shell.life() == life) {
                    env.make_durable(length);
                    shell.synced(env);
                }
            }
            Happening::Leases(life) => self.shell(life, |shell, env| shell.look_at_leases(env)),
            Happening::RunTick(life, run) => self.shell(life, |shell, env| shell.tick_run(env, run)),
            Happening::Refresh(life) => self.shell(life, |shell, env| shell.refresh(env)),
            Happening::Room(life, run) => self.shell(life, |shell, env| shell.look_for_room(env, run)),
            Happening::Submit(run) => self.submit(run),
            Happening::Wish => self.wish(),
            Happening::CoordinatorStart => self.start_coordinator(),
            Happening::CoordinatorCrash => self.crash_coordinator(),
            Happening::Wake(life) => self.wake(life),
            Happening::OnHost(host, happening) => self.on_host(host, happening),
            Happening::Freeze(host, length, with_processes) => {
                self.hosts[host].freeze(env, length, with_processes);
            }
            Happening::NetworkFault => self.network_fault(),
            Happening::HostFault => self.host_fault(),
            Happening::Calm => self.calm(),
            Happening::PutRight => self.put_right(),
        }
    }

    fn shell(&mut self, life: u64, what: impl FnOnce(&mut Shell, &mut Env)) {
        let mut shells = self.shell.iter_mut().chain(&mut self.zombie);
        if let Some(shell) = shells.find(|shell| shell.life() == life && !shell.is_asleep) {
            what(shell, &mut self.env);
        }
    }

    fn on_host(&mut self, host: usize, happening: HostHappening) {
        match self.hosts[host].postponed(self.env.now, &happening) {
            Some(until) => self.env.at(until, Happening::OnHost(host, happening)),
            None => self.hosts[host].happen(&mut self.env, happening),
        }
    }

    /// A queue hands out a message. What is handed to a frozen host waits there.
    fn hand(&mut self, place: Place) {
        let Some((to, tag, letter)) = self.env.hand_out(place) else { return };
        match to.party {
            Party::Coordinator => self.shell(to.life, |shell, env| shell.deliver(env, tag, &letter)),
            Party::Host(host) => {
                let now = self.env.now;
                match self.hosts[host].postponed(now, &HostHappening::Deliver(to.life, tag, letter.clone())) {
                    Some(until) => {
                        let later = HostHappening::Deliver(to.life, tag, letter);
                        self.env.at(until, Happening::OnHost(host, later));
                    }
                    None => self.hosts[host].deliver(&mut self.env, to.life, tag, &letter),
                }
            }
        }
    }

    fn judge_health(&mut self, party: Party) {
        match party {
            Party::Coordinator => {
                if let Some(shell) = &mut self.shell {
                    shell.judge_health(&mut self.env);
                }
            }
            Party::Host(host) => self.on_host(host, HostHappening::Health),
        }
    }

    fn start_coordinator(&mut self) {
        if self.shell.is_none() {
            self.shells += 1;
            self.env.check_answered();
            self.shell = Some(Shell::start(&mut self.env, self.shells));
        }
    }

    fn crash_coordinator(&mut self) {
        if self.env.weather.calm {
            return;
        }
        if let Some(shell) = self.shell.take() {
            self.env.summary.coordinator_crashes += 1;
            self.env.disconnect(super::broker::Connection { party: Party::Coordinator, life: shell.life() });
            self.env.crash_store();
            let pause = Duration::from_millis(*self.env.random.pick(&[1, 500, 14_000]));
            self.env.after(pause, Happening::CoordinatorStart);
            if self.zombie.is_none() && self.env.random.chance(300) {
                let sleep = Duration::from_millis(self.env.random.between(500, 20_000));
                self.env.after(sleep, Happening::Wake(shell.life()));
                self.zombie = Some(shell.asleep());
            }
        }
        self.again(Happening::CoordinatorCrash);
    }

    /// One that was frozen goes on, if another has taken over: to be fenced, or else it is as good as crashed.
    fn wake(&mut self, life: u64) {
        let may_wake = self.shell.is_some() && !self.env.weather.calm;
        let Some(zombie) = self.zombie.as_mut().filter(|zombie| zombie.life() == life && zombie.is_asleep)
        else {
            self.zombie = None;
            return;
        };
        if may_wake {
            self.env.summary.zombies += 1;
            zombie.wake(&mut self.env);
            let gone = Duration::from_millis(self.env.random.between(5_000, 20_000));
            self.env.after(gone, Happening::Wake(life));
        } else {
            self.zombie = None;
        }
    }

    fn again(&mut self, fault: Happening) {
        let wait = Duration::from_millis(self.env.random.below(2 * self.env.weather.fault_every_millis));
        self.env.after(wait, fault);
    }

    fn submit(&mut self, run: usize) {
        if let Some(shell) = &mut self.shell {
            shell.submit(&mut self.env, run);
        }
        // Who has no answer asks again.
        if self.env.store.folded[run].run().status == RunStatus::Absent {
            self.env.after(Duration::from_secs(1), Happening::Submit(run));
        }
    }

    fn network_fault(&mut self) {
        let env = &mut self.env;
        if env.weather.calm {
            return;
        }
        let length = Duration::from_millis(*env.random.pick(&[300, 3_000, 9_000, 25_000]));
        let host = env.random.index(self.hosts.len());
        let way = *env.random.pick(&[Way::Out, Way::In, Way::Both, Way::Both]);
        match env.random.below(12) {
            0..=5 => env.cut(Party::Host(host), way, length),
            6..=7 => env.cut(Party::Coordinator, way, length),
            8 => env.block(length, self.hosts.len()),
            9 => {
                let places = [Place::Coordinator, Place::Agent(self.hosts[host].number), Place::Work];
                let place = *env.random.pick(&places);
                env.purge(place);
            }
            10 => env.wipe(),
            _ => {}
        }
        self.again(Happening::NetworkFault);
    }

    fn host_fault(&mut self) {
        let env = &mut self.env;
        if env.weather.calm {
            return;
        }
        let host = env.random.index(self.hosts.len());
        let fault = match env.random.below(12) {
            10..=11 => HostHappening::Terminate,
            0..=1 => HostHappening::CrashChild,
            2..=4 => HostHappening::CrashKeeper,
            5 => HostHappening::CrashHost,
            6 => HostHappening::WipeHost,
            _ => {
                let length = Duration::from_millis(*env.random.pick(&[500, 5_000, 12_000, 25_000]));
                let with_processes = env.random.chance(500);
                env.after(Duration::ZERO, Happening::Freeze(host, length, with_processes));
                return self.again(Happening::HostFault);
            }
        };
        env.on_host(host, Duration::ZERO, fault);
        self.again(Happening::HostFault);
    }

    /// Somebody wants something, seldom an end.
    fn wish(&mut self) {
        if self.env.weather.calm {
            return;
        }
        let run = self.env.random.index(self.env.plans.len());
        let agent = self.env.random.index(self.hosts.len());
        let scopes = scopes(&self.env.plans[run].plan);
        let scope = *self.env.random.pick(&scopes);
        let what = self.env.random.below(12);
        if let Some(shell) = &mut self.shell {
            let env = &mut self.env;
            let reason: Box<str> = "a wish".into();
            let has_ended = env.store.folded[run].run().status.is_final();
            match what {
                // It takes no other wish.
                0..=7 if has_ended => {
                    shell.wish(env, run, Command::Retry { scope, downstream: what.is_multiple_of(2) });
                }
                11 => shell.wish(env, run, Command::Retry { scope, downstream: false }),
                0..=2 => shell.wish(env, run, Command::Pause { scope, reason }),
                3..=6 => shell.wish(env, run, Command::Resume { scope }),
                7 => shell.wish(env, run, Command::Cancel { scope, reason }),
                8..=9 => shell.drain(env, agent, true),
                _ => shell.drain(env, agent, false),
            }
        }
        let wait = Duration::from_millis(self.env.random.below(2 * self.env.weather.wish_every_millis));
        self.env.after(wait, Happening::Wish);
    }

    /// Faults stop: everybody comes back.
    fn calm(&mut self) {
        let env = &mut self.env;
        env.weather.clear();
        env.heal();
        self.zombie = None;
        env.after(Duration::ZERO, Happening::CoordinatorStart);
        for host in 0..self.hosts.len() {
            self.hosts[host].thaw(env);
            if self.hosts[host].index != self.hosts[host].number {
                // Somebody has seen that two agents have one name: one goes, the other begins a new life, for that of the
                // one that went was perhaps the later.
                env.on_host(host, Duration::ZERO, HostHappening::Destroy);
                env.on_host(self.hosts[host].number, Duration::ZERO, HostHappening::WipeHost);
            }
            env.after(Duration::ZERO, Happening::Health(Party::Host(host)));
        }
        env.after(Duration::ZERO, Happening::Health(Party::Coordinator));
        env.after(Duration::ZERO, Happening::PutRight);
    }

    /// Somebody resumes what is paused and gives work again to whom it was kept from.
    fn put_right(&mut self) {
        let env = &mut self.env;
        if let Some(shell) = &mut self.shell {
            (0..self.hosts.len()).for_each(|agent| shell.drain(env, agent, false));
            for run in 0..env.plans.len() {
                for scope in scopes(&env.plans[run].plan) {
                    shell.resume(env, run, scope);
                }
            }
        }
        env.after(PUT_RIGHT_INTERVAL, Happening::PutRight);
    }

    /// When a coordinator takes an agent for lost, the agent must have found before that its lease has ended.
    fn check_leases(&mut self) {
        for (agent, incarnation) in std::mem::take(&mut self.env.expired) {
            let keepers = self.hosts.iter().filter(|host| agent_name(host.number) == agent);
            let mut keepers = keepers.filter_map(|host| host.keeper.as_ref());
            let believes = keepers.any(|keeper| {
                keeper.core.incarnation == incarnation && keeper.lease.is_held(self.env.now) == Some(true)
            });
            self.env.ensure(!believes, "an agent that is taken for lost believes that it has a lease (I5)");
        }
    }

    /// What has not ended; nothing once all runs have and everybody knows.
    fn still_open(&self) -> Option<&'static str> {
        let is_open = |run: usize| !self.env.store.folded[run].run().status.is_final();
        if (0..self.env.plans.len()).any(is_open) {
            Some("a run does not end")
        } else if self.env.store.durable < self.env.store.log.len() {
            Some("something is not durable")
        } else if !self.shell.as_ref().is_some_and(Shell::is_idle) {
            Some("a loop does not end")
        } else if !self.hosts.iter().all(|host| host.is_destroyed || host.is_idle()) {
            Some("an agent does not forget")
        } else {
            None
        }
    }

    /// How all stands, for who looks into a failure.
    fn standing(&self) -> String {
        let runs = self.env.store.folded.iter().map(|state| {
            let tasks: Vec<_> = state.plan().tasks().map(|task| state.task(task)).collect();
            format!("{:?} {tasks:?}; ", state.run().status)
        });
        runs.collect()
    }

    /// What must hold when all is over.
    fn judge(&mut self) {
        let env = &mut self.env;
        env.check_answered();
        for run in 0..env.plans.len() {
            let state = env.read_run(run);
            env.ensure(!cairn_engine::has_work(&state), "there is work left over");
            env.ensure(cairn_engine::next_deadline(&state).is_none(), "something is still waited for");
            match state.run().status {
                RunStatus::Completed => env.summary.completed += 1,
                RunStatus::Failed => env.summary.failed += 1,
                RunStatus::Cancelled => env.summary.cancelled += 1,
                RunStatus::Absent | RunStatus::Active | RunStatus::Paused => {
                    env.ensure(false, "a run has not ended (I7)");
                }
            }
        }
        env.summary.events = env.store.log.len() as u64;
        env.summary.hash = env.trace.hash();
    }
}

fn scopes(plan: &Plan) -> Vec<Scope> {
    let milestones = (0..plan.milestones().len()).map(|at| Scope::Milestone(MilestoneIndex::new(at)));
    [Scope::Run].into_iter().chain(milestones).chain(plan.tasks().map(Scope::Task)).collect()
}
