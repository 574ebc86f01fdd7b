//! The file: who may have it, and what is refused.

use std::os::unix::fs::PermissionsExt;

use super::super::super::error::{OpenError, ReadError, SchemaError};
use super::super::super::event_reader::EventReader;
use super::super::super::{EventStore, Holder, LockError, Snapshot, SnapshotFlaw};
use super::super::connection::block_on;
use super::super::reader::SqliteReader;
use super::super::store::database_path;
use super::{STORE_ID, event, fill, meddle, open, read_all};

#[test]
fn nobody_else_may_read_the_files() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "s", 3);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(state.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["cairn.db", "cairn.db-end", "cairn.db-shm", "cairn.db-wal", "lock"]);
    drop(store);
    // What was in the write-ahead log is in the database now.
    assert!(!state.path().join("cairn.db-wal").exists());
    assert_eq!(read_all(state.path()).len(), 3);
}

#[test]
fn a_second_writer_is_refused_and_told_who_the_first_is() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    let error = open(state.path()).unwrap_err();
    let OpenError::Lock(LockError::Held { holder: Some(holder), .. }) = &error else { panic!("{error}") };
    assert_eq!(holder.pid, std::process::id());
    assert!(error.to_string().contains("a test"), "{error}");
    drop(store);
    drop(open(state.path()).unwrap());
}

#[test]
fn a_log_keeps_its_identity() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path()).unwrap());
    let holder = Holder::this_process("a test", cairn_model::Timestamp(0));
    let options = super::Options::new(uuid::Uuid::from_u128(1));
    let store = super::SqliteStore::open(state.path(), &holder, options).unwrap();
    assert_eq!(store.store_id(), STORE_ID);
    assert_eq!(SqliteReader::open(state.path()).unwrap().verify().unwrap().store_id, Some(STORE_ID));
}

#[test]
fn a_newer_schema_is_refused_with_both_versions_and_left_as_it_is() {
    let state = tempfile::tempdir().unwrap();
    fill(&open(state.path()).unwrap(), "s", 3);
    meddle(state.path(), "PRAGMA user_version = 41");
    let before = std::fs::read(database_path(state.path())).unwrap();
    let error = open(state.path()).unwrap_err();
    assert!(matches!(error, OpenError::Schema(SchemaError::Newer { found: 41, known: 1, .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("version 41") && text.contains("knows 1") && text.contains("cairn.db"), "{text}");
    let error = SqliteReader::open(state.path()).unwrap_err();
    assert!(matches!(error, ReadError::Schema(SchemaError::Newer { .. })), "{error}");
    assert!(std::fs::read(database_path(state.path())).unwrap() == before);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let foreign = [
        "CREATE TABLE streams (id INTEGER PRIMARY KEY)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1",
        // Ours, but no schema that ever was.
        "PRAGMA application_id = 1667328370",
    ];
    for sql in foreign {
        let state = tempfile::tempdir().unwrap();
        meddle(state.path(), sql);
        let before = std::fs::read(database_path(state.path())).unwrap();
        let error = open(state.path()).unwrap_err();
        assert!(matches!(error, OpenError::Schema(SchemaError::Foreign { .. })), "{sql}: {error}");
        let error = SqliteReader::open(state.path()).unwrap_err();
        assert!(matches!(error, ReadError::Schema(SchemaError::Foreign { .. })), "{sql}: {error}");
        assert!(std::fs::read(database_path(state.path())).unwrap() == before, "{sql}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let state = tempfile::tempdir().unwrap();
    let text = "a letter to somebody\n".repeat(500);
    std::fs::write(database_path(state.path()), &text).unwrap();
    let error = open(state.path()).unwrap_err();
    assert!(matches!(error, OpenError::Schema(SchemaError::Foreign { .. })), "{error}");
    assert_eq!(std::fs::read_to_string(database_path(state.path())).unwrap(), text);
}

#[test]
fn a_reader_of_nothing_says_that_there_is_nothing() {
    let state = tempfile::tempdir().unwrap();
    let error = SqliteReader::open(state.path()).unwrap_err();
    let ReadError::Io(failure) = error else { panic!("{error}") };
    assert_eq!(failure.source.kind(), std::io::ErrorKind::NotFound);
    assert!(!database_path(state.path()).exists());
    // A writer that is just beginning has made the file.
    std::fs::write(database_path(state.path()), "").unwrap();
    let error = SqliteReader::open(state.path()).unwrap_err();
    let ReadError::Io(failure) = error else { panic!("{error}") };
    assert_eq!(failure.source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_reader_needs_no_lock_and_follows_the_writer() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    let reader = SqliteReader::open(state.path()).unwrap();
    let mut cursor = super::Cursor::all(1);
    for version in 1..=20 {
        store.submit(event("s", version, 10)).wait().unwrap();
        let page = reader.read(&mut cursor).unwrap();
        assert_eq!(page.iter().map(|record| record.position).collect::<Vec<_>>(), [version]);
        assert_eq!(reader.head().unwrap(), block_on(store.head()).unwrap());
        assert_eq!(reader.verify().unwrap().head, reader.head().unwrap());
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_with_a_notice() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "s", 9);
    let save = |version: u64, bytes: &[u8]| {
        let (name, bytes) = ("s".to_owned(), bytes.to_vec());
        let snapshot = Snapshot { name, version, position: version, bytes };
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(store.save_snapshot(snapshot))
            .unwrap();
    };
    for version in 1..=5 {
        save(version, b"state");
    }
    let reader = SqliteReader::open(state.path()).unwrap();
    assert_eq!(reader.load_snapshot("s").unwrap().snapshot.unwrap().version, 5);
    meddle(state.path(), "UPDATE snapshots SET bytes = x'00' WHERE version = 5");
    for loaded in [block_on(store.load_snapshot("s")).unwrap(), reader.load_snapshot("s").unwrap()] {
        assert_eq!(loaded.snapshot.as_ref().unwrap().version, 4);
        let [notice] = &loaded.notices[..] else { panic!("{:?}", loaded.notices) };
        assert!(notice.to_string().contains("cairn.db snapshots/s@5"), "{notice}");
    }
    meddle(state.path(), "UPDATE snapshots SET position = position + 1 WHERE version = 4");
    let loaded = reader.load_snapshot("s").unwrap();
    // Two are kept: there is no third.
    assert_eq!((loaded.snapshot, loaded.notices.len()), (None, 2));
    // One that is ahead of the log is sound, but of another log.
    save(9, b"state");
    drop(store);
    meddle(
        state.path(),
        "DELETE FROM records WHERE position = 9; UPDATE streams SET version = 8; \
         UPDATE snapshots SET version = version",
    );
    let loaded = reader.load_snapshot("s").unwrap();
    let flaws: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
    let ahead = SnapshotFlaw::AheadOfLog { position: 9, head: 8 }.to_string();
    assert!(flaws[0].contains(&ahead), "{flaws:?}");
}
