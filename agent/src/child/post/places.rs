//! Where a child listens: the agent's own queue, and a place at the one that agents share while there is room.

use super::Post;
use cairn_shared::transport::{Address, Delivery, SubscribeError};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
/// The same of the shared queue: what waits here could run elsewhere.
const SHARED_WINDOW: u16 = 1;

/// How long an agent without room keeps its place at the shared queue, and with it a delivery that others could take.
const PLACE_PATIENCE: Duration = Duration::from_millis(200);

/// How soon an address is listened at again that somebody else has, or that failed; twice as long each time.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The longest of these pauses: half a lease, so that an agent whose name is free again is there soon.
const LONGEST_RETRY_INTERVAL: Duration = Duration::from_secs(5);

pub(super) type Subscribed = mpsc::Receiver<Delivery>;

impl Post {
    /// Listens at an address, now or when that can be.
    pub(super) fn subscribe(&self, address: Address, window: u16) -> oneshot::Receiver<Subscribed> {
        let (tell, told) = oneshot::channel();
        let transport = self.transport.clone();
        tokio::spawn(async move {
            let (mut last_cause, mut pause) = (String::new(), RETRY_INTERVAL);
            while !tell.is_closed() {
                match transport.subscribe(&address, window).await {
                    Ok(subscribed) => {
                        if !last_cause.is_empty() {
                            tracing::info!(?address, "it can be listened at now");
                        }
                        // Who asked may be gone: then the subscription ends with its receiver.
                        return drop(tell.send(subscribed));
                    }
                    Err(SubscribeError::Closed) => return,
                    Err(error) if error.to_string() == last_cause => {}
                    Err(error @ SubscribeError::Taken) => {
                        tracing::error!(
                            "an agent called {} is already connected: choose another name with --id, or stop that one; \
                             until it is gone this one waits",
                            address.name()
                        );
                        last_cause = error.to_string();
                    }
                    Err(error) => {
                        tracing::error!(%error, ?address, "cannot listen");
                        last_cause = error.to_string();
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_RETRY_INTERVAL);
            }
        });
        told
    }

    /// Takes a place at the shared queue.
    pub(super) fn take_place(&mut self) {
        if let Some(capability) = &self.hello.capability
            && self.room.left > 0
            && self.work.is_none()
            && self.subscribing.is_none()
        {
            self.subscribing = Some(self.subscribe(Address::Work(capability.clone()), SHARED_WINDOW));
        }
    }
}

/// Attempts that the agent takes from the shared queue now.
#[derive(Default)]
pub(super) struct Room {
    pub(super) left: u32,
    /// Runs since there was none left, whatever else happens meanwhile.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Room {
    pub(super) fn set(&mut self, left: u32) {
        self.left = left;
        if left > 0 {
            self.patience = None;
        } else if self.patience.is_none() {
            self.patience = Some(Box::pin(tokio::time::sleep(PLACE_PATIENCE)));
        }
    }

    /// Waits until there has been none for [`PLACE_PATIENCE`]; without end while there is some.
    pub(super) async fn is_gone_for_long(&mut self) {
        match &mut self.patience {
            Some(patience) => patience.await,
            None => std::future::pending().await,
        }
    }
}

/// The next delivery of a subscription; for ever nothing without one.
pub(super) async fn next(subscribed: &mut Option<Subscribed>) -> Option<Delivery> {
    match subscribed {
        Some(subscribed) => subscribed.recv().await,
        None => std::future::pending().await,
    }
}

/// What a subscription under way came to; for ever nothing without one.
pub(super) async fn arrived(subscribing: &mut Option<oneshot::Receiver<Subscribed>>) -> Option<Subscribed> {
    match subscribing {
        Some(subscribing) => subscribing.await.ok(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_place_at_the_shared_queue_is_given_up_also_while_much_else_happens() {
        let mut room = Room::default();
        room.set(1);
        room.set(0);
        let mut traffic = tokio::time::interval(PLACE_PATIENCE / 20);
        let is_given_up = async {
            for _ in 0..1_000 {
                tokio::select! {
                    () = room.is_gone_for_long() => return true,
                    _ = traffic.tick() => room.set(0),
                }
            }
            false
        };
        assert!(is_given_up.await, "each event began the wait anew");
        room.set(1);
        let waits = tokio::time::timeout(PLACE_PATIENCE * 2, room.is_gone_for_long());
        assert!(waits.await.is_err(), "there is room again");
    }
}
