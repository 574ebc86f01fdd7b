//! A machine with an agent: its disk, its processes, and what may happen to it. The keeper and the child that run on it
//! are in [`super::keeper`] and [`super::child`].

use super::broker::{Connection, Letter, Party};
use super::bug::Bug;
use super::child::Child;
use super::env::{Env, HostHappening};
use super::judge::{Attempt, Start};
use super::keeper::{Event, Keeper};
use cairn_agent::machine::{AttemptId, Input};
use cairn_model::{AgentSpec, FailureKind, Outcome, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long what a dead keeper left may run on: its child ends it.
const SWEEP_TAKES_MILLIS: u64 = 1_900;

/// The name of the agent of a number.
pub fn agent_name(number: usize) -> String {
    format!("agent{number}")
}

/// The number of the agent of a name.
pub fn agent_number(name: &str) -> Option<usize> {
    name.strip_prefix("agent")?.parse().ok()
}

/// What survives a process, and in part a loss of power.
#[derive(Default)]
pub struct Disk {
    pub journal: Vec<u8>,
    /// So much of the journal survives a loss of power.
    pub synced: usize,
    /// The number of the newest life.
    pub incarnation: u64,
}

/// A process: what it will come to, unless it is ended.
struct Process {
    attempt: Attempt,
    id: AttemptId,
    keeper: u64,
    outcome: Outcome,
    started_at: Timestamp,
}

pub struct Host {
    pub index: usize,
    /// Which agent it runs: another host's as well, if somebody copied its configuration (a namesake).
    pub number: usize,
    pub spec: AgentSpec,
    /// The shared queue that it takes work from besides its own.
    pub capability: Option<String>,
    /// What runs goes on without a lease (`on_partition: hold`).
    pub holds: bool,
    pub disk: Disk,
    pub keeper: Option<Keeper>,
    pub child: Option<Child>,
    /// Lives of keepers and children so far.
    pub lives: u64,
    processes: BTreeMap<u64, Process>,
    next_key: u64,
    frozen_until: Option<(Timestamp, bool)>,
    /// What processes did while the agent was frozen.
    unheard: Vec<Input>,
    pub is_destroyed: bool,
    /// Its agent was told to take nothing; with what it had decided to start before.
    pub drained: Option<BTreeSet<AttemptId>>,
}

impl Host {
    pub fn new(index: usize, number: usize, spec: AgentSpec, capability: Option<String>) -> Self {
        Self {
            index,
            number,
            spec,
            capability,
            holds: false,
            disk: Disk::default(),
            keeper: None,
            child: None,
            lives: 0,
            processes: BTreeMap::new(),
            next_key: 0,
            frozen_until: None,
            unheard: Vec::new(),
            is_destroyed: false,
            drained: None,
        }
    }

    pub fn connection(&self, life: u64) -> Connection {
        Connection { party: Party::Host(self.index), life }
    }

    /// Whether nothing is left to do or to say.
    pub fn is_idle(&self) -> bool {
        self.processes.is_empty() && self.keeper.as_ref().is_none_or(|keeper| keeper.core.machine.is_empty())
    }

    pub fn is_frozen(&self, now: Timestamp) -> bool {
        self.frozen_until.is_some_and(|(until, _)| now < until)
    }

    /// When something may happen on the host that is to happen now.
    pub fn postponed(&self, now: Timestamp, happening: &HostHappening) -> Option<Timestamp> {
        let (until, with_processes) = self.frozen_until.filter(|(until, _)| now < *until)?;
        let runs_on = match happening {
            HostHappening::ProcessEnds(_) => !with_processes,
            HostHappening::CrashHost | HostHappening::WipeHost | HostHappening::Destroy => true,
            _ => false,
        };
        (!runs_on).then_some(until)
    }

    pub fn freeze(&mut self, env: &mut Env, length: Duration, with_processes: bool) {
        if self.is_frozen(env.now) {
            return;
        }
        env.summary.freezes += 1;
        let until = env.now.plus(length);
        self.frozen_until = Some((until, with_processes));
        env.judge.sleeps(self.index, until);
        env.at(until, super::env::Happening::OnHost(self.index, HostHappening::KeeperTick(0)));
    }

    /// It goes on at once.
    pub fn thaw(&mut self, env: &mut Env) {
        if self.is_frozen(env.now) {
            self.frozen_until = None;
            env.judge.sleeps(self.index, env.now);
        }
    }

    pub fn happen(&mut self, env: &mut Env, happening: HostHappening) {
        if self.is_destroyed {
            return;
        }
        for input in std::mem::take(&mut self.unheard) {
            self.step(env, Event::Process(input));
        }
        match happening {
            HostHappening::StartKeeper => self.start_keeper(env),
            HostHappening::Deliver(life, tag, letter) => self.deliver(env, life, tag, &letter),
            HostHappening::Health => self.judge_health(env),
            HostHappening::KeeperTick(life) => {
                if self.keeper.as_ref().is_some_and(|keeper| keeper.life == life || life == 0) {
                    self.step(env, Event::Time);
                }
            }
            HostHappening::Written(life) => {
                if self.keeper.as_ref().is_some_and(|keeper| keeper.life == life) {
                    self.step(env, Event::Written);
                }
            }
            HostHappening::StartChild(life) => self.start_child(env, life),
            HostHappening::Listen(life) => self.listen(env, life),
            HostHappening::LeavePlace(life) => self.leave_place(env, life),
            HostHappening::ProcessStarted(key) => self.process_started(env, key),
            HostHappening::ProcessEnds(key) => self.process_ends(env, key),
            HostHappening::Sweep => self.sweep(env),
            HostHappening::Terminate => self.terminate(env),
            HostHappening::CrashChild => self.crash_child(env),
            HostHappening::CrashKeeper => self.crash_keeper(env),
            HostHappening::CrashHost => self.crash(env),
            HostHappening::WipeHost => self.wipe(env),
            HostHappening::Destroy => {
                self.crash(env);
                self.is_destroyed = true;
            }
        }
    }

    /// A message is handed to the child.
    pub fn deliver(&mut self, env: &mut Env, life: u64, tag: u64, letter: &Letter) {
        if self.child.as_ref().is_some_and(|child| child.life == life) {
            self.delivered(env, tag, letter);
        }
    }

    /// Starts the process of an attempt (`Runner::start`).
    pub fn start_process(&mut self, env: &mut Env, id: AttemptId) {
        let Some(keeper) = &self.keeper else { return };
        let Some(run) = keeper.core.runs.name(id.run).and_then(|name| env.run_of(name)) else { return };
        let attempt = Attempt { run, task: id.task, number: id.attempt };
        let (agent, incarnation) = (agent_name(self.number), keeper.core.incarnation);
        let is_drained = self.drained.as_ref().is_some_and(|before| !before.contains(&id));
        let start = Start { attempt, agent: &agent, incarnation, is_drained };
        env.note(format!("  starts {attempt:?} on host {}", self.index));
        env.check_start(&start);
        let settings = env.plans[run].plan.settings(id.task);
        let timeout = settings.timeout;
        let (length, outcome) = future(env, timeout);
        let key = self.next_key;
        self.next_key += 1;
        let process = Process { attempt, id, keeper: keeper.life, outcome, started_at: env.now };
        self.processes.insert(key, process);
        env.judge.runs(self.index, key, attempt, self.holds);
        if let Some(keeper) = &mut self.keeper {
            keeper.keys.insert(id, key);
        }
        if length > Duration::from_millis(10) || env.random.chance(500) {
            let wait = env.random.micros(5_000);
            env.on_host(self.index, wait, HostHappening::ProcessStarted(key));
        }
        env.on_host(self.index, length, HostHappening::ProcessEnds(key));
    }

    /// Asks the process of an attempt to end: most do, the others are killed a while later.
    pub fn stop_process(&mut self, env: &mut Env, id: AttemptId, at_once: bool) {
        let Some(key) = self.keeper.as_ref().and_then(|keeper| keeper.keys.get(&id).copied()) else { return };
        let Some(process) = self.processes.get_mut(&key) else { return };
        if env.random.chance(900) {
            process.outcome = Outcome::Stopped;
        }
        let obeys = at_once || env.random.chance(800);
        let wait = if obeys { env.random.micros(300_000) } else { Duration::from_millis(900) };
        env.on_host(self.index, wait, HostHappening::ProcessEnds(key));
    }

    fn process_started(&mut self, env: &mut Env, key: u64) {
        if let Some(process) = self.processes.get(&key) {
            let input = Input::ProcessStarted { id: process.id, at: process.started_at };
            self.tell_keeper(env, process.keeper, input);
        }
    }

    fn process_ends(&mut self, env: &mut Env, key: u64) {
        let Some(process) = self.processes.remove(&key) else { return };
        env.judge.process_ended(self.index, key, process.attempt, &process.outcome);
        let Process { id, outcome, started_at, keeper, .. } = process;
        self.tell_keeper(
            env,
            keeper,
            Input::ProcessFinished { id, outcome, started_at, finished_at: env.now },
        );
    }

    fn tell_keeper(&mut self, env: &mut Env, life: u64, input: Input) {
        if self.keeper.as_ref().is_none_or(|keeper| keeper.life != life) {
            return;
        }
        if self.is_frozen(env.now) {
            self.unheard.push(input);
        } else {
            self.step(env, Event::Process(input));
        }
    }

    /// What runs without a keeper is ended.
    fn sweep(&mut self, env: &mut Env) {
        let keeper = self.keeper.as_ref().map(|keeper| keeper.life);
        let is_left = |process: &Process| keeper != Some(process.keeper);
        let left: Vec<u64> =
            self.processes.iter().filter(|(_, process)| is_left(process)).map(|(key, _)| *key).collect();
        if env.is(Bug::LeftoversRunOn) {
            return;
        }
        for key in left {
            self.kill(env, key);
        }
    }

    fn kill(&mut self, env: &mut Env, key: u64) {
        if let Some(process) = self.processes.remove(&key) {
            env.judge.process_ended(self.index, key, process.attempt, &Outcome::Stopped);
        }
    }

    fn crash_child(&mut self, env: &mut Env) {
        if let Some(child) = self.child.take() {
            env.summary.child_crashes += 1;
            env.disconnect(self.connection(child.life));
            if let Some(keeper) = &mut self.keeper {
                keeper.child_is_gone();
                let wait = Duration::from_millis(env.random.between(100, 1_500));
                env.on_host(self.index, wait, HostHappening::StartChild(keeper.life));
            }
        }
    }

    /// The keeper dies; its child ends what is left, and itself. What it wrote stays, if not the last of it.
    fn crash_keeper(&mut self, env: &mut Env) {
        if self.keeper.take().is_none() {
            return;
        }
        env.summary.keeper_crashes += 1;
        self.unheard.clear();
        if env.random.chance(300) {
            self.tear_journal(env);
        }
        if let Some(child) = self.child.take() {
            env.disconnect(self.connection(child.life));
        }
        let swept = env.random.between(1, SWEEP_TAKES_MILLIS);
        env.on_host(self.index, Duration::from_millis(swept), HostHappening::Sweep);
        let start = Duration::from_millis(swept + env.random.between(1, 4_000));
        env.on_host(self.index, start, HostHappening::StartKeeper);
    }

    /// The keeper has ended in good order, and is started again after a while.
    pub fn end_keeper(&mut self, env: &mut Env) {
        self.keeper = None;
        if let Some(child) = self.child.take() {
            env.disconnect(self.connection(child.life));
        }
        let pause = Duration::from_millis(env.random.between(50, 15_000));
        env.on_host(self.index, pause, HostHappening::StartKeeper);
    }

    /// The machine loses its power.
    fn crash(&mut self, env: &mut Env) {
        env.summary.host_crashes += 1;
        self.keeper = None;
        self.unheard.clear();
        self.frozen_until = None;
        if let Some(child) = self.child.take() {
            env.disconnect(self.connection(child.life));
        }
        let keys: Vec<u64> = self.processes.keys().copied().collect();
        keys.into_iter().for_each(|key| self.kill(env, key));
        self.tear_journal(env);
        let pause = Duration::from_millis(env.random.between(50, 15_000));
        env.on_host(self.index, pause, HostHappening::StartKeeper);
    }

    /// Of what was not synced a part is lost.
    fn tear_journal(&mut self, env: &mut Env) {
        let unsynced = self.disk.journal.len() - self.disk.synced;
        if unsynced > 0 {
            env.summary.lost_records += 1;
            let kept = self.disk.synced + env.random.index(unsynced);
            self.disk.journal.truncate(kept);
        }
    }

    fn wipe(&mut self, env: &mut Env) {
        env.summary.wipes += 1;
        self.crash(env);
        (self.disk.journal, self.disk.synced) = (Vec::new(), 0);
        if env.is(Bug::IncarnationReused) {
            self.disk.incarnation = self.disk.incarnation.saturating_sub(1);
        }
    }
}

/// What a process will come to.
fn future(env: &mut Env, timeout: Option<Duration>) -> (Duration, Outcome) {
    let random = &mut env.random;
    let mut length = match random.below(4) {
        0 => Duration::from_micros(random.between(100, 9_000)),
        1 | 2 => Duration::from_millis(random.between(1, 800)),
        _ => Duration::from_millis(random.between(500, 9_000)),
    };
    let mut outcome = match random.below(20) {
        0 => failed(FailureKind::Signal),
        1 => failed(FailureKind::ExitCode),
        _ => Outcome::Completed,
    };
    if let Some(timeout) = timeout.filter(|timeout| length >= *timeout || random.chance(100)) {
        // Ended by the agent in time, or, if that fails, at the coordinator's word.
        outcome = failed(FailureKind::Timeout);
        length = if random.chance(500) { timeout } else { Duration::from_secs(3_600) };
    }
    (length, outcome)
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed {
        kind,
        message: "it failed".into(),
        exit_code: (kind == FailureKind::ExitCode).then_some(1),
    }
}
