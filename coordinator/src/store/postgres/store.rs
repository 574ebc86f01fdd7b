//! The store as its users see it: opening, and [`EventStore`].

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::connect::{Access, DEFAULT_SCHEMA, Place};
use super::retry::failure;
use super::schema::{self, Fault};
use super::service::{Service, joined};
use super::session::{self, Session, Signals};
use super::writer::{Shared, Writer, register};
use super::{read, snapshots};
use crate::store::cursor::Cursor;
use crate::store::error::{
    AppendError, InvalidAppend, IoFailure, OpenError, ReadError, SnapshotError, Stopped,
};
use crate::store::event_store::{EventStore, StoreFuture, Ticket};
use crate::store::record::{Append, Head, StoredRecord, StreamHead, StreamId};
use crate::store::snapshot::{LoadedSnapshot, Snapshot};

/// How long a database that is away is waited for: a restart with recovery, or a failover, takes less.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a follower looks by itself: hints may be lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What a store in PostgreSQL is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The identity that a new log is given; one that is there keeps its own.
    pub store_id: Uuid,
    /// The schema that everything is in; [`DEFAULT_SCHEMA`] but where several logs share a database.
    pub schema: String,
    /// What the database's administrator, and other coordinators, see this one as.
    pub name: String,
    /// How long a database that is away is waited for before the store stops; [`PATIENCE`] but in tests.
    pub patience: Duration,
}

impl Options {
    /// The usual ones. `store_id` is for a new log.
    #[must_use]
    pub fn new(store_id: Uuid) -> Self {
        Self { store_id, schema: DEFAULT_SCHEMA.to_owned(), name: "cairn".to_owned(), patience: PATIENCE }
    }
}

/// An event store in PostgreSQL, opened for writing; others may write to the same log at the same time. See the module's
/// documentation.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    writer: Option<thread::JoinHandle<()>>,
    service: Service,
    session: i32,
    store_id: Uuid,
    hints: watch::Receiver<u64>,
    is_held: watch::Receiver<bool>,
    /// Holds the session; ends when the sender is dropped.
    session_task: Option<(watch::Sender<()>, JoinHandle<()>)>,
}

/// What opening finds out.
struct Opened {
    connection: PgConnection,
    writer: i32,
    head: Head,
    store_id: Uuid,
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Schema(error) => error.into(),
            Fault::Io(failure) => failure.into(),
        }
    }
}

impl PostgresStore {
    /// Connects to the database at `url` (`postgres://user:password@host:port/database`), makes the schema if there is
    /// none, and brings it up to date. Blocks the caller for a few round trips; a database that is away is an error.
    ///
    /// # Errors
    /// It cannot be reached or used, is of a later version, or is set up so that it loses what it acknowledges.
    pub fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let place = place(url, &options.schema, &options.name)?;
        let service = Service::start(place.clone(), Access::Write, options.patience)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let start = |source| IoFailure { doing: "start a thread for", path: place.path(), source };
        let runtime = runtime.map_err(start)?;
        let opening = open(place.clone(), options.store_id, options.name);
        // A connection belongs to the runtime that made it. One that is not needed ends here: the caller may be within
        // another, where none may.
        let opened = thread::scope(|scope| {
            let opening = scope.spawn(move || runtime.block_on(opening).map(|opened| (opened, runtime)));
            opening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let (Opened { connection, writer: id, head, store_id }, runtime) = opened?;
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            shared: shared.clone(),
            place: place.clone(),
            patience: options.patience,
            connection: Some(connection),
            id,
            batches: 0,
            known: head,
        };
        let thread = thread::Builder::new().name("cairn-append".to_owned());
        let thread = thread.spawn(move || writer.run(&runtime)).map_err(start)?;
        let (hints, heard) = watch::channel(head.position);
        let (is_held, held) = watch::channel(false);
        let (closing, until) = watch::channel(());
        let signals = Signals { hints, is_held, closing: until };
        let session_task = service.spawn(session::hold(place, id, signals));
        Ok(Self {
            shared,
            writer: Some(thread),
            service,
            session: id,
            store_id,
            hints: heard,
            is_held: held,
            session_task: Some((closing, session_task)),
        })
    }

    /// The identity of the log.
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// The number of this store's session; see [`sessions`](Self::sessions).
    #[must_use]
    pub fn session(&self) -> i32 {
        self.session
    }

    /// The stores that are open on this log and connected, in order of opening. One whose process died is gone at once,
    /// one whose machine died after half a minute. It tells who is worth waiting for; only epochs tell who may write.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn sessions(&self) -> Result<Vec<Session>, ReadError> {
        let found =
            self.service.call("list the sessions of", |connection| Box::pin(session::live(connection)));
        Ok(found.await?)
    }

    /// Completes when the store with this session is gone, or has lost its connection.
    ///
    /// # Errors
    /// The database cannot be reached; this may tell nothing about the other one.
    pub async fn session_ended(&self, session: i32) -> Result<(), ReadError> {
        let place = self.service.connections.place.clone();
        let ended = self.service.spawn(async move { session::ended(&place, session).await });
        let ended = joined(AbortOnDropHandle::new(ended)).await?;
        Ok(ended.map_err(failure(&self.service.connections.place, "wait for the end of a session of"))?)
    }

    /// Completes once this store holds the lock of its session.
    pub async fn session_held(&self) {
        // An error says that the store is being dropped.
        let _ = self.is_held.clone().wait_for(|is_held| *is_held).await;
    }

    /// Completes once the log goes beyond `position`, whoever appended. Told by a hint of the database, or else found
    /// within a second.
    ///
    /// # Errors
    /// As [`read`](EventStore::read).
    pub async fn grown_beyond(&self, position: u64) -> Result<Head, ReadError> {
        let connections = self.service.connections.clone();
        let mut hints = self.hints.clone();
        let grown = self.service.spawn(async move {
            loop {
                hints.borrow_and_update();
                let head = connections
                    .call("read the end of", |connection| Box::pin(read::head(connection)))
                    .await?;
                if head.position > position {
                    return Ok(head);
                }
                // The one who hints goes with the store, and this with it.
                let _ = tokio::time::timeout(POLL_INTERVAL, hints.changed()).await;
            }
        });
        joined(AbortOnDropHandle::new(grown)).await?.map_err(|failure: IoFailure| failure.into())
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }
}

/// Reads an address.
pub(super) fn place(url: &str, schema: &str, name: &str) -> Result<Place, IoFailure> {
    Place::new(url, schema, name).map_err(|error| IoFailure {
        doing: "read the address of",
        path: "postgres://…".into(),
        source: super::retry::io_error(error),
    })
}

async fn open(place: Place, store_id: Uuid, name: String) -> Result<Opened, OpenError> {
    let mut connection = place.connect(Access::Write).await.map_err(failure(&place, "connect to"))?;
    schema::check_fitness(&mut connection, &place).await?;
    schema::migrate(&mut connection, &place, store_id).await?;
    let store_id = schema::store_id(&mut connection, &place).await?;
    let (writer, head) = register(&mut connection, &name).await.map_err(failure(&place, "write to"))?;
    Ok(Opened { connection, writer, head, store_id })
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.closing.cancel();
        if self.writer.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that writes events has panicked");
        }
        if let Some((closing, task)) = self.session_task.take() {
            drop(closing);
            // Takes two timeouts at most.
            if self.service.block(task).is_none_or(|ended| ended.is_err()) {
                tracing::error!("the task that holds the session has panicked");
            }
        }
    }
}

impl EventStore for PostgresStore {
    fn submit(&self, append: Append) -> Ticket {
        let checked = append.check().and_then(|()| match i64::try_from(append.epoch) {
            Ok(_) => Ok(()),
            Err(_) => Err(InvalidAppend::Epoch { epoch: append.epoch }),
        });
        if let Err(invalid) = checked {
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
            let (records, moved) = read::page_by(&self.service, cursor).await?;
            *cursor = moved;
            Ok(records)
        })
    }

    fn head(&self) -> StoreFuture<'_, Result<Head, ReadError>> {
        Box::pin(read::head_by(&self.service))
    }

    fn stream_head<'a>(&'a self, stream: &'a StreamId) -> StoreFuture<'a, Result<StreamHead, AppendError>> {
        self.shared.queue.stream_head(stream)
    }

    fn next_epoch<'a>(&'a self, stream: &'a StreamId) -> StoreFuture<'a, Result<u64, AppendError>> {
        self.shared.queue.next_epoch(stream)
    }

    fn save_snapshot(&self, snapshot: Snapshot) -> StoreFuture<'_, Result<(), SnapshotError>> {
        Box::pin(async move {
            snapshots::check_name(&snapshot.name)?;
            let snapshot = Arc::new(snapshot);
            let saved = snapshot.clone();
            let durable = self.service.call("save a snapshot in", move |connection| {
                let snapshot = saved.clone();
                Box::pin(async move { snapshots::save(connection, &snapshot).await })
            });
            let durable = durable.await?;
            if snapshot.position > durable {
                let (name, position) = (snapshot.name.clone(), snapshot.position);
                return Err(SnapshotError::AheadOfLog { name, position, durable });
            }
            Ok(())
        })
    }

    fn load_snapshot<'a>(&'a self, name: &'a str) -> StoreFuture<'a, Result<LoadedSnapshot, SnapshotError>> {
        Box::pin(snapshots::load_by(&self.service, name))
    }

    fn stopped(&self) -> Option<Stopped> {
        self.shared.stopped.get().cloned()
    }
}
