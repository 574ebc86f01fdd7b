//! The shell around an agent's [`Machine`]: one loop that takes orders in, starts and stops processes, keeps
//! timers, and reports.
//!
//! ```text
//!   orders ──▶ ┌──────┐ ──▶ reports (at once while a slot is free; else what has gathered in 16 ms)
//!   events ──▶ │ loop │ ──▶ runner
//!   clock  ──▶ └──────┘
//! ```
//!
//! In-process: it reads the plan that the coordinator reads, so an offer is two numbers. Its processes end with
//! it; what a killed process leaves behind is found by [`crate::runner::end_leftovers`].

mod job;

use crate::machine::{Action, AttemptId, Input, Machine, Work};
use crate::mailbox::Mailbox;
use crate::runner::{Exit, Finished, Refusal, Runner, RunnerEvent, Settings, StopReason, Urgency};
use cairn_model::{AgentIndex, FailureKind, Outcome, Plan, Report, Timestamp};
use cairn_shared::clock::Clock;
use cairn_shared::message::{OrderKind, Orders};
use job::JobMaker;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the slots' events are looked at while the slots have work without our help. To be woken, and to append,
/// for each would cost a tenth of a short process; what ends in between is recorded together.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(16);

/// Jobs handed to the runner beyond its slots: what they do in two polls, if they are short.
const JOBS_AHEAD_PER_SLOT: usize = 64;

/// Timers at a time: each is two entries of a tree.
pub const MAX_TIMERS: u32 = 65_536;

/// Attempts that wait here for a slot, at most.
pub const MAX_BACKLOG: u32 = 256;

/// How long a task may take to end after SIGTERM before SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// What an in-process agent is made of.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its name.
    pub id: String,
    /// Its index in the run.
    pub index: AgentIndex,
    /// Processes at a time.
    pub slots: NonZeroUsize,
    /// The run, `PROJECT.N`.
    pub run: String,
    /// What the run executes.
    pub plan: Arc<Plan>,
    /// Where tasks start, absolute.
    pub plan_directory: PathBuf,
    /// The state directory: `work/` and `logs/` are in it, absolute.
    pub state_directory: PathBuf,
    /// Marks the processes of this state directory; see [`crate::runner`].
    pub marker: (String, String),
    /// The clock of the whole process.
    pub clock: Clock,
    /// How long a task may take to end after SIGTERM.
    pub grace: Duration,
}

/// Runs an agent until its orders end: then all that still runs is killed at once. A coordinator that wants its
/// tasks ended properly stops them and waits for the reports first.
pub async fn run(
    config: AgentConfig,
    mut orders: mpsc::Receiver<Orders>,
    reports: mpsc::Sender<Vec<Report>>,
) {
    let mailbox = Arc::new(Mailbox::default());
    let mut agent = Agent::new(config, &mailbox);
    loop {
        let wait = agent.next_deadline().map(|at| agent.config.clock.until(at));
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => agent.obey(order),
                None => break,
            },
            () = mailbox.is_worth_a_look() => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => agent.tick(),
        }
        if agent.may_read() {
            agent.read(&mailbox);
        }
        if !agent.reports.is_empty() && reports.send(std::mem::take(&mut agent.reports)).await.is_err() {
            break;
        }
    }
    let runner = agent.runner;
    // Joining threads blocks; nothing else is left to do for this task's thread.
    let _ = tokio::task::spawn_blocking(move || runner.shutdown(Urgency::Immediate)).await;
}

struct Agent {
    config: AgentConfig,
    machine: Machine,
    runner: Runner,
    jobs: JobMaker,
    actions: Vec<Action>,
    reports: Vec<Report>,
    poll_at: Option<Timestamp>,
}

impl Agent {
    fn new(config: AgentConfig, mailbox: &Arc<Mailbox>) -> Self {
        let clock = config.clock.clone();
        let mailbox = mailbox.clone();
        let sink = move |event| mailbox.put(event);
        let settings = Settings {
            slots: config.slots,
            marker: config.marker.clone(),
            withheld: Vec::new(),
            work_root: config.state_directory.join("work"),
            clock: Arc::new(move || clock.now()),
            events: Arc::new(sink),
        };
        let ahead = config.slots.get() * JOBS_AHEAD_PER_SLOT;
        Self {
            machine: Machine::new(config.slots.get() + ahead),
            runner: Runner::new(settings),
            jobs: JobMaker::new(&config),
            config,
            actions: Vec::new(),
            reports: Vec::new(),
            poll_at: None,
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.machine.next_deadline().into_iter().chain(self.poll_at).min()
    }

    fn obey(&mut self, orders: Orders) {
        let (now, epoch) = (self.config.clock.now(), orders.epoch);
        for order in orders.orders {
            let id = AttemptId { run: 0, task: order.task, attempt: order.attempt };
            let input = match order.kind {
                OrderKind::Offer => Input::Offer { id, epoch, work: self.work(id) },
                // Nothing here waits for a grant: what is offered in this process is offered once.
                OrderKind::Grant => continue,
                OrderKind::Stop => Input::Stop { id, epoch },
                OrderKind::Acknowledge => Input::Acknowledge { id },
            };
            self.machine.handle(input, now, &mut self.actions);
        }
        self.act(now);
    }

    /// Whether it is time to look at what the slots have said: not before the next poll, whatever else happens.
    fn may_read(&self) -> bool {
        self.poll_at.is_none_or(|at| at <= self.config.clock.now())
    }

    /// Hears what the slots have said, and decides how to hear of the next.
    fn read(&mut self, mailbox: &Mailbox) {
        loop {
            mailbox.take().into_iter().for_each(|event| self.hear(event));
            let is_polled = self.machine.processes() > self.config.slots.get();
            self.poll_at = is_polled.then(|| self.config.clock.now().plus(POLL_INTERVAL));
            if !mailbox.hand_over(is_polled) {
                return;
            }
        }
    }

    fn work(&self, id: AttemptId) -> Work {
        match self.config.plan.action(id.task) {
            cairn_model::Action::Wait(length) => Work::Timer(length),
            cairn_model::Action::Checkpoint => Work::Timer(Duration::ZERO),
            cairn_model::Action::Run(_) | cairn_model::Action::Exec(_) => Work::Process,
        }
    }

    fn hear(&mut self, event: RunnerEvent) {
        let now = self.config.clock.now();
        let input = match event {
            RunnerEvent::Started { key, at, .. } => Input::ProcessStarted { id: id_of(key), at },
            RunnerEvent::Progress { key, progress } => {
                let message = (!progress.message.is_empty()).then(|| progress.message.into());
                Input::ProcessProgress { id: id_of(key), permille: progress.permille, message }
            }
            RunnerEvent::Finished(finished) => input_of(&finished),
        };
        self.machine.handle(input, now, &mut self.actions);
        self.act(now);
    }

    fn tick(&mut self) {
        let now = self.config.clock.now();
        self.machine.handle(Input::Tick, now, &mut self.actions);
        self.act(now);
    }

    /// Carries out what the machine asks for, and what it asks for because of that.
    fn act(&mut self, now: Timestamp) {
        let mut refused = Vec::new();
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                match action {
                    Action::Start(id) => {
                        if let Err(refusal) = self.runner.start(self.jobs.job(key_of(id), id)) {
                            refused.push((id, reason_of(&refusal)));
                        }
                    }
                    Action::Stop(id) => {
                        self.runner.stop(key_of(id), StopReason::Cancelled, Urgency::Graceful);
                    }
                    Action::Report(id, kind) => {
                        let AttemptId { task, attempt, .. } = id;
                        self.reports.push(Report { task, attempt, agent: self.config.index, kind });
                    }
                    // A machine in the coordinator's process has none: the coordinator's log is beside it.
                    Action::Record(_) => {}
                }
            }
            self.actions = actions;
            for (id, message) in refused.drain(..) {
                let outcome = Outcome::Failed { kind: FailureKind::StartFailed, message, exit_code: None };
                let input = Input::ProcessFinished { id, outcome, started_at: now, finished_at: now };
                self.machine.handle(input, now, &mut self.actions);
            }
        }
    }
}

/// Why the runner did not take a job, with what the system said.
pub(crate) fn reason_of(refusal: &Refusal) -> Box<str> {
    match refusal {
        Refusal::NoSlot(cause) => format!("{refusal}: {cause}").into(),
        Refusal::DuplicateKey { .. } | Refusal::QueueFull | Refusal::ShuttingDown => {
            refusal.to_string().into()
        }
    }
}

fn key_of(id: AttemptId) -> u64 {
    u64::from(id.task.0) << 32 | u64::from(id.attempt)
}

fn id_of(key: u64) -> AttemptId {
    let [task, attempt] =
        [key >> 32, key & u64::from(u32::MAX)].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
    AttemptId { run: 0, task: cairn_model::TaskIndex(task), attempt }
}

/// How an attempt ended.
pub(crate) fn outcome_of(finished: &Finished) -> Outcome {
    match (&finished.exit, finished.exit.failure_kind()) {
        (exit, _) if exit.is_success() => Outcome::Completed,
        (Exit::Stopped { end: None, .. }, _) => Outcome::NotStarted,
        (exit, Some(kind)) => {
            Outcome::Failed { kind, message: exit.to_string().into(), exit_code: exit.code() }
        }
        (_, None) => Outcome::Stopped,
    }
}

fn input_of(finished: &Finished) -> Input {
    let outcome = outcome_of(finished);
    let (started_at, finished_at) =
        (finished.started_at.unwrap_or(finished.finished_at), finished.finished_at);
    Input::ProcessFinished { id: id_of(finished.key), outcome, started_at, finished_at }
}

/// What the agent of that many slots offers to a run.
#[must_use]
pub fn spec(
    id: &str,
    incarnation: u64,
    slots: NonZeroUsize,
    resources: Vec<(String, u64)>,
) -> cairn_model::AgentSpec {
    cairn_model::AgentSpec {
        id: id.to_owned(),
        incarnation,
        slots: u32::try_from(slots.get()).unwrap_or(u32::MAX),
        backlog: MAX_BACKLOG,
        timers: MAX_TIMERS,
        resources,
        labels: local_labels(),
        role: cairn_model::AgentRole::Own,
    }
}

/// The labels that every agent has: what its machine is.
pub(crate) fn local_labels() -> Vec<(String, String)> {
    vec![
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
    ]
}

#[cfg(test)]
mod tests;
