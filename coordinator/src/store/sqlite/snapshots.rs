//! Snapshots as rows of a table, each with a checksum of its own.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::error::{LogFault, Notice, SnapshotError, SnapshotFlaw};
use super::super::snapshot::{LoadedSnapshot, MAX_SNAPSHOT_NAME_BYTES, SNAPSHOTS_KEPT, Snapshot};
use super::connection::fault;
use super::insert::{begin, commit};
use super::rows::signed;

const SAVE: &str =
    "INSERT OR REPLACE INTO snapshots (name, version, position, sha256, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
/// Keeps the snapshot just saved and those right before it. One of a higher version is of a log that has been put back
/// to an earlier state.
const REMOVE_SUPERFLUOUS: &str = "DELETE FROM snapshots WHERE name = ?1 AND version NOT IN \
     (SELECT version FROM snapshots WHERE name = ?1 AND version <= ?2 ORDER BY version DESC LIMIT ?3)";
const LOAD: &str =
    "SELECT version, position, sha256, bytes FROM snapshots WHERE name = ?1 ORDER BY version DESC";

pub(super) fn check_name(name: &str) -> Result<(), SnapshotError> {
    let bytes = name.len();
    if (1..=MAX_SNAPSHOT_NAME_BYTES).contains(&bytes) { Ok(()) } else { Err(SnapshotError::Name { bytes }) }
}

/// Writes a snapshot and removes what it makes superfluous, in one transaction.
pub(super) async fn save(connection: &mut SqliteConnection, snapshot: Snapshot) -> Result<(), sqlx::Error> {
    let hash = hash(&snapshot.name, snapshot.version, snapshot.position, &snapshot.bytes);
    let Snapshot { name, version, position, bytes } = snapshot;
    begin(connection).await?;
    sqlx::query(SAVE)
        .bind(name.clone())
        .bind(signed(version))
        .bind(signed(position))
        .bind(hash.to_vec())
        .bind(bytes)
        .execute(&mut *connection)
        .await?;
    sqlx::query(REMOVE_SUPERFLUOUS)
        .bind(name)
        .bind(signed(version))
        .bind(SNAPSHOTS_KEPT as i64)
        .execute(&mut *connection)
        .await?;
    commit(connection).await
}

/// Looks for the newest snapshot of `name` that fits a log which ends at `head`.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    database: &Path,
    name: &str,
    head: u64,
) -> Result<LoadedSnapshot, LogFault> {
    let rows = sqlx::query(LOAD).bind(name.to_owned()).fetch_all(connection).await;
    let mut loaded = LoadedSnapshot::default();
    for row in rows.map_err(fault(database, head))? {
        match parse(&row, name, head) {
            Ok(snapshot) => {
                loaded.snapshot = Some(snapshot);
                break;
            }
            Err(flaw) => {
                let version: i64 = row.try_get(0).unwrap_or_default();
                let file = place(database, name, version);
                tracing::warn!(snapshot = %file.display(), %flaw, "ignored a snapshot");
                loaded.notices.push(Notice::SnapshotIgnored { file, flaw });
            }
        }
    }
    Ok(loaded)
}

/// How a snapshot is called where a file's path is expected: the database, and the row in it.
fn place(database: &Path, name: &str, version: i64) -> PathBuf {
    let mut place = database.as_os_str().to_owned();
    place.push(format!(" snapshots/{name}@{version}"));
    place.into()
}

fn parse(row: &SqliteRow, name: &str, head: u64) -> Result<Snapshot, SnapshotFlaw> {
    let damaged = |_: sqlx::Error| SnapshotFlaw::Damaged;
    let version = row.try_get::<i64, _>(0).map_err(damaged)?.cast_unsigned();
    let position = row.try_get::<i64, _>(1).map_err(damaged)?.cast_unsigned();
    let kept_hash: &[u8] = row.try_get(2).map_err(damaged)?;
    let bytes: &[u8] = row.try_get(3).map_err(damaged)?;
    if kept_hash != hash(name, version, position, bytes) {
        return Err(SnapshotFlaw::Damaged);
    }
    if position > head {
        return Err(SnapshotFlaw::AheadOfLog { position, head });
    }
    Ok(Snapshot { name: name.to_owned(), version, position, bytes: bytes.to_vec() })
}

fn hash(name: &str, version: u64, position: u64, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_be_bytes());
    hash.update(name);
    hash.update(version.to_be_bytes());
    hash.update(position.to_be_bytes());
    hash.update(bytes);
    hash.finalize().into()
}
