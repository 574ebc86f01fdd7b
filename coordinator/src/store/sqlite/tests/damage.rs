//! What is not as it was written is found, and never given out as if it were.

use std::path::Path;

use super::super::super::error::{Damage, DamageReason, OpenError, ReadError, TableFlaw};
use super::super::super::event_reader::EventReader;
use super::super::super::record::StoredRecord;
use super::super::super::{Cursor, EventStore, LoadedSnapshot, Snapshot};
use super::super::connection::block_on;
use super::super::reader::SqliteReader;
use super::super::store::database_path;
use super::{event, fill, meddle, open, read_all};

/// A database with a few streams and a snapshot, closed.
fn sample() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path()).unwrap();
    fill(&store, "a", 20);
    fill(&store, "b", 10);
    let mut both = event("a", 21, 10);
    both.records.extend(event("b", 11, 10).records);
    store.submit(both).wait().unwrap();
    drop(store);
    state
}

fn damage_of(state: &Path) -> Damage {
    match SqliteReader::open(state).unwrap().verify() {
        Err(ReadError::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sound_database_is_verified() {
    let state = sample();
    let reader = SqliteReader::open(state.path()).unwrap();
    let verified = reader.verify().unwrap();
    assert_eq!(verified.head.position, 32);
    assert_eq!(verified.head, reader.head().unwrap());
    let empty = tempfile::tempdir().unwrap();
    drop(open(empty.path()).unwrap());
    assert_eq!(SqliteReader::open(empty.path()).unwrap().verify().unwrap().head.position, 0);
}

#[test]
fn each_kind_of_damage_is_told_with_table_position_and_remedy() {
    let sequence = TableFlaw::Sequence;
    let stream = |name: &str| TableFlaw::Stream { stream: name.into() };
    let cases = [
        ("UPDATE records SET body = replace(body, 'J', 'K') WHERE position = 7", 7, TableFlaw::Checksum),
        ("UPDATE records SET epoch = 0 WHERE position = 7", 7, TableFlaw::Checksum),
        ("UPDATE records SET crc = crc + 1 WHERE position = 7", 7, TableFlaw::Checksum),
        ("UPDATE records SET count = -1 WHERE position = 7", 7, TableFlaw::Form),
        ("UPDATE records SET link = zeroblob(32) WHERE position = 7", 7, sequence.clone()),
        ("UPDATE records SET link = NULL WHERE position = 32", 33, sequence.clone()),
        ("DELETE FROM records WHERE position = 7", 7, sequence.clone()),
        ("DELETE FROM records WHERE position = 1", 1, sequence),
        ("UPDATE records SET stream = 2 WHERE position = 20", 20, TableFlaw::Checksum),
        ("UPDATE records SET stream = 3 WHERE position = 20", 20, TableFlaw::Checksum),
        ("UPDATE streams SET version = 12 WHERE name = 'b'", 32, stream("b")),
        ("UPDATE streams SET epoch = 2 WHERE name = 'a'", 32, stream("a")),
        ("INSERT INTO streams VALUES (9, 'c', 1, 1)", 32, stream("c")),
        ("UPDATE streams SET name = 'c' WHERE name = 'b'", 21, TableFlaw::Checksum),
    ];
    for (sql, position, flaw) in cases {
        let state = sample();
        meddle(state.path(), sql);
        let damage = damage_of(state.path());
        assert_eq!((damage.position, &damage.reason), (position, &DamageReason::Table(flaw)), "{sql}");
        let text = damage.to_string();
        assert!(text.contains("cairn.db") && text.contains("backup") && text.contains("table `"), "{text}");
    }
}

#[test]
fn the_structure_is_checked() {
    let state = sample();
    meddle(
        state.path(),
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'records_of_stream'",
    );
    let damage = damage_of(state.path());
    assert!(
        matches!(damage.reason, DamageReason::Table(TableFlaw::Structure { .. })),
        "the pages of an index that nobody knows: {damage}"
    );
}

#[test]
fn a_damaged_end_is_refused_when_the_store_is_opened() {
    for sql in [
        "UPDATE records SET crc = 0 WHERE position = 32",
        "UPDATE streams SET version = 12 WHERE name = 'b'",
        "DELETE FROM records WHERE position = 32",
        "UPDATE records SET link = NULL WHERE position = 32",
    ] {
        let state = sample();
        meddle(state.path(), sql);
        let error = open(state.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{sql}: {error}");
    }
}

#[test]
fn what_is_good_before_damage_is_read_and_then_the_damage_is_told() {
    let state = sample();
    meddle(state.path(), "UPDATE records SET body = '{}' WHERE position IN (7, 25)");
    let store = open(state.path()).unwrap();
    let mut cursor = Cursor::all(1);
    assert_eq!(block_on(store.read(&mut cursor)).unwrap().len(), 6);
    for _ in 0..2 {
        let error = block_on(store.read(&mut cursor)).unwrap_err();
        let ReadError::Damaged(damage) = error else { panic!("{error}") };
        assert_eq!(damage.position, 7);
        assert_eq!(cursor.next_position(), 7);
    }
    let mut cursor = Cursor::stream("b".into(), 1);
    assert_eq!(block_on(store.read(&mut cursor)).unwrap().len(), 4);
    assert!(block_on(store.read(&mut cursor)).is_err());
    // Behind the damage all is good.
    assert_eq!(block_on(store.read(&mut Cursor::all(26))).unwrap().len(), 7);
}

#[test]
fn a_row_that_is_missing_is_never_read_over() {
    let state = sample();
    meddle(state.path(), "DELETE FROM records WHERE position IN (7, 25)");
    let store = open(state.path()).unwrap();
    for mut cursor in [Cursor::all(7), Cursor::stream("a".into(), 7), Cursor::stream("b".into(), 5)] {
        let error = block_on(store.read(&mut cursor)).unwrap_err();
        assert!(matches!(error, ReadError::Damaged(_)), "{error}");
    }
}

/// A generator for tests: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % limit
    }
}

/// What a reader gets out of the log until something is wrong; `None` if it is told that something is wrong.
fn read_until_damage(state: &Path) -> (Vec<StoredRecord>, Option<LoadedSnapshot>, bool) {
    let Ok(reader) = SqliteReader::open(state) else { return (Vec::new(), None, false) };
    let mut cursor = Cursor::all(1);
    let mut records = Vec::new();
    loop {
        match reader.read(&mut cursor) {
            Ok(page) if page.is_empty() => break,
            Ok(page) => records.extend(page),
            Err(_) => return (records, None, false),
        }
    }
    (records, reader.load_snapshot("a").ok(), true)
}

#[test]
fn a_flipped_bit_is_found_or_changes_nothing() {
    const SEED: u64 = 4_711;
    const FLIPS: usize = 600;
    let state = sample();
    let store = open(state.path()).unwrap();
    let snapshot = Snapshot { name: "a".to_owned(), version: 9, position: 9, bytes: vec![7; 500] };
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(store.save_snapshot(snapshot.clone()))
        .unwrap();
    drop(store);
    let path = database_path(state.path());
    let (good, sound) = (read_all(state.path()), std::fs::read(&path).unwrap());
    // Every bit of two records as they lie in the file, then any.
    let body = good[6].body.as_bytes();
    let at = sound.windows(body.len()).position(|window| window == body).unwrap();
    let dense = (at - 50..at + 150).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    let mut random = Random(SEED);
    let sparse = (0..FLIPS).map(|_| (random.below(sound.len()), random.below(8))).collect::<Vec<_>>();
    let mut found = 0;
    let mut flipped = sound.clone();
    for (byte, bit) in dense.chain(sparse) {
        let what = format!("bit {bit} of byte {byte} (seed {SEED})");
        flipped[byte] ^= 1 << bit;
        std::fs::write(&path, &flipped).unwrap();
        flipped[byte] ^= 1 << bit;
        let is_verified = SqliteReader::open(state.path()).is_ok_and(|reader| reader.verify().is_ok());
        let (records, loaded, is_complete) = read_until_damage(state.path());
        assert!(good.starts_with(&records), "{what}: something else was read");
        if is_verified {
            assert!(is_complete && records == good, "{what}: verified, but not all is read");
        } else {
            found += 1;
        }
        // A snapshot is as it was saved or passed over, whatever else is the matter.
        let loaded = loaded.and_then(|loaded| loaded.snapshot);
        assert!(loaded.is_none_or(|loaded| loaded == snapshot), "{what}: another snapshot");
        for beside in ["-wal", "-shm"] {
            let mut file = path.clone().into_os_string();
            file.push(beside);
            drop(std::fs::remove_file(file));
        }
    }
    assert!(found > 800, "only {found} were found");
}

/// Copies a database that is open, as a crash would leave it: with its write-ahead log.
fn crashed(state: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["cairn.db", "cairn.db-wal", "cairn.db-end"] {
        std::fs::copy(state.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[test]
fn a_write_ahead_log_that_was_deleted_after_a_crash_is_noticed() {
    let state = sample();
    let store = open(state.path()).unwrap();
    store.submit(event("a", 22, 10)).wait().unwrap();
    let (whole, cut) = (crashed(state.path()), crashed(state.path()));
    drop(store);
    drop(open(whole.path()).unwrap());
    std::fs::remove_file(cut.path().join("cairn.db-wal")).unwrap();
    let Err(OpenError::Damaged(damage)) = open(cut.path()) else { panic!("it was not noticed") };
    let flaw = TableFlaw::Shorter { noted: 33, found: 32 };
    assert_eq!((damage.position, damage.reason), (33, DamageReason::Table(flaw)));
    // Whoever accepts the loss goes on.
    std::fs::remove_file(cut.path().join("cairn.db-end")).unwrap();
    let store = open(cut.path()).unwrap();
    store.submit(event("a", 22, 20)).wait().unwrap();
    drop(store);
    // An end that is as long as another is not the same one.
    std::fs::copy(whole.path().join("cairn.db-end"), cut.path().join("cairn.db-end")).unwrap();
    assert!(matches!(open(cut.path()), Err(OpenError::Damaged(_))));
}

#[test]
fn a_note_of_the_end_that_is_older_or_not_whole_says_nothing_wrong() {
    let state = sample();
    let end = state.path().join("cairn.db-end");
    let old = std::fs::read(&end).unwrap();
    let store = open(state.path()).unwrap();
    store.submit(event("a", 22, 10)).wait().unwrap();
    drop(store);
    let new = std::fs::read(&end).unwrap();
    assert_ne!(old, new);
    let torn = [&new[..20], &old[20..]].concat();
    for note in [&old[..], &torn, &new[..20], &[]] {
        std::fs::write(&end, note).unwrap();
        drop(open(state.path()).unwrap());
    }
}

#[test]
fn after_a_crash_the_structure_is_checked() {
    const PAGE: usize = 4096;
    let state = sample();
    let clean = std::fs::read(database_path(state.path())).unwrap();
    let store = open(state.path()).unwrap();
    store.submit(event("a", 22, 10)).wait().unwrap();
    let crash = crashed(state.path());
    drop(store);
    let left =
        ["cairn.db", "cairn.db-wal"].map(|name| (name, std::fs::read(crash.path().join(name)).unwrap()));
    let mut found = 0;
    for page in 1..clean.len() / PAGE {
        let spoil = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            // Bytes of the page that no cell uses are said to be others.
            bytes[page * PAGE + 7] ^= 0x15;
            bytes
        };
        std::fs::write(database_path(state.path()), spoil(&clean)).unwrap();
        let _ = std::fs::remove_file(state.path().join("cairn.db-end"));
        for (name, bytes) in &left {
            let bytes = if *name == "cairn.db" { spoil(bytes) } else { bytes.clone() };
            std::fs::write(crash.path().join(name), bytes).unwrap();
        }
        let after_good_end = open(state.path()).map(drop);
        match open(crash.path()).map(drop) {
            Err(OpenError::Damaged(Damage {
                reason: DamageReason::Table(TableFlaw::Structure { .. }),
                ..
            })) => {
                found += usize::from(after_good_end.is_ok());
            }
            Err(error) => panic!("{error}"),
            // The write-ahead log has the page.
            Ok(()) => {}
        }
    }
    assert!(found > 0, "a page that opening does not read is checked");
}
