//! The way from a run's loop to its agents: in this process a channel for each, in a fleet one for all.

use cairn_engine::AgentState;
use cairn_model::AgentIndex;
use cairn_shared::message::{Order, Orders};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Who is spoken to, over machines: an agent in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentLife {
    /// The agent's name.
    pub id: Arc<str>,
    /// Which life.
    pub incarnation: u64,
}

/// Orders on their way to an agent of the fleet.
#[derive(Debug)]
pub struct Parcel {
    /// Who is meant.
    pub to: AgentLife,
    /// What it is to do.
    pub orders: Orders,
}

/// Whom an order is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// An agent of the run.
    Agent(AgentIndex),
    /// Somebody who spoke of the run and has no part in it (any more).
    Stranger(AgentLife),
}

/// Where orders go.
pub(super) enum Link {
    /// To agents in this process, by their index.
    Local(Vec<Option<mpsc::Sender<Orders>>>),
    /// To whoever carries them to the fleet.
    Fleet(mpsc::Sender<Parcel>),
}

/// Room in the channel to an agent.
pub(super) enum Permit {
    Local(mpsc::OwnedPermit<Orders>),
    Fleet(mpsc::OwnedPermit<Parcel>),
}

/// Orders that wait for room in a channel. Bounded by the attempts that are out, and by what was reported.
#[derive(Default)]
pub(super) struct Outbox(VecDeque<(Recipient, Orders)>);

impl Link {
    /// Waits for room on the way to whom the first orders are for; nothing if that way is closed. Cancel-safe.
    pub(super) fn reserve(&self, outbox: &Outbox) -> impl Future<Output = Option<Permit>> + use<> {
        enum Way {
            Local(mpsc::Sender<Orders>),
            Fleet(mpsc::Sender<Parcel>),
        }
        let way = match self {
            Self::Local(agents) => outbox.0.front().and_then(|(to, _)| match to {
                Recipient::Agent(agent) => agents.get(agent.get())?.clone().map(Way::Local),
                Recipient::Stranger(_) => None,
            }),
            Self::Fleet(parcels) => Some(Way::Fleet(parcels.clone())),
        };
        async move {
            match way? {
                Way::Local(orders) => orders.reserve_owned().await.ok().map(Permit::Local),
                Way::Fleet(parcels) => parcels.reserve_owned().await.ok().map(Permit::Fleet),
            }
        }
    }
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts an order behind the others; those in a row to the same agent go together.
    pub(super) fn put(&mut self, to: Recipient, epoch: u64, order: Order) {
        match self.0.back_mut() {
            Some((last, batch)) if *last == to && batch.epoch == epoch => batch.orders.push(order),
            _ => self.0.push_back((to, Orders { epoch, orders: vec![order] })),
        }
    }

    /// Hands over what there is room for at once, in order.
    pub(super) fn send_what_fits(&mut self, link: &Link, agents: &[AgentState]) {
        let Link::Fleet(parcels) = link else { return };
        while !self.is_empty()
            && let Ok(permit) = parcels.clone().try_reserve_owned()
        {
            self.send_first(Some(Permit::Fleet(permit)), agents);
        }
    }

    /// Hands the first orders over; without a permit they are dropped, for nobody is there to hear them.
    pub(super) fn send_first(&mut self, permit: Option<Permit>, agents: &[AgentState]) {
        let Some((to, orders)) = self.0.pop_front() else { return };
        match permit {
            Some(Permit::Local(permit)) => drop(permit.send(orders)),
            Some(Permit::Fleet(permit)) => {
                let to = match to {
                    Recipient::Stranger(life) => life,
                    Recipient::Agent(agent) => match agents.get(agent.get()) {
                        Some(agent) => life_of(agent),
                        None => return,
                    },
                };
                drop(permit.send(Parcel { to, orders }));
            }
            None => {}
        }
    }
}

/// The life of an agent of a run.
pub(super) fn life_of(agent: &AgentState) -> AgentLife {
    AgentLife { id: agent.spec.id.as_str().into(), incarnation: agent.spec.incarnation }
}
