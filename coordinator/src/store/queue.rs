//! What waits to be written, in order, and how much of it there is; and what is answered together.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::error::AppendError;
use super::event_store::{MAX_IN_FLIGHT_BYTES, ROOM_BYTES, StoreFuture, Ticket, TicketAnswer};
use super::record::{Append, Appended, StreamHead, StreamId};

/// Something asked of the writer.
#[derive(Debug)]
pub(in crate::store) enum Request {
    /// Put this into the log.
    Append { append: Append, bytes: usize, answer: TicketAnswer },
    /// Where does the stream end?
    StreamHead { stream: StreamId, answer: oneshot::Sender<Result<StreamHead, AppendError>> },
    /// Give out the stream's next epoch.
    NextEpoch { stream: StreamId, answer: oneshot::Sender<Result<u64, AppendError>> },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { bytes, .. } => *bytes,
            Self::StreamHead { .. } | Self::NextEpoch { .. } => 0,
        }
    }
}

/// The requests that wait.
#[derive(Debug, Default)]
pub(in crate::store) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    has_room: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    /// Bytes of appends that wait or are being written.
    in_flight_bytes: usize,
    closed: bool,
}

impl Queue {
    /// Puts an append at the end, or answers it at once.
    pub(in crate::store) fn submit(&self, append: Append) -> Ticket {
        let bytes = append.stored_bytes();
        let mut waiting = self.lock();
        let in_flight_bytes = waiting.in_flight_bytes;
        if waiting.closed {
            return Ticket::answered(Err(AppendError::Closed));
        }
        if in_flight_bytes + bytes > MAX_IN_FLIGHT_BYTES {
            return Ticket::answered(Err(AppendError::Full { in_flight_bytes }));
        }
        let (answer, ticket) = Ticket::new();
        waiting.in_flight_bytes += bytes;
        waiting.requests.push_back(Request::Append { append, bytes, answer });
        drop(waiting);
        self.arrived.notify_one();
        ticket
    }

    /// Asks where a stream ends after all that was put in before.
    pub(in crate::store) fn stream_head<'a>(
        &self,
        stream: &StreamId,
    ) -> StoreFuture<'a, Result<StreamHead, AppendError>> {
        self.ask(|answer| Request::StreamHead { stream: stream.clone(), answer })
    }

    /// Asks for the next epoch of a stream.
    pub(in crate::store) fn next_epoch<'a>(
        &self,
        stream: &StreamId,
    ) -> StoreFuture<'a, Result<u64, AppendError>> {
        self.ask(|answer| Request::NextEpoch { stream: stream.clone(), answer })
    }

    /// Puts a question at the end. If the queue is closed it is dropped, which tells who asked.
    fn ask<'a, T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, AppendError>>) -> Request,
    ) -> StoreFuture<'a, Result<T, AppendError>> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.requests.push_back(request(answer));
            drop(waiting);
            self.arrived.notify_one();
        }
        Box::pin(async { answered.await.unwrap_or(Err(AppendError::Closed)) })
    }

    /// Waits until there is something; `None` once the queue is closed and empty.
    pub(in crate::store) fn wait(&self) -> Option<()> {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        Some(())
    }

    /// Takes the first requests, as many as are there and fit into `bytes` and `count`; one at least if `bytes` is
    /// not used up.
    pub(in crate::store) fn take(&self, mut bytes: usize, count: usize) -> Vec<Request> {
        let mut waiting = self.lock();
        let mut fitting = 0;
        for request in waiting.requests.iter().take(count) {
            if bytes == 0 {
                break;
            }
            bytes = bytes.saturating_sub(request.bytes());
            fitting += 1;
        }
        waiting.requests.drain(..fitting).collect()
    }

    /// Notes that appends of `bytes` have been answered.
    pub(in crate::store) fn answered(&self, bytes: usize) {
        let mut waiting = self.lock();
        let was_full = waiting.in_flight_bytes >= ROOM_BYTES;
        waiting.in_flight_bytes -= bytes;
        let has_room = waiting.in_flight_bytes < ROOM_BYTES;
        drop(waiting);
        if was_full && has_room {
            self.has_room.notify_waiters();
        }
    }

    /// Waits until little enough is in flight.
    pub(in crate::store) async fn room(&self) {
        loop {
            // Registered before looking, so that no notification falls in between.
            let mut notified = std::pin::pin!(self.has_room.notified());
            notified.as_mut().enable();
            if self.has_room_now() {
                return;
            }
            notified.await;
        }
    }

    fn has_room_now(&self) -> bool {
        let waiting = self.lock();
        waiting.closed || waiting.in_flight_bytes < ROOM_BYTES
    }

    /// Takes nothing more; what waits is still to be done.
    pub(in crate::store) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
        self.has_room.notify_waiters();
    }

    /// Takes nothing more and drops what waits, which tells who asked.
    pub(in crate::store) fn abandon(&self) {
        self.close();
        self.lock().requests.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change above is whole before the guard goes, so what a panicking thread leaves is sound.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch is closed once it is this large: at 300 MB/s it takes 27 ms, and a larger one is not written any faster.
pub(in crate::store) const MAX_BATCH_BYTES: usize = 8 << 20;

/// A batch is closed once it answers so many requests, so that the first of them does not wait for a crowd.
const MAX_BATCH_REQUESTS: usize = 16_384;

/// The appends of a batch, answered together once it is written.
#[derive(Debug, Default)]
pub(in crate::store) struct Answers {
    /// In order of submission.
    answers: Vec<(TicketAnswer, Result<Appended, AppendError>)>,
    bytes: usize,
    requests: usize,
}

impl Answers {
    /// What waits in the queue, as far as the batch has room for it.
    pub(in crate::store) fn take(&mut self, queue: &Queue) -> Vec<Request> {
        let bytes = MAX_BATCH_BYTES.saturating_sub(self.bytes);
        let requests = queue.take(bytes, MAX_BATCH_REQUESTS - self.requests);
        self.requests += requests.len();
        requests
    }

    /// Adds an append of `bytes`.
    pub(in crate::store) fn push(
        &mut self,
        ticket: TicketAnswer,
        bytes: usize,
        accepted: Result<Appended, AppendError>,
    ) {
        self.answers.push((ticket, accepted));
        self.bytes += bytes;
    }

    /// Bytes of the appends.
    pub(in crate::store) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells everybody what came of the batch, and is empty again.
    pub(in crate::store) fn tell(&mut self, queue: &Queue, written: Result<(), AppendError>) {
        for (ticket, accepted) in self.answers.drain(..) {
            let answer = accepted.and_then(|appended| written.clone().map(|()| appended));
            // Who dropped the ticket does not want to know.
            drop(ticket.send(answer));
        }
        queue.answered(std::mem::take(&mut self.bytes));
        self.requests = 0;
    }
}

/// Held by a thread that answers what is in a queue. A panic there is our own bug; it must not leave callers waiting
/// for answers that never come.
#[derive(Debug)]
pub(in crate::store) struct AbandonOnPanic<'a>(pub(in crate::store) &'a Queue);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon();
        }
    }
}
