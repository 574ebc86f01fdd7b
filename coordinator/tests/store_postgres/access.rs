//! The rights that docs/operations.md gives to each role are enough, and no more than needed; passwords are told nobody.

use cairn_coordinator::store::postgres::PostgresReader;
use cairn_coordinator::store::{EventStore, OpenError, PostgresStore, ReadError};

use super::{Log, block_on, event, read_all};

/// As the documentation says, with names for this schema.
fn grants(log: &Log) -> String {
    let docs = include_str!("../../../docs/operations.md");
    let start = docs.find("```sql\n").unwrap() + "```sql\n".len();
    let text = &docs[start..start + docs[start..].find("```").unwrap()];
    text.replace("SCHEMA cairn", &format!("SCHEMA {}", log.schema))
        .replace("cairn_writer", &format!("writer_{}", log.schema))
        .replace("cairn_reader", &format!("reader_{}", log.schema))
        .replace("'secret'", "'pass-word'")
}

fn url_of(log: &Log, role: &str) -> String {
    let (_, rest) = log.url.split_once('@').unwrap();
    format!("postgres://{role}_{}:pass-word@{rest}", log.schema)
}

#[test]
fn the_documented_rights_are_enough() {
    let Some(log) = Log::new() else { return };
    drop(log.open());
    log.sql(&grants(&log));
    let store = PostgresStore::open(&url_of(&log, "writer"), log.options()).unwrap();
    for version in 1..=3 {
        store.submit(event("s", version)).wait().unwrap();
    }
    assert_eq!(block_on(store.next_epoch(&"s".into())).unwrap(), 2);
    assert_eq!(read_all(&store).len(), 3);
    let reader = PostgresReader::open(&url_of(&log, "reader"), &log.schema).unwrap();
    assert_eq!(block_on(reader.verify()).unwrap().head.position, 3);
    let refused = PostgresStore::open(&url_of(&log, "reader"), log.options()).unwrap_err();
    assert!(matches!(refused, OpenError::Io(_)), "{refused}");
    let roles = format!("writer_{schema}, reader_{schema}", schema = log.schema);
    drop((store, reader));
    log.sql(&format!("DROP OWNED BY {roles}; DROP ROLE {roles}"));
}

#[test]
fn who_may_not_come_in_is_told_so_without_the_password() {
    let Some(log) = Log::new() else { return };
    let (_, rest) = log.url.split_once('@').unwrap();
    let wrong = format!("postgres://cairn:Wr0ng-one@{rest}");
    let refused = PostgresStore::open(&wrong, log.options()).unwrap_err();
    let OpenError::Io(failure) = &refused else { panic!("{refused}") };
    let told = format!("{refused} {refused:?} {}", failure.source);
    assert!(told.contains("could not connect to") && !told.contains("Wr0ng-one"), "{told}");
    let refused = PostgresReader::open(&wrong, &log.schema).unwrap_err();
    assert!(matches!(refused, ReadError::Io(_)) && !format!("{refused:?}").contains("Wr0ng-one"));
    let unreadable = PostgresStore::open("postgres://u:Wr0ng-one@h:port/d", log.options()).unwrap_err();
    assert!(!format!("{unreadable} {unreadable:?}").contains("Wr0ng-one"), "{unreadable:?}");
}
