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

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Bytes of a message's body at most. Larger ones are refused before they are sent: a broker would close the channel
/// with everything on it.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Messages published and not yet confirmed above which `publish` waits.
pub const MAX_UNCONFIRMED: usize = 1024;

/// Where a message goes, or comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// One agent's own queue. It ceases to exist when nobody has listened for a while.
    Agent(String),
    /// The queue that all agents of a capability share.
    Work(String),
    /// What agents say to coordinators.
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
    /// The broker takes no messages for now (its memory or disk is short), with its reason. What is published waits.
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
    /// Nobody listens at that address, and no queue keeps it for them.
    #[error("nobody is there to take it")]
    Unroutable,
    /// The broker refused it: the queue is full, or failed.
    #[error("the broker refused it")]
    Refused,
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
/// **Publishing.** [`publish`](Self::publish) completes once the transport has the message for sure (a broker confirmed
/// it), or refused it. While there is no connection, or the broker blocks, it waits; when a connection is lost before
/// the answer, the message is sent again under the same id. Of one publisher to one address messages arrive in the order
/// of the calls, but for those that were sent again. The call itself (not its future) takes the message: the futures of
/// many calls can be awaited together. Beyond [`MAX_UNCONFIRMED`] further calls wait for their turn.
///
/// **Subscribing.** Deliveries come through a channel of `window` messages: more are not handed out before some are
/// settled. A subscription outlives reconnections and whatever happens to the queue (deleted, purged): it is made again,
/// and what was not settled may come again. It ends when its receiver is dropped, or the transport is closed. Of several
/// subscribers to one address each message goes to one. An exclusive subscriber of an [`Address::Agent`] is alone there
/// or refused; the queue is made by the first subscription.
///
/// **Closing** waits a moment for what is on its way, then ends everything.
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

    /// Ends it.
    fn close(&self) -> TransportFuture<'_, ()>;
}
