//! Orders of a coordinator inside one process. What an agent says there is a [`cairn_model::Report`].
//!
//! Orders carry the epoch of who gives them, and an agent refuses one lower than it has heard.

use cairn_model::TaskIndex;

/// Orders about one run, in the order in which they were decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// The epoch of the coordinator.
    pub epoch: u64,
    /// What to do.
    pub orders: Vec<Order>,
}

/// One order about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which task.
    pub task: TaskIndex,
    /// The attempt's number, from 1: the fencing token.
    pub attempt: u32,
    /// What to do with it.
    pub kind: OrderKind,
}

/// What to do with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// Run it; if it asks for a grant, only once that has come.
    Offer,
    /// Start it: that this agent may is durable.
    Grant,
    /// End it.
    Stop,
    /// Forget it: its end is durable.
    Acknowledge,
}
