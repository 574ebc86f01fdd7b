//! What a case runs in: a place of its own with a coordinator's end and agents' ends.

use crate::broker::Broker;
use bytes::Bytes;
use cairn_shared::transport::amqp::{Amqp, QueueType, Role, Settings};
use cairn_shared::transport::in_process::InProcess;
use cairn_shared::transport::{Address, Delivery, Health, Message, Transport};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// How long something that must happen may take.
pub const SOON: Duration = Duration::from_secs(20);

/// How long it is watched that something does not happen.
pub const WHILE: Duration = Duration::from_millis(250);

pub type End = Arc<dyn Transport>;

pub trait Fixture: Send + Sync {
    /// A new end, of a coordinator.
    fn coordinator(&self) -> End;
    /// A new end, of an agent.
    fn agent(&self) -> End;
    /// Whether it counts how often a message was given out.
    fn counts_deliveries(&self) -> bool;
}

pub struct WithinProcess(InProcess);

impl WithinProcess {
    pub fn new() -> Self {
        Self(InProcess::new())
    }
}

impl Fixture for WithinProcess {
    fn coordinator(&self) -> End {
        Arc::new(self.0.endpoint())
    }

    fn agent(&self) -> End {
        Arc::new(self.0.endpoint())
    }

    fn counts_deliveries(&self) -> bool {
        true
    }
}

/// A virtual host of its own at a broker.
pub struct OverAmqp {
    pub broker: Arc<Broker>,
    pub vhost: String,
    pub queue_type: QueueType,
}

impl OverAmqp {
    pub fn new(broker: &Arc<Broker>, queue_type: QueueType) -> Self {
        let vhost = broker.take_vhost();
        Self { broker: Arc::clone(broker), vhost, queue_type }
    }

    pub fn settings(&self, role: Role) -> Settings {
        Settings {
            url: self.broker.url(&self.vhost).parse().unwrap(),
            queue_type: self.queue_type,
            role,
            name: format!("conformance {role:?}"),
            certificate_authority: None,
        }
    }

    pub fn end(&self, role: Role) -> End {
        Arc::new(Amqp::connect(self.settings(role)))
    }

    /// rabbitmqctl in the virtual host of the case.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let (command, rest) = arguments.split_first().unwrap();
        self.broker.ctl(&[&[*command, "-p", self.vhost.as_str()], rest].concat())
    }
}

impl Fixture for OverAmqp {
    fn coordinator(&self) -> End {
        self.end(Role::Coordinator)
    }

    fn agent(&self) -> End {
        self.end(Role::Agent)
    }

    fn counts_deliveries(&self) -> bool {
        self.queue_type == QueueType::Quorum
    }
}

pub fn agent(id: &str) -> Address {
    Address::Agent(id.to_owned())
}

pub fn work(capability: &str) -> Address {
    Address::Work(capability.to_owned())
}

pub fn message(id: impl ToString) -> Message {
    Message {
        id: id.to_string(),
        content_type: "text/plain".to_owned(),
        kind: "test",
        trace: None,
        body: Bytes::from_static(b"hello"),
    }
}

/// Publishes one message, which must be taken.
pub async fn publish(end: &End, to: &Address, id: impl ToString) {
    let published = timeout(SOON, end.publish(to, message(id))).await;
    published.expect("publishing does not end").expect("publishing fails");
}

pub async fn subscribe(end: &End, from: &Address, window: u16) -> Receiver<Delivery> {
    let subscribed = timeout(SOON, end.subscribe(from, window)).await;
    subscribed.expect("subscribing does not end").expect("subscribing fails")
}

/// The next delivery, which must come.
pub async fn next(receiver: &mut Receiver<Delivery>) -> Delivery {
    timeout(SOON, receiver.recv()).await.expect("nothing comes").expect("the subscription ended")
}

/// The id of the next delivery, which is acknowledged.
pub async fn next_id(receiver: &mut Receiver<Delivery>) -> String {
    let delivery = next(receiver).await;
    delivery.receipt.acknowledge();
    delivery.id
}

/// Waits until the health is what is asked for, and returns it.
pub async fn healthy(end: &End, wanted: impl FnMut(&Health) -> bool) -> Health {
    let mut health = end.health();
    let found = timeout(SOON, health.wait_for(wanted)).await.map(|found| found.unwrap().clone());
    found.unwrap_or_else(|_| panic!("the health stays {:?}", end.health().borrow()))
}

/// The cause that an end tells for having no connection, once it tells another than the first.
pub async fn cause(end: &End) -> String {
    let down =
        healthy(end, |health| matches!(health, Health::Down(cause) if &**cause != "not connected yet")).await;
    let Health::Down(cause) = down else { unreachable!() };
    cause.to_string()
}
