//! The transport inside one process: queues in memory, for one machine and for tests.
//!
//! Not here: durability; what was not settled is gone with the process. An agent's queue stays as long as the hub.

use super::{
    Address, Delivery, Health, MAX_DEAD_MESSAGES, MAX_DELIVERIES, MAX_NAME_BYTES, MAX_QUEUE_BYTES,
    MAX_QUEUE_MESSAGES, Message, PublishError, Receipt, Settle, SubscribeError, Transport, TransportFuture,
    metrics,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// One end of a hub of queues. [`endpoint`](Self::endpoint) makes another end, as a second process would have; an end is
/// closed by itself, and the queues live as long as any end.
#[derive(Debug)]
pub struct InProcess {
    hub: Arc<Hub>,
    /// Which end it is.
    end: u64,
    health: watch::Sender<Health>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Hub {
    state: Mutex<State>,
    /// Somebody listens no more.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<Address, Queue>,
    ends_made: u64,
    consumers_made: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// By the order of their coming, so that what is given back takes its old place.
    ready: BTreeMap<u64, Stored>,
    ready_bytes: usize,
    came: u64,
    consumers: Vec<Consumer>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Debug)]
struct Stored {
    message: Message,
    origin: Option<Address>,
    deliveries: u32,
}

#[derive(Debug)]
struct Consumer {
    id: u64,
    end: u64,
    window: usize,
    sender: mpsc::Sender<Delivery>,
    unsettled: BTreeMap<u64, Stored>,
}

/// What a receipt refers to.
#[derive(Debug)]
struct Unsettled {
    hub: Arc<Hub>,
    address: Address,
    consumer: u64,
    number: u64,
}

/// A new consumer: its number, and both ends of its channel.
type Listener = (u64, mpsc::Sender<Delivery>, mpsc::Receiver<Delivery>);

/// Deliveries that a closed receiver gave back: their receipts lock the hub, so they are dropped after it is unlocked.
type Leftover = Vec<Delivery>;

impl Default for InProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl InProcess {
    /// A new hub.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Arc::default())
    }

    /// Another end of the same hub.
    #[must_use]
    pub fn endpoint(&self) -> Self {
        Self::of(Arc::clone(&self.hub))
    }

    fn of(hub: Arc<Hub>) -> Self {
        let mut state = hub.lock();
        let end = state.ends_made;
        state.ends_made += 1;
        drop(state);
        let health = watch::Sender::new(up());
        Self { hub, end, health, closed: CancellationToken::new() }
    }
}

/// What the health says while another end is the coordinator's.
const OTHER_COORDINATOR: &str = "another coordinator listens in this process";

/// As long as it lives, the health says that somebody else is the coordinator.
struct Waiting<'a>(&'a InProcess);

impl<'a> Waiting<'a> {
    fn of(end: &'a InProcess) -> Self {
        end.tell(Health::Down(OTHER_COORDINATOR.into()));
        Self(end)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.tell(up());
    }
}

fn up() -> Health {
    Health::Up("this process".into())
}

impl InProcess {
    /// Tells the health, unless the end is closed.
    fn tell(&self, health: Health) {
        self.health.send_if_modified(|known| {
            let is_new = !self.closed.is_cancelled() && *known != health;
            if is_new {
                *known = health;
            }
            is_new
        });
    }

    /// Listens, for the coordinator once nobody else does.
    async fn listen(&self, from: &Address, window: u16) -> Result<Listener, SubscribeError> {
        let mut waiting = None;
        loop {
            let freed = self.hub.freed.notified();
            match self.hub.subscribe(self.end, from, window) {
                Err(SubscribeError::Taken) if *from == Address::Coordinator => {}
                result => return result,
            }
            waiting.get_or_insert_with(|| Waiting::of(self));
            tokio::select! {
                () = freed => {}
                () = self.closed.cancelled() => return Err(SubscribeError::Closed),
            }
        }
    }

    fn end(&self) {
        self.closed.cancel();
        let addresses: Vec<_> = self.hub.lock().queues.keys().cloned().collect();
        for address in addresses {
            self.hub.change(&address, |queue| queue.end(|consumer| consumer.end == self.end));
        }
        self.hub.freed.notify_waiters();
    }
}

impl Transport for InProcess {
    fn publish(&self, to: &Address, message: Message) -> TransportFuture<'static, Result<(), PublishError>> {
        let kind = message.kind;
        let result = if self.closed.is_cancelled() {
            Err(PublishError::Closed)
        } else {
            message.check(to).and_then(|()| self.hub.publish(to, message))
        };
        if result.is_ok() {
            metrics::count_out(kind);
        }
        Box::pin(std::future::ready(result))
    }

    fn subscribe<'a>(
        &'a self,
        from: &'a Address,
        window: u16,
    ) -> TransportFuture<'a, Result<mpsc::Receiver<Delivery>, SubscribeError>> {
        Box::pin(async move {
            if self.closed.is_cancelled() {
                return Err(SubscribeError::Closed);
            }
            let (id, sender, receiver) = self.listen(from, window).await?;
            let (hub, from, closed) = (Arc::clone(&self.hub), from.clone(), self.closed.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = sender.closed() => {
                        hub.change(&from, |queue| queue.end(|consumer| consumer.id == id));
                        hub.freed.notify_waiters();
                    }
                    () = closed.cancelled() => {}
                }
            });
            Ok(receiver)
        })
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn close(&self) -> TransportFuture<'_, ()> {
        Box::pin(async {
            self.end();
            self.health.send_replace(Health::Down("closed".into()));
        })
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.end();
    }
}

impl Hub {
    /// A panic elsewhere while the lock was held leaves whole queues: no method stops half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(self: &Arc<Self>, to: &Address, message: Message) -> Result<(), PublishError> {
        if matches!(to, Address::Events(_)) {
            return Ok(());
        }
        let mut state = self.lock();
        if matches!(to, Address::Agent(_)) && !state.queues.contains_key(to) {
            return Err(PublishError::Unroutable);
        }
        let queue = state.queues.entry(to.clone()).or_default();
        if queue.ready.len() >= MAX_QUEUE_MESSAGES || queue.ready_bytes + message.body.len() > MAX_QUEUE_BYTES
        {
            return Err(PublishError::Refused);
        }
        queue.add(Stored { message, origin: None, deliveries: 0 });
        let leftover = queue.hand_out(self, to);
        drop(state);
        drop(leftover);
        Ok(())
    }

    fn subscribe(
        self: &Arc<Self>,
        end: u64,
        from: &Address,
        window: u16,
    ) -> Result<Listener, SubscribeError> {
        if matches!(from, Address::Events(_)) || from.name().len() > MAX_NAME_BYTES {
            return Err(SubscribeError::WriteOnly);
        }
        let window = usize::from(window.max(1));
        let (sender, receiver) = mpsc::channel(window);
        let mut state = self.lock();
        let id = state.consumers_made;
        let queue = state.queues.entry(from.clone()).or_default();
        // Those whose receiver is gone, though nobody has come round yet to end them.
        let dead = queue.end(|consumer| consumer.sender.is_closed());
        if from.is_for_one() && !queue.consumers.is_empty() {
            return Err(SubscribeError::Taken);
        }
        let consumer = Consumer { id, end, window, sender: sender.clone(), unsettled: BTreeMap::new() };
        queue.consumers.push(consumer);
        let mut leftover = queue.hand_out(self, from);
        state.consumers_made += 1;
        leftover.extend(state.bury(self, from, dead));
        drop(state);
        drop(leftover);
        Ok((id, sender, receiver))
    }

    /// Changes a queue, buries what it says is dead, and hands out what can be now.
    fn change(self: &Arc<Self>, address: &Address, change: impl FnOnce(&mut Queue) -> Vec<Stored>) {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(address) else { return };
        let dead = change(queue);
        let mut leftover = queue.hand_out(self, address);
        leftover.extend(state.bury(self, address, dead));
        drop(state);
        drop(leftover);
    }
}

impl State {
    fn bury(&mut self, hub: &Arc<Hub>, origin: &Address, dead: Vec<Stored>) -> Leftover {
        if dead.is_empty() || *origin == Address::Dead {
            return Leftover::new();
        }
        let queue = self.queues.entry(Address::Dead).or_default();
        for stored in dead {
            while queue.ready.len() >= MAX_DEAD_MESSAGES || queue.ready_bytes > MAX_QUEUE_BYTES {
                queue.take_first();
            }
            queue.add(Stored { message: stored.message, origin: Some(origin.clone()), deliveries: 0 });
        }
        queue.hand_out(hub, &Address::Dead)
    }
}

impl Queue {
    fn add(&mut self, stored: Stored) {
        let number = self.came;
        self.came += 1;
        self.put(number, stored);
    }

    fn put(&mut self, number: u64, stored: Stored) {
        self.ready_bytes += stored.message.body.len();
        self.ready.insert(number, stored);
    }

    fn take_first(&mut self) -> Option<(u64, Stored)> {
        let (number, stored) = self.ready.pop_first()?;
        self.ready_bytes -= stored.message.body.len();
        Some((number, stored))
    }

    /// Puts a message back into its place, unless it was given out too often: then it is dead.
    #[must_use]
    fn give_back(&mut self, number: u64, stored: Stored) -> Option<Stored> {
        if stored.deliveries >= MAX_DELIVERIES {
            return Some(stored);
        }
        self.put(number, stored);
        None
    }

    /// Ends consumers; returns what is dead.
    #[must_use]
    fn end(&mut self, which: impl Fn(&Consumer) -> bool) -> Vec<Stored> {
        let ended: Vec<_> = self.consumers.extract_if(.., |consumer| which(consumer)).collect();
        let unsettled = ended.into_iter().flat_map(|consumer| consumer.unsettled);
        unsettled.filter_map(|(number, stored)| self.give_back(number, stored)).collect()
    }

    fn settle(&mut self, consumer: u64, number: u64) -> Option<Stored> {
        self.consumers.iter_mut().find(|other| other.id == consumer)?.unsettled.remove(&number)
    }

    /// Gives messages out, in turn, to those who may have more.
    fn hand_out(&mut self, hub: &Arc<Hub>, address: &Address) -> Leftover {
        let mut leftover = Leftover::new();
        while !self.ready.is_empty()
            && let Some(index) = self.whose_turn()
            && let Some((number, mut stored)) = self.take_first()
        {
            let consumer = &mut self.consumers[index];
            let receipt =
                Unsettled { hub: Arc::clone(hub), address: address.clone(), consumer: consumer.id, number };
            let delivery = stored.delivery(Receipt::new(Box::new(receipt)));
            stored.deliveries += 1;
            // A full channel cannot be: it holds as many as may be unsettled. A closed one ends when that is noticed.
            if let Err(refused) = consumer.sender.try_send(delivery) {
                leftover.push(refused.into_inner());
            } else {
                metrics::count_in(address);
            }
            consumer.unsettled.insert(number, stored);
        }
        leftover
    }

    fn whose_turn(&mut self) -> Option<usize> {
        let count = self.consumers.len();
        let index = (0..count).map(|step| (self.next + step) % count).find(|index| {
            let consumer = &self.consumers[*index];
            consumer.unsettled.len() < consumer.window && !consumer.sender.is_closed()
        })?;
        self.next = index + 1;
        Some(index)
    }
}

impl Stored {
    fn delivery(&self, receipt: Receipt) -> Delivery {
        Delivery {
            id: self.message.id.clone(),
            content_type: self.message.content_type.clone(),
            trace: self.message.trace.clone(),
            body: self.message.body.clone(),
            redelivered: self.deliveries > 0,
            origin: self.origin.clone(),
            receipt,
        }
    }
}

impl Settle for Unsettled {
    fn acknowledge(self: Box<Self>) {
        self.hub.change(&self.address, |queue| {
            queue.settle(self.consumer, self.number);
            Vec::new()
        });
    }

    fn reject(self: Box<Self>) {
        self.hub
            .change(&self.address, |queue| queue.settle(self.consumer, self.number).into_iter().collect());
    }

    fn requeue(self: Box<Self>) {
        self.hub.change(&self.address, |queue| {
            let stored = queue.settle(self.consumer, self.number);
            stored.and_then(|stored| queue.give_back(self.number, stored)).into_iter().collect()
        });
    }
}
