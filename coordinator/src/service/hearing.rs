//! What agents say.

use super::service::Service;
use crate::runtime::{AgentLife, Heard, Input};
use cairn_model::{AgentIndex, ReportKind, RunId, TaskIndex, Timestamp};
use cairn_shared::message::codec::decode;
use cairn_shared::message::convert;
use cairn_shared::message::wire::{
    Heartbeat, RunReports, ToAgent, ToCoordinator, WireOrder, WireOutcome, WireReportKind,
};
use cairn_shared::transport::{Address, Delivery};

/// Heartbeats after which also runs that an agent has nothing of are told so.
const TELL_ALL_EVERY: u64 = 5;

impl Service {
    /// Takes one message in. Nothing of what it says is trusted.
    pub(super) fn hear(&mut self, delivery: Delivery, now: Timestamp) {
        let message = match decode::<ToCoordinator>(&delivery.content_type, &delivery.body) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(id = delivery.id, %error, "a message cannot be read");
                delivery.receipt.reject();
                return;
            }
        };
        match message {
            ToCoordinator::Reports(reports) => return self.hear_reports(reports, delivery, now),
            ToCoordinator::Hello(hello) => self.registry.hello(hello, now, &mut self.actions),
            ToCoordinator::Heartbeat(beat) => self.hear_heartbeat(beat, now),
            ToCoordinator::Goodbye { agent, incarnation } => {
                self.registry.goodbye(&agent, incarnation, &mut self.actions);
            }
            // It has a queue of its own; here it would hold up what must not wait.
            ToCoordinator::Output(output) => {
                tracing::debug!(agent = output.agent, "output at the wrong address")
            }
        }
        delivery.receipt.acknowledge();
    }

    fn hear_heartbeat(&mut self, beat: Heartbeat, now: Timestamp) {
        if !self.registry.heartbeat(&beat, now, &mut self.actions) {
            return;
        }
        let life = AgentLife { id: beat.agent.as_str().into(), incarnation: beat.incarnation };
        let mut held = Vec::new();
        let mut told = Vec::new();
        for of_run in beat.holds {
            let Some(active) = RunId::parse(&of_run.run).and_then(|run| self.runs.get(&run)) else {
                // The run is over, or was never ours: nobody will ask for it. One that could not be read is asked for
                // once it can.
                if !self.unread.contains_key(&of_run.run) {
                    let (agent, epoch) = (&beat.agent, of_run.epoch);
                    self.order(agent, beat.incarnation, &of_run.run, epoch, WireOrder::Forget, None);
                }
                continue;
            };
            let mut attempts: Vec<_> =
                of_run.attempts.iter().map(|held| (TaskIndex(held.task), held.attempt)).collect();
            attempts.sort_unstable();
            held.extend(attempts.iter().map(|&(task, attempt)| (of_run.run.clone(), task, attempt)));
            active.send(Input::Held { from: life.clone(), attempts });
            told.push(of_run.run);
        }
        // Of all other runs it has nothing. Those that it had something of lately are told so, the others now and then:
        // an agent that lost what it had just accepted is rare, and runs can be many.
        let named = self.named.entry(beat.agent.clone()).or_default();
        named.extend(told.iter().map(|run| (run.clone(), beat.sequence)));
        named.retain(|_, last| last.saturating_add(TELL_ALL_EVERY) > beat.sequence);
        let is_time = beat.sequence.is_multiple_of(TELL_ALL_EVERY);
        for (run, active) in &self.runs {
            let run = run.to_string();
            if !told.contains(&run) && (is_time || named.contains_key(&run)) {
                active.send(Input::Held { from: life.clone(), attempts: Vec::new() });
            }
        }
        self.holds.insert(beat.agent, held);
    }

    fn hear_reports(&mut self, said: RunReports, delivery: Delivery, now: Timestamp) {
        if !self.registry.is_current(&said.agent, said.incarnation, &mut self.actions) {
            // Once it has said hello it tells again what matters.
            self.around.metrics.fleet.stale_reports(said.reports.len() as u64);
            delivery.receipt.acknowledge();
            return;
        }
        let Some(active) = RunId::parse(&said.run).and_then(|run| self.runs.get(&run)) else {
            // The run is over: that it may be forgotten is said to the next heartbeat, which names the epoch. Or it could
            // not be read: no end is acknowledged to its agent, which keeps it and tells it again, also to the
            // coordinator that can. The message is taken in either case, or such messages would hold up all others.
            if !self.unread.contains_key(&said.run) {
                self.around.metrics.fleet.stale_reports(said.reports.len() as u64);
            }
            delivery.receipt.acknowledge();
            return;
        };
        let mut reports = Vec::with_capacity(said.reports.len());
        for report in &said.reports {
            let index = TaskIndex(report.task);
            if is_end_of_output(&report.kind) && index.get() < active.plan.task_count() {
                self.config.log_ends.heard(said.run.clone(), active.plan.task_name(index), report.attempt);
            }
            if report.kind == WireReportKind::Silent {
                continue;
            }
            match convert::report(report, AgentIndex(0), active.plan.task_count(), now) {
                Ok(report) => reports.push((report.task, report.attempt, report.kind)),
                Err(error) => {
                    let (agent, run, trace) = (&said.agent, &said.run, active.trace.id());
                    tracing::warn!(agent, run, %trace, %error, "a report cannot be true");
                }
            }
        }
        let from = AgentLife { id: said.agent.as_str().into(), incarnation: said.incarnation };
        let unsettled = Some(self.unsettled.one_more());
        active.send(Input::Heard(Heard { from, reports, receipt: Some(delivery.receipt), unsettled }));
    }

    /// A message that nobody could take. An offer among them was not started: its agent declines it, so to say, so
    /// that it goes elsewhere; what an agent said is told again by it.
    pub(super) fn bury(&mut self, delivery: Delivery) {
        let (id, trace) = (&delivery.id, &delivery.trace);
        tracing::warn!(id, origin = ?delivery.origin, trace, "a message was not taken by anybody");
        if let Some(Address::Agent(agent)) = &delivery.origin
            && let Ok(ToAgent::Orders(orders)) = decode::<ToAgent>(&delivery.content_type, &delivery.body)
            && let Some(active) = RunId::parse(&orders.run).and_then(|run| self.runs.get(&run))
        {
            let declined = orders.orders.iter().filter_map(|order| match order {
                WireOrder::Offer(offer) => {
                    let reason = "its offer could not be taken from its agent's queue".into();
                    Some((TaskIndex(offer.task), offer.attempt, ReportKind::Declined { reason }))
                }
                _ => None,
            });
            let from = AgentLife { id: agent.as_str().into(), incarnation: orders.incarnation };
            active.send(Input::Heard(Heard {
                from,
                reports: declined.collect(),
                receipt: None,
                unsettled: None,
            }));
        }
        delivery.receipt.acknowledge();
    }
}

/// Whether no output comes of an attempt of which this is said.
fn is_end_of_output(kind: &WireReportKind) -> bool {
    match kind {
        WireReportKind::Silent => true,
        WireReportKind::Finished { outcome, .. } => *outcome == WireOutcome::NotStarted,
        WireReportKind::Accepted { .. }
        | WireReportKind::Declined { .. }
        | WireReportKind::Started { .. }
        | WireReportKind::Progress { .. } => false,
    }
}
