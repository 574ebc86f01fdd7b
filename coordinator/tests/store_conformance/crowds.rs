//! Many at once: writers, readers, snapshots.

use std::sync::Barrier;

use cairn_coordinator::store::{
    AppendError, Cursor, EventStore, NewRecord, Snapshot, StreamHead, StreamId, Ticket,
};

use super::{Fixture, append, chain_of, event, read_all, read_stream, record, version};

const WRITERS: u64 = 16;

/// Runs `work` on sixteen threads that begin together.
fn sixteen(work: impl Fn(u64) + Sync) {
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (work, start) = (&work, &start);
            scope.spawn(move || {
                start.wait();
                work(writer);
            });
        }
    });
}

/// Appends one event of `stream` wherever it ends, trying again after a conflict; returns its version.
fn append_somewhere(store: &dyn EventStore, stream: &str, body: &str) -> u64 {
    let mut version = 1;
    loop {
        let record = NewRecord { body: body.to_owned(), ..record(stream, version, 1) };
        match store.submit(append(1, vec![record])).wait() {
            Ok(_) => return version,
            Err(AppendError::Conflict { actual, .. }) => version = actual + 1,
            Err(other) => panic!("{other}"),
        }
    }
}

pub async fn sixteen_writers_of_one_stream_lose_nothing(fixture: &dyn Fixture) {
    const EVENTS: u64 = 20;
    let store = fixture.open();
    sixteen(|writer| {
        let mut last = 0;
        for event in 0..EVENTS {
            let version = append_somewhere(&*store, "s", &format!("[{writer},{event}]"));
            assert!(version > last, "a writer's events keep their order");
            last = version;
        }
    });
    let records = read_stream(&*store, "s", 1).await;
    assert!(records.iter().map(|record| record.first_version).eq(1..=WRITERS * EVENTS));
    for writer in 0..WRITERS {
        let own = records.iter().filter(|record| record.body.starts_with(&format!("[{writer},")));
        assert!(own.map(|record| record.body.clone()).eq((0..EVENTS).map(|at| format!("[{writer},{at}]"))));
    }
    assert_eq!(store.head().await.unwrap().chain, chain_of(&records));
}

pub async fn appends_over_shared_streams_stay_whole(fixture: &dyn Fixture) {
    const APPENDS: u64 = 15;
    let store = fixture.open();
    sixteen(|writer| {
        let mut shared = 1;
        for own in 1..=APPENDS {
            loop {
                let records = vec![record(&format!("w{writer}"), own, 1), record("shared", shared, 1)];
                match store.submit(append(1, records)).wait() {
                    Ok(_) => break,
                    Err(AppendError::Conflict { stream, actual, .. }) => {
                        assert_eq!(stream.as_str(), "shared", "half an append was made");
                        shared = actual + 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    });
    let records = read_all(&*store).await;
    assert_eq!(records.len() as u64, 2 * WRITERS * APPENDS);
    for pair in records.chunks(2) {
        assert!(pair[0].stream.as_str().starts_with('w') && pair[1].stream.as_str() == "shared");
    }
    assert_eq!(version(&*store, "shared").await, WRITERS * APPENDS);
}

pub async fn sixteen_readers_beside_a_writer_see_the_same(fixture: &dyn Fixture) {
    const EVENTS: u64 = 300;
    let store = fixture.open();
    let start = Barrier::new(17);
    std::thread::scope(|scope| {
        for reader in 0..16_u64 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                start.wait();
                let mut cursor = if reader % 2 == 0 { Cursor::all(1) } else { Cursor::stream("s".into(), 1) };
                let mut seen = 0;
                while seen < EVENTS {
                    for record in runtime.block_on(store.read(&mut cursor)).unwrap() {
                        seen += 1;
                        assert_eq!((record.position, record.first_version), (seen, seen));
                    }
                }
            });
        }
        scope.spawn(|| {
            start.wait();
            let tickets: Vec<Ticket> =
                (1..=EVENTS).map(|version| store.submit(event("s", version))).collect();
            tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
        });
    });
}

pub async fn one_epoch_is_given_out_once(fixture: &dyn Fixture) {
    let store = fixture.open();
    let given = std::sync::Mutex::new(Vec::new());
    sixteen(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stream = StreamId::from("s");
        for _ in 0..10 {
            let epoch = runtime.block_on(store.next_epoch(&stream)).unwrap();
            given.lock().unwrap().push(epoch);
        }
    });
    let mut given = given.into_inner().unwrap();
    given.sort_unstable();
    assert!(given.iter().copied().eq(1..=160));
}

pub async fn snapshots_are_saved_beside_appends(fixture: &dyn Fixture) {
    let store = fixture.open();
    store.submit(event("s", 1)).await.unwrap();
    let tickets: Vec<Ticket> = (2..=400).map(|version| store.submit(event("s", version))).collect();
    for name in ["a", "b", "c", "d"] {
        for version in 1..=3 {
            let bytes = format!("{name}{version}").into_bytes();
            let snapshot = Snapshot { name: name.to_owned(), version, position: 1, bytes };
            store.save_snapshot(snapshot).await.unwrap();
        }
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    for name in ["a", "b", "c", "d"] {
        let loaded = store.load_snapshot(name).await.unwrap().snapshot.unwrap();
        assert_eq!(loaded.bytes, format!("{name}3").into_bytes());
    }
    assert_eq!(version(&*store, "s").await, 400);
}

pub async fn the_ends_of_many_streams_are_known_again(fixture: &dyn Fixture) {
    const STREAMS: u64 = 2_000;
    let store = fixture.open();
    let name = |stream: u64| format!("apollo.{stream}/build");
    for epoch in 1..=3 {
        let records = (0..STREAMS).map(|stream| record(&name(stream), epoch, 1)).collect();
        store.submit(append(epoch, records)).await.unwrap();
    }
    drop(store);
    let store = fixture.open();
    for stream in (0..STREAMS).step_by(37) {
        let end = store.stream_head(&name(stream).into()).await.unwrap();
        assert_eq!(end, StreamHead { version: 3, epoch: 3 });
    }
    assert_eq!(store.head().await.unwrap().position, 3 * STREAMS);
}
