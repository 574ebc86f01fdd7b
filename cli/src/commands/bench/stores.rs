//! Appends of 100 events of 200 bytes, against what the same medium does with the same bytes and nothing of ours.

mod postgres;

use super::{Args, Row, limit};
use crate::exit::{Exit, Failure};
use cairn_coordinator::runtime::new_id;
use cairn_coordinator::store::sqlite::RawWriter;
use cairn_coordinator::store::{
    Append, EventStore, FileStore, Holder, NewRecord, SqliteStore, StreamId, Ticket, file, sqlite,
};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::config::SecretUrl;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Events of one append, and their size.
const BATCH: u64 = 100;
const EVENT_BYTES: usize = 200;

/// Which store is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files.
    File,
    /// A SQLite database.
    Sqlite,
    /// The PostgreSQL database at this address.
    Postgres(SecretUrl),
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "file" => Ok(Self::File),
            "sqlite" => Ok(Self::Sqlite),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                url.parse().map(Self::Postgres).map_err(|_| "the address of a database has no spaces")
            }
            _ => Err("write `file`, `sqlite` or `postgres://USER:PASSWORD@HOST/DATABASE`"),
        }
    }
}

/// Measures a store beside its limit.
pub fn execute(args: &Args, directory: &Path) -> Result<Row, Failure> {
    let sync = limit::sync(&directory.join("sync"), Duration::ZERO)?;
    let row = match &args.store {
        Kind::Postgres(url) => postgres::execute(url.expose(), args.tasks)?,
        Kind::File => file(args.tasks, directory)?,
        Kind::Sqlite => sqlite(args.tasks, directory)?,
    };
    Ok(Row { sync_seconds: Some(sync.as_secs_f64()), ..row })
}

/// Between two measurements of the limit, because a machine's speed drifts.
fn file(tasks: u32, directory: &Path) -> Result<Row, Failure> {
    let appends = u64::from(tasks).div_ceil(BATCH);
    let before = limit::write(&directory.join("limit-1"), appends, BATCH, EVENT_BYTES)?;
    let store = FileStore::open(&directory.join("state"), &holder(), file::Options::new(new_id()));
    let took = fill(&store.map_err(|error| broken(&error))?, 0..appends)?;
    let after = limit::write(&directory.join("limit-2"), appends, BATCH, EVENT_BYTES)?;
    let limit = "writing and syncing the same bytes";
    Ok(Row::new("store", events(appends), took, limit, (before + after) / 2.0))
}

/// As [`file()`].
fn sqlite(tasks: u32, directory: &Path) -> Result<Row, Failure> {
    let appends = u64::from(tasks).div_ceil(BATCH);
    let before = raw(&directory.join("limit-1"), appends)?;
    let store = SqliteStore::open(&directory.join("state"), &holder(), sqlite::Options::new(new_id()));
    let took = fill(&store.map_err(|error| broken(&error))?, 0..appends)?;
    let after = raw(&directory.join("limit-2"), appends)?;
    let limit = "bare transactions of the same rows";
    Ok(Row::new("store sqlite", events(appends), took, limit, (before + after) / 2.0))
}

fn holder() -> Holder {
    Holder::this_process("cairn bench", Clock::start(Timestamp(0)).now())
}

fn events(appends: u64) -> u32 {
    u32::try_from(appends * BATCH).unwrap_or(u32::MAX)
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::because(Exit::OutOfReach, error)
}

fn body() -> String {
    format!("\"{}\"", "x".repeat(EVENT_BYTES - 2))
}

/// Makes the appends of these numbers. Like in the bare loop, each batch is durable before the next but one is made.
fn fill(store: &dyn EventStore, appends: Range<u64>) -> Result<Duration, Failure> {
    let clock = Clock::start(Timestamp(0));
    let (stream, body) = (StreamId::new("bench.1"), body());
    let began = clock.now();
    let mut waiting: VecDeque<Ticket> = VecDeque::new();
    for append in appends {
        let record = |at: u64| NewRecord {
            stream: stream.clone(),
            first_version: append * BATCH + at + 1,
            count: 1,
            body: body.clone(),
        };
        waiting.push_back(store.submit(Append { epoch: 1, records: (0..BATCH).map(record).collect() }));
        if waiting.len() > 1
            && let Some(ticket) = waiting.pop_front()
        {
            ticket.wait().map_err(|error| broken(&error))?;
        }
    }
    for ticket in waiting {
        ticket.wait().map_err(|error| broken(&error))?;
    }
    Ok(clock.now().since(began))
}

/// Events a second of a bare loop that commits the same rows to the same tables.
fn raw(database: &Path, appends: u64) -> Result<f64, Failure> {
    let clock = Clock::start(Timestamp(0));
    let body = body();
    let mut writer = RawWriter::create(database).map_err(|error| broken(&error))?;
    let began = clock.now();
    for _ in 0..appends {
        writer.commit((0..BATCH).map(|_| body.clone())).map_err(|error| broken(&error))?;
    }
    let took = clock.now().since(began);
    writer.close();
    Ok((appends * BATCH) as f64 / took.as_secs_f64())
}
