//! The thread that appends: takes what waits, makes one call of it, answers. It has a connection of its own, and a
//! runtime of its own that drives that connection and nothing else.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::batch::{Answer, Batch, unsigned};
use super::connect::{Access, Place, timely};
use super::retry::{Retry, io_error, keeps_connection};
use crate::store::error::{AppendError, Stopped};
use crate::store::event_store::TicketAnswer;
use crate::store::queue::{AbandonOnPanic, Queue, Request};
use crate::store::record::{Append, Head, StreamHead, StreamId};

/// A batch is closed once it is this large: the server takes about a second for it, and others wait meanwhile.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// A batch is closed once it answers so many requests. The answer, if each were refused, then fits into the buffers of
/// any connection: the server, which holds the lock until it has said all, never waits for a reader that has frozen.
const MAX_BATCH_REQUESTS: usize = 1024;

/// How long a call may take. The server ends it before that (`statement_timeout`); beyond it the server, or the way to
/// it, is dead.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a store that is being dropped waits for a database that does not answer: for what was submitted, and once more
/// to take leave. Who closes has been told what is durable, and wants to end.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);

const STREAM_HEAD: &str = "SELECT version, epoch FROM streams WHERE name = $1";

const NEXT_EPOCH: &str = "INSERT INTO streams AS s (name, claimed_epoch) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE
    SET claimed_epoch = least(greatest(s.claimed_epoch, s.epoch), 9223372036854775806) + 1 RETURNING claimed_epoch";

/// What the thread and the store's handle share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) stopped: OnceLock<Stopped>,
    /// The store is being dropped.
    pub(super) closing: CancellationToken,
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    pub(super) patience: Duration,
    pub(super) connection: Option<PgConnection>,
    /// Its number in the table `writers`.
    pub(super) id: i32,
    /// How many batches have been answered.
    pub(super) batches: i64,
    /// The end of the log when it last heard of it: a guess, others may have appended since.
    pub(super) known: Head,
}

/// An append that waits for its answer, and its bytes.
type Waiting = (Append, usize, TicketAnswer);

impl Writer {
    /// Does what is asked until the queue is closed and empty.
    pub(super) fn run(mut self, runtime: &Runtime) {
        let shared = self.shared.clone();
        let _guard = AbandonOnPanic(&shared.queue);
        while shared.queue.wait().is_some() {
            let requests = shared.queue.take(MAX_BATCH_BYTES, MAX_BATCH_REQUESTS);
            runtime.block_on(self.handle(requests));
        }
        runtime.block_on(self.leave());
    }

    async fn handle(&mut self, requests: Vec<Request>) {
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            match request {
                Request::Append { append, bytes, answer } => waiting.push((append, bytes, answer)),
                Request::StreamHead { stream, answer } => {
                    self.append(&mut waiting).await;
                    drop(answer.send(self.stream_head(&stream).await));
                }
                Request::NextEpoch { stream, answer } => {
                    self.append(&mut waiting).await;
                    drop(answer.send(self.next_epoch(&stream).await));
                }
            }
        }
        self.append(&mut waiting).await;
    }

    /// Makes a batch of what waits, and answers it.
    async fn append(&mut self, waiting: &mut Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        let made = self.make(waiting).await;
        let bytes = waiting.iter().map(|(_, bytes, _)| bytes).sum();
        let answers = match made {
            Ok(answer) => answer.appends,
            Err(stopped) => waiting.iter().map(|_| Err(stopped.clone().into())).collect(),
        };
        for ((_, _, ticket), answer) in waiting.drain(..).zip(answers) {
            // Who dropped the ticket does not want to know.
            drop(ticket.send(answer));
        }
        self.shared.queue.answered(bytes);
    }

    async fn make(&mut self, waiting: &[Waiting]) -> Result<Answer, Stopped> {
        let batch = Batch::new(waiting.iter().map(|(append, ..)| append), self.known.chain);
        let number = self.batches + 1;
        let id = self.id;
        // Sent again as it is: the database knows the number.
        let answer = self
            .call("an append", async |connection| {
                let row = batch.call(id, number).fetch_one(connection).await?;
                batch.answer(&row)
            })
            .await?;
        self.batches = number;
        self.known = answer.head;
        Ok(answer)
    }

    async fn stream_head(&mut self, stream: &StreamId) -> Result<StreamHead, AppendError> {
        if stream.check().is_err() {
            // Nothing was ever appended to it.
            return Ok(StreamHead::default());
        }
        let found: Option<(i64, i64)> = self
            .call("a look at a stream", async |connection| {
                sqlx::query_as(STREAM_HEAD).bind(stream.as_str()).fetch_optional(connection).await
            })
            .await?;
        let (version, epoch) = found.unwrap_or_default();
        Ok(StreamHead { version: unsigned(version), epoch: unsigned(epoch) })
    }

    async fn next_epoch(&mut self, stream: &StreamId) -> Result<u64, AppendError> {
        stream.check()?;
        let epoch = self
            .call("a claim of a stream", async |connection| {
                // Made twice after a lost answer, it gives out a higher one.
                sqlx::query_scalar(NEXT_EPOCH).bind(stream.as_str()).fetch_one(connection).await
            })
            .await?;
        Ok(unsigned(epoch))
    }

    /// Makes a call that may be made again, until it is answered. Stops the store if that cannot be.
    async fn call<T>(
        &mut self,
        doing: &'static str,
        call: impl AsyncFn(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Stopped> {
        if let Some(stopped) = self.shared.stopped.get() {
            return Err(stopped.clone());
        }
        let mut retry = Retry::new(&self.place, doing);
        let connection = &mut self.connection;
        let tries = async {
            loop {
                match attempt(&self.place, connection, &call).await {
                    Err(error) => retry.pause(error).await?,
                    done => return done,
                }
            }
        };
        let closing = async {
            self.shared.closing.cancelled().await;
            tokio::time::sleep(CLOSING_PATIENCE).await;
        };
        let tried = tokio::select! {
            tried = tokio::time::timeout(self.patience, tries) => tried.ok(),
            () = closing => None,
        };
        let error = match tried {
            Some(Ok(done)) => return Ok(done),
            Some(Err(error)) => error,
            None => retry.give_up(),
        };
        tracing::error!(place = %self.place, %error, "{doing} failed; the store has stopped");
        let stopped = Stopped { doing, path: self.place.path(), cause: Arc::new(io_error(error)) };
        Err(self.shared.stopped.get_or_init(|| stopped).clone())
    }

    /// Nobody will ask for the last answer any more.
    async fn leave(mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let left = timely(CLOSING_PATIENCE, async {
            sqlx::query("DELETE FROM writers WHERE id = $1").bind(self.id).execute(&mut connection).await?;
            connection.close().await
        });
        if let Err(error) = left.await {
            tracing::debug!(place = %self.place, %error, "could not take leave of the database");
        }
    }
}

/// Makes a call over the connection, or over a new one. What is left of a failed one is thrown away.
async fn attempt<T>(
    place: &Place,
    connection: &mut Option<PgConnection>,
    call: impl AsyncFn(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut used = match connection.take() {
        Some(connection) => connection,
        None => place.connect(Access::Write).await?,
    };
    let done = timely(CALL_TIMEOUT, call(&mut used)).await;
    if done.as_ref().err().is_none_or(keeps_connection) {
        *connection = Some(used);
    }
    done
}

/// Enters the writer into the table, and takes out those that were not seen for a week. Returns its number and the end
/// of the log.
pub(super) async fn register(connection: &mut PgConnection, name: &str) -> Result<(i32, Head), sqlx::Error> {
    sqlx::query("DELETE FROM writers WHERE seen_at < now() - interval '7 days'")
        .execute(&mut *connection)
        .await?;
    let id = sqlx::query_scalar("INSERT INTO writers (name) VALUES ($1) RETURNING id")
        .bind(name)
        .fetch_one(&mut *connection)
        .await?;
    let head = super::read::head(connection).await?;
    Ok((id, head))
}
