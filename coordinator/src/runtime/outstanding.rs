//! Orders that an agent on another machine has not answered yet, and attempts that it said it has.
//!
//! Messages may be lost: an order without an answer is given again, which is safe, since an agent takes an attempt
//! once. An attempt that its agent does not name any more, twice in a row, is gone. Pure.

use cairn_model::{AgentIndex, TaskIndex, Timestamp};
use cairn_shared::message::{Order, OrderKind};
use std::collections::HashMap;
use std::time::Duration;

/// How long an order may go unanswered before it is given again: some journeys through a busy broker.
pub const ANSWER_EXPECTED_WITHIN: Duration = Duration::from_secs(5);

/// Heartbeats in a row that do not name an attempt before it is taken for gone. One may have been on its way when the
/// attempt was accepted.
const HEARTBEATS_WITHOUT: u8 = 2;

#[derive(Clone, Copy, Debug)]
struct Watched {
    agent: AgentIndex,
    attempt: u32,
    /// The order that waits for an answer, and since when.
    unanswered: Option<(OrderKind, Timestamp)>,
    /// Heartbeats in a row that have not named it since it was accepted.
    unnamed: u8,
}

/// What is out, as far as messages go. Bounded by what the agents have room for.
#[derive(Debug, Default)]
pub struct Outstanding {
    watched: HashMap<TaskIndex, Watched>,
}

impl Outstanding {
    /// An order was given.
    pub fn ordered(&mut self, agent: AgentIndex, order: Order, now: Timestamp) {
        let Order { task, attempt, kind } = order;
        if kind == OrderKind::Acknowledge {
            return;
        }
        self.watched.insert(task, Watched { agent, attempt, unanswered: Some((kind, now)), unnamed: 0 });
    }

    /// An attempt is out that was accepted before we were here.
    pub fn adopt(&mut self, agent: AgentIndex, task: TaskIndex, attempt: u32) {
        self.watched.insert(task, Watched { agent, attempt, unanswered: None, unnamed: 0 });
    }

    /// The agent has said something about the attempt. A request to stop is answered by its end only.
    pub fn answered(&mut self, agent: AgentIndex, task: TaskIndex, attempt: u32) {
        if let Some(watched) = self.watched.get_mut(&task)
            && watched.attempt == attempt
            && !matches!(watched.unanswered, Some((OrderKind::Stop, _)))
        {
            *watched = Watched { agent, attempt, unanswered: None, unnamed: 0 };
        }
    }

    /// The attempt has ended, or is another agent's business.
    pub fn ended(&mut self, task: TaskIndex, attempt: u32) {
        if self.watched.get(&task).is_some_and(|watched| watched.attempt <= attempt) {
            self.watched.remove(&task);
        }
    }

    /// Orders to be given again.
    pub fn overdue(&self, now: Timestamp) -> Vec<(AgentIndex, Order)> {
        let late = |(&task, watched): (&TaskIndex, &Watched)| {
            let (kind, since) = watched.unanswered?;
            let order = Order { task, attempt: watched.attempt, kind };
            (since.plus(ANSWER_EXPECTED_WITHIN) <= now).then_some((watched.agent, order))
        };
        let mut overdue: Vec<_> = self.watched.iter().filter_map(late).collect();
        overdue.sort_by_key(|(agent, order)| (*agent, order.task));
        overdue
    }

    /// An agent has told all that it has of the run. What it has accepted and does not have any more is gone: those
    /// attempts come back.
    pub fn named(&mut self, agent: AgentIndex, held: &[(TaskIndex, u32)]) -> Vec<(TaskIndex, u32)> {
        let mut gone = Vec::new();
        for (&task, watched) in &mut self.watched {
            if watched.agent != agent || watched.unanswered.is_some() {
                continue;
            }
            if held.binary_search(&(task, watched.attempt)).is_ok() {
                watched.unnamed = 0;
                continue;
            }
            watched.unnamed += 1;
            if watched.unnamed >= HEARTBEATS_WITHOUT {
                gone.push((task, watched.attempt));
            }
        }
        gone.sort_unstable();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: AgentIndex = AgentIndex(1);

    fn order(task: u32, kind: OrderKind) -> Order {
        Order { task: TaskIndex(task), attempt: 1, kind }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn an_order_is_given_again_until_it_is_answered() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(0));
        assert_eq!(outstanding.overdue(at(4)), []);
        assert_eq!(outstanding.overdue(at(5)), [(AGENT, order(0, OrderKind::Offer))]);
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(5));
        assert_eq!(outstanding.overdue(at(9)), []);
        outstanding.answered(AGENT, TaskIndex(0), 2);
        assert_eq!(outstanding.overdue(at(10)).len(), 1, "another attempt is no answer");
        outstanding.answered(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(100)), []);
    }

    #[test]
    fn a_stop_is_answered_by_the_end_only() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Stop), at(0));
        outstanding.answered(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(5)).len(), 1);
        outstanding.ended(TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(5)), []);
    }

    #[test]
    fn what_an_agent_has_not_any_more_is_gone_at_the_second_heartbeat() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(0));
        assert_eq!(outstanding.named(AGENT, &[]), [], "not accepted yet");
        outstanding.answered(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.named(AGENT, &[]), []);
        assert_eq!(outstanding.named(AGENT, &[(TaskIndex(0), 1)]), []);
        assert_eq!(outstanding.named(AGENT, &[]), []);
        assert_eq!(outstanding.named(AgentIndex(2), &[]), [], "not its business");
        assert_eq!(outstanding.named(AGENT, &[(TaskIndex(0), 2)]), [(TaskIndex(0), 1)]);
    }
}
