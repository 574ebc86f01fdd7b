//! Snapshots as rows, each with a checksum of its own.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::batch::{signed, unsigned};
use super::connect::Place;
use super::service::Service;
use crate::store::error::{Notice, SnapshotError, SnapshotFlaw};
use crate::store::snapshot::{LoadedSnapshot, MAX_SNAPSHOT_NAME_BYTES, SNAPSHOTS_KEPT, Snapshot};

/// The form of a row that this program writes.
const FORMAT: i32 = 1;

const LOAD: &str = "
    SELECT version, s.position, format, store = (SELECT id FROM store), sha256, bytes, head.position AS head
    FROM snapshots AS s, head WHERE name = $1 ORDER BY version DESC";

pub(super) fn check_name(name: &str) -> Result<(), SnapshotError> {
    let bytes = name.len();
    if (1..=MAX_SNAPSHOT_NAME_BYTES).contains(&bytes) { Ok(()) } else { Err(SnapshotError::Name { bytes }) }
}

/// Keeps a snapshot unless it is ahead of the log; returns the log's end.
pub(super) async fn save(connection: &mut PgConnection, snapshot: &Snapshot) -> Result<u64, sqlx::Error> {
    let durable = sqlx::query_scalar("SELECT save_snapshot($1, $2, $3, $4, $5, $6, $7)")
        .bind(&snapshot.name)
        .bind(signed(snapshot.version))
        .bind(signed(snapshot.position))
        .bind(FORMAT)
        .bind(hash(snapshot).to_vec())
        .bind(&snapshot.bytes)
        .bind(i32::try_from(SNAPSHOTS_KEPT).unwrap_or(i32::MAX))
        .fetch_one(connection)
        .await?;
    Ok(unsigned(durable))
}

/// Looks for the newest snapshot of a name that fits the log, by a service.
pub(super) async fn load_by(service: &Service, name: &str) -> Result<LoadedSnapshot, SnapshotError> {
    check_name(name)?;
    let (place, name) = (service.connections.place.clone(), name.to_owned());
    let loaded = service.call("load a snapshot from", move |connection| {
        let (place, name) = (place.clone(), name.clone());
        Box::pin(async move { load(connection, &place, &name).await })
    });
    Ok(loaded.await?)
}

/// Looks for the newest snapshot of a name that fits the log.
pub(super) async fn load(
    connection: &mut PgConnection,
    place: &Place,
    name: &str,
) -> Result<LoadedSnapshot, sqlx::Error> {
    let mut loaded = LoadedSnapshot::default();
    for row in sqlx::query(LOAD).bind(name).fetch_all(connection).await? {
        match parse(&row, name)? {
            Ok(snapshot) => {
                loaded.snapshot = Some(snapshot);
                break;
            }
            Err(flaw) => {
                let version: i64 = row.try_get(0)?;
                let file = PathBuf::from(format!("{place} snapshots/{name}@{version}"));
                tracing::warn!(snapshot = %file.display(), %flaw, "ignored a snapshot");
                loaded.notices.push(Notice::SnapshotIgnored { file, flaw });
            }
        }
    }
    Ok(loaded)
}

fn parse(row: &PgRow, name: &str) -> Result<Result<Snapshot, SnapshotFlaw>, sqlx::Error> {
    let format: i32 = row.try_get(2)?;
    if format != FORMAT {
        return Ok(Err(SnapshotFlaw::Format { format: u64::from(format.unsigned_abs()) }));
    }
    let snapshot = Snapshot {
        name: name.to_owned(),
        version: unsigned(row.try_get(0)?),
        position: unsigned(row.try_get(1)?),
        bytes: row.try_get(5)?,
    };
    let (is_ours, sha256): (bool, Vec<u8>) = (row.try_get(3)?, row.try_get(4)?);
    let head = unsigned(row.try_get(6)?);
    Ok(if sha256 != hash(&snapshot) {
        Err(SnapshotFlaw::Damaged)
    } else if !is_ours {
        Err(SnapshotFlaw::OtherLog)
    } else if snapshot.position > head {
        Err(SnapshotFlaw::AheadOfLog { position: snapshot.position, head })
    } else {
        Ok(snapshot)
    })
}

fn hash(snapshot: &Snapshot) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((snapshot.name.len() as u64).to_be_bytes());
    hash.update(&snapshot.name);
    hash.update(snapshot.version.to_be_bytes());
    hash.update(snapshot.position.to_be_bytes());
    hash.update(&snapshot.bytes);
    hash.finalize().into()
}
