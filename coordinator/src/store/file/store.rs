//! The file store as its users see it: opening, and [`EventStore`].

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use uuid::Uuid;

use super::super::blocking::blocking;
use super::super::chain::Link;
use super::super::cursor::Cursor;
use super::super::error::{AppendError, IoFailure, Notice, OpenError, ReadError, SnapshotError, Stopped};
use super::super::event_store::{EventStore, StoreFuture, Ticket};
use super::super::lease::Leases;
use super::super::lease_file::LeaseFile;
use super::super::lock::{Holder, Lock};
use super::super::record::{Append, Head, StoredRecord, StreamHead, StreamId};
use super::super::snapshot::{LoadedSnapshot, Snapshot};
use super::disk::{Disk, OpenFile, RealDisk, create_private_dir, rewrite};
use super::line::SegmentHeader;
use super::read::Reading;
use super::segment::segment_path;
use super::snapshots;
use super::survey::{LastSegment, Survey, Torn, survey};
use super::writer::{Encoder, LogFile, Shared, run};

/// A segment of this length is not written to any more: large enough that a log has few files, small enough to be
/// read from its beginning in a moment.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The threads that take turns at writing: one prepares while the other waits for the disk.
const WRITERS: usize = 2;

/// What a file store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The identity that a new log is given; one that is there keeps its own.
    pub store_id: Uuid,
    /// Length after which a segment is not written to any more; [`SEGMENT_BYTES`] but in tests.
    pub segment_bytes: u64,
}

impl Options {
    /// The usual ones. `store_id` is for a new log.
    #[must_use]
    pub fn new(store_id: Uuid) -> Self {
        Self { store_id, segment_bytes: SEGMENT_BYTES }
    }
}

/// The lock file of a state directory.
#[must_use]
pub fn lock_path(state: &Path) -> PathBuf {
    state.join("lock")
}

/// The events directory of a state directory.
pub(super) fn events_path(state: &Path) -> PathBuf {
    state.join("events")
}

/// Whether a log in files was ever begun in a state directory.
pub(in crate::store) fn holds_events(state: &Path) -> bool {
    events_path(state).is_dir()
}

/// The snapshots directory of a state directory.
pub(super) fn snapshots_path(state: &Path) -> PathBuf {
    state.join("snapshots")
}

/// An event store in a state directory, opened for writing. See the module's documentation.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    events: Arc<Path>,
    snapshots: Arc<Path>,
    /// Snapshots are saved one after the other.
    saving: Arc<Mutex<()>>,
    store_id: Uuid,
    notices: Vec<Notice>,
    /// Holds the lock until the threads have ended.
    leases: LeaseFile,
}

impl FileStore {
    /// Takes the lock of the state directory and opens its log; makes both if there is nothing. Reads the whole log,
    /// about a second for a gigabyte.
    ///
    /// # Errors
    /// Somebody else writes; the log is damaged; a file operation failed. Damage and failures change nothing.
    pub fn open(state: &Path, holder: &Holder, options: Options) -> Result<Self, OpenError> {
        create_private_dir(&mut RealDisk, state)?;
        let lock = Lock::acquire(&lock_path(state), holder)?;
        Self::open_locked(state, Arc::new(lock), options)
    }

    /// Opens the log of a state directory whose lock the caller holds; the store keeps it as long as it lives.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_locked(state: &Path, lock: Arc<Lock>, options: Options) -> Result<Self, OpenError> {
        Self::open_on(Box::new(RealDisk), state, lock, options)
    }

    pub(super) fn open_on(
        mut disk: Box<dyn Disk>,
        state: &Path,
        lock: Arc<Lock>,
        options: Options,
    ) -> Result<Self, OpenError> {
        let events: Arc<Path> = events_path(state).into();
        create_private_dir(&mut *disk, state)?;
        create_private_dir(&mut *disk, &events)?;
        let leases = LeaseFile::open(state, lock)?;
        let found = survey(&events)?;
        let notices: Vec<_> = found.torn.iter().map(|torn| torn_notice(torn, found.head.position)).collect();
        for notice in &notices {
            tracing::warn!("{notice}");
        }
        let (file, encoder, index) = make_good(&mut *disk, &events, found, options)?;
        let store_id = encoder.store_id;
        let log = LogFile { disk, events: events.clone(), file };
        let shared = Arc::new(Shared::new(encoder, log, index));
        let mut store = Self {
            shared,
            threads: Vec::with_capacity(WRITERS),
            events,
            snapshots: snapshots_path(state).into(),
            saving: Arc::default(),
            store_id,
            notices,
            leases,
        };
        for _ in 0..WRITERS {
            let shared = store.shared.clone();
            let thread =
                std::thread::Builder::new().name("cairn-append".to_owned()).spawn(move || run(&shared));
            let path = state.to_owned();
            store.threads.push(thread.map_err(|source| IoFailure {
                doing: "start a thread for",
                path,
                source,
            })?);
        }
        Ok(store)
    }

    /// The leases of the state directory. They keep its lock.
    #[must_use]
    pub fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.leases.clone())
    }

    /// What was put right when the store was opened.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The identity of the log.
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }
}

pub(super) fn torn_notice(torn: &Torn, after_position: u64) -> Notice {
    let Torn { path, offset, bytes } = torn.clone();
    Notice::TailCut { file: path, offset, bytes_cut: bytes, after_position }
}

/// Cuts off what is torn, makes sure of the last write, begins a log where there is none.
fn make_good(
    disk: &mut dyn Disk,
    events: &Path,
    found: Survey,
    options: Options,
) -> Result<(OpenFile, Encoder, super::index::Index), IoFailure> {
    if let Some(torn) = &found.torn {
        cut(disk, torn)?;
    }
    let store_id = found.store_id.unwrap_or(options.store_id);
    let (file, segment) = match found.last {
        Some(last) => (secure(disk, events, &last)?, last),
        None => begin(disk, events, store_id)?,
    };
    let encoder = Encoder {
        store_id,
        heads: found.heads,
        head: found.head,
        segment: segment.start,
        segment_bytes: segment.bytes,
        max_segment_bytes: options.segment_bytes,
    };
    Ok((file, encoder, found.index))
}

/// Cuts off what is torn. What follows at once makes that durable.
fn cut(disk: &mut dyn Disk, torn: &Torn) -> Result<(), IoFailure> {
    let failed = |doing| move |source| IoFailure { doing, path: torn.path.clone(), source };
    if torn.offset == 0 {
        return disk.remove(&torn.path).map_err(failed("remove"));
    }
    let mut file = open_for_writing(&torn.path)?;
    disk.truncate(&mut file, torn.offset).map_err(failed("truncate"))
}

/// Makes sure of the last write, and of the file's name.
fn secure(disk: &mut dyn Disk, events: &Path, last: &LastSegment) -> Result<OpenFile, IoFailure> {
    let failed = |doing| move |source| IoFailure { doing, path: last.path.clone(), source };
    let mut file = open_for_writing(&last.path)?;
    rewrite(disk, &mut file, last.last_write, last.bytes).map_err(failed("write"))?;
    disk.sync_data(&mut file).map_err(failed("sync"))?;
    disk.sync_dir(events).map_err(failed("sync the directory of"))?;
    file.file.seek(SeekFrom::Start(last.bytes)).map_err(failed("seek in"))?;
    Ok(file)
}

fn open_for_writing(path: &Path) -> Result<OpenFile, IoFailure> {
    match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(OpenFile { file, path: path.to_owned() }),
        Err(source) => Err(IoFailure { doing: "open", path: path.to_owned(), source }),
    }
}

/// Begins an empty log.
fn begin(disk: &mut dyn Disk, events: &Path, store_id: Uuid) -> Result<(OpenFile, LastSegment), IoFailure> {
    let path = segment_path(events, 1);
    let failed = |doing| {
        let path = path.clone();
        move |source| IoFailure { doing, path, source }
    };
    let mut header = Vec::new();
    SegmentHeader { store_id, start: 1, chain: Link::EMPTY }.write(&mut header);
    let mut file = disk.create(&path).map_err(failed("create"))?;
    disk.write_all(&mut file, &header).map_err(failed("write"))?;
    disk.sync_data(&mut file).map_err(failed("sync"))?;
    disk.sync_dir(events).map_err(failed("sync the directory of"))?;
    let segment = LastSegment { start: 1, path, bytes: header.len() as u64, last_write: 0 };
    Ok((file, segment))
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that writes events has panicked");
            }
        }
    }
}

impl EventStore for FileStore {
    fn submit(&self, append: Append) -> Ticket {
        if let Err(invalid) = append.check() {
            return Ticket::answered(Err(invalid.into()));
        }
        if let Some(stopped) = self.shared.stopped.get() {
            return Ticket::answered(Err(stopped.clone().into()));
        }
        self.shared.queue.submit(append)
    }

    fn room(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.shared.queue.room())
    }

    fn read<'a>(&'a self, cursor: &'a mut Cursor) -> StoreFuture<'a, Result<Vec<StoredRecord>, ReadError>> {
        Box::pin(async move {
            let (shared, events) = (self.shared.clone(), self.events.clone());
            let mut moved = cursor.clone();
            let (records, moved) = blocking(ReadError::ShuttingDown, move || {
                let until = Some(shared.durable().position);
                let page = Reading { events: &events, until, index: Some(&shared.index) }.page(&mut moved);
                page.map(|records| (records, moved))
            })
            .await?;
            *cursor = moved;
            Ok(records)
        })
    }

    fn head(&self) -> StoreFuture<'_, Result<Head, ReadError>> {
        Box::pin(async { Ok(self.shared.durable()) })
    }

    fn stream_head<'a>(&'a self, stream: &'a StreamId) -> StoreFuture<'a, Result<StreamHead, AppendError>> {
        self.shared.queue.stream_head(stream)
    }

    fn next_epoch<'a>(&'a self, stream: &'a StreamId) -> StoreFuture<'a, Result<u64, AppendError>> {
        self.shared.queue.next_epoch(stream)
    }

    fn save_snapshot(&self, snapshot: Snapshot) -> StoreFuture<'_, Result<(), SnapshotError>> {
        let durable = self.shared.durable().position;
        let (dir, saving, store_id) = (self.snapshots.clone(), self.saving.clone(), self.store_id);
        Box::pin(async move {
            if snapshot.position > durable {
                let Snapshot { name, position, .. } = snapshot;
                return Err(SnapshotError::AheadOfLog { name, position, durable });
            }
            blocking(SnapshotError::ShuttingDown, move || {
                let _one_at_a_time = saving.lock().unwrap_or_else(PoisonError::into_inner);
                snapshots::save(&dir, store_id, &snapshot)
            })
            .await
        })
    }

    fn load_snapshot<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Result<LoadedSnapshot, SnapshotError>> {
        let head = self.shared.durable().position;
        let (dir, name, store_id) = (self.snapshots.clone(), name.to_owned(), self.store_id);
        Box::pin(blocking(SnapshotError::ShuttingDown, move || snapshots::load(&dir, store_id, &name, head)))
    }

    fn stopped(&self) -> Option<Stopped> {
        self.shared.stopped.get().cloned()
    }
}
