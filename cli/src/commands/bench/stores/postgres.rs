//! Appends in PostgreSQL, against the same rows inserted by bare statements into the same table without any check.

use super::super::Row;
use super::{BATCH, EVENT_BYTES, fill};
use crate::exit::{Exit, Failure};
use cairn_coordinator::runtime::new_id;
use cairn_coordinator::store::PostgresStore;
use cairn_coordinator::store::postgres::Options;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use std::ops::Range;
use std::time::Duration;

/// Schemas of this bench; they are taken away afterwards.
const STORE: &str = "cairn_bench_store";
const LIMIT: &str = "cairn_bench_limit";

/// A server's speed drifts within seconds, so both are measured in turns.
const ROUNDS: u64 = 16;

/// The table `records` as a store has it.
const TABLE: &str = "
    CREATE TABLE cairn_bench_limit.records (LIKE cairn_bench_store.records INCLUDING ALL)";

const INSERT: &str = "
    INSERT INTO cairn_bench_limit.records (position, stream, first_version, count, epoch, body)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])";

/// Measures the database at `url`.
pub fn execute(url: &str, tasks: u32) -> Result<Row, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    let broken = |error: sqlx::Error| {
        Failure::because(Exit::OutOfReach, &error)
            .help("the role must be able to make schemas in this database")
    };
    let mut connection = runtime.block_on(PgConnection::connect(url)).map_err(broken)?;
    runtime.block_on(drop_schemas(&mut connection)).map_err(broken)?;
    let measured = measure(&runtime, &mut connection, url, tasks);
    runtime.block_on(drop_schemas(&mut connection)).map_err(broken)?;
    measured
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    connection: &mut PgConnection,
    url: &str,
    tasks: u32,
) -> Result<Row, Failure> {
    let broken = |error: sqlx::Error| Failure::because(Exit::OutOfReach, &error);
    let appends = u64::from(tasks).div_ceil(BATCH);
    let options =
        Options { schema: STORE.to_owned(), name: "cairn bench".to_owned(), ..Options::new(new_id()) };
    let store =
        PostgresStore::open(url, options).map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    runtime.block_on(make_table(connection)).map_err(broken)?;
    let (mut took, mut took_bare) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let part = appends * round / ROUNDS..appends * (round + 1) / ROUNDS;
        took_bare += runtime.block_on(insert(connection, part.clone())).map_err(broken)?;
        took += fill(&store, part)?;
    }
    let events = u32::try_from(appends * BATCH).unwrap_or(u32::MAX);
    let limit = f64::from(events) / took_bare.as_secs_f64();
    Ok(Row::new("store", events, took, "inserting the same rows, unchecked", limit))
}

async fn make_table(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("CREATE SCHEMA cairn_bench_limit").execute(&mut *connection).await?;
    sqlx::raw_sql(TABLE).execute(connection).await?;
    Ok(())
}

/// The bare loop.
async fn insert(connection: &mut PgConnection, appends: Range<u64>) -> Result<Duration, sqlx::Error> {
    let body = format!("\"{}\"", "x".repeat(EVENT_BYTES - 2));
    let rows = BATCH as usize;
    let clock = Clock::start(Timestamp(0));
    let began = clock.now();
    for append in appends {
        let first = i64::try_from(append * BATCH).unwrap_or(i64::MAX);
        let positions: Vec<i64> = (1..=rows as i64).map(|at| first + at).collect();
        sqlx::query(INSERT)
            .bind(&positions)
            .bind(vec!["bench.1"; rows])
            .bind(&positions)
            .bind(vec![1_i64; rows])
            .bind(vec![1_i64; rows])
            .bind(vec![body.as_str(); rows])
            .execute(&mut *connection)
            .await?;
    }
    Ok(clock.now().since(began))
}

async fn drop_schemas(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for schema in [STORE, LIMIT] {
        let statement = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}
