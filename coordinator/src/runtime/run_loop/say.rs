//! Says what a decision justifies, once the decision is durable: orders, acknowledgements, replies, the observer.

use super::{After, Pending, RunError, RunLoop, Update};
use crate::runtime::link::Recipient;
use crate::store::{AppendError, Appended};
use cairn_engine::{AgentState, Effect, react};
use cairn_model::{Event, Timestamp};
use cairn_shared::message::{Order, OrderKind};
use std::time::Duration;

impl RunLoop {
    /// Nothing new was decided: what is to be said waits for what is on its way, if anything is.
    pub(super) fn settle(&mut self, after: After) {
        match self.pending.back_mut() {
            Some(last) => {
                last.after.acknowledgements.extend(after.acknowledgements);
                last.after.replies.extend(after.replies);
                last.after.effects.extend(after.effects);
            }
            None => self.say(after),
        }
    }

    pub(super) fn release(
        &mut self,
        answer: (Result<Appended, AppendError>, Pending),
    ) -> Result<(), RunError> {
        let (answer, pending) = answer;
        let append_took = self.config.clock.now().since(pending.submitted_at);
        let appended =
            answer.map_err(|source| RunError::Store { run: self.state.run().id.clone(), source })?;
        self.position = appended.position + pending.events.len() as u64 - 1;
        self.since_snapshot += pending.events.len() as u64;
        for event in &pending.events {
            react(&self.state, event, &mut self.effects);
            if let (Some(outstanding), Event::TaskGranted { task, attempt, agent, .. }) =
                (&mut self.outstanding, event)
            {
                outstanding.adopt(*agent, *task, *attempt);
            }
        }
        self.send_effects();
        self.say(pending.after);
        // Before anybody looks: agents wait for it. What is still to be said again goes along with it.
        if !self.owes_recovery {
            self.outbox.send_what_fits(&self.link, self.state.agents());
        }
        self.observe(&pending.events, pending.at, append_took);
        Ok(())
    }

    pub(super) fn observe(&mut self, events: &[Event], at: Timestamp, append_took: Duration) {
        let Self { state, position, stale_reports, config, .. } = self;
        let (position, stale_reports) = (*position, *stale_reports);
        (config.observer)(&Update { state, events, at, position, append_took, stale_reports });
    }

    pub(super) fn send_effects(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            let (agent, task, attempt, kind) = match effect {
                Effect::Offer { task, attempt, agent } => (agent, task, attempt, OrderKind::Offer),
                Effect::Grant { task, attempt, agent } => (agent, task, attempt, OrderKind::Grant),
                Effect::Stop { task, attempt, agent } => (agent, task, attempt, OrderKind::Stop),
                Effect::Ended => continue,
            };
            self.order(Recipient::Agent(agent), Order { task, attempt, kind });
        }
    }

    fn say(&mut self, after: After) {
        self.effects.extend(after.effects);
        self.send_effects();
        for (to, task, attempt) in after.acknowledgements {
            self.order(to, Order { task, attempt, kind: OrderKind::Acknowledge });
        }
        for reply in after.replies {
            // Whoever asked may have gone away.
            let _ = reply.send(Ok(()));
        }
    }

    fn order(&mut self, to: Recipient, order: Order) {
        // What lies in a pool may be on its way to anybody: a second copy would be taken by a second agent.
        if let (Some(outstanding), Recipient::Agent(agent)) = (&mut self.outstanding, &to)
            && !self.state.agents().get(agent.get()).is_some_and(AgentState::is_pool)
        {
            outstanding.ordered(*agent, order, self.config.clock.now());
        }
        self.outbox.put(to, self.state.run().epoch, order);
    }

    /// Gives orders again that were not answered in time.
    pub(super) fn order_again(&mut self, now: Timestamp) {
        if !self.outbox.is_empty() {
            // They cannot even be said once, for now.
            return;
        }
        let Some(outstanding) = &mut self.outstanding else { return };
        let state = &self.state;
        let is_out = |agent, task, attempt| {
            let row = state.task(task);
            row.status.is_out() && row.attempt == attempt && row.agent() == Some(agent)
        };
        let overdue = outstanding.overdue(now, is_out);
        for (agent, order) in overdue {
            self.order(Recipient::Agent(agent), order);
        }
    }
}
