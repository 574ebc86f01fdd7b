//! What the broker says of the messages that are under way.
//!
//! A message that no queue takes comes back *before* its confirmation. The client library hands what came back to
//! whichever confirmation it completes next, and completes those of one frame in any order; so a confirmation may carry
//! somebody else's return. Two things keep it right: returns are known by the message's id, and before anything is
//! settled all confirmations that are there are looked at. The order in which their wakers are called is that in which
//! the library completed them, so none that was completed earlier is overlooked.

use lapin::Confirmation;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::Notify;

type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// The confirmations that are waited for, by number. Bounded by whoever sends.
#[derive(Default)]
pub(super) struct Confirms {
    pending: HashMap<u64, (Confirm, Waker)>,
    woken: Arc<Woken>,
    /// Complete when they were begun.
    early: Vec<(u64, lapin::Result<Confirmation>)>,
}

#[derive(Default)]
struct Woken {
    numbers: Mutex<Vec<u64>>,
    any: Notify,
}

struct Signal {
    number: u64,
    woken: Arc<Woken>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.woken.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
        self.woken.any.notify_one();
    }
}

impl Confirms {
    /// Begins a publication: its frames are queued before this returns.
    pub(super) fn begin(
        &mut self,
        number: u64,
        publication: impl Future<Output = lapin::Result<Confirmation>> + Send + 'static,
    ) {
        let waker = Waker::from(Arc::new(Signal { number, woken: Arc::clone(&self.woken) }));
        self.pending.insert(number, (Box::pin(publication), waker));
        if let Some(outcome) = self.poll(number) {
            self.early.push((number, outcome));
            self.woken.any.notify_one();
        }
    }

    /// All that are complete; waits for the first. Dropped before it is done, it loses nothing.
    pub(super) async fn complete(&mut self) -> Vec<(u64, lapin::Result<Confirmation>)> {
        loop {
            let mut complete = std::mem::take(&mut self.early);
            // Until none is left: what was completed before those just seen has woken us by now.
            loop {
                let woken =
                    std::mem::take(&mut *self.woken.numbers.lock().unwrap_or_else(PoisonError::into_inner));
                if woken.is_empty() {
                    break;
                }
                complete.extend(woken.into_iter().filter_map(|number| Some((number, self.poll(number)?))));
            }
            if !complete.is_empty() {
                return complete;
            }
            self.woken.any.notified().await;
        }
    }

    fn poll(&mut self, number: u64) -> Option<lapin::Result<Confirmation>> {
        let (publication, waker) = self.pending.get_mut(&number)?;
        match publication.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(outcome) => {
                self.pending.remove(&number);
                Some(outcome)
            }
            Poll::Pending => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn pending(confirms: &mut Confirms, number: u64) -> oneshot::Sender<Confirmation> {
        let (sender, receiver) = oneshot::channel();
        confirms.begin(number, async { Ok(receiver.await.unwrap()) });
        sender
    }

    #[tokio::test]
    async fn all_that_are_complete_come_together_in_the_order_of_completion() {
        let mut confirms = Confirms::default();
        let senders: Vec<_> = (0..4).map(|number| pending(&mut confirms, number)).collect();
        for (index, sender) in senders.into_iter().enumerate().rev().skip(1) {
            sender.send(if index == 0 { Confirmation::Nack(None) } else { Confirmation::Ack(None) }).unwrap();
        }
        let complete: Vec<_> = confirms.complete().await.into_iter().map(|(number, _)| number).collect();
        assert_eq!(complete, [2, 1, 0]);
        confirms.begin(9, async { Ok(Confirmation::Ack(None)) });
        assert_eq!(confirms.complete().await[0].0, 9);
    }
}
