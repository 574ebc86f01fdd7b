//! The transport over a broker that speaks AMQP 0-9-1: RabbitMQ 3.10 to 4.x.
//!
//! ```text
//! Amqp ─▶ outbox ─▶ publisher ─▶ connection "publish" ─▶ broker      one supervisor makes both connections, and makes
//!   └───▶ subscriptions ◀──────── connection "consume" ◀── broker     both anew when one of them ends
//! ```
//!
//! Two connections, because a broker short of memory or disk stops reading from those that publish: acknowledgements
//! must not wait behind that. The client library's own recovery is not used: it hides the moment from which on
//! deliveries come again.
//!
//! Not here: users, permissions, policies and the broker's own settings (deploy/services, docs).

mod cause;
mod confirms;
mod consumer;
mod greeting;
mod outbox;
mod publisher;
mod settings;
mod supervisor;
mod topology;

pub use settings::{BrokerUrl, QueueType, Role, Settings, UrlError};

use super::{
    Address, Delivery, Health, MAX_NAME_BYTES, Message, PublishError, SubscribeError, Transport,
    TransportFuture,
};
use cause::Cause;
use consumer::Subscription;
use outbox::Outbox;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long after a failure that somebody has to mend it is tried again.
const SLOW_RETRY: Duration = Duration::from_secs(5);

/// How long closing waits for what is on its way.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A transport over a broker.
#[derive(Debug)]
pub struct Amqp {
    shared: Arc<Shared>,
    subscriptions: TaskTracker,
    supervisor: TaskTracker,
}

/// What the tasks of one transport share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    outbox: Outbox,
    sessions: watch::Sender<Option<Arc<Session>>>,
    condition: Mutex<Condition>,
    health: watch::Sender<Health>,
    /// Subscriptions end.
    closing: CancellationToken,
    /// After them: the connections end.
    hanging_up: CancellationToken,
}

/// Two connections that live and end together.
#[derive(Debug)]
struct Session {
    publish: lapin::Connection,
    consume: lapin::Connection,
}

/// What the health is made of, the worst first.
#[derive(Debug)]
struct Condition {
    /// What we are connected to, or why to nothing.
    link: Result<Arc<str>, Arc<str>>,
    /// What somebody has to mend, by queue. Bounded by the queues that are used.
    troubles: BTreeMap<String, Arc<str>>,
    blocked: Option<Arc<str>>,
}

impl Condition {
    fn health(&self) -> Health {
        match (&self.link, self.troubles.values().next(), &self.blocked) {
            (Err(cause), _, _) | (Ok(_), Some(cause), _) => Health::Down(Arc::clone(cause)),
            (Ok(_), None, Some(reason)) => Health::Blocked(Arc::clone(reason)),
            (Ok(product), None, None) => Health::Up(Arc::clone(product)),
        }
    }
}

impl Shared {
    /// Changes the condition, and tells the health if that changes with it.
    fn change(&self, change: impl FnOnce(&mut Condition)) {
        let mut condition = self.condition.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut condition);
        let health = condition.health();
        self.health.send_if_modified(|known| {
            if *known == health {
                return false;
            }
            tracing::info!(broker = %self.settings.url, ?health, "transport");
            *known = health;
            true
        });
    }

    /// What is wrong with the queue of an address, or that nothing is.
    fn report(&self, address: &Address, cause: Option<Cause>) {
        let Some(queue) = topology::queue_name(address) else { return };
        self.change(|condition| {
            match cause {
                Some(cause) => condition.troubles.insert(queue, cause.text),
                None => condition.troubles.remove(&queue),
            };
        });
    }
}

impl Amqp {
    /// A transport over the broker of `settings`. Returns at once; the connection is made, and made again, behind it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn connect(settings: Settings) -> Self {
        let link = Err(Arc::from("not connected yet"));
        let condition = Condition { link, troubles: BTreeMap::new(), blocked: None };
        let shared = Arc::new(Shared {
            settings,
            outbox: Outbox::default(),
            sessions: watch::Sender::new(None),
            health: watch::Sender::new(condition.health()),
            condition: Mutex::new(condition),
            closing: CancellationToken::new(),
            hanging_up: CancellationToken::new(),
        });
        let (subscriptions, supervisor) = (TaskTracker::new(), TaskTracker::new());
        supervisor.spawn(supervisor::supervise(Arc::clone(&shared)));
        Self { shared, subscriptions, supervisor }
    }
}

impl Transport for Amqp {
    fn publish(&self, to: &Address, message: Message) -> TransportFuture<'static, Result<(), PublishError>> {
        let taken = message.check(to).and_then(|()| match to {
            // The exchange is the coordinators'; to publish to one that is missing would end the channel.
            Address::Events(_) if self.shared.settings.role == Role::Agent => Err(PublishError::Unroutable),
            _ => self.shared.outbox.add(to.clone(), message),
        });
        Box::pin(async move { taken?.await.unwrap_or(Err(PublishError::Closed)) })
    }

    fn subscribe<'a>(
        &'a self,
        from: &'a Address,
        window: u16,
    ) -> TransportFuture<'a, Result<mpsc::Receiver<Delivery>, SubscribeError>> {
        Box::pin(async move {
            if matches!(from, Address::Events(_)) || from.name().len() > MAX_NAME_BYTES {
                return Err(SubscribeError::WriteOnly);
            }
            let window = window.max(1);
            let (sender, receiver) = mpsc::channel(window.into());
            let (first, begun) = oneshot::channel();
            let (shared, from) = (Arc::clone(&self.shared), from.clone());
            self.subscriptions
                .spawn(Subscription { shared, from, window, sender, first: Some(first) }.keep());
            begun.await.unwrap_or(Err(SubscribeError::Closed)).map(|()| receiver)
        })
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn close(&self) -> TransportFuture<'_, ()> {
        Box::pin(async {
            self.shared.outbox.close();
            if self.shared.sessions.borrow().is_some() {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.shared.outbox.emptied()).await;
            }
            // First what was acknowledged is said to the broker, then the connections may go.
            for (token, tasks) in
                [(&self.shared.closing, &self.subscriptions), (&self.shared.hanging_up, &self.supervisor)]
            {
                token.cancel();
                tasks.close();
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait()).await;
            }
        })
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        self.shared.outbox.close();
        self.shared.closing.cancel();
        self.shared.hanging_up.cancel();
    }
}
