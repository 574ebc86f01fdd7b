//! One subscription: kept up over connections, queues that vanish, and refusals.

use super::cause::{self, Cause};
use super::supervisor::jittered;
use super::{QueueType, Session, Shared, topology};
use crate::transport::{
    Address, Delivery, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, Receipt, Settle, SubscribeError, metrics,
};
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// How long after a subscription ended it is made again: a queue that was deleted is there again within a second.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_millis(200);

/// How often a coordinator finds another one in its place before it says so: one that was killed is gone within a second.
const QUIET_TRIES: u32 = 5;

/// How long it waits then before each try, at most: longer than the longest pause between connections, so that after an
/// outage whoever had the place is there first.
const OCCUPIED_PAUSE: Duration = Duration::from_secs(2);

/// Quorum queues refuse to have more messages under way to one consumer.
const MAX_WINDOW: u16 = 2000;

/// How long the end of a channel is waited for; the broker gives its messages out again in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Somebody who listens.
pub(super) struct Subscription {
    pub(super) shared: Arc<Shared>,
    pub(super) from: Address,
    pub(super) window: u16,
    pub(super) sender: mpsc::Sender<Delivery>,
    /// Told once, when it listens for the first time or never will.
    pub(super) first: Option<oneshot::Sender<Result<(), SubscribeError>>>,
}

/// Why listening over one connection ended.
enum End {
    /// Nobody wants it any more.
    Over,
    /// It has to be made again.
    Lost(Cause),
    /// It could not be made.
    NotMade(Cause),
    /// Another coordinator has the place.
    Occupied,
}

/// Why listening over one connection did not begin.
enum NotBegun {
    /// Somebody is alone there.
    Taken,
    Failed(Cause),
}

/// What is to be said to the broker of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Acknowledge,
    Reject,
    Requeue,
}

/// Answers for one delivery. The channel is bounded by the window: each delivery is settled once, and no more are out.
#[derive(Debug)]
struct Unsettled {
    tag: u64,
    verdicts: mpsc::UnboundedSender<(u64, Verdict)>,
}

impl Settle for Unsettled {
    // An error means that the subscription was made anew: the broker gives the message out again.
    fn acknowledge(self: Box<Self>) {
        let _ = self.verdicts.send((self.tag, Verdict::Acknowledge));
    }

    fn reject(self: Box<Self>) {
        let _ = self.verdicts.send((self.tag, Verdict::Reject));
    }

    fn requeue(self: Box<Self>) {
        let _ = self.verdicts.send((self.tag, Verdict::Requeue));
    }
}

impl Subscription {
    /// Listens until nobody wants it or the transport is closed.
    pub(super) async fn keep(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut sessions = shared.sessions.subscribe();
        // Why it could not be made the last time: said once, however often it is tried.
        let mut refused = None;
        let mut occupied = 0;
        loop {
            let session = tokio::select! {
                () = shared.closing.cancelled() => break,
                () = self.sender.closed() => break,
                session = sessions.wait_for(Option::is_some) => match session {
                    Ok(session) => session.clone(),
                    Err(_) => break,
                },
            };
            let Some(session) = session else { continue };
            if occupied > 0 {
                self.wait(if occupied < QUIET_TRIES { RESUBSCRIBE_PAUSE } else { jittered(OCCUPIED_PAUSE) })
                    .await;
            }
            match self.listen(&session).await {
                End::Over => break,
                End::Lost(cause) => {
                    (refused, occupied) = (None, 0);
                    self.pause(cause, true).await;
                }
                End::NotMade(cause) => {
                    let is_new = refused.replace(Arc::clone(&cause.text)) != Some(Arc::clone(&cause.text));
                    self.pause(cause, is_new).await;
                }
                End::Occupied => {
                    occupied = QUIET_TRIES.min(occupied + 1);
                    if occupied == QUIET_TRIES {
                        self.tell_occupied();
                    }
                }
            }
        }
        shared.report(&self.from, None);
        if let Some(first) = self.first.take() {
            let _ = first.send(Err(SubscribeError::Closed));
        }
    }

    async fn pause(&self, cause: Cause, is_said: bool) {
        let pause = if cause.slow { super::SLOW_RETRY } else { RESUBSCRIBE_PAUSE };
        if is_said {
            tracing::info!(from = ?self.from, cause = &*cause.text, "listening is interrupted");
        }
        self.shared.report(&self.from, Some(cause).filter(|cause| cause.slow));
        self.wait(pause).await;
    }

    /// Says that another coordinator has the place; the health says it once, until that changes.
    fn tell_occupied(&self) {
        self.shared.report(&self.from, Some(Cause::occupied()));
    }

    async fn wait(&self, pause: Duration) {
        tokio::select! {
            () = self.shared.closing.cancelled() => {}
            () = self.sender.closed() => {}
            () = sleep(pause) => {}
        }
    }

    async fn listen(&mut self, session: &Session) -> End {
        let queue = topology::queue_name(&self.from).unwrap_or_default();
        match self.begin(session, &queue).await {
            Ok((channel, consumer)) => {
                self.shared.report(&self.from, None);
                self.tell_first(Ok(()));
                let end = self.deliver(&channel, consumer).await;
                if matches!(end, End::Over) {
                    close(&channel).await;
                }
                end
            }
            Err(NotBegun::Taken) if self.from == Address::Coordinator => End::Occupied,
            Err(NotBegun::Taken) if self.first.is_some() => {
                self.tell_first(Err(SubscribeError::Taken));
                End::Over
            }
            Err(NotBegun::Taken) => End::NotMade(Cause::soon(format!("somebody else listens at {queue}"))),
            Err(NotBegun::Failed(cause)) => End::NotMade(cause),
        }
    }

    async fn begin(&self, session: &Session, queue: &str) -> Result<(Channel, Consumer), NotBegun> {
        let settings = &self.shared.settings;
        if topology::declares(settings.role, &self.from) {
            self.declare_alone(session, 0).await?;
        }
        match self.consume(session, queue).await {
            Ok((channel, consumer)) => match self.declare_alone(session, 1).await {
                Ok(()) => Ok((channel, consumer)),
                Err(error) => {
                    close(&channel).await;
                    Err(error)
                }
            },
            Err(error) if cause::is_taken(&error) => Err(NotBegun::Taken),
            Err(error) => {
                Err(NotBegun::Failed(Cause::of_subscription(&error, queue, settings.role, &settings.url)))
            }
        }
    }

    /// Declares the queue, where that is ours, and asks how many listen. Asked before, that keeps the second one out
    /// without an error in the broker's log each time that it tries. Quorum queues of RabbitMQ 3.10 let several listen
    /// though each wants to be alone: asked after, it keeps all but one out.
    async fn declare_alone(&self, session: &Session, most: u32) -> Result<(), NotBegun> {
        let settings = &self.shared.settings;
        let alone = self.from.is_for_one();
        if most > 0 && !(alone && settings.queue_type == QueueType::Quorum) {
            return Ok(());
        }
        let declared = topology::declare_queue(&session.consume, settings, &self.from).await;
        let listen = declared.map_err(NotBegun::Failed)?;
        if alone && listen > most { Err(NotBegun::Taken) } else { Ok(()) }
    }

    fn tell_first(&mut self, result: Result<(), SubscribeError>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(result);
        }
    }

    async fn consume(&self, session: &Session, queue: &str) -> Result<(Channel, Consumer), lapin::Error> {
        let channel = session.consume.create_channel().await?;
        channel.basic_qos(self.window.min(MAX_WINDOW), BasicQosOptions::default()).await?;
        let exclusive = self.from.is_for_one();
        let options = BasicConsumeOptions { exclusive, ..Default::default() };
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }

    async fn deliver(&self, channel: &Channel, mut consumer: Consumer) -> End {
        let (verdicts_in, mut verdicts) = mpsc::unbounded_channel();
        let mut settled = Vec::new();
        let mut unsettled = BTreeSet::new();
        let most = usize::from(self.window);
        loop {
            // Room first, then a message: nothing is held in between.
            let next = async { Some((self.sender.reserve().await.ok()?, consumer.next().await)) };
            tokio::select! {
                biased;
                _ = verdicts.recv_many(&mut settled, most) => {
                    if let Err(error) = settle(channel, &mut settled, &mut unsettled).await {
                        return End::Lost(Cause::of(&error, &self.shared.settings.url));
                    }
                }
                () = self.shared.closing.cancelled() => {
                    while let Ok(verdict) = verdicts.try_recv() {
                        settled.push(verdict);
                    }
                    let _ = timeout(CLOSE_TIMEOUT, settle(channel, &mut settled, &mut unsettled)).await;
                    return End::Over;
                }
                () = self.sender.closed() => return End::Over,
                next = next => match next {
                    Some((permit, Some(Ok(delivery)))) => {
                        let tag = delivery.delivery_tag;
                        unsettled.insert(tag);
                        let receipt = Receipt::new(Box::new(Unsettled { tag, verdicts: verdicts_in.clone() }));
                        if let Some(delivery) = translate(delivery, receipt, &self.from) {
                            metrics::count_in(&self.from);
                            permit.send(delivery);
                        }
                    }
                    Some((_, Some(Err(error)))) => return End::Lost(Cause::of(&error, &self.shared.settings.url)),
                    Some((_, None)) => return End::Lost(Cause::soon("the broker ended it; the queue was deleted?")),
                    None => return End::Over,
                },
            }
        }
    }
}

/// Ends a channel; what is not settled on it is given out again by that.
async fn close(channel: &Channel) {
    let _ = timeout(CLOSE_TIMEOUT, channel.close(200, "OK".into())).await;
}

/// Says to the broker what has become of deliveries. Acknowledgements up to the first that is still out are one frame:
/// that doubles what a broker can do.
async fn settle(
    channel: &Channel,
    settled: &mut Vec<(u64, Verdict)>,
    unsettled: &mut BTreeSet<u64>,
) -> Result<(), lapin::Error> {
    let mut acknowledged = Vec::with_capacity(settled.len());
    for (tag, verdict) in settled.drain(..) {
        unsettled.remove(&tag);
        if verdict == Verdict::Acknowledge {
            acknowledged.push(tag);
        } else {
            let requeue = verdict == Verdict::Requeue;
            channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue }).await?;
        }
    }
    let out = unsettled.first().copied().unwrap_or(u64::MAX);
    if let Some(tag) = acknowledged.iter().copied().filter(|tag| *tag < out).max() {
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
    }
    for tag in acknowledged.into_iter().filter(|tag| *tag > out) {
        channel.basic_ack(tag, BasicAckOptions { multiple: false }).await?;
    }
    Ok(())
}

/// A delivery as everybody sees it. What is too large to be ours is rejected.
fn translate(delivery: lapin::message::Delivery, receipt: Receipt, from: &Address) -> Option<Delivery> {
    if delivery.data.len() > MAX_MESSAGE_BYTES {
        tracing::warn!(?from, bytes = delivery.data.len(), "a message that is too large is rejected");
        receipt.reject();
        return None;
    }
    let properties = &delivery.properties;
    let text = |value: &Option<lapin::types::ShortString>| {
        value.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let header = |name: &str| headers.and_then(|headers| headers.get(name));
    Some(Delivery {
        id: text(properties.message_id()),
        content_type: text(properties.content_type()),
        trace: header("traceparent").and_then(long_text).filter(|trace| trace.len() <= MAX_NAME_BYTES),
        redelivered: delivery.redelivered,
        origin: (*from == Address::Dead).then(|| header("x-death").and_then(origin)).flatten(),
        body: Bytes::from(delivery.data),
        receipt,
    })
}

/// Where a dead letter was to go: the queue of its latest death.
fn origin(deaths: &AMQPValue) -> Option<Address> {
    let AMQPValue::FieldArray(deaths) = deaths else { return None };
    let AMQPValue::FieldTable(latest) = deaths.as_slice().first()? else { return None };
    topology::address_of(&long_text(latest.inner().get("queue")?)?)
}

fn long_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        _ => None,
    }
}
