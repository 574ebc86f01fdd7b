//! Sends what is in the outbox over one connection, until that ends.
//!
//! ```text
//! outbox ──take──▶ sent (at most MAX_UNCONFIRMED) ──confirmed──▶ the caller
//!    ▲               │            │
//!    │               │            └─ came back ─▶ returned ──RETURN_PAUSE, topology repaired──┐
//!    └── connection ends ◀────────────────────────────────────────────────────────────────────┘
//! ```

use super::cause::{self, Cause};
use super::confirms::Confirms;
use super::outbox::Entry;
use super::settings::Role;
use super::topology;
use super::{SLOW_RETRY, Session, Shared};
use crate::transport::{Address, MAX_UNCONFIRMED, PublishError, metrics};
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::basic::AMQPProperties;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Confirmation, Event};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// How long a message rests that came back because its queue was not there.
const RETURN_PAUSE: Duration = Duration::from_millis(250);

/// How often it is sent again: for as long as a coordinator takes to start.
const MAX_RETURNS: u8 = 40;

/// Capabilities whose queues are known to have been declared on this connection; then it is forgotten and they are
/// declared again.
const MAX_KNOWN_QUEUES: usize = 1024;

const PERSISTENT: u8 = 2;

struct Publisher<'a> {
    shared: &'a Shared,
    session: &'a Session,
    channel: Channel,
    confirms: Confirms,
    sent: HashMap<u64, Sent>,
    returned: Vec<(u64, Entry)>,
    /// When those that came back are sent again.
    retry_at: Instant,
    declared: HashSet<Address>,
    /// Of those: what could not be declared, and why. It is trouble once a message comes back for it, until it can be
    /// declared, or takes a message: one that was made otherwise does.
    undeclared: HashMap<Address, Cause>,
    /// When they are tried again.
    mend_at: Instant,
    /// Whether the exchange for what is said to coordinators has been seen on this connection; nothing if not looked for.
    can_report: Option<bool>,
}

struct Sent {
    entry: Entry,
    came_back: bool,
}

/// Publishes until the connection ends, and says why it did.
pub(super) async fn publish(shared: &Shared, session: &Session) -> Cause {
    let url = &shared.settings.url;
    match Publisher::begin(shared, session).await {
        Ok(mut publisher) => publisher.run().await,
        Err(error) => Cause::of(&error, url),
    }
}

impl<'a> Publisher<'a> {
    async fn begin(shared: &'a Shared, session: &'a Session) -> Result<Self, lapin::Error> {
        let channel = session.publish.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self {
            shared,
            session,
            channel,
            confirms: Confirms::default(),
            sent: HashMap::new(),
            returned: Vec::new(),
            retry_at: Instant::now(),
            declared: HashSet::new(),
            undeclared: HashMap::new(),
            mend_at: Instant::now(),
            can_report: None,
        })
    }

    async fn run(&mut self) -> Cause {
        let mut events = self.session.publish.events_listener();
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut blocked = false;
        loop {
            if !blocked {
                self.send_what_waits().await;
            }
            let room = !blocked && self.sent.len() < MAX_UNCONFIRMED;
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        blocked = true;
                        seconds.reset();
                        self.shared.change(|condition| condition.blocked = Some(reason.into()));
                    }
                    Some(Event::ConnectionUnblocked) => {
                        blocked = false;
                        self.shared.change(|condition| condition.blocked = None);
                    }
                    // Errors of channels are told as well, also of those that are expected to fail.
                    Some(Event::Error(error)) if !self.session.publish.status().connected() => {
                        return Cause::of(&error, &self.shared.settings.url);
                    }
                    Some(_) => {}
                    None => return Cause::soon("the connection ended"),
                },
                outcomes = self.confirms.complete() => {
                    if let Err(error) = self.settle(outcomes) {
                        return Cause::of(&error, &self.shared.settings.url);
                    }
                }
                () = self.shared.outbox.added(), if room => {}
                () = sleep_until(self.retry_at), if !self.returned.is_empty() => {
                    if let Err(cause) = self.repair().await {
                        return cause;
                    }
                }
                () = sleep_until(self.mend_at), if !self.undeclared.is_empty() => self.mend().await,
                _ = seconds.tick(), if blocked => metrics::count_blocked_second(),
            }
        }
    }

    async fn send_what_waits(&mut self) {
        while self.sent.len() < MAX_UNCONFIRMED
            && let Some((number, entry)) = self.shared.outbox.take()
        {
            self.send(number, entry).await;
        }
    }

    async fn send(&mut self, number: u64, entry: Entry) {
        // In `sent` before anything is awaited: whatever ends this future, the message is put back.
        let to = entry.to.clone();
        let (channel, body) = (self.channel.clone(), entry.message.body.clone());
        let properties = properties(&entry);
        self.sent.insert(number, Sent { entry, came_back: false });
        self.declare_shared_queue(&to).await;
        if matches!(to, Address::Coordinator | Address::Output) && !self.can_report().await {
            return self.came_back(number);
        }
        self.confirms.begin(number, send(channel, to, properties, body));
    }

    /// Whether there is an exchange for what is said to coordinators; looked for once before each repair.
    async fn can_report(&mut self) -> bool {
        if let Some(known) = self.can_report {
            return known;
        }
        let found = topology::can_report(&self.session.consume).await;
        self.can_report = Some(found);
        found
    }

    /// The message rests a while, unless it has often enough.
    fn came_back(&mut self, number: u64) {
        let Some(Sent { mut entry, .. }) = self.sent.remove(&number) else { return };
        if let Some(cause) = self.undeclared.get(&entry.to) {
            self.shared.report(&entry.to, Some(cause.clone()));
        }
        if matches!(entry.to, Address::Agent(_)) || entry.returns >= MAX_RETURNS {
            self.shared.outbox.settle(entry, Err(PublishError::Unroutable));
            return;
        }
        if self.returned.is_empty() {
            self.retry_at = Instant::now() + RETURN_PAUSE;
        }
        entry.returns += 1;
        self.returned.push((number, entry));
    }

    /// The queues that agents share have names from plans: each is declared before the first message to it.
    async fn declare_shared_queue(&mut self, to: &Address) {
        if !matches!(to, Address::Work(_))
            || self.shared.settings.role == Role::Agent
            || self.declared.contains(to)
        {
            return;
        }
        if self.declared.len() >= MAX_KNOWN_QUEUES {
            self.declared.clear();
        }
        self.declare(to).await;
        // Also when that failed: a queue that was made otherwise takes messages, and one that is missing returns them.
        self.declared.insert(to.clone());
    }

    async fn declare(&mut self, queue: &Address) {
        match topology::declare_queue(&self.session.consume, &self.shared.settings, queue).await {
            Ok(_) => self.works(queue),
            Err(cause) => {
                if self.undeclared.is_empty() {
                    self.mend_at = Instant::now() + SLOW_RETRY;
                }
                if !self.undeclared.contains_key(queue) && self.undeclared.len() < MAX_KNOWN_QUEUES {
                    tracing::warn!(?queue, cause = &*cause.text, "a queue could not be declared");
                    self.undeclared.insert(queue.clone(), cause);
                }
            }
        }
    }

    /// Tries again to declare what could not be, also where no message asks for it any more.
    async fn mend(&mut self) {
        self.mend_at = Instant::now() + SLOW_RETRY;
        let queues: Vec<_> = self.undeclared.keys().cloned().collect();
        for queue in queues {
            self.declare(&queue).await;
        }
    }

    /// A queue is there and takes messages.
    fn works(&mut self, queue: &Address) {
        if self.undeclared.remove(queue).is_some() {
            self.shared.report(queue, None);
        }
    }

    fn settle(&mut self, outcomes: Vec<(u64, lapin::Result<Confirmation>)>) -> Result<(), lapin::Error> {
        for (_, outcome) in &outcomes {
            if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = outcome
                && let Some(id) = message.delivery.properties.message_id()
            {
                let mut sent = self.sent.values_mut();
                if let Some(sent) = sent.find(|sent| sent.entry.message.id == id.as_str()) {
                    sent.came_back = true;
                }
            }
        }
        let mut error = None;
        for (number, outcome) in outcomes {
            match outcome {
                Ok(confirmation) => self.settle_one(number, &confirmation),
                Err(why) => error = Some(why),
            }
        }
        let Some(error) = error else { return Ok(()) };
        self.refuse_oversized(&error);
        Err(error)
    }

    /// A broker may be set to take less than we do. It closes the channel over such a message, which would be sent again
    /// for ever.
    fn refuse_oversized(&mut self, error: &lapin::Error) {
        let Some(bytes) = cause::refused_bytes(error) else { return };
        let refused: Vec<_> =
            self.sent.extract_if(|_, sent| sent.entry.message.body.len() == bytes).collect();
        for (_, sent) in refused {
            self.shared.outbox.settle(sent.entry, Err(PublishError::Refused));
        }
    }

    fn settle_one(&mut self, number: u64, confirmation: &Confirmation) {
        if self.sent.get(&number).is_some_and(|sent| sent.came_back) {
            return self.came_back(number);
        }
        let Some(Sent { entry, .. }) = self.sent.remove(&number) else { return };
        let outbox = &self.shared.outbox;
        match confirmation {
            // Somebody else's return: whether there is one of ours too cannot be known. Sent again, it is.
            Confirmation::Ack(Some(_)) => outbox.put_back([(number, entry)]),
            Confirmation::Ack(None) | Confirmation::NotRequested => {
                let was_troubled = self.undeclared.contains_key(&entry.to).then(|| entry.to.clone());
                outbox.settle(entry, Ok(()));
                was_troubled.iter().for_each(|queue| self.works(queue));
            }
            Confirmation::Nack(_) => outbox.settle(entry, Err(PublishError::Refused)),
        }
    }

    /// Makes what seems to be missing, and sends again what came back.
    async fn repair(&mut self) -> Result<(), Cause> {
        self.declared.clear();
        self.can_report = None;
        topology::declare_all(&self.session.consume, &self.shared.settings).await?;
        self.shared.outbox.put_back(self.returned.drain(..));
        Ok(())
    }
}

impl Drop for Publisher<'_> {
    fn drop(&mut self) {
        let sent = self.sent.drain().map(|(number, sent)| (number, sent.entry));
        self.shared.outbox.put_back(sent.chain(self.returned.drain(..)));
        for queue in self.undeclared.keys() {
            self.shared.report(queue, None);
        }
    }
}

async fn send(
    channel: Channel,
    to: Address,
    properties: AMQPProperties,
    body: Bytes,
) -> lapin::Result<Confirmation> {
    let (key, mandatory) = match (&to, topology::queue_name(&to)) {
        (Address::Events(topic), _) => (topic.clone(), false),
        (_, queue) => (queue.unwrap_or_default(), true),
    };
    let options = BasicPublishOptions { mandatory, ..Default::default() };
    let exchange = topology::exchange(&to).into();
    let publication = channel.basic_publish(exchange, key.into(), options, &body, properties);
    publication.await?.await
}

/// Names were checked to be short enough when the message was taken.
fn properties(entry: &Entry) -> AMQPProperties {
    let message = &entry.message;
    let mut headers = FieldTable::default();
    if let Some(trace) = &message.trace {
        headers.insert("traceparent".into(), AMQPValue::LongString(trace.as_str().into()));
    }
    AMQPProperties::default()
        .with_message_id(message.id.as_str().into())
        .with_content_type(message.content_type.as_str().into())
        .with_type(message.kind.into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}
