//! Schemas that are new, of another version, or somebody else's.

use cairn_coordinator::store::postgres::{Options, PostgresReader};
use cairn_coordinator::store::{EventStore, OpenError, PostgresStore, ReadError, SchemaError};
use uuid::Uuid;

use super::{Log, block_on, event};

#[test]
fn a_database_without_a_schema_gets_it() {
    let Some(log) = Log::new() else { return };
    let nothing = PostgresReader::open(&log.url, &log.schema).unwrap_err();
    assert!(matches!(nothing, ReadError::Schema(SchemaError::Absent { .. })), "{nothing}");
    let store = log.open();
    assert_eq!(store.store_id(), Uuid::from_u128(7));
    store.submit(event("s", 1)).wait().unwrap();
    drop(store);
    // It keeps its identity.
    let options = Options { store_id: Uuid::from_u128(8), ..log.options() };
    let store = PostgresStore::open(&log.url, options).unwrap();
    assert_eq!((store.store_id(), log.reader().store_id()), (Uuid::from_u128(7), Uuid::from_u128(7)));
}

#[test]
fn a_schema_made_by_several_at_once_is_made_once() {
    let Some(log) = Log::new() else { return };
    let stores: Vec<PostgresStore> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..6).map(|_| scope.spawn(|| log.open())).collect();
        opening.into_iter().map(|opening| opening.join().unwrap()).collect()
    });
    for (store, version) in stores.iter().zip(1..) {
        assert_eq!(store.submit(event("s", version)).wait().unwrap().position, version);
    }
}

#[test]
fn a_newer_schema_is_refused_with_both_versions() {
    let Some(log) = Log::new() else { return };
    drop(log.open());
    log.sql("INSERT INTO schema_version (version) VALUES (99)");
    let refused = PostgresStore::open(&log.url, log.options()).unwrap_err();
    assert!(
        matches!(refused, OpenError::Schema(SchemaError::Newer { found: 99, known: 2, .. })),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("99") && refused.to_string().contains("knows 2"), "{refused}");
    let refused = PostgresReader::open(&log.url, &log.schema).unwrap_err();
    assert!(matches!(refused, ReadError::Schema(SchemaError::Newer { found: 99, known: 2, .. })));
    log.sql("DELETE FROM schema_version WHERE version = 99");
    assert_eq!(block_on(log.open().head()).unwrap().position, 0);
}

#[test]
fn a_schema_of_somebody_else_is_left_alone() {
    let Some(log) = Log::new() else { return };
    log.sql(&format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.theirs (x int)", schema = log.schema));
    let refused = PostgresStore::open(&log.url, log.options()).unwrap_err();
    assert!(matches!(refused, OpenError::Schema(SchemaError::Foreign { .. })), "{refused}");
    log.sql("DROP TABLE theirs");
    // An empty one is what an administrator makes for us.
    drop(log.open());
}

#[test]
fn a_schema_of_the_version_before_is_brought_up_to_date() {
    let Some(log) = Log::new() else { return };
    let store = log.open();
    store.submit(event("s", 1)).wait().unwrap();
    drop(store);
    log.sql("DROP FUNCTION submit, submitted; DROP TABLE submissions; DELETE FROM schema_version WHERE version = 2");
    let refused = PostgresReader::open(&log.url, &log.schema).unwrap_err();
    assert!(refused.to_string().contains("start a coordinator of this version once"), "{refused}");
    let store = log.open();
    assert_eq!(store.submit(event("s", 2)).wait().unwrap().position, 2);
    log.sql("SELECT submit('version: 1')");
    assert_eq!(block_on(log.reader().verify()).unwrap().head.position, 2);
}
