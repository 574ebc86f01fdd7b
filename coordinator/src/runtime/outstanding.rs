//! Orders that an agent on another machine has not answered yet, and attempts that it said it has.
//!
//! Messages may be lost: an order without an answer is given again, which is safe, since an agent takes an attempt
//! once. An attempt that its agent does not name, twice in a row, is offered again: an agent that has it says so. It is
//! not taken for gone, since heartbeats may be older than the acceptance that they come after. Pure.

use cairn_model::{AgentIndex, TaskIndex, Timestamp};
use cairn_shared::message::{Order, OrderKind};
use std::collections::HashMap;
use std::time::Duration;

/// How long an order may go unanswered before it is given again: some journeys through a busy broker.
pub const ANSWER_EXPECTED_WITHIN: Duration = Duration::from_secs(5);

/// Heartbeats in a row that do not name an attempt before it is offered again. One may have been on its way when the
/// attempt was accepted.
const HEARTBEATS_WITHOUT: u8 = 2;

#[derive(Clone, Copy, Debug)]
struct Watched {
    attempt: u32,
    /// The order that waits for an answer, and since when.
    unanswered: Option<(OrderKind, Timestamp)>,
    /// Heartbeats in a row that have not named it since it was accepted.
    unnamed: u8,
}

/// What is out, as far as messages go. Bounded by what the agents have room for.
#[derive(Debug, Default)]
pub struct Outstanding {
    watched: HashMap<(AgentIndex, TaskIndex), Watched>,
}

impl Outstanding {
    /// An order was given.
    pub fn ordered(&mut self, agent: AgentIndex, order: Order, now: Timestamp) {
        let Order { task, attempt, kind } = order;
        // An agent that still speaks of an attempt that is over is told to stop it: that must not put the one that is out
        // out of sight.
        let newest = self.watched.get(&(agent, task)).map_or(0, |watched| watched.attempt);
        if kind == OrderKind::Acknowledge || attempt < newest {
            return;
        }
        self.watched.insert((agent, task), Watched { attempt, unanswered: Some((kind, now)), unnamed: 0 });
    }

    /// An attempt is out that the agent has accepted.
    pub fn adopt(&mut self, agent: AgentIndex, task: TaskIndex, attempt: u32) {
        self.watched.insert((agent, task), Watched { attempt, unanswered: None, unnamed: 0 });
    }

    /// The agent has said something about the attempt. A request to stop is answered by its end only.
    pub fn answered(&mut self, agent: AgentIndex, task: TaskIndex, attempt: u32) {
        if let Some(watched) = self.watched.get_mut(&(agent, task))
            && watched.attempt == attempt
            && !matches!(watched.unanswered, Some((OrderKind::Stop, _)))
        {
            *watched = Watched { attempt, unanswered: None, unnamed: 0 };
        }
    }

    /// The attempt has ended with that agent.
    pub fn ended(&mut self, agent: AgentIndex, task: TaskIndex, attempt: u32) {
        if self.watched.get(&(agent, task)).is_some_and(|watched| watched.attempt <= attempt) {
            self.watched.remove(&(agent, task));
        }
    }

    /// Orders to be given again. What is not out any more with its agent (`is_out` knows) is not watched any longer.
    pub fn overdue(
        &mut self,
        now: Timestamp,
        is_out: impl Fn(AgentIndex, TaskIndex, u32) -> bool,
    ) -> Vec<(AgentIndex, Order)> {
        self.watched.retain(|&(agent, task), watched| is_out(agent, task, watched.attempt));
        let late = |(&(agent, task), watched): (&(AgentIndex, TaskIndex), &Watched)| {
            let (kind, since) = watched.unanswered?;
            let order = Order { task, attempt: watched.attempt, kind };
            (since.plus(ANSWER_EXPECTED_WITHIN) <= now).then_some((agent, order))
        };
        let mut overdue: Vec<_> = self.watched.iter().filter_map(late).collect();
        overdue.sort_by_key(|(agent, order)| (*agent, order.task));
        overdue
    }

    /// An agent has told all that it has of the run, sorted. What it has accepted and does not name is to be offered
    /// again.
    pub fn named(&mut self, agent: AgentIndex, held: &[(TaskIndex, u32)]) {
        for (&(of, task), watched) in &mut self.watched {
            if of != agent || watched.unanswered.is_some() {
                continue;
            }
            if held.binary_search(&(task, watched.attempt)).is_ok() {
                watched.unnamed = 0;
                continue;
            }
            watched.unnamed += 1;
            if watched.unnamed >= HEARTBEATS_WITHOUT {
                watched.unanswered = Some((OrderKind::Offer, Timestamp::default()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: AgentIndex = AgentIndex(1);

    fn order(task: u32, kind: OrderKind) -> Order {
        Order { task: TaskIndex(task), attempt: 1, kind }
    }

    fn always(_: AgentIndex, _: TaskIndex, _: u32) -> bool {
        true
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn an_order_is_given_again_until_it_is_answered() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(0));
        assert_eq!(outstanding.overdue(at(4), always), []);
        assert_eq!(outstanding.overdue(at(5), always), [(AGENT, order(0, OrderKind::Offer))]);
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(5));
        assert_eq!(outstanding.overdue(at(9), always), []);
        outstanding.answered(AGENT, TaskIndex(0), 2);
        assert_eq!(outstanding.overdue(at(10), always).len(), 1, "another attempt is no answer");
        outstanding.answered(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(100), always), []);
    }

    #[test]
    fn what_is_not_out_any_more_is_not_asked_for() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(0));
        assert_eq!(outstanding.overdue(at(5), |_, _, _| false), []);
        assert_eq!(outstanding.overdue(at(5), always), []);
    }

    #[test]
    fn a_stop_is_answered_by_the_end_only() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Stop), at(0));
        outstanding.answered(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(5), always).len(), 1);
        outstanding.ended(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(5), always), []);
    }

    #[test]
    fn an_order_about_an_attempt_that_is_over_hides_none_that_is_out() {
        let mut outstanding = Outstanding::default();
        let newer = Order { attempt: 2, ..order(0, OrderKind::Offer) };
        outstanding.ordered(AGENT, newer, at(0));
        outstanding.ordered(AGENT, order(0, OrderKind::Stop), at(1));
        assert_eq!(outstanding.overdue(at(5), |_, _, attempt| attempt == 2), [(AGENT, newer)]);
    }

    #[test]
    fn what_an_agent_does_not_name_is_offered_again_at_the_second_heartbeat() {
        let mut outstanding = Outstanding::default();
        outstanding.ordered(AGENT, order(0, OrderKind::Offer), at(9));
        outstanding.named(AGENT, &[]);
        outstanding.named(AGENT, &[]);
        assert_eq!(outstanding.overdue(at(10), always), [], "not accepted yet");
        outstanding.answered(AGENT, TaskIndex(0), 1);
        let mut overdue_after = |agent, held: &[(TaskIndex, u32)]| {
            outstanding.named(agent, held);
            outstanding.overdue(at(10), always)
        };
        assert_eq!(overdue_after(AGENT, &[]), []);
        assert_eq!(overdue_after(AGENT, &[(TaskIndex(0), 1)]), []);
        assert_eq!(overdue_after(AGENT, &[]), []);
        assert_eq!(overdue_after(AgentIndex(2), &[]), [], "not its business");
        assert_eq!(overdue_after(AGENT, &[(TaskIndex(0), 2)]), [(AGENT, order(0, OrderKind::Offer))]);
        outstanding.answered(AGENT, TaskIndex(0), 1);
        assert_eq!(outstanding.overdue(at(100), always), [], "it says that it has it");
    }
}
