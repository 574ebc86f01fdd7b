//! What is PostgreSQL's alone: restarts, lost answers, frozen writers, schemas of other versions, rights, damage.
#![expect(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod access;
#[path = "../support/cluster.rs"]
mod cluster;
mod damage;
mod frozen;
mod lost_answers;
mod proxy;
mod restarts;
mod schemas;
mod sessions;

use std::time::Duration;

use cairn_coordinator::store::postgres::{Options, PostgresReader};
use cairn_coordinator::store::{Append, Cursor, EventStore, NewRecord, PostgresStore, StoredRecord};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cluster::Cluster;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

/// How long is waited for what must come, on a machine that does much besides.
const PATIENCE: Duration = Duration::from_secs(60);

/// A schema of a test's own.
struct Log {
    url: String,
    schema: String,
}

impl Log {
    /// In the cluster of this test binary; none where PostgreSQL is missing and may be.
    fn new() -> Option<Self> {
        Some(Self { url: Cluster::shared()?.url(), schema: Cluster::schema() })
    }

    fn at(url: String) -> Self {
        Self { url, schema: Cluster::schema() }
    }

    fn options(&self) -> Options {
        Options { schema: self.schema.clone(), ..Options::new(Uuid::from_u128(7)) }
    }

    fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url, self.options()).unwrap()
    }

    fn reader(&self) -> PostgresReader {
        PostgresReader::open(&self.url, &self.schema).unwrap()
    }

    /// Runs statements as the cluster's owner, in the log's schema.
    fn sql(&self, statements: &str) {
        let path = format!("SET search_path TO {};", self.schema);
        let statements = sqlx::AssertSqlSafe(format!("{path}{statements}"));
        block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        });
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// One event of `stream` under epoch 1.
fn event(stream: &str, version: u64) -> Append {
    let body = format!("{{\"version\":{version}}}");
    let record = NewRecord { stream: stream.into(), first_version: version, count: 1, body };
    Append { epoch: 1, records: vec![record] }
}

fn read_all(store: &dyn EventStore) -> Vec<StoredRecord> {
    block_on(async {
        let mut cursor = Cursor::all(1);
        let mut records = Vec::new();
        loop {
            let page = store.read(&mut cursor).await.unwrap();
            if page.is_empty() {
                return records;
            }
            records.extend(page);
        }
    })
}

/// Waits until something outside has happened.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = Clock::start(Timestamp(0));
    let until = clock.now().plus(PATIENCE);
    while !is_so() {
        assert!(clock.now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
