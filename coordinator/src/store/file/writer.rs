//! The one that writes: checks appends, makes lines of them, and puts many into one write and one fsync.
//!
//! Two threads take turns, so that the next batch is prepared while the last one is on its way to the disk:
//!
//! ```text
//! thread 1:  [prepare a][write and sync a.......][answer a]          [prepare c]...
//! thread 2:             [prepare b...............]         [write and sync b...
//! ```
//!
//! Each takes the encoder, then the log file, and lets go of the encoder only when it has the file; so batches are
//! written in the order in which they were prepared, and what arrives until the file is free goes along. An idle
//! store writes the first append with one wake-up.
//!
//! After a failure the state that was made ahead is wrong, so nothing is accepted any more.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use uuid::Uuid;

use super::super::cursor::Hint;
use super::super::error::{AppendError, Stopped};
use super::super::heads::Heads;
use super::super::queue::{AbandonOnPanic, Answers, MAX_BATCH_BYTES, Queue, Request};
use super::super::record::{Append, Appended, Head, NewRecord};
use super::disk::{Disk, OpenFile};
use super::index::Index;
use super::line::{Place, SegmentHeader, write_append};
use super::segment::segment_path;
use super::survey::{NewestSegment, is_first_in};

/// What the threads and the store's handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) durable: Mutex<Head>,
    pub(super) index: RwLock<Index>,
    pub(super) stopped: OnceLock<Stopped>,
    encoder: Mutex<Encoder>,
    log: Mutex<LogFile>,
}

impl Shared {
    pub(super) fn new(encoder: Encoder, log: LogFile, index: Index) -> Self {
        Self {
            queue: Queue::default(),
            durable: Mutex::new(encoder.head),
            index: RwLock::new(index),
            stopped: OnceLock::new(),
            encoder: Mutex::new(encoder),
            log: Mutex::new(log),
        }
    }

    pub(super) fn durable(&self) -> Head {
        *lock(&self.durable)
    }

    fn refuse_if_stopped(&self) -> Result<(), AppendError> {
        self.stopped.get().map_or(Ok(()), |stopped| Err(stopped.clone().into()))
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
        let mut log = lock(&shared.log);
        encoder.prepare(shared, &mut batch);
        drop(encoder);
        let written = write(shared, &mut log, &batch);
        batch.answer(&shared.queue, written);
    }
}

fn write(shared: &Shared, log: &mut LogFile, batch: &Batch) -> Result<(), AppendError> {
    shared.refuse_if_stopped()?;
    let Some(head) = batch.head else { return Ok(()) };
    match log.write(batch) {
        Ok(()) => {
            *lock(&shared.durable) = head;
            Ok(())
        }
        Err(stopped) => {
            let cause = &stopped.cause;
            tracing::error!(path = %stopped.path.display(), %cause, "{} failed; the store has stopped", stopped.doing);
            Err(shared.stopped.get_or_init(|| stopped).clone().into())
        }
    }
}

/// What goes to the disk in one write.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    /// The segment that the write begins.
    new_segment: Option<u64>,
    /// The position of its first append.
    first_position: u64,
    /// The end of the log after it; `None` while nothing has been accepted.
    head: Option<Head>,
    answers: Answers,
}

/// A buffer above this size is not kept for the next batch.
const KEPT_BUFFER_BYTES: usize = MAX_BATCH_BYTES + (1 << 20);

impl Batch {
    /// Tells everybody, and is empty again.
    fn answer(&mut self, queue: &Queue, written: Result<(), AppendError>) {
        self.answers.tell(queue, written);
        self.lines.clear();
        if self.lines.capacity() > KEPT_BUFFER_BYTES {
            self.lines = Vec::new();
        }
        (self.new_segment, self.head) = (None, None);
    }
}

/// Checks appends and makes lines of them, ahead of the disk.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) store_id: Uuid,
    pub(super) heads: Heads<NewestSegment>,
    pub(super) head: Head,
    /// The segment that is being written, and its length.
    pub(super) segment: u64,
    pub(super) segment_bytes: u64,
    /// A segment of this length is not written to any more.
    pub(super) max_segment_bytes: u64,
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
                let accepted = alive.and_then(|()| self.accept(shared, &append, batch));
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

    fn accept(
        &mut self,
        shared: &Shared,
        append: &Append,
        batch: &mut Batch,
    ) -> Result<Appended, AppendError> {
        let position = self.head.position + 1;
        let begins_segment = batch.head.is_none() && self.segment_bytes >= self.max_segment_bytes;
        let segment = if begins_segment { position } else { self.segment };
        let mut firsts: Vec<(&NewRecord, u64)> = Vec::new();
        self.heads.accept(append, |record, events_before, newest| {
            if is_first_in(segment, newest) {
                firsts.push((record, position + events_before));
            }
        })?;
        if begins_segment {
            self.begin_segment(segment, batch);
        }
        let offset = self.segment_bytes;
        if batch.head.is_none() {
            batch.first_position = position;
        }
        self.encode(append, batch);
        self.note(shared, Hint { position, segment, offset }, &firsts);
        Ok(Appended { position })
    }

    fn begin_segment(&mut self, start: u64, batch: &mut Batch) {
        SegmentHeader { store_id: self.store_id, start, chain: self.head.chain }.write(&mut batch.lines);
        batch.new_segment = Some(start);
        (self.segment, self.segment_bytes) = (start, batch.lines.len() as u64);
    }

    fn encode(&mut self, append: &Append, batch: &mut Batch) {
        let position = self.head.position + 1;
        for record in &append.records {
            let NewRecord { stream, first_version, count, body } = record;
            let (stream, body) = (stream.as_str(), body.as_bytes());
            self.head.chain = self.head.chain.followed_by(stream, *first_version, *count, append.epoch, body);
            self.head.position += u64::from(*count);
        }
        let before = batch.lines.len();
        let place = Place { position, batch: batch.first_position, chain: self.head.chain };
        write_append(&mut batch.lines, append, place);
        self.segment_bytes += (batch.lines.len() - before) as u64;
        batch.head = Some(self.head);
    }

    fn note(&self, shared: &Shared, line: Hint, firsts: &[(&NewRecord, u64)]) {
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.mark(line);
        for (record, position) in firsts {
            index.first_in_segment(&record.stream, *position, record.first_version);
        }
    }
}

/// The segment that is being written.
pub(super) struct LogFile {
    pub(super) disk: Box<dyn Disk>,
    pub(super) events: Arc<std::path::Path>,
    pub(super) file: OpenFile,
}

impl std::fmt::Debug for LogFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl LogFile {
    /// Makes a batch durable. After an error the file may hold any part of it, and nothing more must be written.
    fn write(&mut self, batch: &Batch) -> Result<(), Stopped> {
        let failed = |doing, path: &std::path::Path| {
            let path = path.to_owned();
            move |error| Stopped { doing, path, cause: Arc::new(error) }
        };
        if let Some(start) = batch.new_segment {
            let path = segment_path(&self.events, start);
            self.file = self.disk.create(&path).map_err(failed("creating the file", &path))?;
        }
        let path = self.file.path.clone();
        self.disk.write_all(&mut self.file, &batch.lines).map_err(failed("a write", &path))?;
        self.disk.sync_data(&mut self.file).map_err(failed("an fsync", &path))?;
        if batch.new_segment.is_some() {
            self.disk.sync_dir(&self.events).map_err(failed("an fsync", &self.events))?;
        }
        Ok(())
    }
}
