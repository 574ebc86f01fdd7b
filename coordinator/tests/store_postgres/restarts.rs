//! The server dies under load and comes back. `CAIRN_TEST_RESTARTS` says how often (3).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_coordinator::store::postgres::Options;
use cairn_coordinator::store::{AppendError, EventStore, OpenError, PostgresStore, SchemaError, Ticket};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;

use super::cluster::Cluster;
use super::{Log, PATIENCE, block_on, event, read_all, wait_for};

/// Submits events of a stream until told to stop, a few at a time. Returns where each of them was put.
fn load(store: &PostgresStore, stream: &str, is_over: &AtomicBool, acknowledged: &AtomicU64) -> Vec<u64> {
    const AT_A_TIME: u64 = 8;
    let mut positions = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let first = positions.len() as u64 + 1;
        let tickets: Vec<Ticket> =
            (first..first + AT_A_TIME).map(|version| store.submit(event(stream, version))).collect();
        for ticket in tickets {
            positions.push(ticket.wait().unwrap().position);
            acknowledged.fetch_add(1, Ordering::AcqRel);
        }
    }
    positions
}

/// Two stores with two streams each, and the server killed in between: no append is lost, doubled or refused, and nobody
/// needs to do anything.
#[test]
fn restarts_under_load_lose_and_double_nothing() {
    let Some(cluster) = Cluster::own() else { return };
    let rounds = std::env::var("CAIRN_TEST_RESTARTS").map_or(3, |rounds| rounds.parse().unwrap());
    let log = Log::at(cluster.url());
    let stores = [log.open(), log.open()];
    let (is_over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let streams = ["a", "b", "c", "d"];
    let positions: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let loads: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(number, stream)| {
                let (store, is_over, acknowledged) = (&stores[number % 2], &is_over, &acknowledged);
                scope.spawn(move || load(store, stream, is_over, acknowledged))
            })
            .collect();
        for round in 0..rounds {
            let before = acknowledged.load(Ordering::Acquire);
            // Not always at the same moment of a batch.
            wait_for("appends go on", || acknowledged.load(Ordering::Acquire) >= before + 40 + 7 * round);
            assert!(cluster.script("crash").status.success());
            let started = cluster.script("start");
            assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        }
        let before = acknowledged.load(Ordering::Acquire);
        wait_for("appends go on", || acknowledged.load(Ordering::Acquire) >= before + 40);
        is_over.store(true, Ordering::Release);
        loads.into_iter().map(|load| load.join().unwrap()).collect()
    });
    let records = read_all(&stores[0]);
    assert!(records.iter().map(|record| record.position).eq(1..=records.len() as u64));
    for (stream, positions) in streams.into_iter().zip(&positions) {
        let stored: Vec<_> = records.iter().filter(|record| record.stream.as_str() == stream).collect();
        assert!(stored.iter().map(|record| record.first_version).eq(1..=positions.len() as u64));
        assert!(stored.iter().map(|record| record.position).eq(positions.iter().copied()));
    }
    let verified = block_on(log.reader().verify()).unwrap();
    assert_eq!((verified.head.position, verified.streams), (records.len() as u64, 4));
    assert!(stores.iter().all(|store| store.stopped().is_none()));
}

/// Away for longer than the store's patience, and set up so that it loses what it acknowledges.
#[test]
fn a_server_that_cannot_be_relied_on_is_refused() {
    let Some(cluster) = Cluster::own() else { return };
    let log = Log::at(cluster.url());
    for (setting, name) in [("fsync", "fsync"), ("full_page_writes", "full_page_writes")] {
        let set = format!("ALTER SYSTEM SET {setting} = off");
        log.sql("SELECT 1");
        alter(&log, &set);
        let mut refused = None;
        wait_for("the setting is in force", || {
            refused = PostgresStore::open(&log.url, log.options()).err();
            refused.is_some()
        });
        let refused = refused.unwrap();
        assert!(matches!(refused, OpenError::Schema(SchemaError::Unfit { .. })), "{refused}");
        assert!(refused.to_string().contains(name), "{refused}");
        alter(&log, &format!("ALTER SYSTEM RESET {setting}"));
    }
    let mut opened = None;
    wait_for("the setting is in force", || {
        let options = Options { patience: Duration::from_secs(2), ..log.options() };
        opened = PostgresStore::open(&log.url, options).ok();
        opened.is_some()
    });
    let store = opened.unwrap();
    store.submit(event("s", 1)).wait().unwrap();

    assert!(cluster.script("crash").status.success());
    let clock = Clock::start(Timestamp(0));
    let began = clock.now();
    let tickets: Vec<Ticket> = (2..10).map(|version| store.submit(event("s", version))).collect();
    for ticket in tickets {
        let error = ticket.wait().unwrap_err();
        let AppendError::Stopped(stopped) = &error else { panic!("{error}") };
        let told = format!("{error} {error:?} {}", stopped.cause);
        assert!(
            told.contains("postgres://cairn@127.0.0.1:") && !told.contains(&password(&log.url)),
            "{told}"
        );
    }
    assert!(clock.now().since(began) < PATIENCE / 2);
    assert!(store.stopped().is_some());
    assert!(cluster.script("start").status.success());
    // For good, though the server is back.
    assert!(matches!(store.submit(event("s", 2)).wait(), Err(AppendError::Stopped(_))));
    drop(store);
    let store = log.open();
    let next = block_on(store.stream_head(&"s".into())).unwrap().version + 1;
    store.submit(event("s", next)).wait().unwrap();
}

/// Whoever closes a store does not wait as long as one that works.
#[test]
fn a_store_is_dropped_soon_though_the_server_is_away() {
    let Some(cluster) = Cluster::own() else { return };
    let log = Log::at(cluster.url());
    let store = log.open();
    store.submit(event("s", 1)).wait().unwrap();
    assert!(cluster.script("crash").status.success());
    let ticket = store.submit(event("s", 2));
    let clock = Clock::start(Timestamp(0));
    let began = clock.now();
    drop(store);
    let took = clock.now().since(began);
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert!(matches!(ticket.wait(), Err(AppendError::Stopped(_))));
}

fn alter(log: &Log, statement: &str) {
    use sqlx::Connection;
    block_on(async {
        let mut connection = sqlx::postgres::PgConnection::connect(&log.url).await.unwrap();
        for statement in [statement, "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        }
    });
}

fn password(url: &str) -> String {
    url.split(['/', ':', '@']).nth(4).unwrap().to_owned()
}
