//! A log for those who only look: commands that show it while coordinators write, and a complete check.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::batch::unsigned;
use super::connect::{Access, Place};
use super::retry::failure;
use super::schema::{self, Fault};
use super::service::{Service, joined};
use super::store::place;
use super::{read, snapshots};
use crate::store::chain::Link;
use crate::store::cursor::Cursor;
use crate::store::error::{Damage, DamageReason, IoFailure, ReadError, SnapshotError, TableFlaw};
use crate::store::event_reader::EventReader;
use crate::store::record::{Head, StoredRecord, StreamHead, StreamId};
use crate::store::snapshot::LoadedSnapshot;

/// How long a database that is away is waited for: somebody sits before the screen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Streams whose ends are compared at once.
const STREAMS_PAGE: i64 = 10_000;

/// The log of a database, for reading. Its session may not change anything. Its calls block, on whichever thread.
#[derive(Debug)]
pub struct PostgresReader {
    service: Service,
    store_id: Uuid,
}

/// What a complete check of a log found: it is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The log's identity.
    pub store_id: Uuid,
    /// Its end.
    pub head: Head,
    /// How many streams it has.
    pub streams: u64,
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Schema(error) => error.into(),
            Fault::Io(failure) => failure.into(),
        }
    }
}

impl PostgresReader {
    /// The log at `url`, in `schema`.
    ///
    /// # Errors
    /// It cannot be reached, there is no log, or it is of another version.
    pub fn open(url: &str, schema: &str) -> Result<Self, ReadError> {
        let place = place(url, schema, "cairn reader")?;
        let service = Service::start(place.clone(), Access::Read, PATIENCE)?;
        let store_id = service.block(async move {
            let mut connection = place.connect(Access::Read).await.map_err(failure(&place, "connect to"))?;
            schema::check(&mut connection, &place).await?;
            Ok::<_, ReadError>(schema::store_id(&mut connection, &place).await?)
        });
        let store_id = store_id.ok_or(ReadError::ShuttingDown)??;
        Ok(Self { service, store_id })
    }

    /// The identity of the log.
    #[must_use]
    pub fn store_id(&self) -> Uuid {
        self.store_id
    }

    /// Reads the whole log, as it is when this begins, and checks everything that can be checked: positions, versions,
    /// epochs, the hash chain, and the ends of streams. Whoever appends meanwhile is not disturbed.
    ///
    /// # Errors
    /// The first damage, or the database cannot be reached.
    pub async fn verify(&self) -> Result<Verified, ReadError> {
        let (place, store_id) = (self.service.connections.place.clone(), self.store_id);
        joined(self.service.spawn(async move { verify(&place, store_id).await })).await?
    }
}

impl EventReader for PostgresReader {
    fn read(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError> {
        let from = cursor.clone();
        let (records, moved) = self.service.call_and_wait("read events from", move |connection| {
            let from = from.clone();
            Box::pin(async move { read::page(connection, &from).await })
        })?;
        *cursor = moved;
        Ok(records)
    }

    fn head(&self) -> Result<Head, ReadError> {
        Ok(self.service.call_and_wait("read the end of", |connection| Box::pin(read::head(connection)))?)
    }

    fn load_snapshot(&self, name: &str) -> Result<LoadedSnapshot, SnapshotError> {
        snapshots::check_name(name)?;
        let (place, name) = (self.service.connections.place.clone(), name.to_owned());
        let loaded = self.service.call_and_wait("load a snapshot from", move |connection| {
            let (place, name) = (place.clone(), name.clone());
            Box::pin(async move { snapshots::load(connection, &place, &name).await })
        });
        Ok(loaded?)
    }
}

async fn verify(place: &Place, store_id: Uuid) -> Result<Verified, ReadError> {
    let failed = || failure(place, "check");
    let mut connection = place.connect(Access::Read).await.map_err(failed())?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let mut transaction = connection.begin_with(begin).await.map_err(failed())?;
    let head = read::head(&mut transaction).await.map_err(failed())?;
    let mut walk = Walk::new(place);
    let mut cursor = Cursor::all(1);
    loop {
        let (records, moved) = read::page(&mut transaction, &cursor).await.map_err(failed())?;
        let links = links(&mut transaction, &records).await.map_err(failed())?;
        let Some(last) = records.last() else { break };
        tracing::debug!(position = last.position, "checked a page");
        for record in &records {
            walk.step(record, links.get(&record.position))?;
        }
        cursor = moved;
    }
    if walk.head != head {
        return Err(walk.damage(TableFlaw::Sequence));
    }
    let streams = walk.streams.len() as u64;
    compare_streams(&mut transaction, &mut walk, failed).await?;
    Ok(Verified { store_id, head, streams })
}

/// The links that are stored beside these records.
async fn links(
    connection: &mut PgConnection,
    records: &[StoredRecord],
) -> Result<HashMap<u64, Vec<u8>>, sqlx::Error> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(HashMap::new()) };
    let query = "SELECT position, link FROM records WHERE position BETWEEN $1 AND $2 AND link IS NOT NULL";
    let bounds = (super::batch::signed(first.position), super::batch::signed(last.position));
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as(query).bind(bounds.0).bind(bounds.1).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(position, link)| (unsigned(position), link)).collect())
}

/// Where the check stands.
struct Walk<'a> {
    place: &'a Place,
    head: Head,
    streams: HashMap<StreamId, StreamHead>,
}

impl<'a> Walk<'a> {
    fn new(place: &'a Place) -> Self {
        Self { place, head: Head { position: 0, chain: Link::EMPTY }, streams: HashMap::new() }
    }

    fn damage(&self, flaw: TableFlaw) -> ReadError {
        let position = self.head.position + 1;
        Damage { file: self.place.path(), offset: 0, position, reason: DamageReason::Table(flaw) }.into()
    }

    fn step(&mut self, record: &StoredRecord, link: Option<&Vec<u8>>) -> Result<(), ReadError> {
        let StoredRecord { position, stream, first_version, count, epoch, body } = record;
        let known = self.streams.get(stream).copied().unwrap_or_default();
        let is_next = *position == self.head.position + 1
            && *first_version == known.version + 1
            && *epoch >= known.epoch
            && *count > 0;
        let chain =
            self.head.chain.followed_by(stream.as_str(), *first_version, *count, *epoch, body.as_bytes());
        if !is_next || link.is_some_and(|link| link[..] != chain.bytes()[..]) {
            return Err(self.damage(TableFlaw::Sequence));
        }
        let version = known.version + u64::from(*count);
        self.streams.insert(stream.clone(), StreamHead { version, epoch: *epoch });
        self.head = Head { position: record.next_position() - 1, chain };
        Ok(())
    }
}

/// Every stream's row says what its records say, and there are no others. Takes the streams out of the walk.
async fn compare_streams<F: FnOnce(sqlx::Error) -> IoFailure>(
    connection: &mut PgConnection,
    walk: &mut Walk<'_>,
    failed: impl Fn() -> F,
) -> Result<(), ReadError> {
    let mut after = String::new();
    loop {
        let query = "SELECT name, version, epoch FROM streams WHERE name > $1 ORDER BY name LIMIT $2";
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(query)
            .bind(&after)
            .bind(STREAMS_PAGE)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed())?;
        let Some((last, ..)) = rows.last() else { break };
        after.clone_from(last);
        for (name, version, epoch) in rows {
            let stored = StreamHead { version: unsigned(version), epoch: unsigned(epoch) };
            // One that was only claimed has no records.
            if walk.streams.remove(name.as_str()).unwrap_or_default() != stored {
                return Err(walk.damage(TableFlaw::Stream { stream: name.into() }));
            }
        }
    }
    match walk.streams.keys().next() {
        Some(stream) => Err(walk.damage(TableFlaw::Stream { stream: stream.clone() })),
        None => Ok(()),
    }
}
