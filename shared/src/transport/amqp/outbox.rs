//! Messages that wait to be sent, in the order in which they were handed over.

use crate::transport::{Address, MAX_OUTBOX_BYTES, MAX_OUTBOX_MESSAGES, Message, PublishError, metrics};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Bounded: what is in it, or taken from it and not yet settled, counts against [`MAX_OUTBOX_MESSAGES`] and
/// [`MAX_OUTBOX_BYTES`].
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// One publisher waits for it.
    added: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, Entry>,
    came: u64,
    /// Waiting or under way.
    held: usize,
    held_bytes: usize,
    closed: bool,
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) to: Address,
    pub(super) message: Message,
    /// How often it came back because no queue was there.
    pub(super) returns: u8,
    reply: oneshot::Sender<Result<(), PublishError>>,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message; what comes of it is told to the receiver.
    pub(super) fn add(
        &self,
        to: Address,
        message: Message,
    ) -> Result<oneshot::Receiver<Result<(), PublishError>>, PublishError> {
        let (reply, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return Err(PublishError::Closed);
        }
        let bytes = message.body.len();
        if state.held >= MAX_OUTBOX_MESSAGES || state.held_bytes + bytes > MAX_OUTBOX_BYTES {
            return Err(PublishError::Full);
        }
        state.held += 1;
        state.held_bytes += bytes;
        let number = state.came;
        state.came += 1;
        state.waiting.insert(number, Entry { to, message, returns: 0, reply });
        drop(state);
        self.added.notify_one();
        Ok(receiver)
    }

    /// The oldest message that waits.
    pub(super) fn take(&self) -> Option<(u64, Entry)> {
        self.lock().waiting.pop_first()
    }

    /// Puts messages back into their places.
    pub(super) fn put_back(&self, entries: impl IntoIterator<Item = (u64, Entry)>) {
        self.lock().waiting.extend(entries);
        self.added.notify_one();
    }

    /// Ends what was taken.
    pub(super) fn settle(&self, entry: Entry, result: Result<(), PublishError>) {
        if result.is_ok() {
            metrics::count_out(entry.message.kind);
        }
        let mut state = self.lock();
        state.held -= 1;
        state.held_bytes -= entry.message.body.len();
        let empty = state.held == 0;
        drop(state);
        if empty {
            self.emptied.notify_waiters();
        }
        // Nobody may wait for it.
        let _ = entry.reply.send(result);
    }

    /// Completes when something may be there to be taken.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes no more messages.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Completes when all are settled.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().held == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Ends all that wait.
    pub(super) fn refuse_all(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        for entry in waiting.into_values() {
            self.settle(entry, Err(PublishError::Closed));
        }
    }
}
