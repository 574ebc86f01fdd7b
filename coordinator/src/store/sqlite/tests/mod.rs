//! Tests of what only this store has: its database, and how it survives. What every store promises is in
//! `tests/store_conformance/`; `tests/sqlite_store/` kills the process and lets system calls fail.

mod damage;
mod database;
mod writing;

use std::path::Path;

use cairn_model::Timestamp;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};
use uuid::Uuid;

use super::super::event_reader::EventReader;
use super::super::event_store::EventStore;
use super::super::record::{Append, NewRecord, StoredRecord};
use super::super::{Cursor, Holder, OpenError};
use super::connection::block_on;
use super::reader::SqliteReader;
use super::store::{Options, SqliteStore, database_path};

const STORE_ID: Uuid = Uuid::from_u128(0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc);

fn open(state: &Path) -> Result<SqliteStore, OpenError> {
    let holder = Holder::this_process("a test", Timestamp(0));
    SqliteStore::open(state, &holder, Options::new(STORE_ID))
}

/// One event of `stream` at `version` under epoch 1, with a body of about `bytes`.
fn event(stream: &str, version: u64, bytes: usize) -> Append {
    let body = format!("{{\"v\":{version},\"fill\":\"{}\"}}", "x*J ".repeat(bytes / 4));
    let record = NewRecord { stream: stream.into(), first_version: version, count: 1, body };
    Append { epoch: 1, records: vec![record] }
}

/// Appends `count` events to `stream`, which must be new, each by itself.
fn fill(store: &SqliteStore, stream: &str, count: u64) {
    for version in 1..=count {
        store.submit(event(stream, version, 40)).wait().unwrap();
    }
}

/// All that a reader sees.
fn read_all(state: &Path) -> Vec<StoredRecord> {
    let reader = SqliteReader::open(state).unwrap();
    let mut cursor = Cursor::all(1);
    let mut records = Vec::new();
    loop {
        let page = reader.read(&mut cursor).unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

/// Another program's connection to the database.
fn connect(state: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database_path(state)).create_if_missing(true);
    block_on(options.foreign_keys(false).disable_statement_logging().connect()).unwrap()
}

/// What another program may do to the database.
fn execute(connection: &mut SqliteConnection, sql: &str) {
    block_on(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection)).unwrap();
}

/// Does something to a database that nobody has open.
fn meddle(state: &Path, sql: &str) {
    let mut connection = connect(state);
    execute(&mut connection, sql);
    block_on(connection.close()).unwrap();
}
