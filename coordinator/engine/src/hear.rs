//! What agents report becomes events.
//!
//! Each report stands for itself. An attempt is with the agent that its dispatch or its grant names; an attempt in a
//! pool is bound to the first member that reports it. Whoever reports another's attempt, or one that is over, is told to
//! stop it.

use crate::agenda;
use crate::decide::Turn;
use crate::effect::Effect;
use crate::retry;
use crate::state::{CANCELLING, TIMED_OUT, TaskState};
use crate::status::TaskStatus;
use cairn_model::{
    AgentIndex, Event, Failure, FailureKind, Outcome, Report, ReportKind, TaskIndex, Timestamp,
};

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

/// An attempt, and who reports it.
type Id = (TaskIndex, u32, AgentIndex);

impl Turn<'_> {
    /// Each report stands for itself: one that does not fit the attempt that is out is counted, and no more.
    pub fn hear(&mut self, report: Report) {
        let Report { task, attempt, agent, kind } = report;
        let Some(row) = self.state.facts.tasks.get(task.get()).copied() else {
            self.decision.stale_reports += 1;
            return;
        };
        let is_out = row.status.is_out() && row.attempt == attempt;
        // A pool says nothing.
        let is_pool = self.state.agents().get(agent.get()).is_some_and(crate::AgentState::is_pool);
        if is_out && row.agent() == Some(agent) && !is_pool {
            self.hear_of((task, attempt, agent), row, kind);
        } else if is_out && self.may_take(row, agent) {
            self.hear_of_pooled((task, attempt, agent), row, kind);
        } else {
            self.decision.stale_reports += 1;
            // What waits or runs there is nobody's business any more. An end is only acknowledged.
            if let ReportKind::Accepted { .. } | ReportKind::Started { .. } = kind
                && !is_pool
            {
                self.decision.answers.push(Effect::Stop { task, attempt, agent });
            }
        }
    }

    /// Whether the attempt lies in a pool that the agent belongs to.
    fn may_take(&self, row: TaskState, agent: AgentIndex) -> bool {
        let agents = self.state.agents();
        let pool = row.agent().and_then(|pool| agents.get(pool.get())).filter(|pool| pool.is_pool());
        let member = agents.get(agent.get()).filter(|agent| !agent.lost);
        pool.zip(member).is_some_and(|(pool, member)| member.is_member_of(&pool.spec.id))
    }

    /// Who speaks of it first has it, unless it will not have it.
    fn hear_of_pooled(&mut self, id: Id, row: TaskState, kind: ReportKind) {
        let (task, attempt, agent) = id;
        if let ReportKind::Declined { .. } = kind {
            return self.hear_of(id, row, kind);
        }
        let awaited = kind == ReportKind::Accepted { awaits_grant: true } && !self.is_to_stop(row);
        self.emit(Event::TaskGranted { task, attempt, agent, awaited });
        match kind {
            ReportKind::Accepted { .. } if !self.is_to_stop(row) => {}
            _ => self.hear_of(id, *self.state.task(task), kind),
        }
    }

    /// Whether the agent of an attempt has been asked to end it.
    fn is_to_stop(&self, row: TaskState) -> bool {
        row.has(CANCELLING) || row.has(TIMED_OUT) || self.state.run().interrupted
    }

    fn hear_of(&mut self, (task, attempt, agent): Id, row: TaskState, kind: ReportKind) {
        match kind {
            ReportKind::Started { at } => {
                if row.status == TaskStatus::InProgress {
                    self.decision.stale_reports += 1;
                    return;
                }
                let started_at = at.clamp(row.since.min(self.now), self.now);
                self.emit(Event::TaskStarted { task, attempt, started_at });
            }
            ReportKind::Accepted { awaits_grant } => self.accepted((task, attempt, agent), row, awaits_grant),
            ReportKind::Declined { reason } => self.declined((task, attempt, agent), row, &reason),
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

    /// A direct offer that asks for no grant starts at once, and nothing is to be said. One that must not be started
    /// twice counts as granted also where the agent does not wait for it. Who asks again is answered again.
    fn accepted(&mut self, (task, attempt, agent): Id, row: TaskState, awaits_grant: bool) {
        let is_started = row.status == TaskStatus::InProgress;
        if self.is_to_stop(row) {
            self.decision.answers.push(Effect::Stop { task, attempt, agent });
        } else if !row.is_granted() && !is_started && (awaits_grant || self.state.needs_grant(task)) {
            self.emit(Event::TaskGranted { task, attempt, agent, awaited: awaits_grant });
        } else if awaits_grant && !is_started {
            self.decision.answers.push(Effect::Grant { task, attempt, agent });
        }
    }

    /// It has not run there, and does not count. It goes to another agent after a while, or to the same one if there
    /// is none.
    fn declined(&mut self, (task, attempt, agent): Id, row: TaskState, reason: &str) {
        if row.status == TaskStatus::InProgress {
            self.decision.stale_reports += 1;
            return;
        }
        if row.has(CANCELLING) {
            return self.emit(Event::TaskCancelled { task, attempt });
        }
        let name = self.state.agents().get(agent.get()).map_or("", |agent| agent.spec.id.as_str());
        let message = format!("agent {name} declined it: {reason}");
        let failure = Box::new(Failure { kind: FailureKind::Declined, message, exit_code: None });
        let retry_at = self.now.plus(retry::decline_wait(self.state.declines(task)));
        self.emit(Event::TaskRetryScheduled { task, attempt, failure, counts: false, retry_at });
    }

    /// Whatever is still out with an agent that was ended as planned was stopped there, or never arrived.
    pub fn take_back(&mut self, agent: AgentIndex) {
        for task in self.state.plan().tasks() {
            let row = *self.state.task(task);
            if !row.status.is_out() || row.agent() != Some(agent) {
                continue;
            }
            let may_have_run = self.state.may_have_started(task);
            let outcome = if may_have_run { Outcome::Stopped } else { Outcome::NotStarted };
            let event = self.end_of_attempt(task, row.attempt, outcome, (row.since.min(self.now), self.now));
            self.emit(event);
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
        let without_result = |kind, message: &str| {
            let failure = Failure { kind, message: message.to_owned(), exit_code: None };
            agenda::end_without_result(state, task, failure, now)
        };
        let interrupted = |message| without_result(FailureKind::Interrupted, message);
        match outcome {
            Outcome::Completed => {
                Event::TaskCompleted { task, attempt, finished_at: span.1, duration: span.1.since(span.0) }
            }
            Outcome::Failed { kind, message, exit_code } => {
                let failure = Failure { kind, message: message.into(), exit_code };
                agenda::end_with_failure(state, task, failure, span, now)
            }
            Outcome::Lost { reason } => without_result(FailureKind::AgentLost, &reason),
            Outcome::Stopped if state.task(task).has(CANCELLING) => Event::TaskCancelled { task, attempt },
            Outcome::Stopped if agenda::ran_out_of_time(state, task) => {
                let message = "it ran longer than its time-out".to_owned();
                let failure = Failure { kind: FailureKind::Timeout, message, exit_code: None };
                agenda::end_with_failure(state, task, failure, span, now)
            }
            Outcome::Stopped if state.run().interrupted => {
                interrupted("the attempt was stopped, to be continued later")
            }
            Outcome::Stopped => interrupted("its agent was ended as planned, and the attempt with it"),
            Outcome::NotStarted if state.task(task).has(CANCELLING) => Event::TaskCancelled { task, attempt },
            Outcome::NotStarted if state.task(task).status == TaskStatus::InProgress => {
                interrupted("the agent gave the attempt back after it had started")
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
