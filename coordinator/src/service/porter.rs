//! Carries a run's orders to the fleet: from numbers of a plan to messages that need no plan.

use super::post::Post;
use crate::runtime::Parcel;
use cairn_model::Plan;
use cairn_shared::message::codec::encoded_bytes;
use cairn_shared::message::convert;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{Attempt, RunOrders, ToAgent, WireOrder};
use cairn_shared::message::{Order, OrderKind};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Orders in a message at most: enough to share the broker's cost of a message, few enough that the first of them does
/// not wait for the last to be encoded.
const MAX_ORDERS: usize = 512;

/// Bytes in a message after which no further order is put in. With the largest task, of 1 MiB, it stays below what a
/// message may have.
const MAX_BYTES: usize = 256 << 10;

/// Messages of a run on their way at a time; beyond, orders wait in the run's loop.
const MAX_UNDER_WAY: usize = 64;

/// The prefix of a pool's name: what follows is its capability. No agent can be called so.
pub(super) const POOL_PREFIX: &str = "pool:";

/// Carries until there are no more parcels.
pub(super) async fn carry(
    run: String,
    trace: TraceContext,
    plan: Arc<Plan>,
    mut parcels: mpsc::Receiver<Parcel>,
    post: Post,
) {
    let mut under_way = FuturesUnordered::new();
    loop {
        let parcel = tokio::select! {
            biased;
            Some(answer) = under_way.next(), if !under_way.is_empty() => {
                if let Err(error) = answer {
                    // The agent is gone, or its queue is full. What it does not answer is said again.
                    tracing::debug!(%error, run, trace = %trace.id(), "orders did not arrive");
                }
                continue;
            }
            parcel = parcels.recv(), if under_way.len() < MAX_UNDER_WAY => parcel,
        };
        let Some(parcel) = parcel else { return };
        for orders in messages(&run, &plan, &parcel) {
            tell_log(&orders, &parcel.to.id, trace);
            under_way.push(match parcel.to.id.strip_prefix(POOL_PREFIX) {
                Some(capability) => post.offer(capability, orders, trace),
                None => post.say(&parcel.to.id, &ToAgent::Orders(orders), Some(trace)),
            });
        }
    }
}

/// Each offer, with the trace by which its attempt is found in the agent's log.
fn tell_log(orders: &RunOrders, agent: &str, trace: TraceContext) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for order in &orders.orders {
        if let WireOrder::Offer(offer) = order {
            let (run, task, attempt) = (&orders.run, &offer.name, offer.attempt);
            tracing::debug!(run, task, attempt, agent, trace = %trace.id(), "attempt offered");
        }
    }
}

/// The messages of a parcel: in its order, each within bounds.
fn messages(run: &str, plan: &Plan, parcel: &Parcel) -> Vec<RunOrders> {
    let incarnation = if parcel.to.id.starts_with(POOL_PREFIX) { 0 } else { parcel.to.incarnation };
    let empty =
        || RunOrders { run: run.to_owned(), epoch: parcel.orders.epoch, incarnation, orders: Vec::new() };
    let mut messages = Vec::new();
    let (mut message, mut bytes) = (empty(), 0);
    for order in &parcel.orders.orders {
        let order = wire_order(plan, *order);
        let size = encoded_bytes(&order);
        if !message.orders.is_empty() && (message.orders.len() >= MAX_ORDERS || bytes + size > MAX_BYTES) {
            messages.push(std::mem::replace(&mut message, empty()));
            bytes = 0;
        }
        bytes += size;
        message.orders.push(order);
    }
    messages.push(message);
    messages
}

fn wire_order(plan: &Plan, order: Order) -> WireOrder {
    let attempt = Attempt { task: order.task.0, attempt: order.attempt };
    match order.kind {
        OrderKind::Offer => WireOrder::Offer(Box::new(convert::offer(plan, order.task, order.attempt))),
        OrderKind::Grant => WireOrder::Grant(attempt),
        OrderKind::Stop => WireOrder::Stop(attempt),
        OrderKind::Acknowledge => WireOrder::Acknowledge(attempt),
    }
}
