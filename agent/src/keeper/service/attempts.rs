//! What becomes of attempts: journal, runner and reports do as the core says.

use super::{Deed, Keeper};
use crate::journal::JournalError;
use crate::keeper::scribe::Written;
use crate::link::{LogName, ToChild};
use crate::machine::{AttemptId, Input};
use crate::mailbox::Mailbox;
use crate::runner::{Finished, RunnerEvent, StopReason, Urgency};
use crate::runtime::{POLL_INTERVAL, outcome_of, reason_of};
use cairn_model::{FailureKind, Outcome};
use cairn_shared::message::trace::TraceContext;
/// Reports in a message at most.
const MAX_REPORTS: usize = 512;

impl Keeper {
    pub(super) fn read_mailbox(&mut self, mailbox: &Mailbox) {
        if self.poll_at.is_some_and(|at| at > self.now()) {
            return;
        }
        loop {
            mailbox.take().into_iter().for_each(|event| self.runner_said(event));
            let is_polled = self.keys.len() > self.parts.settings.slots.get();
            self.poll_at = is_polled.then(|| self.now().plus(POLL_INTERVAL));
            if !mailbox.hand_over(is_polled) {
                return;
            }
        }
    }

    fn runner_said(&mut self, event: RunnerEvent) {
        let now = self.now();
        let input = match event {
            RunnerEvent::Started { key, at, .. } => {
                let Some(&id) = self.keys.get(&key) else { return };
                Input::ProcessStarted { id, at }
            }
            RunnerEvent::Progress { key, progress } => {
                let Some(&id) = self.keys.get(&key) else { return };
                let message = (!progress.message.is_empty()).then(|| progress.message.into());
                Input::ProcessProgress { id, permille: progress.permille, message }
            }
            RunnerEvent::Finished(finished) => match self.process_finished(&finished) {
                Some(input) => input,
                None => return,
            },
        };
        self.parts.core.give(input, now);
    }

    fn process_finished(&mut self, finished: &Finished) -> Option<Input> {
        let id = self.keys.remove(&finished.key)?;
        self.ids.remove(&id);
        if let Some(name) = self.open_logs.remove(&finished.key) {
            tell_log(&name, self.parts.core.runs.trace(id.run), "attempt ended");
            if finished.output_bytes > 0 {
                // The file has a line more where bytes were left out; the bound need not be that exact.
                self.parts.logs.ended(name.clone(), finished.output_bytes - finished.left_out_bytes);
                self.tell(ToChild::Ended(name));
            } else {
                self.tell(ToChild::Silent(name));
                self.parts.core.printed_nothing(id);
            }
        }
        let started_at = finished.started_at.unwrap_or(finished.finished_at);
        let outcome = outcome_of(finished);
        Some(Input::ProcessFinished { id, outcome, started_at, finished_at: finished.finished_at })
    }

    /// Stops what is to be stopped, records what is to be recorded, and does what waits for nothing.
    pub(super) fn flush(&mut self, all: bool) {
        let mut all = all;
        loop {
            for id in self.parts.core.take_stops() {
                self.stop(id, StopReason::Cancelled, Urgency::Graceful);
            }
            if self.in_flight.is_some() || !(all || self.parts.core.has_work()) {
                return;
            }
            let (records, deeds) = self.parts.core.take_batch(std::mem::take(&mut all));
            if records.is_empty() {
                self.perform(deeds);
            } else {
                self.parts.scribe.append(records);
                self.in_flight = Some(deeds);
            }
        }
    }

    pub(super) fn written(&mut self, result: Result<Written, JournalError>) -> Result<(), JournalError> {
        let written = result?;
        self.status.appends += 1;
        self.status.append_micros = u64::try_from(written.took.as_micros()).unwrap_or(u64::MAX);
        let deeds = self.in_flight.take().unwrap_or_default();
        self.perform(deeds);
        if written.is_long {
            self.parts.scribe.rewrite(self.parts.core.snapshot());
            self.in_flight = Some(Vec::new());
        }
        Ok(())
    }

    fn perform(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Start(id) => self.start(id),
                // What is not said now is said when messages flow again: the machine knows it.
                Deed::Report(run, report) if self.linked => {
                    let reports = self.reports.entry(run).or_default();
                    reports.push(report);
                    if reports.len() >= MAX_REPORTS {
                        self.flush_reports();
                    }
                }
                Deed::Report(..) => {}
                Deed::Taken(delivery) => {
                    self.flush_reports();
                    self.tell(ToChild::Taken { delivery });
                }
                Deed::Settled(name) => self.parts.logs.settled(&name),
                Deed::Over(run) => self.parts.logs.run_is_over(&run),
            }
        }
    }

    pub(super) fn flush_reports(&mut self) {
        for (run, reports) in std::mem::take(&mut self.reports) {
            let trace = self.parts.core.runs.trace(run);
            if let Some(run) = self.parts.core.runs.name(run) {
                self.tell(ToChild::Reports { run: run.to_owned(), trace, reports });
            }
        }
    }

    fn start(&mut self, id: AttemptId) {
        let now = self.now();
        let core = &mut self.parts.core;
        // What was about to start when this process fell asleep does not, even if it may go on without a lease.
        let may_start = !core.machine.is_stopping(id) && !self.lease.has_ended(now);
        let offer = core.offer(id).filter(|_| may_start);
        let (Some(offer), Some(name)) = (offer, core.log_name(id)) else {
            let outcome = Outcome::NotStarted;
            core.give(Input::ProcessFinished { id, outcome, started_at: now, finished_at: now }, now);
            return;
        };
        let key = self.next_key;
        self.next_key += 1;
        let trace = core.runs.trace(id.run).map(|trace| trace.of_attempt(id.task.0, id.attempt));
        tell_log(&name, trace, "attempt starts");
        if let Err(refusal) = self.parts.runner.start(core.jobs.job(key, &name.run, &offer, trace)) {
            let message = reason_of(&refusal);
            core.printed_nothing(id);
            let outcome = Outcome::Failed { kind: FailureKind::StartFailed, message, exit_code: None };
            core.give(Input::ProcessFinished { id, outcome, started_at: now, finished_at: now }, now);
            return;
        }
        self.keys.insert(key, id);
        self.ids.insert(id, key);
        self.open_logs.insert(key, name.clone());
        self.tell(ToChild::Started(name));
    }

    pub(super) fn stop(&mut self, id: AttemptId, reason: StopReason, urgency: Urgency) {
        // One that is still to be started is not started.
        if let Some(&key) = self.ids.get(&id) {
            self.parts.runner.stop(key, reason, urgency);
        }
    }
}

/// What becomes of an attempt, with the trace by which it is found in the coordinator's log.
fn tell_log(name: &LogName, trace: Option<TraceContext>, what: &str) {
    let LogName { run, task, attempt } = name;
    tracing::debug!(run, task, attempt, trace = trace.map(|trace| display(trace.id())), "{what}");
}
