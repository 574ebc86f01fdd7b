//! Appends of 100 events of 200 bytes, against what the same medium does with the same bytes and nothing of ours.

use super::{Args, Row, limit};
use crate::exit::{Exit, Failure};
use cairn_coordinator::runtime::new_id;
use cairn_coordinator::store::sqlite::RawWriter;
use cairn_coordinator::store::{
    Append, EventStore, FileStore, Holder, NewRecord, SqliteStore, StreamId, Ticket, file, sqlite,
};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

/// Events of one append, and their size.
const BATCH: u64 = 100;
const EVENT_BYTES: usize = 200;

/// Which store is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Files
    #[default]
    File,
    /// A SQLite database
    Sqlite,
}

/// Measures a store between two measurements of its limit, because a machine's speed drifts.
pub fn execute(args: &Args, directory: &Path) -> Result<Row, Failure> {
    let appends = u64::from(args.tasks).div_ceil(BATCH);
    let sync = limit::sync(&directory.join("sync"))?;
    let clock = Clock::start(Timestamp(0));
    let holder = Holder::this_process("cairn bench", clock.now());
    let state = directory.join("state");
    let limits = ["limit-1", "limit-2"].map(|name| directory.join(name));
    let bare = |path: &Path| match args.store {
        Kind::File => limit::write(path, appends, BATCH, EVENT_BYTES),
        Kind::Sqlite => raw(path, appends),
    };
    let before = bare(&limits[0])?;
    let took = match args.store {
        Kind::File => {
            let store = FileStore::open(&state, &holder, file::Options::new(new_id()));
            fill(&store.map_err(|error| broken(&error))?, appends)?
        }
        Kind::Sqlite => {
            let store = SqliteStore::open(&state, &holder, sqlite::Options::new(new_id()));
            fill(&store.map_err(|error| broken(&error))?, appends)?
        }
    };
    let after = bare(&limits[1])?;
    let events = u32::try_from(appends * BATCH).unwrap_or(u32::MAX);
    let (name, limit) = match args.store {
        Kind::File => ("store", "writing and syncing the same bytes"),
        Kind::Sqlite => ("store sqlite", "bare transactions of the same rows"),
    };
    let row = Row::new(name, events, took, limit, (before + after) / 2.0);
    Ok(Row { sync_seconds: Some(sync.as_secs_f64()), ..row })
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::because(Exit::OutOfReach, error)
}

fn body() -> String {
    format!("\"{}\"", "x".repeat(EVENT_BYTES - 2))
}

/// Fills an empty store. Like in the bare loop, each batch is durable before the next but one is made.
fn fill(store: &dyn EventStore, appends: u64) -> Result<Duration, Failure> {
    let clock = Clock::start(Timestamp(0));
    let (stream, body) = (StreamId::new("bench.1"), body());
    let began = clock.now();
    let mut waiting: VecDeque<Ticket> = VecDeque::new();
    for append in 0..appends {
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
