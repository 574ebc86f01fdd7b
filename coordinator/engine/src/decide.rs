//! A wish becomes events, or is rejected.

use crate::agenda;
use crate::apply::apply;
use crate::needs;
use crate::schedule::{self, MAX_EVENTS_PER_DECISION};
use crate::state::{CANCELLING, RunStatus, State, TaskStatus};
use cairn_model::{
    AgentIndex, AgentSpec, Command, Event, Failure, FailureKind, MilestoneIndex, NodeIndex, Outcome, Report,
    ReportKind, Scope, TaskIndex, Timestamp,
};
use std::time::Duration;

/// How long after an attempt's time-out its agent may take to end it, before the coordinator asks for it.
pub const TIMEOUT_SLACK: Duration = Duration::from_secs(15);

/// What a decision gave besides its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Reports of attempts that are not out any more: counted, without effect.
    pub stale_reports: u32,
}

/// Why a wish is refused. Not an error: nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The run exists already.
    #[error("run {run} is already submitted")]
    AlreadySubmitted {
        /// Which one.
        run: String,
    },
    /// There is no run yet.
    #[error("the run is not submitted yet")]
    NotSubmitted,
    /// The run has ended.
    #[error("run {run} has ended: {}", status.name())]
    RunEnded {
        /// Which one.
        run: String,
        /// How.
        status: RunStatus,
    },
    /// What the wish is about has ended.
    #[error("it has ended already")]
    AlreadyEnded,
    /// What is to be paused is paused.
    #[error("it is paused already")]
    AlreadyPaused,
    /// What is to be resumed is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// The epoch is not higher than the one in force.
    #[error("epoch {wished} is not higher than epoch {current}")]
    StaleEpoch {
        /// The epoch of the wish.
        wished: u64,
        /// The epoch in force.
        current: u64,
    },
    /// No such agent, or it is lost.
    #[error("there is no agent of that name")]
    UnknownAgent,
    /// The agent is known, in the same incarnation or a later one.
    #[error("agent {agent} has joined already")]
    AlreadyJoined {
        /// Which one.
        agent: String,
    },
    /// The need is not one from outside.
    #[error("nothing here waits for it from outside")]
    NothingWaits,
}

/// Decides `command` at `now`, applies what follows to the state and appends it to `events`. `now` must not be
/// before the last event. A decision ends when `events` holds about [`MAX_EVENTS_PER_DECISION`], even if more is
/// to be said: [`next_deadline`] then is not later than `now`.
///
/// # Errors
/// The command is refused; then nothing has changed.
pub fn decide(
    state: &mut State,
    command: Command,
    now: Timestamp,
    events: &mut Vec<Event>,
) -> Result<Decision, Rejection> {
    debug_assert!(now >= state.last_event_at(), "time does not run backwards");
    check(state, &command)?;
    let mut turn = Turn { state, now, events, stale_reports: 0 };
    turn.carry_out(command);
    turn.go_on();
    Ok(Decision { stale_reports: turn.stale_reports })
}

/// The next moment at which the state itself asks for a decision ([`Command::Tick`]): now, if there is work left
/// over; else when an attempt may be retried, or has run too long. `None` if only the outside can move it.
#[must_use]
pub fn next_deadline(state: &State) -> Option<Timestamp> {
    if state.run().status.is_final() || state.run().status == RunStatus::Absent {
        return None;
    }
    if has_work(state) {
        return Some(state.last_event_at());
    }
    let retry = state.facts.retries.first().map(|(at, _)| at);
    let timeout = state.facts.timeouts.first().map(|(at, _)| at.plus(TIMEOUT_SLACK));
    retry.into_iter().chain(timeout).min()
}

/// Whether a decision would have something to say without anything new.
#[must_use]
pub fn has_work(state: &State) -> bool {
    agenda::next(state, state.last_event_at()).is_some() || schedule::can_dispatch(state)
}

fn check(state: &State, command: &Command) -> Result<(), Rejection> {
    let run = state.run();
    let id = || run.id.clone();
    match (command, run.status) {
        (Command::Submit(_), RunStatus::Absent) => return Ok(()),
        (Command::Submit(_), _) => return Err(Rejection::AlreadySubmitted { run: id() }),
        (_, RunStatus::Absent) => return Err(Rejection::NotSubmitted),
        (Command::Reports(_) | Command::Tick, _) => return Ok(()),
        (_, status) if status.is_final() => return Err(Rejection::RunEnded { run: id(), status }),
        _ => {}
    }
    match command {
        Command::TakeOver { epoch } if *epoch <= run.epoch => {
            Err(Rejection::StaleEpoch { wished: *epoch, current: run.epoch })
        }
        Command::AgentJoined(spec) if is_known(state, spec) => {
            Err(Rejection::AlreadyJoined { agent: spec.id.clone() })
        }
        Command::AgentLost { agent, .. } => match state.agents().get(agent.get()) {
            Some(agent) if !agent.lost => Ok(()),
            _ => Err(Rejection::UnknownAgent),
        },
        Command::Pause { scope, .. } => check_scope(state, *scope, false),
        Command::Resume { scope } => check_scope(state, *scope, true),
        Command::Cancel { scope, .. } => {
            if has_ended(state, *scope) || (*scope == Scope::Run && run.cancelling) {
                return Err(Rejection::AlreadyEnded);
            }
            Ok(())
        }
        Command::Interrupt { .. } if run.interrupted => Err(Rejection::AlreadyPaused),
        Command::ResolveDependency { node, .. } if waiting_milestones(state, *node).is_empty() => {
            Err(Rejection::NothingWaits)
        }
        _ => Ok(()),
    }
}

/// Whether that incarnation of the agent is there, or a later one has been.
fn is_known(state: &State, spec: &AgentSpec) -> bool {
    state.agents().iter().filter(|agent| agent.spec.id == spec.id).any(|agent| {
        agent.spec.incarnation > spec.incarnation
            || (agent.spec.incarnation == spec.incarnation && !agent.lost)
    })
}

fn has_ended(state: &State, scope: Scope) -> bool {
    match scope {
        Scope::Run => state.run().status.is_final(),
        Scope::Milestone(milestone) => state.milestone(milestone).finished_at.is_some(),
        Scope::Task(task) => state.task(task).status.is_final(),
    }
}

fn check_scope(state: &State, scope: Scope, resume: bool) -> Result<(), Rejection> {
    if has_ended(state, scope) {
        return Err(Rejection::AlreadyEnded);
    }
    let paused = match scope {
        Scope::Run => state.run().status == RunStatus::Paused || state.run().interrupted,
        Scope::Milestone(milestone) => state.milestone(milestone).paused,
        Scope::Task(task) => state.task(task).is_paused(),
    };
    match (paused, resume) {
        (true, false) => Err(Rejection::AlreadyPaused),
        (false, true) => Err(Rejection::NotPaused),
        _ => Ok(()),
    }
}

/// The milestones scheduled here that wait for a node that is scheduled elsewhere, and have not heard of it.
fn waiting_milestones(state: &State, node: NodeIndex) -> Vec<MilestoneIndex> {
    let milestone_of = |node| needs::milestone_of(state, node);
    if node.get() >= state.graph.node_count() || state.owns(milestone_of(node)) {
        return Vec::new();
    }
    let mut milestones: Vec<_> =
        state.graph.successors(node).iter().map(|&next| milestone_of(next)).collect();
    milestones.sort_unstable();
    milestones.dedup();
    milestones
        .retain(|&milestone| state.owns(milestone) && !state.facts.resolved.contains(&(milestone, node)));
    milestones
}

/// An agent's clock may be off: what it says is moved between the dispatch, or the start that was seen, and now. How
/// long the attempt ran stays what the agent measured, as far as it fits.
fn span_by_our_clock(
    (started_at, finished_at): (Timestamp, Timestamp),
    (earliest, latest): (Timestamp, Timestamp),
) -> (Timestamp, Timestamp) {
    let ran = finished_at.since(started_at).min(latest.since(earliest));
    let finished_at = finished_at.clamp(earliest.plus(ran), latest);
    (Timestamp(finished_at.0 - cairn_model::time::micros(ran)), finished_at)
}

/// One decision under way.
struct Turn<'a> {
    state: &'a mut State,
    now: Timestamp,
    events: &'a mut Vec<Event>,
    stale_reports: u32,
}

impl Turn<'_> {
    fn emit(&mut self, event: Event) {
        apply(self.state, &event, self.now);
        self.events.push(event);
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Submit(submitted) => self.emit(Event::RunSubmitted(submitted)),
            Command::TakeOver { epoch } => self.take_over(epoch),
            Command::AgentJoined(spec) => {
                if let Some(agent) = self.state.find_agent(&spec.id) {
                    let reason = "it started again with no memory of its last life".into();
                    self.emit(Event::AgentLost { agent, reason });
                }
                self.emit(Event::AgentJoined(spec));
            }
            Command::AgentLost { agent, reason } => self.emit(Event::AgentLost { agent, reason }),
            Command::Reports(reports) => reports.into_iter().for_each(|report| self.hear(report)),
            Command::Pause { scope, reason } => self.emit(Event::Paused { scope, reason }),
            Command::Resume { scope } => self.emit(Event::Resumed { scope }),
            Command::Cancel { scope, reason } => {
                self.emit(Event::CancelRequested { scope, reason, fail_fast: false });
            }
            Command::Interrupt { reason } => self.emit(Event::RunInterrupted { reason }),
            Command::ResolveDependency { node, completed, position } => {
                for milestone in waiting_milestones(self.state, node) {
                    self.emit(Event::DependencyResolved { milestone, node, completed, position });
                }
            }
            Command::Tick => {}
        }
    }

    /// A closed fleet lives and dies with its owner. It is declared lost before anything is dispatched: what is
    /// offered to the dead would count as started, and `at_most_once` forbids another attempt.
    fn take_over(&mut self, epoch: u64) {
        self.emit(Event::OwnerChanged { epoch });
        if !self.state.run().options.closed_fleet {
            return;
        }
        for agent in (0..self.state.agents().len()).map(AgentIndex::new) {
            if !self.state.agents()[agent.get()].lost {
                let reason = "it was part of a process that is gone".into();
                self.emit(Event::AgentLost { agent, reason });
            }
        }
    }

    /// Says what is due, then dispatches: whatever fits into one decision.
    fn go_on(&mut self) {
        self.check_clock();
        while self.events.len() < MAX_EVENTS_PER_DECISION
            && let Some(event) = agenda::next(self.state, self.now)
        {
            self.emit(event);
        }
        schedule::dispatch(self.state, self.now, self.events);
    }

    fn check_clock(&mut self) {
        while self.events.len() < MAX_EVENTS_PER_DECISION
            && let Some((at, task)) = self.state.facts.retries.first()
            && at <= self.now
        {
            self.emit(Event::RetryDue { task });
        }
        while self.events.len() < MAX_EVENTS_PER_DECISION
            && let Some(&(at, task)) = self.state.facts.timeouts.first()
            && at.plus(TIMEOUT_SLACK) <= self.now
        {
            self.emit(Event::AttemptTimedOut { task, attempt: self.state.task(task).attempt });
        }
    }

    /// Each report stands for itself: one that does not fit the attempt that is out is counted, and no more.
    fn hear(&mut self, report: Report) {
        let Report { task, attempt, agent, kind } = report;
        let Some(row) = self.state.facts.tasks.get(task.get()).copied() else {
            self.stale_reports += 1;
            return;
        };
        if !row.status.is_out() || row.attempt != attempt || row.agent() != Some(agent) {
            self.stale_reports += 1;
            return;
        }
        match kind {
            ReportKind::Started { at } => {
                if row.status == TaskStatus::InProgress {
                    self.stale_reports += 1;
                    return;
                }
                let started_at = at.clamp(row.since.min(self.now), self.now);
                self.emit(Event::TaskStarted { task, attempt, started_at });
            }
            ReportKind::Accepted { .. } | ReportKind::Declined { .. } => {}
            ReportKind::Progress { permille, message } => {
                let permille = permille.min(1000);
                if row.permille != permille || self.state.message(task) != message.as_deref() {
                    self.emit(Event::ProgressUpdated { task, attempt, permille, message });
                }
            }
            ReportKind::Finished { outcome, started_at, finished_at } => {
                let since = row.since.min(self.now);
                let span = span_by_our_clock((started_at, finished_at), (since, self.now));
                let event = self.end_of_attempt(task, attempt, outcome, span);
                self.emit(event);
            }
        }
    }

    fn end_of_attempt(
        &self,
        task: TaskIndex,
        attempt: u32,
        outcome: Outcome,
        span: (Timestamp, Timestamp),
    ) -> Event {
        let (state, now) = (&*self.state, self.now);
        let without_result = |message: &str| {
            let failure =
                Failure { kind: FailureKind::Interrupted, message: message.to_owned(), exit_code: None };
            agenda::end_without_result(state, task, failure, now)
        };
        match outcome {
            Outcome::Completed => {
                Event::TaskCompleted { task, attempt, finished_at: span.1, duration: span.1.since(span.0) }
            }
            Outcome::Failed { kind, message, exit_code } => {
                let failure = Failure { kind, message: message.into(), exit_code };
                agenda::end_with_failure(state, task, failure, span, now)
            }
            Outcome::Lost { reason } => without_result(&reason),
            Outcome::Stopped if state.task(task).has(CANCELLING) => Event::TaskCancelled { task, attempt },
            Outcome::Stopped if agenda::ran_out_of_time(state, task) => {
                let message = "it ran longer than its time-out".to_owned();
                let failure = Failure { kind: FailureKind::Timeout, message, exit_code: None };
                agenda::end_with_failure(state, task, failure, span, now)
            }
            Outcome::Stopped => without_result("the attempt was stopped, to be continued later"),
            Outcome::NotStarted if state.task(task).has(CANCELLING) => Event::TaskCancelled { task, attempt },
            Outcome::NotStarted if state.task(task).status == TaskStatus::InProgress => {
                without_result("the agent gave the attempt back after it had started")
            }
            Outcome::NotStarted => {
                let message = "the agent gave the attempt back before it started".to_owned();
                let failure = Failure { kind: FailureKind::Interrupted, message, exit_code: None };
                Event::TaskRetryScheduled {
                    task,
                    attempt,
                    failure: Box::new(failure),
                    counts: false,
                    retry_at: now,
                }
            }
        }
    }
}
