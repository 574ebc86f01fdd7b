//! The database's tables, and whether a file has them.
//!
//! `application_id` says that a database is ours, `user_version` which schema it has. `schema/N.sql` leads from schema
//! N - 1 to N. Those that a database needs run in one transaction, so that it is always of one version. A file that was
//! ever released is never changed.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, raw_sql};
use uuid::Uuid;

use super::super::error::{IoFailure, LogFault, SchemaError};
use super::connection::{fault, io_failure};

/// What leads from each schema version to the next, from an empty database on.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];
/// The letters "cair".
const APPLICATION_ID: i64 = 0x6361_6972;

/// What a database file is.
enum Found {
    /// It has no tables.
    Empty,
    /// Ours, with that many migrations done.
    Ours(usize),
}

/// Makes the tables, or those that are missing, and makes sure of the write-ahead log. Returns the log's identity,
/// which is `store_id` if it is new.
pub(super) async fn prepare(
    connection: &mut SqliteConnection,
    database: &Path,
    store_id: Uuid,
) -> Result<Uuid, LogFault> {
    let failed = |doing| io_failure(doing, database);
    let done = match find(connection, database).await? {
        Found::Empty => 0,
        Found::Ours(version) => version,
    };
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("begin a write-ahead log for"))?;
    if mode != "wal" {
        let source = std::io::ErrorKind::Unsupported.into();
        let path = database.to_owned();
        return Err(IoFailure { doing: "begin a write-ahead log for", path, source }.into());
    }
    if done < MAX_VERSION {
        migrate(connection, done, store_id).await.map_err(failed("make the tables of"))?;
    }
    read_store_id(connection).await.map_err(fault(database, 1))
}

/// Does the migrations that are missing, all or none; a new log gets its identity with them.
async fn migrate(connection: &mut SqliteConnection, done: usize, store_id: Uuid) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for migration in &MIGRATIONS[done..] {
        raw_sql(*migration).execute(&mut *transaction).await?;
    }
    if done == 0 {
        sqlx::query("INSERT INTO store (only, store_id) VALUES (1, ?1)")
            .bind(store_id.to_string())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

/// Makes sure that a database to be read is ours and of a version that is known. Returns the log's identity. An empty
/// database is one that a writer is just making: there is nothing yet.
pub(super) async fn check(connection: &mut SqliteConnection, database: &Path) -> Result<Uuid, LogFault> {
    match find(connection, database).await? {
        Found::Ours(_) => read_store_id(connection).await.map_err(fault(database, 1)),
        Found::Empty => {
            let (path, source) = (database.to_owned(), std::io::ErrorKind::NotFound.into());
            Err(IoFailure { doing: "find events in", path, source }.into())
        }
    }
}

async fn read_store_id(connection: &mut SqliteConnection) -> Result<Uuid, sqlx::Error> {
    let text: String = sqlx::query_scalar("SELECT store_id FROM store").fetch_one(connection).await?;
    Uuid::try_parse(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}

async fn find(connection: &mut SqliteConnection, database: &Path) -> Result<Found, LogFault> {
    const WHAT: &str = "SELECT (SELECT application_id FROM pragma_application_id), \
                        (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
    let foreign = || LogFault::from(SchemaError::Foreign { database: database.to_owned() });
    let (application, version, tables): (i64, i64, i64) =
        sqlx::query_as(WHAT).fetch_one(connection).await.map_err(fault(database, 1))?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(Found::Empty),
        (APPLICATION_ID, found, _) => match usize::try_from(found) {
            Ok(done @ 1..=MAX_VERSION) => Ok(Found::Ours(done)),
            Ok(0) | Err(_) => Err(foreign()),
            Ok(_) => {
                let database = database.to_owned();
                Err(SchemaError::Newer { database, found, known: MAX_VERSION as i64 }.into())
            }
        },
        _ => Err(foreign()),
    }
}

/// The schema version that this program makes.
const MAX_VERSION: usize = MIGRATIONS.len();
