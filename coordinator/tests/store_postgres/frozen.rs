//! Who stands still in the middle of something stops nobody else.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cairn_coordinator::store::{EventStore, Ticket};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{Log, block_on, event, wait_for};

const CHILD_URL: &str = "CAIRN_TEST_CHILD_URL";
const CHILD_SCHEMA: &str = "CAIRN_TEST_CHILD_SCHEMA";

/// Far below any timeout of a session or a statement, so that none of them can be what helped.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Not a test: a process that appends until it is killed, for the test below.
#[test]
#[ignore = "run by a_frozen_writer_stops_nobody"]
fn child() {
    let Some(url) = std::env::var(CHILD_URL).ok() else { return };
    let log = Log { url, schema: std::env::var(CHILD_SCHEMA).unwrap() };
    let store = log.open();
    let mut waiting = std::collections::VecDeque::new();
    for version in 1.. {
        waiting.push_back(store.submit(event("child", version)));
        if waiting.len() > 64
            && let Some(ticket) = waiting.pop_front()
        {
            Ticket::wait(ticket).unwrap();
        }
    }
}

struct Writing(Child);

impl Writing {
    fn start(log: &Log) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "frozen::child", "--ignored"])
            .env(CHILD_URL, &log.url)
            .env(CHILD_SCHEMA, &log.schema)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success(), "it has ended by itself");
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // SIGKILL ends what is stopped, too.
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_frozen_writer_stops_nobody() {
    let Some(log) = Log::new() else { return };
    let store = log.open();
    let child = Writing::start(&log);
    let written = || block_on(store.stream_head(&"child".into())).unwrap().version;
    wait_for("the child appends", || written() > 0);
    let clock = Clock::start(Timestamp(0));
    for round in 1..=20 {
        let before = written();
        wait_for("the child appends", || written() > before);
        child.signal("-STOP");
        let began = clock.now();
        store.submit(event("s", round)).wait().unwrap();
        assert!(clock.now().since(began) < AT_ONCE, "round {round}");
        child.signal("-CONT");
    }
    drop(child);
    store.submit(event("s", 21)).wait().unwrap();
    block_on(log.reader().verify()).unwrap();
}

#[test]
fn an_open_transaction_stops_nobody() {
    let Some(log) = Log::new() else { return };
    let store = log.open();
    store.submit(event("s", 1)).wait().unwrap();
    block_on(async {
        let mut connection = PgConnection::connect(&log.url).await.unwrap();
        let mut open = connection.begin().await.unwrap();
        let look =
            format!("SELECT * FROM {schema}.records, {schema}.head, {schema}.streams", schema = log.schema);
        sqlx::raw_sql(sqlx::AssertSqlSafe(look)).execute(&mut *open).await.unwrap();
        for version in 2..=20 {
            let appended = tokio::time::timeout(AT_ONCE, store.submit(event("s", version)));
            assert_eq!(appended.await.unwrap().unwrap().position, version);
        }
        open.rollback().await.unwrap();
    });
}

/// Somebody's lock on the end of the log delays appends, and loses none.
#[test]
fn a_lock_that_goes_away_delays_appends() {
    let Some(log) = Log::new() else { return };
    let store = log.open();
    let mut tickets = block_on(async {
        let mut connection = PgConnection::connect(&log.url).await.unwrap();
        let mut open = connection.begin().await.unwrap();
        let lock = format!("SELECT * FROM {}.head FOR UPDATE", log.schema);
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut *open).await.unwrap();
        let tickets: Vec<Ticket> = (1..=20).map(|version| store.submit(event("s", version))).collect();
        // Reading goes on meanwhile.
        assert_eq!(store.head().await.unwrap().position, 0);
        open.rollback().await.unwrap();
        tickets
    });
    for (ticket, position) in tickets.drain(..).zip(1..) {
        assert_eq!(ticket.wait().unwrap().position, position);
    }
}
