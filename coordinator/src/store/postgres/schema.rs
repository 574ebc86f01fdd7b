//! The schema and its versions.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use super::connect::Place;
use super::retry::failure;
use crate::store::error::{IoFailure, SchemaError};

/// What leads from each version to the next; the first from nothing to version 1.
const STEPS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// The newest version that this program knows.
const KNOWN: i64 = STEPS.len() as i64;

/// What the server must be set to so that what is committed is durable, and is text.
const FITNESS: &str = "SELECT current_setting('server_encoding') = 'UTF8', current_setting('fsync')::boolean,
    current_setting('full_page_writes')::boolean, current_setting('synchronous_commit') IN ('on', 'remote_apply')";

/// Why a schema could not be used or made.
#[derive(Debug)]
pub(super) enum Fault {
    Schema(SchemaError),
    Io(IoFailure),
}

impl From<SchemaError> for Fault {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}

impl From<IoFailure> for Fault {
    fn from(failure: IoFailure) -> Self {
        Self::Io(failure)
    }
}

/// Checks that the server keeps what it acknowledges.
pub(super) async fn check_fitness(connection: &mut PgConnection, place: &Place) -> Result<(), Fault> {
    let row = sqlx::query(FITNESS)
        .fetch_one(connection)
        .await
        .map_err(failure(place, "ask for the settings of"))?;
    let reasons = [
        "its encoding is not UTF8; make one that has it",
        "the server's fsync is off, so what it acknowledges may be lost; set it to on",
        "the server's full_page_writes is off, so its tables may be torn; set it to on",
        "synchronous_commit cannot be set to on; let the role set it",
    ];
    for (column, reason) in reasons.into_iter().enumerate() {
        let is_fit: bool = row.try_get(column).map_err(failure(place, "ask for the settings of"))?;
        if !is_fit {
            return Err(SchemaError::Unfit { database: place.path(), reason }.into());
        }
    }
    Ok(())
}

/// Checks that there is a schema that this program knows.
pub(super) async fn check(connection: &mut PgConnection, place: &Place) -> Result<(), Fault> {
    match version(connection, place).await.map_err(failure(place, "read the schema's version of"))? {
        KNOWN => Ok(()),
        found if found > KNOWN => Err(newer(place, found)),
        0 => Err(SchemaError::Absent { database: place.path() }.into()),
        _ => {
            let reason =
                "its schema is older than this version of cairn; start a coordinator of this version once";
            Err(SchemaError::Unfit { database: place.path(), reason }.into())
        }
    }
}

/// Makes the schema, or brings it to the version that this program knows. Whoever comes at the same time waits.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    place: &Place,
    store_id: Uuid,
) -> Result<(), Fault> {
    let failed = || failure(place, "bring the schema up to date in");
    let found = version(connection, place).await.map_err(failure(place, "read the schema's version of"))?;
    if found == KNOWN {
        return Ok(());
    }
    let mut transaction = connection.begin().await.map_err(failed())?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('cairn schema'), hashtext($1))")
        .bind(place.schema())
        .execute(&mut *transaction)
        .await
        .map_err(failed())?;
    let found = version(&mut transaction, place).await.map_err(failed())?;
    if found > KNOWN {
        return Err(newer(place, found));
    }
    if found == 0 {
        if is_in_use(&mut transaction, place).await.map_err(failed())? {
            return Err(SchemaError::Foreign { database: place.path() }.into());
        }
        create(&mut transaction, place).await.map_err(failed())?;
    }
    for (step, version) in STEPS.into_iter().zip(1_i64..) {
        if version <= found {
            continue;
        }
        sqlx::raw_sql(step).execute(&mut *transaction).await.map_err(failed())?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *transaction)
            .await
            .map_err(failed())?;
        if version == 1 {
            sqlx::query("INSERT INTO store (id) VALUES ($1::text::uuid)")
                .bind(store_id.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        tracing::info!(%place, version, "made the schema's version");
    }
    Ok(transaction.commit().await.map_err(failed())?)
}

/// The identity of the log.
pub(super) async fn store_id(connection: &mut PgConnection, place: &Place) -> Result<Uuid, IoFailure> {
    let id = sqlx::query_scalar("SELECT id::text FROM store").fetch_one(connection).await;
    let id: String = id.map_err(failure(place, "read the identity of"))?;
    let id = Uuid::parse_str(&id).map_err(|error| sqlx::Error::Decode(error.into()));
    id.map_err(failure(place, "read the identity of"))
}

fn newer(place: &Place, found: i64) -> Fault {
    SchemaError::Newer { database: place.path(), found, known: KNOWN }.into()
}

/// The version of the schema; 0 if there is none. Asks the catalogue's tables: functions such as `to_regclass` may answer
/// from before we waited for somebody who made it.
async fn version(connection: &mut PgConnection, place: &Place) -> Result<i64, sqlx::Error> {
    let is_there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = $1 AND c.relname = 'schema_version')",
    )
    .bind(place.schema())
    .fetch_one(&mut *connection)
    .await?;
    if !is_there {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM schema_version").fetch_one(connection).await
}

/// Whether somebody else's tables are in the schema.
async fn is_in_use(connection: &mut PgConnection, place: &Place) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1)",
    )
    .bind(place.schema())
    .fetch_one(connection)
    .await
}

async fn create(connection: &mut PgConnection, place: &Place) -> Result<(), sqlx::Error> {
    // Who may not make schemas can be given one that is empty.
    let is_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(place.schema())
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        // A plain name, by `Place::new`; names cannot be bound.
        let statement = format!("CREATE SCHEMA \"{}\"", place.schema());
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    let statement = "CREATE TABLE schema_version (
        version bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
    sqlx::raw_sql(statement).execute(connection).await?;
    Ok(())
}
