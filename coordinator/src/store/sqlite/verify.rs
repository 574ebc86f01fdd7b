//! Checking a whole database: its structure, and every checksum, link, version and epoch of the log. Nothing is changed
//! by it.

use std::collections::HashMap;
use std::path::Path;

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use super::super::chain::Link;
use super::super::error::{LogFault, TableFlaw};
use super::super::heads::Heads;
use super::super::record::{Head, StreamHead, StreamId};
use super::connection::{damage, fault};
use super::rows::{read_record, record_columns};

/// All records, each with its link in the last column. An outer join, so that a record without a stream is found.
const ALL: &str = concat!(
    "SELECT ",
    record_columns!(),
    ", records.link FROM records LEFT JOIN streams ON streams.id = records.stream ORDER BY records.position"
);
/// The column of the link.
const LINK: usize = 7;

/// Checks everything that can be checked, as it is at one moment; returns the end of the log.
pub(super) async fn verify(connection: &mut SqliteConnection, database: &Path) -> Result<Head, LogFault> {
    // One transaction: all queries see the same state, however long they take. It is rolled back when it is dropped.
    let mut transaction = connection.begin().await.map_err(fault(database, 1))?;
    check_structure(&mut transaction, database).await?;
    let mut walk = Walk { head: Head { position: 0, chain: Link::EMPTY }, heads: Heads::default() };
    let mut is_linked = true;
    let mut rows = sqlx::query(ALL).fetch(&mut *transaction);
    loop {
        let position = walk.head.position + 1;
        let Some(row) = rows.try_next().await.map_err(fault(database, position))? else { break };
        is_linked = walk.step(&row).map_err(|flaw| damage(database, position, flaw))?;
    }
    drop(rows);
    if !is_linked {
        return Err(damage(database, walk.head.position + 1, TableFlaw::Sequence).into());
    }
    check_streams(&mut transaction, database, &walk).await?;
    Ok(walk.head)
}

/// Lets SQLite check its pages, tables, indices and references.
pub(super) async fn check_structure(
    connection: &mut SqliteConnection,
    database: &Path,
) -> Result<(), LogFault> {
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_all(&mut *connection)
        .await
        .map_err(fault(database, 1))?;
    match found.into_iter().find(|line| line != "ok") {
        None => Ok(()),
        Some(found) => Err(damage(database, 1, TableFlaw::Structure { found: found.into() }).into()),
    }
}

/// The log as far as it has been read.
struct Walk {
    head: Head,
    heads: Heads<()>,
}

impl Walk {
    /// Goes on with a record; returns whether it has the link that ends an append.
    fn step(&mut self, row: &SqliteRow) -> Result<bool, TableFlaw> {
        let record = read_record(row, None)?;
        if record.position != self.head.position + 1 {
            return Err(TableFlaw::Sequence);
        }
        let (stream, version, count, epoch) =
            (record.stream.as_str(), record.first_version, record.count, record.epoch);
        self.heads.advance(stream, version, count, epoch, |()| ()).map_err(|_misfit| TableFlaw::Sequence)?;
        self.head.chain = self.head.chain.followed_by(stream, version, count, epoch, record.body.as_bytes());
        self.head.position += u64::from(count);
        let link: Option<&[u8]> = row.try_get(LINK).map_err(|_| TableFlaw::Form)?;
        match link {
            Some(link) if link != self.head.chain.bytes() => Err(TableFlaw::Sequence),
            link => Ok(link.is_some()),
        }
    }
}

/// Compares the ends of the streams with those of their records, both ways.
async fn check_streams(
    connection: &mut SqliteConnection,
    database: &Path,
    walk: &Walk,
) -> Result<(), LogFault> {
    let position = walk.head.position;
    let mut missing: HashMap<&StreamId, StreamHead> = walk.heads.iter().collect();
    let mut rows = sqlx::query("SELECT name, version, epoch FROM streams").fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(fault(database, position))? {
        let flaw = match read_stream(&row) {
            Ok((stream, head)) if missing.remove(&stream) == Some(head) => continue,
            Ok((stream, _)) => TableFlaw::Stream { stream },
            Err(_) => TableFlaw::Form,
        };
        return Err(damage(database, position, flaw).into());
    }
    match missing.into_keys().min() {
        None => Ok(()),
        Some(stream) => Err(damage(database, position, TableFlaw::Stream { stream: stream.clone() }).into()),
    }
}

fn read_stream(row: &SqliteRow) -> Result<(StreamId, StreamHead), sqlx::Error> {
    let version = row.try_get::<i64, _>(1)?.cast_unsigned();
    let epoch = row.try_get::<i64, _>(2)?.cast_unsigned();
    Ok((StreamId::from(row.try_get::<&str, _>(0)?), StreamHead { version, epoch }))
}
