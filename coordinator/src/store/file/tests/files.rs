//! What lies in the directory: names, permissions, the format byte for byte, segments.

use std::os::unix::fs::PermissionsExt;

use super::super::super::error::OpenError;
use super::super::super::event_store::EventStore;
use super::super::super::record::{Append, NewRecord};
use super::super::super::{LockError, StreamHead, StreamId};
use super::super::segment::list_segments;
use super::super::store::events_path;
use super::{Cursor, FileStore, Holder, STORE_ID, Timestamp, event, open, options, read_all};

fn record(stream: &str, first_version: u64, count: u32, body: &str) -> NewRecord {
    NewRecord { stream: stream.into(), first_version, count, body: body.to_owned() }
}

/// The format of version 1. If this fails, the format has changed: that needs a new number and a reader of the old.
#[test]
fn the_format_is_what_it_was() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path(), 1 << 20).unwrap();
    let records =
        vec![record("apollo.3", 1, 2, r#"{"a":[1,2]}"#), record("apollo.3/b\"ild\\", 1, 1, "\"ü\"")];
    store.submit(Append { epoch: 7, records }).wait().unwrap();
    store.submit(Append { epoch: 8, records: vec![record("apollo.3", 3, 1, "{}")] }).wait().unwrap();
    drop(store);
    let path = events_path(state.path()).join("00000000000000000001.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text, GOLDEN_LOG);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

const GOLDEN_LOG: &str = r#"{"crc":"4a2571b6","bytes":"0000000194","cairn_log":1,"store":"01923456-789a-7bcd-8ef0-123456789abc","segment_start":1,"chain":"0000000000000000000000000000000000000000000000000000000000000000"}
{"crc":"0198bd66","bytes":"0000000309","position":1,"epoch":7,"batch":1,"chain":"0e3c87b2a652bdf81dd04acd00ac3ffb0047439ff4dbc3731f1f688196027b0c","records":[{"stream":"apollo.3","version":1,"count":2,"bytes":11,"body":{"a":[1,2]}},{"stream":"apollo.3/b\"ild\\","version":1,"count":1,"bytes":4,"body":"ü"}]}
{"crc":"a883106e","bytes":"0000000224","position":4,"epoch":8,"batch":4,"chain":"95445260fe0b3dfa236fa462c51793bdde34238814b0a3697deb03339e5a8bd7","records":[{"stream":"apollo.3","version":3,"count":1,"bytes":2,"body":{}}]}
"#;

#[test]
fn only_the_owner_may_look() {
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("a/b/.milestones");
    let holder = Holder::this_process("a test", Timestamp(0));
    drop(FileStore::open(&state, &holder, options(1 << 20)).unwrap());
    let mode = |path: &str| std::fs::metadata(state.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("events")], [0o700; 2]);
    assert_eq!([mode("lock"), mode("events/00000000000000000001.jsonl")], [0o600; 2]);
}

#[test]
fn the_second_writer_is_told_who_writes() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path(), 1 << 20).unwrap();
    let error = open(state.path(), 1 << 20).unwrap_err();
    assert!(matches!(error, OpenError::Lock(LockError::Held { .. })));
    assert!(error.to_string().contains("held by `a test`, process"), "{error}");
    drop(store);
    drop(open(state.path(), 1 << 20).unwrap());
}

#[test]
fn a_segment_is_begun_when_the_last_is_long_enough() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path(), 2_000).unwrap();
    for version in 1..=40 {
        store.submit(event("s", version, 300)).wait().unwrap();
    }
    drop(store);
    let starts = list_segments(&events_path(state.path())).unwrap();
    assert!((5..=20).contains(&starts.len()), "{starts:?}");
    for &start in &starts[..starts.len() - 1] {
        let length = super::segment_path(&events_path(state.path()), start).metadata().unwrap().len();
        assert!((2_000..3_000).contains(&length), "segment {start} has {length} bytes");
    }
    let versions: Vec<u64> = read_all(state.path()).iter().map(|record| record.first_version).collect();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    // What has been written goes on, in the same segment.
    let store = open(state.path(), 1 << 20).unwrap();
    assert_eq!(store.submit(event("s", 41, 10)).wait().unwrap().position, 41);
    assert_eq!(list_segments(&events_path(state.path())).unwrap(), starts);
}

#[test]
fn opening_again_knows_identity_versions_epochs_and_the_chain() {
    let state = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = open(state.path(), 1_000).unwrap();
    for version in 1..=10 {
        let append = Append { epoch: version, records: vec![record("s", 2 * version - 1, 2, "{}")] };
        store.submit(append).wait().unwrap();
    }
    let head = runtime.block_on(store.head()).unwrap();
    assert_eq!(store.store_id(), STORE_ID);
    drop(store);
    let other_id = super::Options::new(uuid::Uuid::from_u128(1));
    let holder = Holder::this_process("a test", Timestamp(0));
    let store = FileStore::open(state.path(), &holder, other_id).unwrap();
    assert_eq!(store.store_id(), STORE_ID);
    assert_eq!(runtime.block_on(store.head()).unwrap(), head);
    assert_eq!(head.position, 20);
    let stream = StreamId::from("s");
    assert_eq!(runtime.block_on(store.stream_head(&stream)).unwrap(), StreamHead { version: 20, epoch: 10 });
    assert_eq!(runtime.block_on(store.next_epoch(&stream)).unwrap(), 11);
}

#[test]
fn a_stream_is_read_from_where_it_is_in_many_segments() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path(), 2_000).unwrap();
    // `often` is everywhere, `once` in the middle, `late` at the end; `rare` at both ends.
    let mut versions = std::collections::HashMap::new();
    for step in 1..=120_u64 {
        for (stream, is_there) in
            [("often", true), ("once", step == 60), ("late", step > 110), ("rare", !(3..119).contains(&step))]
        {
            if is_there {
                let version = versions.entry(stream).or_insert(0);
                *version += 1;
                store.submit(event(stream, *version, 200)).wait().unwrap();
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (stream, last) in versions {
        for from in 0..=last + 1 {
            let mut cursor = Cursor::stream(stream.into(), from);
            let mut found = Vec::new();
            loop {
                let page = runtime.block_on(store.read(&mut cursor)).unwrap();
                if page.is_empty() {
                    break;
                }
                found.extend(page.into_iter().map(|record| record.first_version));
            }
            assert_eq!(found, (from.max(1)..=last).collect::<Vec<_>>(), "{stream} from {from}");
        }
    }
}
