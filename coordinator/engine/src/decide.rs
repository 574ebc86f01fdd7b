//! A wish becomes events, or is rejected. What agents report is heard in [`crate::hear`].

use crate::agenda;
use crate::apply::apply;
use crate::effect::Effect;
use crate::needs;
use crate::reopen;
use crate::schedule::{self, MAX_EVENTS_PER_DECISION};
use crate::state::{CANCELLING, State};
use crate::status::RunStatus;
use cairn_model::{AgentIndex, AgentSpec, Command, Event, MilestoneIndex, NodeIndex, Scope, Timestamp};
use std::time::Duration;

/// How long after an attempt's time-out its agent may take to end it, before the coordinator asks for it.
pub const TIMEOUT_SLACK: Duration = Duration::from_secs(15);

/// What a decision gave besides its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Reports of attempts that are not out any more, or not with who reports them: counted, without effect.
    pub stale_reports: u32,
    /// What is owed to agents that asked for what stands in the log before: to be carried out, as what [`crate::react`]
    /// gives, once the events of this decision and all before it are durable.
    pub answers: Vec<Effect>,
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
    /// Nothing in the scope has ended in a way that can be repaired now.
    #[error("there is nothing to run again: it has not ended, or what it needs did not complete")]
    NothingToRetry,
    /// An attempt of what is to run again is with an agent.
    #[error("task {task} is out with an agent")]
    TaskIsOut {
        /// Which one.
        task: String,
    },
    /// It is being cancelled, or what follows from the last events has not been said yet.
    #[error("the run is coming to an end just now; try again when it has")]
    NotSettled,
    /// Some milestones are scheduled elsewhere.
    #[error("only who schedules the whole run can run a part of it again")]
    NotWhole,
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
    let mut turn = Turn { state, now, events, decision: Decision::default() };
    turn.carry_out(command);
    turn.go_on();
    Ok(turn.decision)
}

/// The next moment at which the state itself asks for a decision ([`Command::Tick`]): now, if there is work left
/// over; else when an attempt may be retried, has run too long, or has lain in a pool too long. `None` if only the outside can move it.
#[must_use]
pub fn next_deadline(state: &State) -> Option<Timestamp> {
    if state.run().status.is_final() || state.run().status == RunStatus::Absent {
        return None;
    }
    if has_work(state) {
        return Some(state.last_event_at());
    }
    let retry = state.facts.retries.first().map(|(at, _)| at);
    let lease = state.facts.leases.first().map(|(at, _)| at);
    let timeout = state.facts.timeouts.first().map(|(at, _)| at.plus(TIMEOUT_SLACK));
    retry.into_iter().chain(lease).chain(timeout).min()
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
        // Before what has ended goes on, it gets an owner, and loses agents that are gone.
        (
            Command::TakeOver { .. }
            | Command::AgentLost { .. }
            | Command::AgentLeft { .. }
            | Command::Retry { .. },
            _,
        ) => {}
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
        Command::AgentChanged(spec) if find_life(state, spec).is_none() => Err(Rejection::UnknownAgent),
        Command::Retry { scope, downstream } => reopen::choose(state, *scope, *downstream).map(drop),
        Command::AgentLost { agent, .. } | Command::AgentLeft { agent, .. } => {
            match state.agents().get(agent.get()) {
                Some(agent) if !agent.lost => Ok(()),
                _ => Err(Rejection::UnknownAgent),
            }
        }
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

/// That very incarnation of the agent, if it is there.
fn find_life(state: &State, spec: &AgentSpec) -> Option<AgentIndex> {
    let agent = state.find_agent(&spec.id)?;
    (state.agents()[agent.get()].spec.incarnation == spec.incarnation).then_some(agent)
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

/// One decision under way.
pub(crate) struct Turn<'a> {
    pub state: &'a mut State,
    pub now: Timestamp,
    events: &'a mut Vec<Event>,
    pub decision: Decision,
}

impl Turn<'_> {
    pub fn emit(&mut self, event: Event) {
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
            Command::AgentChanged(spec) => self.change(spec),
            Command::AgentLost { agent, reason } => self.emit(Event::AgentLost { agent, reason }),
            Command::AgentLeft { agent, reason } => {
                self.take_back(agent);
                self.emit(Event::AgentLost { agent, reason });
            }
            Command::Reports(reports) => reports.into_iter().for_each(|report| self.hear(report)),
            Command::Pause { scope, reason } => self.emit(Event::Paused { scope, reason }),
            Command::Resume { scope } => self.emit(Event::Resumed { scope }),
            Command::Cancel { scope, reason } => {
                self.emit(Event::CancelRequested { scope, reason, fail_fast: false });
            }
            Command::Interrupt { reason } => self.emit(Event::RunInterrupted { reason }),
            Command::Retry { scope, downstream } => {
                let events = reopen::choose(self.state, scope, downstream).unwrap_or_default();
                events.into_iter().for_each(|event| self.emit(event));
            }
            Command::ResolveDependency { node, completed, position } => {
                for milestone in waiting_milestones(self.state, node) {
                    self.emit(Event::DependencyResolved { milestone, node, completed, position });
                }
            }
            Command::Tick => {}
        }
    }

    /// Nothing is said of what is known.
    fn change(&mut self, spec: Box<AgentSpec>) {
        let known = self.state.find_agent(&spec.id).map(|agent| &self.state.agents()[agent.get()].spec);
        if known != Some(&*spec) {
            self.emit(Event::AgentChanged(spec));
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
            && let Some((at, task)) = self.state.facts.leases.first()
            && at <= self.now
        {
            let row = self.state.task(task);
            let (attempt, is_to_end) = (row.attempt, row.has(CANCELLING));
            self.emit(match is_to_end {
                true => Event::TaskCancelled { task, attempt },
                false => Event::LeaseExpired { task, attempt },
            });
        }
        while self.events.len() < MAX_EVENTS_PER_DECISION
            && let Some(&(at, task)) = self.state.facts.timeouts.first()
            && at.plus(TIMEOUT_SLACK) <= self.now
        {
            self.emit(Event::AttemptTimedOut { task, attempt: self.state.task(task).attempt });
        }
    }
}
