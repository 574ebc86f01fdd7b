//! The seam between the runtime and what keeps its events.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::cursor::Cursor;
use super::error::{AppendError, ReadError, SnapshotError, Stopped};
use super::record::{Append, Appended, Head, StoredRecord, StreamHead, StreamId};
use super::snapshot::{LoadedSnapshot, Snapshot};

/// Bytes submitted and not yet answered above which [`EventStore::room`] lets callers wait: about what a slow disk
/// (50 MB/s) takes in a third of a second.
pub const ROOM_BYTES: usize = 16 << 20;

/// Bytes submitted and not yet answered above which [`EventStore::submit`] refuses: memory that callers which do not
/// wait for room cannot exceed. Four of the largest appends.
pub const MAX_IN_FLIGHT_BYTES: usize = 4 * super::record::MAX_APPEND_BYTES;

/// A future that a store returns; boxed so that the store can be chosen when the process starts.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A durable, ordered log of records in streams.
///
/// **Appending.** [`submit`](Self::submit) hands over an append and returns at once; the order of the calls is the
/// order of the appends (of one thread's calls; calls of several threads are ordered somehow). Appends are checked in
/// that order, each against the state that all earlier accepted ones have made, durable or not. An accepted append is
/// put into the log whole. Its ticket completes with its position only once it is durable: it survives the loss of
/// the process and of power. Tickets complete in order of submission; only `Invalid`, `Full` and `Stopped` may be
/// told earlier. Many appends share one write (group commit); the first of an idle store does not wait for company. A
/// ticket may be dropped: the append is made all the same.
///
/// - A wrong version is [`Conflict`](AppendError::Conflict), an epoch below the stream's
///   [`Fenced`](AppendError::Fenced); the first record that does not fit decides, and its epoch before its version.
///   They fail only their own append. An append that was submitted behind a refused one of the same stream and builds
///   on it is then a conflict too, so nobody needs to hold back what follows.
/// - After a failure of the medium (no space, an IO error, a lost connection that cannot be made good) every append
///   that is not yet durable and all later ones fail with [`Stopped`](AppendError::Stopped), for good: the process
///   ends and starts again, and reads what is there. An append that failed so **may or may not** be in the log then;
///   one whose ticket completed with a position is.
///
/// **Reading.** [`read`](Self::read) gives out what is durable, whole records in order of position, in pages, and
/// may go on where it stopped at any time later. A record that was durable before the call is seen by it.
///
/// **Dropping** a store finishes what was submitted, as far as the medium allows, and then lets go of it. This may
/// block for as long as the disk takes.
///
/// The returned futures need a tokio runtime. Dropping one that reads or loads has no effect.
pub trait EventStore: Send + Sync {
    /// Hands over an append. Never blocks. Beyond [`MAX_IN_FLIGHT_BYTES`] it answers
    /// [`Full`](AppendError::Full); a caller that awaits [`room`](Self::room) before each submission does not see that.
    fn submit(&self, append: Append) -> Ticket;

    /// Completes once fewer than [`ROOM_BYTES`] are submitted and not yet answered, or the store has stopped. At once
    /// if that is so already.
    fn room(&self) -> StoreFuture<'_, ()>;

    /// The next page of what `cursor` reads, and moves it behind that. A page is empty only at the end of the log;
    /// the same cursor can be read again when there may be more. On an error or when the future is dropped the cursor
    /// stays where it was.
    fn read<'a>(&'a self, cursor: &'a mut Cursor) -> StoreFuture<'a, Result<Vec<StoredRecord>, ReadError>>;

    /// The end of what is durable.
    fn head(&self) -> StoreFuture<'_, Result<Head, ReadError>>;

    /// The end of a stream after all that has been submitted before this call.
    fn stream_head<'a>(&'a self, stream: &'a StreamId) -> StoreFuture<'a, Result<StreamHead, AppendError>>;

    /// Makes the caller the owner of a stream: an epoch higher than any that was appended under or given out by this
    /// before. It comes into force, and fences earlier owners, with the first append that carries it.
    fn next_epoch<'a>(&'a self, stream: &'a StreamId) -> StoreFuture<'a, Result<u64, AppendError>>;

    /// Keeps a snapshot durably, and beside it the newest of a lower version; others of its name are removed. Refused
    /// if it includes events that are not durable yet.
    fn save_snapshot(&self, snapshot: Snapshot) -> StoreFuture<'_, Result<(), SnapshotError>>;

    /// The newest usable snapshot of that name. What is damaged, of another log, ahead of this log, or of a later
    /// format is passed over with a notice.
    fn load_snapshot<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Result<LoadedSnapshot, SnapshotError>>;

    /// Why the store takes no more appends, if it does not.
    fn stopped(&self) -> Option<Stopped>;
}

/// The answer to an append, to be awaited. Dropping it does not take the append back.
#[derive(Debug)]
#[must_use = "an append is durable only once its ticket says so"]
pub struct Ticket(oneshot::Receiver<Result<Appended, AppendError>>);

/// What completes a [`Ticket`].
pub type TicketAnswer = oneshot::Sender<Result<Appended, AppendError>>;

impl Ticket {
    /// A ticket and what completes it; for implementations of [`EventStore`].
    pub fn new() -> (TicketAnswer, Self) {
        let (answer, ticket) = oneshot::channel();
        (answer, Self(ticket))
    }

    /// A ticket that is answered already.
    pub fn answered(answer: Result<Appended, AppendError>) -> Self {
        let (sender, ticket) = Self::new();
        // The receiver is right here, so this cannot fail.
        drop(sender.send(answer));
        ticket
    }

    /// Blocks the thread until the answer is there.
    ///
    /// # Errors
    /// As awaiting it.
    ///
    /// # Panics
    /// When called from within an asynchronous task.
    pub fn wait(self) -> Result<Appended, AppendError> {
        self.0.blocking_recv().unwrap_or(Err(AppendError::Closed))
    }
}

impl Future for Ticket {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}
