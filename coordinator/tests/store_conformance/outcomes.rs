//! Answers that nobody hears, questions about what is not durable yet, and what a refusal leaves behind.

use cairn_coordinator::store::{AppendError, MAX_APPEND_BYTES, NewRecord, StreamHead, StreamId, Ticket};

use super::{Fixture, append, event, read_all, read_stream, record, version};

pub async fn an_append_is_made_though_its_ticket_is_dropped(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=50 {
        drop(store.submit(event("s", version)));
    }
    assert_eq!(store.submit(event("s", 51)).await.unwrap().position, 51);
    assert_eq!(read_stream(&*store, "s", 1).await.len(), 51);
}

pub async fn dropping_a_store_finishes_what_was_submitted(fixture: &dyn Fixture) {
    let store = fixture.open();
    let tickets: Vec<Ticket> = (1..=300).map(|version| store.submit(event("s", version))).collect();
    drop(store);
    for (ticket, position) in tickets.into_iter().zip(1..) {
        assert_eq!(ticket.await.unwrap().position, position);
    }
    assert_eq!(read_all(&*fixture.open()).await.len(), 300);
}

/// The caller did not hear what came of an append, so it looks for the key that it put inside before it tries again.
pub async fn an_unknown_outcome_is_settled_by_a_key_inside(fixture: &dyn Fixture) {
    let keyed = |first_version, key: u64| {
        let body = format!("{{\"key\":\"k{key}\"}}");
        append(1, vec![NewRecord { body, ..record("s", first_version, 1) }])
    };
    let mut store = fixture.open();
    for key in 1..=20 {
        let head = version(&*store, "s").await;
        drop(store.submit(keyed(head + 1, key)));
        if key % 3 == 0 {
            drop(store);
            store = fixture.open();
        }
        // The answer is lost. What is behind the version that was known tells.
        let after = store.stream_head(&"s".into()).await.unwrap().version;
        let is_there = read_stream(&*store, "s", head + 1)
            .await
            .iter()
            .any(|record| record.body.contains(&format!("\"k{key}\"")));
        if !is_there {
            // Not durable yet, or never made; the version decides, so that a second try cannot double it.
            let again = store.submit(keyed(head + 1, key)).await;
            assert_eq!(again.is_ok(), after == head, "{again:?}");
        }
    }
    let bodies: Vec<String> = read_stream(&*store, "s", 1).await.into_iter().map(|it| it.body).collect();
    assert!(bodies.into_iter().eq((1..=20).map(|key| format!("{{\"key\":\"k{key}\"}}"))));
}

pub async fn the_same_append_twice_is_made_once(fixture: &dyn Fixture) {
    let store = fixture.open();
    let both = append(1, vec![record("a", 1, 2), record("b", 1, 1)]);
    let first = store.submit(both.clone());
    let second = store.submit(both.clone());
    assert_eq!(first.await.unwrap().position, 1);
    assert!(matches!(second.await, Err(AppendError::Conflict { actual: 2, .. })));
    drop(store);
    let store = fixture.open();
    assert!(matches!(store.submit(both).await, Err(AppendError::Conflict { .. })));
    assert_eq!(store.head().await.unwrap().position, 3);
}

pub async fn a_streams_end_counts_what_is_submitted(fixture: &dyn Fixture) {
    let store = fixture.open();
    let stream = StreamId::from("s");
    let mut tickets = Vec::new();
    for version in 1..=100 {
        tickets.push(store.submit(append(version, vec![record("s", version, 1)])));
        assert_eq!(store.stream_head(&stream).await.unwrap(), StreamHead { version, epoch: version });
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

pub async fn a_refused_append_raises_no_epoch(fixture: &dyn Fixture) {
    let store = fixture.open();
    store.submit(append(2, vec![record("s", 1, 1)])).await.unwrap();
    let error = store.submit(append(9, vec![record("s", 2, 1), record("s", 7, 1)])).await.unwrap_err();
    assert!(matches!(error, AppendError::Conflict { .. }), "{error}");
    assert_eq!(store.stream_head(&"s".into()).await.unwrap(), StreamHead { version: 1, epoch: 2 });
    store.submit(append(2, vec![record("s", 2, 1)])).await.unwrap();
    assert_eq!(store.next_epoch(&"s".into()).await.unwrap(), 3);
}

pub async fn a_refused_append_begins_no_stream(fixture: &dyn Fixture) {
    let store = fixture.open();
    for _ in 0..3 {
        let error = store.submit(append(4, vec![record("new", 1, 3), record("old", 2, 1)])).await;
        assert!(matches!(error, Err(AppendError::Conflict { .. })));
    }
    assert_eq!(read_stream(&*store, "new", 1).await, []);
    drop(store);
    let store = fixture.open();
    assert_eq!(store.stream_head(&"new".into()).await.unwrap(), StreamHead::default());
    assert_eq!(
        store.submit(append(1, vec![record("new", 1, 1), record("old", 1, 1)])).await.unwrap().position,
        1
    );
    assert_eq!(read_stream(&*store, "new", 1).await.len(), 1);
}

pub async fn the_first_record_that_does_not_fit_decides(fixture: &dyn Fixture) {
    let store = fixture.open();
    store.submit(append(5, vec![record("fenced", 1, 1)])).await.unwrap();
    store.submit(append(1, vec![record("behind", 1, 4)])).await.unwrap();
    let records = || [record("free", 1, 1), record("behind", 1, 1), record("fenced", 1, 1)];
    let [free, behind, fenced] = records();
    let error = store.submit(append(2, vec![free, behind, fenced])).await.unwrap_err();
    assert!(matches!(&error, AppendError::Conflict { stream, actual: 4, .. } if stream.as_str() == "behind"));
    let [free, behind, fenced] = records();
    let error = store.submit(append(2, vec![free, fenced, behind])).await.unwrap_err();
    assert!(matches!(&error, AppendError::Fenced { stream, current: 5, .. } if stream.as_str() == "fenced"));
}

pub async fn the_epochs_of_all_streams_of_an_append_rise(fixture: &dyn Fixture) {
    let store = fixture.open();
    store.submit(append(1, vec![record("a", 1, 1)])).await.unwrap();
    store.submit(append(3, vec![record("b", 1, 1)])).await.unwrap();
    store.submit(append(5, vec![record("a", 2, 1), record("b", 2, 1), record("c", 1, 1)])).await.unwrap();
    for (name, version) in [("a", 2), ("b", 2), ("c", 1)] {
        assert_eq!(store.stream_head(&name.into()).await.unwrap(), StreamHead { version, epoch: 5 });
    }
    drop(store);
    let error = fixture.open().submit(append(4, vec![record("a", 3, 1)])).await.unwrap_err();
    assert!(matches!(error, AppendError::Fenced { epoch: 4, current: 5, .. }), "{error}");
}

pub async fn many_records_in_one_append_are_kept_in_order(fixture: &dyn Fixture) {
    const RECORDS: u64 = 20_000;
    let store = fixture.open();
    let records = (0..RECORDS).map(|at| record(&format!("s{}", at % 7), at / 7 + 1, 1)).collect();
    assert_eq!(store.submit(append(1, records)).await.unwrap().position, 1);
    let records = read_all(&*store).await;
    assert!(records.iter().map(|record| record.position).eq(1..=RECORDS));
    assert!(records.iter().zip(0..).all(|(record, at)| record.stream.as_str() == format!("s{}", at % 7)));
}

pub async fn a_record_may_hold_very_many_events(fixture: &dyn Fixture) {
    const COUNT: u32 = 3_000_000_000;
    let store = fixture.open();
    store.submit(append(1, vec![record("s", 1, COUNT)])).await.unwrap();
    let next = u64::from(COUNT) + 1;
    assert_eq!(store.submit(event("s", next)).await.unwrap().position, next);
    for version in [1, 7, u64::from(COUNT)] {
        assert_eq!(read_stream(&*store, "s", version).await.len(), 2);
    }
    assert_eq!(read_stream(&*store, "s", next).await.len(), 1);
    assert_eq!(store.head().await.unwrap().position, next);
}

pub async fn the_largest_append_is_kept(fixture: &dyn Fixture) {
    let store = fixture.open();
    let body = |bytes: usize| format!("\"{}\"", "y".repeat(bytes - 2));
    let frame = append(1, vec![NewRecord { body: body(2), ..record("s", 1, 1) }]).stored_bytes() - 2;
    let largest = |bytes| append(1, vec![NewRecord { body: body(bytes), ..record("s", 1, 1) }]);
    let error = store.submit(largest(MAX_APPEND_BYTES - frame + 1)).await.unwrap_err();
    assert!(matches!(error, AppendError::Invalid(_)), "{error}");
    store.submit(largest(MAX_APPEND_BYTES - frame)).await.unwrap();
    let records = read_all(&*store).await;
    assert_eq!(records.len(), 1);
    assert!(records[0].body == body(MAX_APPEND_BYTES - frame));
}
