//! What goes out: in order, many at a time, each receipt settled when all that was said before it is with the broker.

use crate::metric_definitions::PUBLISH_FAILURES;
use cairn_shared::message::codec::Codec;
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::ToCoordinator;
use cairn_shared::transport::{Address, Message, PublishError, Receipt, Transport, TransportFuture};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait to be confirmed. Beyond that the oldest is waited for.
const MAX_UNCONFIRMED: usize = 256;

/// Things to do that wait for their turn. While messages flow there are few; while they do not the keeper says nothing.
const MAX_WAITING: usize = 4096;

enum Item {
    /// Who waits hears whether the broker has it.
    Say(Address, Box<ToCoordinator>, Option<TraceContext>, Option<oneshot::Sender<bool>>),
    Settle(Receipt),
}

enum Waiting {
    Confirm(TransportFuture<'static, Result<(), PublishError>>, Option<oneshot::Sender<bool>>),
    Settle(Receipt),
}

/// Where a child says things. Cheap to clone.
#[derive(Clone)]
pub(super) struct Uplink(mpsc::Sender<Item>);

/// It has too much to say: more than the keeper says while messages flow.
#[derive(Debug)]
pub(super) struct Overflow;

impl Uplink {
    pub fn start(transport: Arc<dyn Transport>, id_prefix: String) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        tokio::spawn(drive(transport, id_prefix, receiver));
        Self(sender)
    }

    /// Says something to the coordinators that belongs to a trace.
    pub fn say(&self, message: ToCoordinator, trace: Option<TraceContext>) -> Result<(), Overflow> {
        self.put(Item::Say(Address::Coordinator, Box::new(message), trace, None))
    }

    /// Says something about the agent itself; what is returned tells whether the broker has it.
    pub fn ask(&self, message: ToCoordinator) -> Result<oneshot::Receiver<bool>, Overflow> {
        let (tell, told) = oneshot::channel();
        self.put(Item::Say(Address::Coordinator, Box::new(message), None, Some(tell)))?;
        Ok(told)
    }

    /// Acknowledges a delivery when all that was said before is with the broker.
    pub fn settle(&self, receipt: Receipt) -> Result<(), Overflow> {
        self.put(Item::Settle(receipt))
    }

    /// Says a piece of output and waits until the broker has it; whether it does.
    pub async fn ship(&self, message: ToCoordinator) -> bool {
        let (tell, told) = oneshot::channel();
        let item = Item::Say(Address::Output, Box::new(message), None, Some(tell));
        self.0.send(item).await.is_ok() && told.await.unwrap_or(false)
    }

    fn put(&self, item: Item) -> Result<(), Overflow> {
        self.0.try_send(item).map_err(|_| Overflow)
    }
}

async fn drive(transport: Arc<dyn Transport>, id_prefix: String, mut items: mpsc::Receiver<Item>) {
    let (mut waiting, mut number) = (VecDeque::new(), 0_u64);
    loop {
        let has_room = waiting.len() < MAX_UNCONFIRMED;
        tokio::select! {
            item = items.recv(), if has_room => {
                let Some(item) = item else { break };
                number += 1;
                waiting.push_back(match item {
                    Item::Settle(receipt) => Waiting::Settle(receipt),
                    Item::Say(to, message, trace, tell) => {
                        match message_of(&message, format!("{id_prefix}-{number}"), trace) {
                            Some(message) => Waiting::Confirm(transport.publish(&to, message), tell),
                            None => continue,
                        }
                    }
                });
            }
            () = first(&mut waiting), if !waiting.is_empty() => {}
        }
    }
    while !waiting.is_empty() {
        first(&mut waiting).await;
    }
}

/// Waits for the first of what waits, and takes it off. Dropped half-way it goes on when it is called again.
async fn first(waiting: &mut VecDeque<Waiting>) {
    let mut is_taken = true;
    if let Some(Waiting::Confirm(confirmed, _)) = waiting.front_mut()
        && let Err(error) = confirmed.await
    {
        // What matters is told again: by the keeper, and after a coordinator's question.
        metrics::counter!(PUBLISH_FAILURES).increment(1);
        tracing::debug!(%error, "a message was not taken");
        is_taken = false;
    }
    match waiting.pop_front() {
        Some(Waiting::Settle(receipt)) => receipt.acknowledge(),
        // Who does not wait any more need not hear it.
        Some(Waiting::Confirm(_, Some(tell))) => drop(tell.send(is_taken)),
        Some(Waiting::Confirm(_, None)) | None => {}
    }
}

fn message_of(message: &ToCoordinator, id: String, trace: Option<TraceContext>) -> Option<Message> {
    use cairn_shared::message::codec::WireMessage as _;
    match Codec::Bincode.encode(message) {
        Ok(body) => Some(Message {
            id,
            content_type: Codec::Bincode.content_type().to_owned(),
            kind: message.kind(),
            trace: trace.map(|trace| trace.to_string()),
            body,
        }),
        Err(error) => {
            tracing::error!(%error, "a message cannot be sent");
            None
        }
    }
}
