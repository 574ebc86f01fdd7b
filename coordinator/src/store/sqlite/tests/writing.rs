//! Many appends in one transaction, other programs that write, and a medium that fails.

use std::path::Path;
use std::sync::mpsc;

use super::super::super::error::AppendError;
use super::super::super::event_store::{EventStore, Ticket};
use super::super::super::record::{Append, NewRecord};
use super::super::super::{Snapshot, SnapshotError};
use super::super::connection::block_on;
use super::super::reader::SqliteReader;
use super::super::store::SqliteStore;
use super::{connect, event, execute, fill, open, read_all};

/// Transactions in the write-ahead log: its frames that end one (<https://www.sqlite.org/fileformat2.html#walformat>).
fn transactions(state: &Path) -> usize {
    const HEADER: usize = 32;
    const FRAME: usize = 24 + 4096;
    let log = std::fs::read(state.join("cairn.db-wal")).unwrap();
    let salts = log[16..24].to_vec();
    let frames = log[HEADER..].chunks_exact(FRAME);
    frames.filter(|frame| frame[8..16] == salts && frame[4..8] != [0; 4]).count()
}

#[test]
fn what_arrives_while_a_commit_waits_goes_in_one_transaction() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "t", 1);
    let before = transactions(state.path());
    let mut other = connect(state.path());
    execute(&mut other, "BEGIN IMMEDIATE");
    let first = store.submit(event("s", 1, 10));
    // The first is taken at once, and waits for the other program: what comes now is behind it.
    let taken = || store.shared.log_is_held();
    while !taken() {
        std::thread::yield_now();
    }
    let tickets: Vec<Ticket> = (2..=1_000).map(|version| store.submit(event("s", version, 10))).collect();
    assert_eq!(block_on(store.head()).unwrap().position, 1);
    execute(&mut other, "ROLLBACK");
    assert_eq!(first.wait().unwrap().position, 2);
    for (ticket, position) in tickets.into_iter().zip(3..) {
        assert_eq!(ticket.wait().unwrap().position, position);
    }
    // The first did not wait for company; what was there when its turn came went along.
    assert!(transactions(state.path()) - before <= 2);
    assert_eq!(read_all(state.path()).len(), 1_001);
}

#[test]
fn batches_of_all_sizes_are_written_whole() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    let mut position = 1;
    for records in [1, 2, 15, 16, 17, 127, 128, 129, 256, 300] {
        for streams in [1, 2, 16, 17, 128, 129, 300] {
            let name = |at: usize| format!("{records}/{streams}/{}", at % streams);
            let record = |at: usize| NewRecord {
                stream: name(at).into(),
                first_version: (at / streams) as u64 + 1,
                count: 1,
                body: format!("[{records},{streams},{at}]"),
            };
            let append = Append { epoch: 1, records: (0..records).map(record).collect() };
            assert_eq!(store.submit(append).wait().unwrap().position, position);
            position += records as u64;
        }
    }
    drop(store);
    assert_eq!(SqliteReader::open(state.path()).unwrap().verify().unwrap().head.position, position - 1);
}

#[test]
fn the_write_ahead_log_is_folded_as_it_grows() {
    const APPENDS: u64 = 60;
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    for version in 1..=APPENDS {
        store.submit(event("s", version, 1 << 20)).wait().unwrap();
    }
    let bytes = |name: &str| std::fs::metadata(state.path().join(name)).unwrap().len();
    assert!(bytes("cairn.db-wal") < 16 << 20, "{}", bytes("cairn.db-wal"));
    assert!(bytes("cairn.db") > 40 << 20, "{}", bytes("cairn.db"));
    assert_eq!(SqliteReader::open(state.path()).unwrap().verify().unwrap().head.position, APPENDS);
}

/// Bounds the size of the database, as a full disk would.
fn bound(store: &SqliteStore, pages: i64) {
    let mut log = store.shared.log();
    let sql = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    let connection = &mut log.as_mut().unwrap().connection;
    let kept: i64 = block_on(sqlx::query_scalar(sql).fetch_one(connection)).unwrap();
    assert!(kept >= pages);
}

#[test]
fn a_full_disk_stops_the_store_and_room_lets_it_go_on() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    bound(&store, 40);
    let tickets: Vec<Ticket> = (1..=200).map(|version| store.submit(event("s", version, 4_000))).collect();
    let answers: Vec<_> = tickets.into_iter().map(Ticket::wait).collect();
    let made = answers.iter().take_while(|answer| answer.is_ok()).count();
    assert!(made < 200);
    for answer in &answers[made..] {
        let Err(AppendError::Stopped(stopped)) = answer else { panic!("{answer:?}") };
        assert_eq!(stopped.cause.kind(), std::io::ErrorKind::StorageFull);
        assert!(stopped.to_string().contains("cairn.db"), "{stopped}");
    }
    // For good: also what would fit, and all questions.
    let error = store.submit(event("t", 1, 1)).wait().unwrap_err();
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
    assert!(matches!(block_on(store.stream_head(&"s".into())), Err(AppendError::Stopped(_))));
    assert!(store.stopped().is_some());
    // What is there can still be read.
    assert_eq!(read_all(state.path()).len(), made);
    drop(store);
    let store = open(state.path()).unwrap();
    assert_eq!(block_on(store.stream_head(&"s".into())).unwrap().version, made as u64);
    store.submit(event("s", made as u64 + 1, 4_000)).wait().unwrap();
}

#[test]
fn a_snapshot_that_finds_no_room_stops_the_store() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "s", 1);
    bound(&store, 20);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let snapshot = Snapshot { name: "s".to_owned(), version: 1, position: 1, bytes: vec![1; 1 << 20] };
    for _ in 0..2 {
        let error = runtime.block_on(store.save_snapshot(snapshot.clone())).unwrap_err();
        let SnapshotError::Io(failure) = error else { panic!("{error}") };
        assert_eq!(failure.source.kind(), std::io::ErrorKind::StorageFull);
    }
    assert!(store.stopped().is_some());
    drop(store);
    assert_eq!(SqliteReader::open(state.path()).unwrap().verify().unwrap().head.position, 1);
}

#[test]
fn a_record_that_is_there_already_stops_the_store_instead_of_being_replaced() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "s", 2);
    // Another program appends what only the store may.
    let mut other = connect(state.path());
    execute(&mut other, "INSERT INTO records VALUES (3, 1, 3, 1, 1, 0, NULL, '{}')");
    let error = store.submit(event("s", 3, 10)).wait().unwrap_err();
    assert!(matches!(error, AppendError::Stopped(_)), "{error}");
}

#[test]
fn dropping_the_store_finishes_what_was_submitted() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "t", 1);
    let mut other = connect(state.path());
    execute(&mut other, "BEGIN IMMEDIATE");
    let tickets: Vec<Ticket> = (1..=50).map(|version| store.submit(event("s", version, 10))).collect();
    let (begun, has_begun) = mpsc::channel();
    let closing = std::thread::spawn(move || {
        begun.send(()).unwrap();
        drop(store);
    });
    has_begun.recv().unwrap();
    execute(&mut other, "ROLLBACK");
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    closing.join().unwrap();
    // The lock is free again.
    drop(open(state.path()).unwrap());
    assert_eq!(read_all(state.path()).len(), 51);
}

#[test]
fn more_readers_than_connections_take_turns() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "s", 50);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut cursor = super::Cursor::all(1);
                    assert_eq!(block_on(store.read(&mut cursor)).unwrap().len(), 50);
                }
            });
        }
    });
}

#[test]
fn a_read_that_is_dropped_harms_nobody() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "s", 50);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..50 {
        let mut cursor = super::Cursor::all(1);
        runtime.block_on(async {
            tokio::select! { biased; _ = store.read(&mut cursor) => {} () = tokio::task::yield_now() => {} }
        });
    }
    let mut cursor = super::Cursor::all(1);
    assert_eq!(runtime.block_on(store.read(&mut cursor)).unwrap().len(), 50);
}
