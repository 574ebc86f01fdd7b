//! How messages get from one machine to another.
//!
//! [`Transport`] is the seam; its documentation is the contract, and one conformance suite
//! (`shared/tests/transport_conformance`) holds every implementation to it: `in_process` for one machine, `amqp` for a
//! fleet.
//!
//! A transport is a fast hint, not the truth: any message may be lost with the broker, come twice, late, or in another
//! order after a reconnection. Whoever uses it says again what was not answered.
//!
//! Not here: what messages mean ([`crate::message`]), leases, retries of what was lost.

pub mod amqp;
pub mod in_process;
pub mod metrics;

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Bytes of a message's body at most. Larger ones are refused before they are sent: a broker would close the channel
/// with everything on it.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Bytes of a message's id, content type or trace, and of the name in an address, at most: AMQP has 255 for a whole name.
pub const MAX_NAME_BYTES: usize = 200;

/// Messages sent to a broker and not yet confirmed. More gain nothing (a window of 100 already fills the broker), and all
/// of them are sent again after a lost connection.
pub const MAX_UNCONFIRMED: usize = 1024;

/// Messages that a transport has taken and not yet handed over, at most: those of a broker that is away.
pub const MAX_OUTBOX_MESSAGES: usize = 65_536;

/// Bytes of the bodies of those messages, at most.
pub const MAX_OUTBOX_BYTES: usize = 256 << 20;

/// Messages that one queue keeps for its listeners. Beyond it a message is refused, not dropped: with batches these are
/// millions of orders, so somebody has stopped listening.
pub const MAX_QUEUE_MESSAGES: usize = 100_000;

/// Bytes of the bodies that one queue keeps.
pub const MAX_QUEUE_BYTES: usize = 256 << 20;

/// Dead letters that are kept; then the oldest are dropped. They are there to be looked at.
pub const MAX_DEAD_MESSAGES: usize = 10_000;

/// How often a message is given out before it counts as dead: it may be what kills those who read it. Classic queues of
/// a broker do not count.
pub const MAX_DELIVERIES: u32 = 20;

/// Where a message goes, or comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// One agent's own queue. It ceases to exist when nobody has listened for a while.
    Agent(String),
    /// The queue that all agents of a capability share.
    Work(String),
    /// What agents say to the coordinator.
    Coordinator,
    /// Output of tasks: apart from what must not wait.
    Output,
    /// Events for other systems, by topic; nobody has to listen. Write only.
    Events(String),
    /// Messages that nobody could take. Read only.
    Dead,
}

/// A message as a transport sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique, so that what comes twice can be told.
    pub id: String,
    /// How the body is encoded.
    pub content_type: String,
    /// What kind of message it is, for people and counters.
    pub kind: &'static str,
    /// The W3C trace context that it belongs to (`traceparent`).
    pub trace: Option<String>,
    /// What is said.
    pub body: Bytes,
}

impl Address {
    /// The name that it carries, if any.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) | Self::Work(name) | Self::Events(name) => name,
            Self::Coordinator | Self::Output | Self::Dead => "",
        }
    }

    /// Whether who listens there is alone: an agent would run what is meant for another one of its name, and what agents
    /// report would be shared out among coordinators that know nothing of each other's runs.
    fn is_for_one(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::Coordinator)
    }

    /// What sort of address it is, in a word: a label that does not grow with the fleet.
    #[must_use]
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Work(_) => "work",
            Self::Coordinator => "coordinator",
            Self::Output => "output",
            Self::Events(_) => "events",
            Self::Dead => "dead",
        }
    }
}

impl Message {
    /// Whether it may be published at all; what every implementation asks first.
    fn check(&self, to: &Address) -> Result<(), PublishError> {
        let trace = self.trace.as_deref().unwrap_or_default();
        if self.body.len() > MAX_MESSAGE_BYTES {
            Err(PublishError::TooLarge { bytes: self.body.len() })
        } else if [&self.id, &self.content_type, to.name(), trace]
            .iter()
            .any(|name| name.len() > MAX_NAME_BYTES)
        {
            Err(PublishError::LongName)
        } else if *to == Address::Dead {
            Err(PublishError::Unroutable)
        } else {
            Ok(())
        }
    }
}

/// A message that has come.
#[derive(Debug)]
pub struct Delivery {
    /// The message's id.
    pub id: String,
    /// How the body is encoded.
    pub content_type: String,
    /// The W3C trace context that it belongs to (`traceparent`).
    pub trace: Option<String>,
    /// What is said.
    pub body: Bytes,
    /// It may have been given to somebody before.
    pub redelivered: bool,
    /// For [`Address::Dead`]: where it was to go.
    pub origin: Option<Address>,
    /// Says what has become of it.
    pub receipt: Receipt,
}

/// What is done with a delivery. Dropped unused, the message is given out again (to somebody).
#[derive(Debug)]
#[must_use = "a delivery that is not settled comes again"]
pub struct Receipt(Option<Box<dyn Settle>>);

/// What an implementation does when a delivery is settled. Never blocks, never fails: where the connection is gone the
/// message comes again.
pub trait Settle: Send + Sync + std::fmt::Debug {
    /// It is dealt with.
    fn acknowledge(self: Box<Self>);
    /// Nobody can deal with it: to the dead letters.
    fn reject(self: Box<Self>);
    /// Give it out again.
    fn requeue(self: Box<Self>);
}

impl Receipt {
    /// A receipt that `settle` answers to.
    pub fn new(settle: Box<dyn Settle>) -> Self {
        Self(Some(settle))
    }

    /// The message is dealt with, durably.
    pub fn acknowledge(mut self) {
        if let Some(settle) = self.0.take() {
            settle.acknowledge();
        }
    }

    /// The message cannot be read, by anybody: to the dead letters.
    pub fn reject(mut self) {
        if let Some(settle) = self.0.take() {
            settle.reject();
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(settle) = self.0.take() {
            settle.requeue();
        }
    }
}

/// How a transport is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not connected yet, or not any more; it goes on trying. With the cause, for people.
    Down(Arc<str>),
    /// The broker takes no messages for now (its memory or disk is short), with its reason. What is published waits. A
    /// broker tells it to those who publish, when they do.
    Blocked(Arc<str>),
    /// Messages flow. With what it is connected to, for people: `RabbitMQ 3.10.8`.
    Up(Arc<str>),
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Larger than a message may be.
    #[error("a message of {bytes} bytes is over the limit of {} bytes", MAX_MESSAGE_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Its id, content type or trace, or the name in the address, is longer than such may be.
    #[error("an id, a content type or a name is over {} bytes", MAX_NAME_BYTES)]
    LongName,
    /// Nobody listens at that address, and no queue keeps it for them; or nothing can be sent there.
    #[error("nobody is there to take it")]
    Unroutable,
    /// The broker refused it: the queue is full, or failed.
    #[error("the broker refused it")]
    Refused,
    /// More waits already than a transport keeps: the broker is away or slow. Wait for earlier ones.
    #[error("too many messages wait for the broker")]
    Full,
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
}

/// Why an address cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// Another one listens there, who wants to be alone.
    #[error("somebody else listens there already")]
    Taken,
    /// Nobody can listen there.
    #[error("nothing can be read there")]
    WriteOnly,
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
}

/// A future that a transport returns; boxed so that the transport can be chosen when the process starts.
pub type TransportFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries messages.
///
/// **Publishing.** The call of [`publish`](Self::publish) takes the message, not the future that it returns: the futures
/// of many calls can be awaited together, and a message whose future is dropped is sent all the same. The future
/// completes once the transport has handed the message over for sure (a broker confirmed it), or it was refused. While
/// there is no connection, or the broker blocks, it waits; when a connection is lost before the answer, the message is
/// sent again under the same id. Of one transport to one address messages arrive in the order of the calls, but for
/// those that were sent again. At most [`MAX_UNCONFIRMED`] are under way to the broker; the others wait in memory, at
/// most [`MAX_OUTBOX_MESSAGES`] and [`MAX_OUTBOX_BYTES`], beyond which a call is answered [`PublishError::Full`] at once.
///
/// An agent's queue is made by its first subscriber: before that a message to it is [`PublishError::Unroutable`]. The
/// other queues are there, or are made; they keep [`MAX_QUEUE_MESSAGES`] and [`MAX_QUEUE_BYTES`], then messages are
/// [`PublishError::Refused`]. [`Address::Events`] is dropped when nobody listens.
///
/// **Subscribing.** Deliveries come through a channel of `window` messages (at least one): more are not handed out before
/// some are settled. The future completes when the address is listened to for the first time; without a connection it
/// waits. A subscription outlives reconnections and whatever happens to the queue (deleted, purged): it is made again,
/// and what was not settled comes again, marked as redelivered; the receipts of before do nothing. It ends when its
/// receiver is dropped, which gives out again all that it had not settled, or when the transport is closed. Of several
/// subscribers to one address each message goes to one.
///
/// The subscriber of an [`Address::Agent`] and that of [`Address::Coordinator`] are alone there; one that died lately may
/// still count. A second one at an agent's address is [`SubscribeError::Taken`]. At the coordinator's it waits: its health
/// is [`Health::Down`] with what to do about it, and its future completes once the first is gone. The same holds for one
/// that finds its place taken after its connection was lost.
///
/// What is rejected comes to [`Address::Dead`] with its origin, and so may what was given out [`MAX_DELIVERIES`] times
/// without being settled. What is rejected there is gone.
///
/// **Closing** waits a moment for what is on its way, then ends everything: publishers get [`PublishError::Closed`],
/// receivers end.
pub trait Transport: Send + Sync {
    /// Hands a message over.
    fn publish(&self, to: &Address, message: Message) -> TransportFuture<'static, Result<(), PublishError>>;

    /// Listens at an address.
    fn subscribe<'a>(
        &'a self,
        from: &'a Address,
        window: u16,
    ) -> TransportFuture<'a, Result<mpsc::Receiver<Delivery>, SubscribeError>>;

    /// How it is, now and whenever that changes.
    fn health(&self) -> watch::Receiver<Health>;

    /// Ends it. More than once does nothing.
    fn close(&self) -> TransportFuture<'_, ()>;
}
