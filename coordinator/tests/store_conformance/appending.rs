//! Versions, epochs, atomicity, order.

use std::sync::{Arc, Barrier};

use cairn_coordinator::store::{
    Append, AppendError, EventStore, Head, InvalidAppend, Link, MAX_APPEND_BYTES, MAX_STREAM_ID_BYTES,
    NewRecord, StreamHead, StreamId, Ticket,
};

use super::{Fixture, append, chain_of, event, read_all, read_stream, record, version};

async fn submit(store: &dyn EventStore, append: Append) -> u64 {
    store.submit(append).await.unwrap().position
}

async fn refuse(store: &dyn EventStore, append: Append) -> AppendError {
    store.submit(append).await.unwrap_err()
}

pub async fn an_empty_store_is_empty(fixture: &dyn Fixture) {
    let store = fixture.open();
    assert_eq!(store.head().await.unwrap(), Head { position: 0, chain: Link::EMPTY });
    assert_eq!(read_all(&*store).await, []);
    assert_eq!(read_stream(&*store, "s", 1).await, []);
    assert_eq!(store.stream_head(&"s".into()).await.unwrap(), StreamHead { version: 0, epoch: 0 });
    assert!(store.stopped().is_none());
    store.room().await;
}

pub async fn positions_count_events_from_one(fixture: &dyn Fixture) {
    let store = fixture.open();
    assert_eq!(submit(&*store, append(1, vec![record("a", 1, 3)])).await, 1);
    assert_eq!(submit(&*store, append(1, vec![record("b", 1, 1), record("a", 4, 5)])).await, 4);
    assert_eq!(submit(&*store, event("c", 1)).await, 10);
    let positions: Vec<_> = read_all(&*store).await.iter().map(|r| (r.position, r.next_position())).collect();
    assert_eq!(positions, [(1, 4), (4, 5), (5, 10), (10, 11)]);
    assert_eq!(store.head().await.unwrap().position, 10);
}

pub async fn the_first_event_has_version_one(fixture: &dyn Fixture) {
    let store = fixture.open();
    let error = refuse(&*store, event("s", 2)).await;
    assert!(matches!(error, AppendError::Conflict { expected: 1, actual: 0, .. }), "{error}");
    assert_eq!(submit(&*store, event("s", 1)).await, 1);
}

pub async fn a_wrong_version_is_a_conflict_that_names_both(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, append(1, vec![record("s", 1, 5)])).await;
    for wrong in [1, 5, 7, 100, u64::MAX - 10] {
        let error = refuse(&*store, event("s", wrong)).await;
        let AppendError::Conflict { stream, expected, actual } = error else { panic!("{error}") };
        assert_eq!((stream.as_str(), expected, actual), ("s", wrong - 1, 5));
    }
    assert_eq!(submit(&*store, event("s", 6)).await, 6);
}

pub async fn a_conflict_fails_only_its_own_append(fixture: &dyn Fixture) {
    let store = fixture.open();
    // All at once, so that they share a write.
    let appends = [event("a", 1), event("b", 2), event("c", 1), event("a", 1), event("a", 2)];
    let tickets: Vec<Ticket> = appends.into_iter().map(|append| store.submit(append)).collect();
    let mut positions = Vec::new();
    for ticket in tickets {
        positions.push(ticket.await.ok().map(|appended| appended.position));
    }
    assert_eq!(positions, [Some(1), None, Some(2), None, Some(3)]);
    let records = read_all(&*store).await;
    assert_eq!(records.iter().map(|record| record.stream.as_str()).collect::<Vec<_>>(), ["a", "c", "a"]);
    assert_eq!(store.head().await.unwrap(), Head { position: 3, chain: chain_of(&records) });
}

pub async fn what_builds_on_a_refused_append_is_refused(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, event("s", 1)).await;
    let tickets: Vec<Ticket> =
        [1, 2, 3].map(|version| store.submit(append(1, vec![record("s", version + 5, 1)]))).into();
    for ticket in tickets {
        assert!(matches!(ticket.await, Err(AppendError::Conflict { actual: 1, .. })));
    }
    assert_eq!(version(&*store, "s").await, 1);
}

pub async fn an_append_over_several_streams_is_made_whole(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, event("b", 1)).await;
    let records = vec![record("a", 1, 2), record("b", 2, 1), record("c", 1, 4)];
    assert_eq!(submit(&*store, append(3, records.clone())).await, 2);
    let stored = read_all(&*store).await.split_off(1);
    let kept: Vec<NewRecord> = stored
        .into_iter()
        .map(|stored| {
            assert_eq!(stored.epoch, 3);
            let (stream, first_version, count, body) =
                (stored.stream, stored.first_version, stored.count, stored.body);
            NewRecord { stream, first_version, count, body }
        })
        .collect();
    assert_eq!(kept, records);
}

pub async fn one_record_that_does_not_fit_refuses_the_whole_append(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, append(5, vec![record("known", 1, 1)])).await;
    let head = store.head().await.unwrap();
    for bad in [record("known", 2, 1), record("known", 4, 1), record("unknown", 2, 1)] {
        let records = vec![record("new", 1, 1), record("known", 2, 1), record("new", 2, 1), bad];
        let error = refuse(&*store, append(6, records)).await;
        assert!(matches!(error, AppendError::Conflict { .. }), "{error}");
    }
    let error = refuse(&*store, append(4, vec![record("new", 1, 1), record("known", 2, 1)])).await;
    assert!(matches!(error, AppendError::Fenced { .. }), "{error}");
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(store.stream_head(&"known".into()).await.unwrap(), StreamHead { version: 1, epoch: 5 });
    assert_eq!(store.stream_head(&"new".into()).await.unwrap(), StreamHead::default());
    assert_eq!(submit(&*store, append(5, vec![record("new", 1, 1), record("known", 2, 1)])).await, 2);
}

pub async fn a_stream_may_have_several_records_in_an_append(fixture: &dyn Fixture) {
    let store = fixture.open();
    let records = vec![record("a", 1, 2), record("b", 1, 1), record("a", 3, 1), record("a", 4, 3)];
    submit(&*store, append(1, records)).await;
    let versions: Vec<_> = read_stream(&*store, "a", 1)
        .await
        .iter()
        .map(|record| (record.position, record.first_version))
        .collect();
    assert_eq!(versions, [(1, 1), (4, 3), (5, 4)]);
    assert_eq!(version(&*store, "a").await, 6);
}

pub async fn records_of_a_stream_in_an_append_must_follow_each_other(fixture: &dyn Fixture) {
    let store = fixture.open();
    for (first, second) in [(1, 1), (1, 3), (2, 1)] {
        let error = refuse(&*store, append(1, vec![record("a", first, 1), record("a", second, 1)])).await;
        assert!(matches!(error, AppendError::Conflict { .. }), "{error}");
    }
    assert_eq!(version(&*store, "a").await, 0);
    assert_eq!(store.head().await.unwrap().position, 0);
}

pub async fn epochs_rise_with_appends(fixture: &dyn Fixture) {
    let store = fixture.open();
    for (version, epoch) in [(1, 0), (2, 3), (3, 3), (4, 7)] {
        submit(&*store, append(epoch, vec![record("s", version, 1)])).await;
        assert_eq!(store.stream_head(&"s".into()).await.unwrap(), StreamHead { version, epoch });
    }
    let epochs: Vec<u64> = read_all(&*store).await.iter().map(|record| record.epoch).collect();
    assert_eq!(epochs, [0, 3, 3, 7]);
}

pub async fn a_lower_epoch_is_fenced(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, append(7, vec![record("s", 1, 1)])).await;
    let error = refuse(&*store, append(6, vec![record("s", 2, 1)])).await;
    let AppendError::Fenced { stream, epoch, current } = error else { panic!("{error}") };
    assert_eq!((stream.as_str(), epoch, current), ("s", 6, 7));
    assert_eq!(version(&*store, "s").await, 1);
}

pub async fn a_fenced_append_is_not_called_a_conflict(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, append(7, vec![record("s", 1, 1)])).await;
    let error = refuse(&*store, append(6, vec![record("s", 1, 1)])).await;
    assert!(matches!(error, AppendError::Fenced { .. }), "{error}");
}

pub async fn epochs_of_streams_are_their_own(fixture: &dyn Fixture) {
    let store = fixture.open();
    submit(&*store, append(7, vec![record("a", 1, 1)])).await;
    submit(&*store, append(2, vec![record("b", 1, 1)])).await;
    assert_eq!(store.next_epoch(&"a".into()).await.unwrap(), 8);
    assert_eq!(store.next_epoch(&"b".into()).await.unwrap(), 3);
}

pub async fn the_next_epoch_is_above_all_before(fixture: &dyn Fixture) {
    let store = fixture.open();
    let stream = StreamId::from("s");
    assert_eq!(store.next_epoch(&stream).await.unwrap(), 1);
    assert_eq!(store.next_epoch(&stream).await.unwrap(), 2);
    // Given out is not yet in force.
    assert_eq!(store.stream_head(&stream).await.unwrap().epoch, 0);
    submit(&*store, append(9, vec![record("s", 1, 1)])).await;
    assert_eq!(store.next_epoch(&stream).await.unwrap(), 10);
    submit(&*store, append(9, vec![record("s", 2, 1)])).await;
    assert_eq!(store.next_epoch(&stream).await.unwrap(), 11);
    drop(store);
    assert!(fixture.open().next_epoch(&stream).await.unwrap() > 9);
}

pub async fn a_new_owner_fences_the_old_one(fixture: &dyn Fixture) {
    let store = fixture.open();
    let stream = StreamId::from("s");
    let old = store.next_epoch(&stream).await.unwrap();
    submit(&*store, append(old, vec![record("s", 1, 1)])).await;
    let new = store.next_epoch(&stream).await.unwrap();
    // Until the new owner has appended, the old one may.
    submit(&*store, append(old, vec![record("s", 2, 1)])).await;
    submit(&*store, append(new, vec![record("s", 3, 1)])).await;
    let error = refuse(&*store, append(old, vec![record("s", 4, 1)])).await;
    assert!(matches!(error, AppendError::Fenced { .. }), "{error}");
}

pub async fn what_can_never_be_appended_is_invalid(fixture: &dyn Fixture) {
    let store = fixture.open();
    let with_body = |body: &str| NewRecord { body: body.to_owned(), ..record("s", 1, 1) };
    let invalid = [
        vec![],
        vec![record("", 1, 1)],
        vec![record(&"x".repeat(MAX_STREAM_ID_BYTES + 1), 1, 1)],
        vec![record("a\nb", 1, 1)],
        vec![record("s", 1, 0)],
        vec![record("s", 0, 1)],
        vec![record("s", u64::MAX, 1)],
        vec![record("s", 1, 1), with_body("")],
        vec![with_body("{\n}")],
        vec![with_body("\"\u{0}\"")],
        vec![with_body("\"\t\"")],
        vec![with_body(&"1".repeat(MAX_APPEND_BYTES))],
    ];
    for records in invalid {
        let records_len = records.len();
        let error = refuse(&*store, append(1, records)).await;
        let AppendError::Invalid(invalid) = error else { panic!("{error}") };
        assert_eq!(invalid == InvalidAppend::NoRecords, records_len == 0, "{invalid}");
    }
    assert_eq!(store.head().await.unwrap().position, 0);
    submit(&*store, event(&"x".repeat(MAX_STREAM_ID_BYTES), 1)).await;
}

pub async fn tickets_complete_in_order(fixture: &dyn Fixture) {
    let store = fixture.open();
    let (told, order) = std::sync::mpsc::channel();
    let waiting: Vec<_> = (1..=200_u64)
        .map(|step| {
            // Every third one is refused.
            let ticket = store.submit(event("s", step - step / 3 + if step % 3 == 0 { 500 } else { 0 }));
            let told = told.clone();
            async move {
                let is_refused = ticket.await.is_err();
                told.send((step, is_refused)).unwrap();
            }
        })
        .collect();
    let local = tokio::task::LocalSet::new();
    waiting.into_iter().for_each(|ticket| drop(local.spawn_local(ticket)));
    local.await;
    let order: Vec<_> = order.try_iter().collect();
    assert_eq!(order, (1..=200).map(|step| (step, step % 3 == 0)).collect::<Vec<_>>());
}

pub async fn sixteen_submitters_keep_their_order(fixture: &dyn Fixture) {
    const SUBMITTERS: u64 = 16;
    const EVENTS: u64 = 200;
    let store = fixture.open();
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for submitter in 0..SUBMITTERS {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                let stream = format!("s{submitter}");
                let tickets: Vec<Ticket> =
                    (1..=EVENTS).map(|version| store.submit(event(&stream, version))).collect();
                let positions: Vec<u64> =
                    tickets.into_iter().map(|ticket| ticket.wait().unwrap().position).collect();
                assert!(positions.is_sorted_by(|a, b| a < b));
            });
        }
    });
    let records = read_all(&*store).await;
    assert_eq!(records.len() as u64, SUBMITTERS * EVENTS);
    assert!(records.iter().map(|record| record.position).eq(1..=SUBMITTERS * EVENTS));
    for submitter in 0..SUBMITTERS {
        let stream = read_stream(&*store, &format!("s{submitter}"), 1).await;
        assert!(stream.iter().map(|record| record.first_version).eq(1..=EVENTS));
    }
    assert_eq!(store.head().await.unwrap().chain, chain_of(&records));
}

pub async fn one_of_many_that_race_wins(fixture: &dyn Fixture) {
    let store = fixture.open();
    for round in 1..=20_u64 {
        let start = Arc::new(Barrier::new(8));
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (store, start) = (store.clone(), start.clone());
                std::thread::spawn(move || {
                    let body = format!("{{\"racer\":{racer}}}");
                    let append = append(1, vec![NewRecord { body, ..record("s", round, 1) }]);
                    start.wait();
                    store.submit(append).wait().is_ok()
                })
            })
            .collect();
        let won: Vec<bool> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        let winner = won.iter().position(|won| *won).unwrap();
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let stored = read_stream(&*store, "s", round).await;
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].body, format!("{{\"racer\":{winner}}}"));
    }
}

pub async fn all_is_there_after_opening_again(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=100 {
        let records = vec![
            record("a", 2 * version - 1, 2),
            record(&format!("b{}", version % 7), version.div_ceil(7), 1),
        ];
        if store.submit(append(version, records)).await.is_err() {
            submit(&*store, append(version, vec![record("a", 2 * version - 1, 2)])).await;
        }
    }
    let (records, head) = (read_all(&*store).await, store.head().await.unwrap());
    let end = store.stream_head(&"a".into()).await.unwrap();
    assert_eq!(end, StreamHead { version: 200, epoch: 100 });
    drop(store);
    let store = fixture.open();
    assert_eq!(read_all(&*store).await, records);
    assert_eq!(store.head().await.unwrap(), head);
    assert_eq!(store.stream_head(&"a".into()).await.unwrap(), end);
    assert!(matches!(
        refuse(&*store, append(99, vec![record("a", 201, 1)])).await,
        AppendError::Fenced { .. }
    ));
    assert!(matches!(
        refuse(&*store, append(100, vec![record("a", 200, 1)])).await,
        AppendError::Conflict { .. }
    ));
    assert_eq!(submit(&*store, append(100, vec![record("a", 201, 1)])).await, head.position + 1);
}

pub async fn a_thousand_streams_in_one_append(fixture: &dyn Fixture) {
    let store = fixture.open();
    let records = (0..1_000).map(|stream| record(&format!("apollo.3/m{stream}"), 1, 1)).collect();
    submit(&*store, append(1, records)).await;
    let first = read_stream(&*store, "apollo.3/m999", 1).await;
    assert_eq!((first.len(), first[0].position), (1, 1_000));
}
