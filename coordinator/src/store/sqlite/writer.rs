//! The one that writes: checks appends, makes rows of them, and puts many into one transaction.
//!
//! Two threads take turns, as in the file store: the next batch is prepared while the last one is committed, batches
//! are committed in the order in which they were prepared, and the first append of an idle store does not wait.
//!
//! The write-ahead log is folded into the database by the same threads, after the answers: so nobody waits for it, and
//! its failure is a failure of the store.
//!
//! After a failure the state that was made ahead is wrong, so nothing is accepted any more. Whether a transaction whose
//! commit failed is there shows when the store is opened again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sqlx::sqlite::SqliteConnection;

use super::super::error::{AppendError, Stopped};
use super::super::heads::Heads;
use super::super::queue::{AbandonOnPanic, Answers, Queue, Request};
use super::super::record::{Append, Appended, Head, StreamHead};
use super::connection::{block_on, io_error};
use super::end::End;
use super::insert::{RecordRow, StreamRow, commit_rows};
use super::rows::record_crc;

/// Bytes of appends after which the write-ahead log is folded into the database: it then has about twice as many,
/// which a reader searches without noticing.
const FOLD_BYTES: usize = 4 << 20;
/// The number of a stream in the table `streams`; 0 for one that is not there yet.
pub(super) type StreamNumber = i64;

/// What the threads and the store's handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    durable: Mutex<Head>,
    stopped: OnceLock<Stopped>,
    encoder: Mutex<Encoder>,
    /// `None` once the store is closed.
    log: Mutex<Option<Log>>,
}

impl Shared {
    pub(super) fn new(encoder: Encoder, log: Log) -> Self {
        Self {
            queue: Queue::default(),
            durable: Mutex::new(encoder.head),
            stopped: OnceLock::new(),
            encoder: Mutex::new(encoder),
            log: Mutex::new(Some(log)),
        }
    }

    pub(super) fn durable(&self) -> Head {
        *lock(&self.durable)
    }

    pub(super) fn stopped(&self) -> Option<&Stopped> {
        self.stopped.get()
    }

    /// The log, when no batch is being written.
    pub(super) fn log(&self) -> MutexGuard<'_, Option<Log>> {
        lock(&self.log)
    }

    /// Whether a batch is being written.
    #[cfg(test)]
    pub(super) fn log_is_held(&self) -> bool {
        self.log.try_lock().is_err()
    }

    fn refuse_if_stopped(&self) -> Result<(), AppendError> {
        self.stopped.get().map_or(Ok(()), |stopped| Err(stopped.clone().into()))
    }

    /// Stops the store for good; returns why it has stopped, which may be an earlier failure.
    pub(super) fn stop(&self, stopped: Stopped) -> Stopped {
        let cause = &stopped.cause;
        tracing::error!(path = %stopped.path.display(), %cause, "{} failed; the store has stopped", stopped.doing);
        self.stopped.get_or_init(|| stopped).clone()
    }
}

/// Locks what is never left half-changed: a thread that panics closes the queue for good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what is asked until the queue is closed and empty. Run by two threads.
pub(super) fn run(shared: &Shared) {
    let _guard = AbandonOnPanic(&shared.queue);
    let mut batch = Batch::default();
    loop {
        let mut encoder = lock(&shared.encoder);
        if shared.queue.wait().is_none() {
            return;
        }
        encoder.prepare(shared, &mut batch);
        let mut log = shared.log();
        encoder.prepare(shared, &mut batch);
        drop(encoder);
        let written = write(shared, log.as_mut(), &mut batch);
        batch.answer(&shared.queue, written);
        fold_if_due(shared, log.as_mut());
    }
}

fn write(shared: &Shared, log: Option<&mut Log>, batch: &mut Batch) -> Result<(), AppendError> {
    shared.refuse_if_stopped()?;
    let Some(head) = batch.head else { return Ok(()) };
    let log = log.ok_or(AppendError::Closed)?;
    match block_on(log.write(batch)) {
        Ok(()) => {
            *lock(&shared.durable) = head;
            // It is committed all the same; nothing more is built on a medium that fails.
            if let Err(error) = log.end.note(head) {
                shared.stop(log.failed("noting the end of the log")(sqlx::Error::Io(error)));
            }
            Ok(())
        }
        Err(stopped) => Err(shared.stop(stopped).into()),
    }
}

fn fold_if_due(shared: &Shared, log: Option<&mut Log>) {
    let Some(log) = log else { return };
    if shared.stopped().is_some() {
        return;
    }
    if let Err(error) = block_on(log.fold_if_due()) {
        shared.stop(log.failed("folding the write-ahead log")(error));
    }
}

/// What is committed together.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<RecordRow>,
    /// The streams that get a new end.
    streams: HashMap<StreamNumber, StreamRow>,
    /// The end of the log after it; `None` while nothing has been accepted.
    head: Option<Head>,
    answers: Answers,
}

impl Batch {
    /// Tells everybody, and is empty again.
    fn answer(&mut self, queue: &Queue, written: Result<(), AppendError>) {
        self.answers.tell(queue, written);
        self.records.clear();
        self.streams.clear();
        self.head = None;
    }
}

/// Checks appends and makes rows of them, ahead of the database.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) heads: Heads<StreamNumber>,
    pub(super) head: Head,
    /// The number of the next new stream.
    pub(super) next_stream: StreamNumber,
}

impl Encoder {
    /// Adds to the batch what waits in the queue, as far as it has room for it.
    fn prepare(&mut self, shared: &Shared, batch: &mut Batch) {
        for request in batch.answers.take(&shared.queue) {
            self.handle(shared, request, batch);
        }
    }

    fn handle(&mut self, shared: &Shared, request: Request, batch: &mut Batch) {
        let alive = shared.refuse_if_stopped();
        match request {
            Request::Append { append, bytes, answer } => {
                let accepted = alive.and_then(|()| self.accept(append, batch));
                batch.answers.push(answer, bytes, accepted);
            }
            Request::StreamHead { stream, answer } => {
                drop(answer.send(alive.map(|()| self.heads.head(&stream))));
            }
            Request::NextEpoch { stream, answer } => {
                drop(answer.send(alive.map(|()| self.heads.next_epoch(&stream))));
            }
        }
    }

    fn accept(&mut self, append: Append, batch: &mut Batch) -> Result<Appended, AppendError> {
        let mut numbers = Vec::with_capacity(append.records.len());
        // The numbers of new streams in an append that is refused are left out for ever, which harms nobody.
        self.heads.accept(&append, |_, _, number| {
            if *number == 0 {
                *number = self.next_stream;
                self.next_stream += 1;
            }
            numbers.push(*number);
        })?;
        let position = self.head.position + 1;
        self.encode(append, &numbers, batch);
        Ok(Appended { position })
    }

    fn encode(&mut self, append: Append, numbers: &[StreamNumber], batch: &mut Batch) {
        let epoch = append.epoch;
        for (record, &number) in append.records.into_iter().zip(numbers) {
            let (position, first_version, count) =
                (self.head.position + 1, record.first_version, record.count);
            let name = record.stream.as_str();
            self.head.chain =
                self.head.chain.followed_by(name, first_version, count, epoch, record.body.as_bytes());
            self.head.position += u64::from(count);
            let crc = record_crc(name, position, first_version, count, epoch, &record.body);
            let end = StreamHead { version: first_version + u64::from(count) - 1, epoch };
            let row = StreamRow { id: number, name: record.stream, head: end };
            batch.streams.insert(number, row);
            let (stream, body) = (number, record.body);
            batch.records.push(RecordRow {
                position,
                stream,
                first_version,
                count,
                epoch,
                crc,
                link: None,
                body,
            });
        }
        if let Some(last) = batch.records.last_mut() {
            last.link = Some(self.head.chain);
        }
        batch.head = Some(self.head);
    }
}

/// The connection that writes.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) connection: SqliteConnection,
    pub(super) database: PathBuf,
    end: End,
    /// About how much the write-ahead log holds that the database does not.
    unfolded_bytes: usize,
}

impl Log {
    pub(super) fn new(connection: SqliteConnection, database: &Path, end: End) -> Self {
        Self { connection, database: database.to_owned(), end, unfolded_bytes: 0 }
    }

    /// Makes a batch durable. After an error nothing more must be written.
    async fn write(&mut self, batch: &mut Batch) -> Result<(), Stopped> {
        let records = std::mem::take(&mut batch.records);
        let mut streams: Vec<StreamRow> = batch.streams.drain().map(|(_, row)| row).collect();
        streams.sort_unstable_by_key(|row| row.id);
        let failed = self.failed("a commit");
        commit_rows(&mut self.connection, streams, records).await.map_err(failed)?;
        self.wrote(batch.answers.bytes());
        Ok(())
    }

    /// Notes that a transaction of about `bytes` was committed.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.unfolded_bytes += bytes;
    }

    /// Puts what is in the write-ahead log into the database if that is much, as far as no reader still needs what was
    /// there.
    pub(super) async fn fold_if_due(&mut self) -> Result<(), sqlx::Error> {
        if self.unfolded_bytes < FOLD_BYTES {
            return Ok(());
        }
        let (busy, logged, folded): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut self.connection).await?;
        if busy == 0 && logged == folded {
            self.unfolded_bytes = 0;
        }
        Ok(())
    }

    /// What a failure in `doing` something means for the store.
    pub(super) fn failed(&self, doing: &'static str) -> impl FnOnce(sqlx::Error) -> Stopped + use<> {
        let database = self.database.clone();
        move |error| Stopped { doing, path: database, cause: Arc::new(io_error(error)) }
    }
}
