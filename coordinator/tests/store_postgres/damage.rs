//! Rows that were changed by hand are found.

use cairn_coordinator::store::{
    Append, DamageReason, EventStore, NewRecord, ReadError, Snapshot, SnapshotFlaw, TableFlaw,
};

use super::{Log, block_on, event};

fn filled(log: &Log) {
    let store = log.open();
    for version in 1..=20 {
        store.submit(event("s", version)).wait().unwrap();
        let record = |stream: &str| NewRecord {
            stream: stream.into(),
            first_version: 3 * version - 2,
            count: 3,
            body: "[]".to_owned(),
        };
        store.submit(Append { epoch: version, records: vec![record("t"), record("u")] }).wait().unwrap();
    }
    block_on(store.next_epoch(&"only claimed".into())).unwrap();
}

fn flaw(log: &Log) -> (u64, TableFlaw) {
    match block_on(log.reader().verify()).unwrap_err() {
        ReadError::Damaged(damage) => match damage.reason {
            DamageReason::Table(flaw) => (damage.position, flaw),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    }
}

#[test]
fn a_sound_log_is_verified() {
    let Some(log) = Log::new() else { return };
    drop(log.open());
    assert_eq!(block_on(log.reader().verify()).unwrap().head.position, 0);
    filled(&log);
    let verified = block_on(log.reader().verify()).unwrap();
    assert_eq!((verified.head.position, verified.streams), (140, 3));
}

#[test]
fn every_change_of_a_row_is_found() {
    let Some(log) = Log::new() else { return };
    filled(&log);
    // The event 71 is the only one of its batch.
    let changes = [
        "UPDATE records SET body = replace(body, '11', '12') WHERE position = 71",
        "UPDATE records SET epoch = 2 WHERE position = 71",
        "UPDATE records SET stream = 'other' WHERE position = 71",
        "UPDATE records SET first_version = 100 WHERE position = 71",
        "UPDATE records SET link = sha256('') WHERE position = 71",
        "DELETE FROM records WHERE position = 71",
    ];
    for change in changes {
        log.sql(&format!("CREATE TABLE kept AS SELECT * FROM records WHERE position = 71; {change}"));
        assert_eq!(flaw(&log), (71, TableFlaw::Sequence), "{change}");
        log.sql(
            "DELETE FROM records WHERE position = 71; INSERT INTO records SELECT * FROM kept; DROP TABLE kept",
        );
        block_on(log.reader().verify()).unwrap();
    }
    log.sql("UPDATE streams SET version = version + 1 WHERE name = 't'");
    assert_eq!(flaw(&log).1, TableFlaw::Stream { stream: "t".into() });
    log.sql(
        "UPDATE streams SET version = version - 1 WHERE name = 't'; DELETE FROM streams WHERE name = 'u'",
    );
    assert_eq!(flaw(&log).1, TableFlaw::Stream { stream: "u".into() });
    log.sql("DELETE FROM records WHERE position > 130");
    assert_eq!(flaw(&log).1, TableFlaw::Sequence);
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    let Some(log) = Log::new() else { return };
    filled(&log);
    let store = log.open();
    for version in [10, 20, 30] {
        let snapshot =
            Snapshot { name: "s".into(), version, position: version, bytes: vec![version as u8; 9] };
        block_on(store.save_snapshot(snapshot)).unwrap();
    }
    let damage = |change: &str| {
        log.sql(&format!("UPDATE snapshots SET {change} WHERE version = 30"));
        block_on(store.load_snapshot("s")).unwrap()
    };
    for (change, undo) in [
        ("bytes = set_byte(bytes, 3, 0)", "bytes = set_byte(bytes, 3, 30)"),
        ("position = 29", "position = 30"),
        ("format = 7", "format = 1"),
        ("store = gen_random_uuid()", "store = (SELECT id FROM store)"),
    ] {
        let loaded = damage(change);
        assert_eq!(loaded.snapshot.map(|snapshot| snapshot.version), Some(20), "{change}");
        assert_eq!(loaded.notices.len(), 1);
        assert_eq!(damage(undo).snapshot.map(|snapshot| snapshot.version), Some(30));
    }
    let loaded = damage("format = 7");
    let told = loaded.notices[0].to_string();
    assert!(
        told.contains(&SnapshotFlaw::Format { format: 7 }.to_string()) && told.contains("s@30"),
        "{told}"
    );
    // Two are kept.
    block_on(store.save_snapshot(Snapshot { name: "s".into(), version: 40, position: 40, bytes: vec![] }))
        .unwrap();
    log.sql(
        "DO $$ BEGIN ASSERT (SELECT array_agg(version ORDER BY version) FROM snapshots) = '{30,40}'; END $$",
    );
}
