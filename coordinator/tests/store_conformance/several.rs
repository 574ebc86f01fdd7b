//! Several stores on one log at the same time, as several coordinators have them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use cairn_coordinator::store::{AppendError, Cursor, EventStore, NewRecord, StreamHead, StreamId};

use super::{SharedFixture, append, chain_of, event, read_all, read_stream, record};

fn open(fixture: &impl SharedFixture, stores: usize) -> Vec<Arc<dyn EventStore>> {
    (0..stores).map(|_| fixture.open()).collect()
}

pub async fn what_one_appends_the_others_see(fixture: &impl SharedFixture) {
    let stores = open(fixture, 2);
    for version in 1..=40_u64 {
        let (one, other) = (&stores[(version % 2) as usize], &stores[(version % 2 + 1) as usize % 2]);
        assert_eq!(one.submit(event("s", version)).await.unwrap().position, version);
        assert_eq!(other.head().await.unwrap().position, version);
        let end = other.stream_head(&"s".into()).await.unwrap();
        assert_eq!(end, StreamHead { version, epoch: 1 });
        let error = other.submit(event("s", version)).await.unwrap_err();
        assert!(matches!(error, AppendError::Conflict { actual, .. } if actual == version), "{error}");
    }
    let records = read_all(&*stores[0]).await;
    assert_eq!(read_all(&*stores[1]).await, records);
    assert_eq!(stores[1].head().await.unwrap().chain, chain_of(&records));
}

pub async fn epochs_are_given_out_once(fixture: &impl SharedFixture) {
    let stores = open(fixture, 4);
    let stream = StreamId::from("s");
    let mut epochs = Vec::new();
    for _ in 0..10 {
        let claims = stores.iter().map(|store| store.next_epoch(&stream));
        for claim in futures_util::future::join_all(claims).await {
            epochs.push(claim.unwrap());
        }
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=40).collect::<Vec<_>>());
}

pub async fn an_owner_is_fenced_by_another_store(fixture: &impl SharedFixture) {
    let stores = open(fixture, 2);
    let stream = StreamId::from("s");
    let old = stores[0].next_epoch(&stream).await.unwrap();
    stores[0].submit(append(old, vec![record("s", 1, 1)])).await.unwrap();
    let new = stores[1].next_epoch(&stream).await.unwrap();
    stores[1].submit(append(new, vec![record("s", 2, 1)])).await.unwrap();
    let error = stores[0].submit(append(old, vec![record("s", 3, 1)])).await.unwrap_err();
    let AppendError::Fenced { epoch, current, .. } = error else { panic!("{error}") };
    assert_eq!((epoch, current), (old, new));
}

pub async fn one_store_of_several_wins_a_version(fixture: &impl SharedFixture) {
    let stores = open(fixture, 8);
    for round in 1..=10_u64 {
        let start = Barrier::new(stores.len());
        let won: Vec<bool> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..stores.len())
                .map(|racer| {
                    let (store, start) = (&stores[racer], &start);
                    scope.spawn(move || {
                        let body = format!("{{\"racer\":{racer}}}");
                        let append = append(1, vec![NewRecord { body, ..record("s", round, 1) }]);
                        start.wait();
                        store.submit(append).wait().is_ok()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = won.iter().position(|won| *won).unwrap();
        let stored = read_stream(&*stores[0], "s", round).await;
        assert_eq!(stored[0].body, format!("{{\"racer\":{winner}}}"));
    }
}

/// Each store has a stream of its own, and one that all fight for. A reader follows, and sees no gap and no disorder.
pub async fn sixteen_stores_write_and_a_reader_follows(fixture: &impl SharedFixture) {
    const STORES: u64 = 16;
    const APPENDS: u64 = 50;
    let stores = open(fixture, STORES as usize);
    let fought_for = AtomicU64::new(0);
    let reader = fixture.open();
    let records = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..STORES)
            .map(|writer| {
                let (store, fought_for) = (&stores[writer as usize], &fought_for);
                scope.spawn(move || {
                    let own = format!("s{writer}");
                    let mut tickets = Vec::new();
                    for version in 1..=APPENDS {
                        let records = vec![record(&own, 2 * version - 1, 1), record(&own, 2 * version, 1)];
                        tickets.push(store.submit(append(1, records)));
                        let next = fought_for.load(Ordering::Acquire) + 1;
                        if store.submit(event("fought for", next)).wait().is_ok() {
                            fought_for.store(next, Ordering::Release);
                        }
                    }
                    let positions: Vec<u64> =
                        tickets.into_iter().map(|ticket| ticket.wait().unwrap().position).collect();
                    assert!(positions.is_sorted_by(|a, b| a < b));
                })
            })
            .collect();
        let reader = &reader;
        let following = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut cursor = Cursor::all(1);
            let mut records = Vec::new();
            loop {
                let is_last = writers.iter().all(|writer| writer.is_finished());
                let page = runtime.block_on(reader.read(&mut cursor)).unwrap();
                if page.is_empty() && is_last {
                    return records;
                }
                records.extend(page);
                assert_eq!(cursor.next_position(), records.len() as u64 + 1, "a gap, or disorder");
            }
        });
        following.join().unwrap()
    });
    assert!(records.iter().map(|record| record.position).eq(1..=records.len() as u64));
    let fought = fought_for.load(Ordering::Acquire);
    assert_eq!(records.len() as u64, 2 * STORES * APPENDS + fought);
    for writer in 0..STORES {
        let stream = read_stream(&*reader, &format!("s{writer}"), 1).await;
        assert!(stream.iter().map(|record| record.first_version).eq(1..=2 * APPENDS));
    }
    let stream = read_stream(&*reader, "fought for", 1).await;
    assert!(stream.iter().map(|record| record.first_version).eq(1..=fought));
    assert_eq!(reader.head().await.unwrap().chain, chain_of(&records));
}
