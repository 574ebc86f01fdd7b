//! The SQLite store as its users see it: opening, and [`EventStore`].

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use uuid::Uuid;

use super::super::blocking::blocking;
use super::super::cursor::Cursor;
use super::super::error::{
    AppendError, IoFailure, LogFault, OpenError, ReadError, SnapshotError, Stopped, TableFlaw,
};
use super::super::event_store::{EventStore, StoreFuture, Ticket};
use super::super::file::{Disk, RealDisk, create_private_dir, create_private_file, lock_path};
use super::super::heads::Heads;
use super::super::lease::Leases;
use super::super::lease_file::LeaseFile;
use super::super::lock::{Holder, Lock};
use super::super::record::{Append, Head, StoredRecord, StreamHead, StreamId};
use super::super::snapshot::{LoadedSnapshot, Snapshot};
use super::connection::{block_on, close, connect_writer, damage, fault, io_failure, open_fault};
use super::end::End;
use super::read;
use super::readers::Readers;
use super::rows::{read_record, record_columns};
use super::schema;
use super::snapshots;
use super::verify::check_structure;
use super::writer::{Encoder, Log, Shared, StreamNumber, run};

/// The threads that take turns at writing: one prepares while the other waits for the disk.
const WRITERS: usize = 2;

/// A database up to this length is checked as a whole after an unclean end: about a second. A larger one would keep its
/// coordinator away for longer than the check is worth; every record that is read is checked in any case.
const CHECKED_BYTES: u64 = 256 << 20;

/// What a SQLite store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The identity that a new log is given; one that is there keeps its own.
    pub store_id: Uuid,
}

impl Options {
    /// The usual ones. `store_id` is for a new log.
    #[must_use]
    pub fn new(store_id: Uuid) -> Self {
        Self { store_id }
    }
}

/// The database of a state directory.
#[must_use]
pub fn database_path(state: &Path) -> PathBuf {
    state.join("cairn.db")
}

/// The write-ahead log of a database.
fn wal_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// An event store in a database in a state directory, opened for writing. See the module's documentation.
#[derive(Debug)]
pub struct SqliteStore {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    readers: Readers,
    store_id: Uuid,
    /// Holds the lock until the threads have ended and the database is closed.
    leases: LeaseFile,
}

impl SqliteStore {
    /// Takes the lock of the state directory and opens its database; makes both if there is nothing. Reads where each
    /// stream ends, but not the log.
    ///
    /// # Errors
    /// Somebody else writes; the database is damaged, of a later version or not ours; a file operation failed. None
    /// of these changes anything.
    pub fn open(state: &Path, holder: &Holder, options: Options) -> Result<Self, OpenError> {
        create_private_dir(&mut RealDisk, state)?;
        let lock = Lock::acquire(&lock_path(state), holder)?;
        Self::open_locked(state, Arc::new(lock), options)
    }

    /// Opens the database of a state directory whose lock the caller holds; the store keeps it as long as it lives.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_locked(state: &Path, lock: Arc<Lock>, options: Options) -> Result<Self, OpenError> {
        create_private_dir(&mut RealDisk, state)?;
        let database = database_path(state);
        let failed = |doing| move |source| IoFailure { doing, path: database_path(state), source };
        let database = std::path::absolute(&database).map_err(failed("find"))?;
        // Made here and not by SQLite, so that nobody else may read it, nor the files that SQLite puts beside it.
        if !database.exists() {
            create_private_file(&database, OpenOptions::new().create(true)).map_err(failed("create"))?;
        }
        let leases = LeaseFile::open(state, lock)?;
        block_on(Self::open_database(database, leases, options))
    }

    async fn open_database(
        database: PathBuf,
        leases: LeaseFile,
        options: Options,
    ) -> Result<Self, OpenError> {
        // Who closes a database in good order takes it away.
        let was_cut_short = std::fs::metadata(wal_path(&database)).is_ok_and(|wal| wal.len() > 0);
        let mut connection = connect_writer(&database).await.map_err(open_fault(&database))?;
        match Self::load(&mut connection, &database, was_cut_short, options).await {
            Ok((store_id, encoder, end)) => {
                let log = Log::new(connection, &database, end);
                Ok(Self::start(log, database, leases, store_id, encoder)?)
            }
            Err(error) => {
                close(connection).await;
                Err(error.into())
            }
        }
    }

    async fn load(
        connection: &mut SqliteConnection,
        database: &Path,
        was_cut_short: bool,
        options: Options,
    ) -> Result<(Uuid, Encoder, End), LogFault> {
        let store_id = schema::prepare(connection, database, options.store_id).await?;
        fold_all(connection).await.map_err(io_failure("fold the write-ahead log into", database))?;
        // Now both files are there. SQLite syncs the directory too, but says nothing if it cannot.
        let directory = database.parent().unwrap_or(Path::new("/"));
        RealDisk.sync_dir(directory).map_err(|source| IoFailure {
            doing: "sync the directory of",
            path: database.to_owned(),
            source,
        })?;
        let head = read::head(connection, database).await?;
        let encoder = load_heads(connection, database, head).await?;
        check_last(connection, database, &encoder).await?;
        if was_cut_short && std::fs::metadata(database).is_ok_and(|file| file.len() <= CHECKED_BYTES) {
            check_structure(connection, database).await?;
        }
        let end = End::open(connection, database, head).await?;
        Ok((store_id, encoder, end))
    }

    fn start(
        log: Log,
        database: PathBuf,
        leases: LeaseFile,
        store_id: Uuid,
        encoder: Encoder,
    ) -> Result<Self, IoFailure> {
        let shared = Arc::new(Shared::new(encoder, log));
        let threads = Vec::with_capacity(WRITERS);
        let readers = Readers::new(database.clone());
        let mut store = Self { shared, threads, readers, store_id, leases };
        for _ in 0..WRITERS {
            let shared = store.shared.clone();
            let thread =
                std::thread::Builder::new().name("cairn-append".to_owned()).spawn(move || run(&shared));
            let path = database.clone();
            store.threads.push(thread.map_err(|source| IoFailure {
                doing: "start a thread for",
                path,
                source,
            })?);
        }
        Ok(store)
    }

    /// The identity of the log.
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// The leases of the state directory. They keep its lock.
    #[must_use]
    pub fn leases(&self) -> Arc<dyn Leases> {
        Arc::new(self.leases.clone())
    }
}

/// Puts all that is in the write-ahead log into the database and empties it. After an fsync that failed the kernel may
/// hold data in memory that it takes for written; so what an earlier life has left is written once more before anything
/// is built on it. A reader that is in the way for longer than a call waits puts that off.
async fn fold_all(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let (busy, _, _): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await?;
    if busy != 0 {
        tracing::warn!("a reader keeps the write-ahead log from being emptied");
    }
    Ok(())
}

/// Reads where each stream ends.
async fn load_heads(
    connection: &mut SqliteConnection,
    database: &Path,
    head: Head,
) -> Result<Encoder, LogFault> {
    let mut heads: Heads<StreamNumber> = Heads::default();
    let mut next_stream = 1;
    let mut rows = sqlx::query("SELECT id, name, version, epoch FROM streams").fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(fault(database, head.position))? {
        let form = |_: sqlx::Error| damage(database, head.position, TableFlaw::Form);
        let number: StreamNumber = row.try_get(0).map_err(form)?;
        let name: &str = row.try_get(1).map_err(form)?;
        let version = row.try_get::<i64, _>(2).map_err(form)?.cast_unsigned();
        let epoch = row.try_get::<i64, _>(3).map_err(form)?.cast_unsigned();
        heads.found(StreamId::from(name), StreamHead { version, epoch }, number);
        next_stream = next_stream.max(number + 1);
    }
    Ok(Encoder { heads, head, next_stream })
}

const LAST: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM records LEFT JOIN streams ON streams.id = records.stream ORDER BY records.position DESC LIMIT 1"
);

/// Checks that the last record is sound and that its stream ends with it: what a lost write would disturb first.
async fn check_last(
    connection: &mut SqliteConnection,
    database: &Path,
    encoder: &Encoder,
) -> Result<(), LogFault> {
    let position = encoder.head.position;
    let row = sqlx::query(LAST).fetch_optional(connection).await.map_err(fault(database, position))?;
    let Some(row) = row else { return Ok(()) };
    let record = read_record(&row, None).map_err(|flaw| damage(database, position, flaw))?;
    let version = record.first_version + u64::from(record.count) - 1;
    let end = StreamHead { version, epoch: record.epoch };
    if encoder.heads.head(&record.stream) == end {
        Ok(())
    } else {
        Err(damage(database, record.position, TableFlaw::Stream { stream: record.stream }).into())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that writes events has panicked");
            }
        }
        block_on(self.readers.close());
        let log = self.shared.log().take();
        if let Some(log) = log {
            // The last to close folds the write-ahead log.
            block_on(close(log.connection));
        }
    }
}

impl EventStore for SqliteStore {
    fn submit(&self, append: Append) -> Ticket {
        if let Err(invalid) = append.check() {
            return Ticket::answered(Err(invalid.into()));
        }
        if let Some(stopped) = self.shared.stopped() {
            return Ticket::answered(Err(stopped.clone().into()));
        }
        self.shared.queue.submit(append)
    }

    fn room(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.shared.queue.room())
    }

    fn read<'a>(&'a self, cursor: &'a mut Cursor) -> StoreFuture<'a, Result<Vec<StoredRecord>, ReadError>> {
        Box::pin(async move {
            let mut lent = self.readers.lend().await?;
            let page = read::page(&mut lent.connection, self.readers.database(), cursor).await?;
            lent.give_back();
            Ok(page)
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
        let shared = self.shared.clone();
        Box::pin(async move {
            snapshots::check_name(&snapshot.name)?;
            if snapshot.position > durable {
                let Snapshot { name, position, .. } = snapshot;
                return Err(SnapshotError::AheadOfLog { name, position, durable });
            }
            blocking(SnapshotError::ShuttingDown, move || save_snapshot(&shared, snapshot)).await
        })
    }

    fn load_snapshot<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Result<LoadedSnapshot, SnapshotError>> {
        Box::pin(async move {
            snapshots::check_name(name)?;
            let head = self.shared.durable().position;
            let mut lent = self.readers.lend().await?;
            let database = self.readers.database();
            let loaded = snapshots::load(&mut lent.connection, database, name, head).await;
            let loaded = loaded.map_err(ReadError::from)?;
            lent.give_back();
            Ok(loaded)
        })
    }

    fn stopped(&self) -> Option<Stopped> {
        self.shared.stopped().cloned()
    }
}

/// Saves a snapshot between two batches. A failure stops the store: it is the medium's, and what the next commit would
/// be worth is not known.
fn save_snapshot(shared: &Shared, snapshot: Snapshot) -> Result<(), SnapshotError> {
    let mut guard = shared.log();
    let Some(log) = guard.as_mut() else { return Err(SnapshotError::ShuttingDown) };
    let failure = |stopped: Stopped, path: PathBuf| {
        let source = std::io::Error::new(stopped.cause.kind(), stopped);
        SnapshotError::Io(IoFailure { doing: "write a snapshot to", path, source })
    };
    if let Some(stopped) = shared.stopped() {
        return Err(failure(stopped.clone(), log.database.clone()));
    }
    let bytes = snapshot.bytes.len();
    let failed = log.failed("saving a snapshot");
    match block_on(snapshots::save(&mut log.connection, snapshot)) {
        Ok(()) => {
            log.wrote(bytes);
            Ok(())
        }
        Err(error) => Err(failure(shared.stop(failed(error)), log.database.clone())),
    }
}
