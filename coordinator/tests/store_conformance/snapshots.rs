//! Snapshots: the newest that fits, and nothing that includes what is not durable.

use cairn_coordinator::store::{
    EventStore, LoadedSnapshot, MAX_SNAPSHOT_NAME_BYTES, Snapshot, SnapshotError,
};

use super::{Fixture, append, record};

fn snapshot(name: &str, version: u64, bytes: &[u8]) -> Snapshot {
    Snapshot { name: name.to_owned(), version, position: version, bytes: bytes.to_vec() }
}

/// A hundred events to take snapshots of.
async fn fill(store: &dyn EventStore) {
    store.submit(append(1, vec![record("s", 1, 100)])).await.unwrap();
}

pub async fn a_snapshot_is_loaded_as_it_was_saved(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    let saved = snapshot("apollo.3/build", 40, b"{\n\0\xff}");
    store.save_snapshot(saved.clone()).await.unwrap();
    let expected = LoadedSnapshot { snapshot: Some(saved), notices: Vec::new() };
    assert_eq!(store.load_snapshot("apollo.3/build").await.unwrap(), expected);
    drop(store);
    assert_eq!(fixture.open().load_snapshot("apollo.3/build").await.unwrap(), expected);
}

pub async fn the_newest_snapshot_is_loaded(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    for version in [1, 2, 9, 10, 100] {
        store.save_snapshot(snapshot("s", version, &version.to_be_bytes())).await.unwrap();
        let loaded = store.load_snapshot("s").await.unwrap().snapshot.unwrap();
        assert_eq!((loaded.version, &loaded.bytes[..]), (version, &version.to_be_bytes()[..]));
    }
    // The same once more is no error.
    store.save_snapshot(snapshot("s", 100, b"again")).await.unwrap();
    assert_eq!(store.load_snapshot("s").await.unwrap().snapshot.unwrap().bytes, b"again");
}

pub async fn no_snapshot_is_none(fixture: &dyn Fixture) {
    let store = fixture.open();
    assert_eq!(store.load_snapshot("s").await.unwrap(), LoadedSnapshot::default());
}

pub async fn a_snapshot_of_what_is_not_durable_is_refused(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    let error = store.save_snapshot(snapshot("s", 101, b"")).await.unwrap_err();
    assert!(matches!(error, SnapshotError::AheadOfLog { position: 101, durable: 100, .. }), "{error}");
    assert_eq!(store.load_snapshot("s").await.unwrap().snapshot, None);
}

pub async fn snapshots_of_different_names_are_kept_apart(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    let names = ["s", "s/1", "s.1", "s%2F1", "../s", "S"];
    for (name, version) in names.into_iter().zip(1..) {
        store.save_snapshot(snapshot(name, version, name.as_bytes())).await.unwrap();
    }
    for (name, version) in names.into_iter().zip(1..) {
        let loaded = store.load_snapshot(name).await.unwrap().snapshot;
        assert_eq!(loaded, Some(snapshot(name, version, name.as_bytes())));
    }
    assert!(matches!(store.save_snapshot(snapshot("", 1, b"")).await, Err(SnapshotError::Name { bytes: 0 })));
}

pub async fn a_large_snapshot_is_kept(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    let large = snapshot("s", 50, &vec![0xA5; 5 << 20]);
    store.save_snapshot(large.clone()).await.unwrap();
    assert!(store.load_snapshot("s").await.unwrap().snapshot == Some(large));
}

pub async fn a_snapshot_of_a_lower_version_takes_the_place_of_a_higher_one(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    for version in [10, 20, 15] {
        store.save_snapshot(snapshot("s", version, &version.to_be_bytes())).await.unwrap();
        assert_eq!(store.load_snapshot("s").await.unwrap().snapshot.unwrap().version, version);
    }
}

pub async fn a_snapshot_may_be_of_nothing_and_have_no_bytes(fixture: &dyn Fixture) {
    let store = fixture.open();
    let nothing = snapshot("s", 0, b"");
    store.save_snapshot(nothing.clone()).await.unwrap();
    assert_eq!(store.load_snapshot("s").await.unwrap().snapshot, Some(nothing));
}

pub async fn a_snapshots_name_has_a_longest_length(fixture: &dyn Fixture) {
    let store = fixture.open();
    fill(&*store).await;
    let longest = "n".repeat(MAX_SNAPSHOT_NAME_BYTES);
    store.save_snapshot(snapshot(&longest, 3, b"kept")).await.unwrap();
    assert_eq!(store.load_snapshot(&longest).await.unwrap().snapshot.unwrap().bytes, b"kept");
    let longer = longest + "n";
    let saved = store.save_snapshot(snapshot(&longer, 3, b"")).await;
    assert!(matches!(saved, Err(SnapshotError::Name { bytes: 513 })), "{saved:?}");
    assert!(matches!(store.load_snapshot(&longer).await, Err(SnapshotError::Name { .. })));
}
