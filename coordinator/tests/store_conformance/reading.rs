//! What is read is what was appended, from anywhere, in pages, beside a writer.

use std::sync::atomic::{AtomicBool, Ordering};

use cairn_coordinator::store::{Cursor, NewRecord, READ_PAGE_BYTES};

use super::{Fixture, append, chain_of, event, read_all, read_rest, read_stream, record};

pub async fn bodies_are_kept_byte_for_byte(fixture: &dyn Fixture) {
    let bodies = [
        "{}",
        "null",
        " [ 1 , 2 ] ",
        "{\"a\":1,\"a\":2}",
        "[1e5,1.0,-0,0.1000,12345678901234567890123]",
        "\"\\u0000\\n\\\"\\\\/\\/\"",
        "\"ü 😀 \u{2028} \u{7f}\"",
        "{\"crc\":\"00000000\",\"bytes\":\"0000000000\",\"position\":1}",
        "\"}]}\"",
    ];
    let store = fixture.open();
    for (body, version) in bodies.into_iter().zip(1..) {
        let record = NewRecord { body: body.to_owned(), ..record("s", version, 1) };
        store.submit(append(1, vec![record])).await.unwrap();
    }
    assert!(read_all(&*store).await.iter().map(|record| record.body.as_str()).eq(bodies));
    drop(store);
    assert!(read_all(&*fixture.open()).await.iter().map(|record| record.body.as_str()).eq(bodies));
}

pub async fn names_of_streams_are_kept(fixture: &dyn Fixture) {
    let names =
        ["apollo.3", "apollo.3/build", "fleet", "a#1", "\"", "\\", "\\\"", "é/😀", "a b", "{}", "%", "'"];
    let store = fixture.open();
    for name in names {
        store.submit(event(name, 1)).await.unwrap_or_else(|error| panic!("{name:?}: {error}"));
    }
    assert!(read_all(&*store).await.iter().map(|record| record.stream.as_str()).eq(names));
    drop(store);
    let store = fixture.open();
    for (name, position) in names.into_iter().zip(1..) {
        let records = read_stream(&*store, name, 1).await;
        assert_eq!((records.len(), records[0].position), (1, position), "{name:?}");
    }
}

pub async fn huge_bodies_are_kept(fixture: &dyn Fixture) {
    let store = fixture.open();
    let body = |letter: &str, bytes: usize| format!("\"{}\"", letter.repeat(bytes));
    let huge = |version, body| NewRecord { body, ..record("s", version, 1) };
    let records = vec![huge(1, body("a", 9 << 20)), huge(2, body("b", 3 << 20))];
    store.submit(append(1, records)).await.unwrap();
    store.submit(event("s", 3)).await.unwrap();
    drop(store);
    let store = fixture.open();
    let records = read_all(&*store).await;
    assert_eq!(records.len(), 3);
    assert!(records[0].body == body("a", 9 << 20) && records[1].body == body("b", 3 << 20));
}

pub async fn the_chain_is_that_of_the_definition(fixture: &dyn Fixture) {
    let store = fixture.open();
    let mut heads = Vec::new();
    for version in 1..=30 {
        let records = vec![record("a", 2 * version - 1, 2), record("b", version, 1)];
        store.submit(append(version, records)).await.unwrap();
        heads.push(store.head().await.unwrap());
    }
    let records = read_all(&*store).await;
    for head in heads {
        let until = records.partition_point(|record| record.position <= head.position);
        assert_eq!(head.chain, chain_of(&records[..until]));
    }
}

pub async fn reading_begins_with_the_record_that_holds_the_position(fixture: &dyn Fixture) {
    let store = fixture.open();
    for group in 0..20_u64 {
        let records = vec![record("a", 7 * group + 1, 7), record("b", 3 * group + 1, 3)];
        store.submit(append(1, records)).await.unwrap();
    }
    for position in 0..=202 {
        let records = read_rest(&*store, &mut Cursor::all(position)).await;
        let expected = (position.max(1) - 1) % 10;
        let start = position.max(1) - if expected < 7 { expected } else { expected - 7 };
        assert_eq!(records.first().map(|record| record.position), (position <= 200).then_some(start));
        assert!(records.windows(2).all(|pair| pair[0].next_position() == pair[1].position));
    }
}

pub async fn pages_are_bounded_and_complete(fixture: &dyn Fixture) {
    const BODY_BYTES: usize = 50_000;
    let store = fixture.open();
    for version in 1..=100 {
        let body = format!("\"{}\"", "x".repeat(BODY_BYTES));
        drop(store.submit(append(1, vec![NewRecord { body, ..record("s", version, 1) }])));
    }
    store.submit(event("t", 1)).await.unwrap();
    let mut cursor = Cursor::all(1);
    let mut pages = Vec::new();
    loop {
        let page = store.read(&mut cursor).await.unwrap();
        if page.is_empty() {
            break;
        }
        let bytes: usize = page.iter().map(|record| record.body.len()).sum();
        assert!(bytes <= READ_PAGE_BYTES + BODY_BYTES, "{bytes}");
        assert_eq!(cursor.next_position(), page.last().unwrap().next_position());
        pages.push(page.len());
    }
    assert!(pages.len() >= 5, "{pages:?}");
    assert_eq!(pages.iter().sum::<usize>(), 101);
}

pub async fn a_stream_is_read_without_the_others(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=50 {
        // One name is the beginning of another.
        let records = vec![record("a", version, 1), record("a.1", version, 1), record("a.1/b", version, 1)];
        store.submit(append(1, records)).await.unwrap();
    }
    for name in ["a", "a.1", "a.1/b"] {
        let records = read_stream(&*store, name, 1).await;
        assert!(records.iter().all(|record| record.stream.as_str() == name));
        assert!(records.iter().map(|record| record.first_version).eq(1..=50));
    }
    assert_eq!(read_stream(&*store, "a.", 1).await, []);
}

pub async fn a_stream_is_read_from_a_version(fixture: &dyn Fixture) {
    let store = fixture.open();
    for group in 0..30 {
        let records = vec![record("other", group + 1, 1), record("s", 4 * group + 1, 4)];
        store.submit(append(1, records)).await.unwrap();
    }
    for version in 0..=121 {
        let found = read_stream(&*store, "s", version).await.first().map(|record| record.first_version);
        let expected = (version.max(1) - 1) / 4 * 4 + 1;
        assert_eq!(found, (version <= 120).then_some(expected), "from version {version}");
    }
}

pub async fn a_cursor_follows_a_log_that_grows(fixture: &dyn Fixture) {
    let store = fixture.open();
    let (mut all, mut one) = (Cursor::all(1), Cursor::stream("b".into(), 1));
    assert_eq!(store.read(&mut all).await.unwrap(), []);
    for version in 1..=100 {
        store.submit(append(1, vec![record("a", version, 1), record("b", version, 1)])).await.unwrap();
        let page = store.read(&mut all).await.unwrap();
        assert!(page.iter().map(|record| record.position).eq([2 * version - 1, 2 * version]));
        let page = store.read(&mut one).await.unwrap();
        assert!(page.iter().map(|record| record.first_version).eq([version]));
        assert_eq!(store.read(&mut all).await.unwrap(), []);
        assert_eq!(store.read(&mut one).await.unwrap(), []);
    }
}

pub async fn a_cursor_can_be_kept_and_used_again(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=20 {
        store.submit(event("s", version)).await.unwrap();
    }
    let mut cursor = Cursor::all(11);
    let before = cursor.clone();
    let records = read_rest(&*store, &mut cursor).await;
    assert_eq!(records.len(), 10);
    assert_eq!(read_rest(&*store, &mut before.clone()).await, records);
    store.submit(event("s", 21)).await.unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(read_rest(&*store, &mut cursor).await.len(), 1);
    assert_eq!(read_rest(&*store, &mut before.clone()).await.len(), 11);
}

pub async fn a_cursor_ahead_of_the_log_waits_for_it(fixture: &dyn Fixture) {
    let store = fixture.open();
    let mut cursor = Cursor::all(3);
    for version in 1..=2 {
        store.submit(event("s", version)).await.unwrap();
        assert_eq!(store.read(&mut cursor).await.unwrap(), []);
    }
    store.submit(event("s", 3)).await.unwrap();
    assert_eq!(store.read(&mut cursor).await.unwrap()[0].position, 3);
}

pub async fn a_reader_beside_a_writer_sees_whole_appends_in_order(fixture: &dyn Fixture) {
    const APPENDS: u64 = 500;
    let store = fixture.open();
    let is_written = AtomicBool::new(false);
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            let tickets: Vec<_> = (1..=APPENDS)
                .map(|version| {
                    store.submit(append(1, vec![record("a", version, 1), record("b", version, 1)]))
                })
                .collect();
            tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
        })
    };
    let mut cursor = Cursor::all(1);
    let mut records = Vec::new();
    while !is_written.load(Ordering::Acquire) || (records.len() as u64) < 2 * APPENDS {
        let durable = store.head().await.unwrap().position;
        records.extend(store.read(&mut cursor).await.unwrap());
        // An append is there whole or not at all, and what was durable before is there.
        assert_eq!(records.len() % 2, 0);
        assert!(records.len() as u64 >= durable);
        is_written.store(writer.is_finished(), Ordering::Release);
    }
    writer.join().unwrap();
    assert!(records.iter().map(|record| record.position).eq(1..=2 * APPENDS));
}

pub async fn what_is_acknowledged_is_read(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=100 {
        let position = store.submit(event("s", version)).await.unwrap().position;
        assert!(store.head().await.unwrap().position >= position);
        let records = read_rest(&*store, &mut Cursor::all(position)).await;
        assert_eq!(records.len(), 1);
        assert_eq!(read_stream(&*store, "s", version).await, records);
    }
}

pub async fn a_stream_is_read_in_pages_beside_others(fixture: &dyn Fixture) {
    const BODY_BYTES: usize = 30_000;
    let store = fixture.open();
    let body = format!("\"{}\"", "x".repeat(BODY_BYTES));
    for version in 1..=100 {
        let records = ["a", "b"].map(|name| NewRecord { body: body.clone(), ..record(name, version, 1) });
        drop(store.submit(append(1, records.into())));
    }
    store.submit(event("a", 101)).await.unwrap();
    let mut cursor = Cursor::stream("a".into(), 3);
    let mut versions = Vec::new();
    let mut pages = 0;
    loop {
        let page = store.read(&mut cursor).await.unwrap();
        if page.is_empty() {
            break;
        }
        let bytes: usize = page.iter().map(|record| record.body.len()).sum();
        assert!(bytes <= READ_PAGE_BYTES + BODY_BYTES, "{bytes}");
        versions.extend(page.iter().map(|record| record.first_version));
        pages += 1;
    }
    assert!(versions.into_iter().eq(3..=101));
    assert!(pages >= 3, "{pages}");
}

pub async fn a_stream_that_begins_later_is_followed(fixture: &dyn Fixture) {
    let store = fixture.open();
    let mut cursor = Cursor::stream("late".into(), 2);
    for version in 1..=20 {
        store.submit(event("early", version)).await.unwrap();
        assert_eq!(store.read(&mut cursor).await.unwrap(), []);
    }
    store.submit(event("late", 1)).await.unwrap();
    assert_eq!(store.read(&mut cursor).await.unwrap(), []);
    store.submit(event("late", 2)).await.unwrap();
    let page = store.read(&mut cursor).await.unwrap();
    assert!(page.iter().map(|record| (record.position, record.first_version)).eq([(22, 2)]));
}

pub async fn every_record_begins_a_cursor_of_its_own(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=30 {
        store
            .submit(append(1, vec![record("a", 2 * version - 1, 2), record("b", version, 1)]))
            .await
            .unwrap();
    }
    let records = read_all(&*store).await;
    for (at, first) in records.iter().enumerate() {
        assert_eq!(read_rest(&*store, &mut Cursor::all(first.position)).await, records[at..]);
        let of_stream: Vec<_> =
            records[at..].iter().filter(|record| record.stream == first.stream).cloned().collect();
        assert_eq!(read_stream(&*store, first.stream.as_str(), first.first_version).await, of_stream);
    }
}

pub async fn a_read_that_is_dropped_leaves_the_cursor(fixture: &dyn Fixture) {
    let store = fixture.open();
    for version in 1..=50 {
        drop(store.submit(event("s", version)));
    }
    store.submit(event("s", 51)).await.unwrap();
    let mut cursor = Cursor::all(1);
    let mut seen = 0;
    for _ in 0..20 {
        let read = tokio::select! {
            biased;
            read = store.read(&mut cursor) => Some(read.unwrap()),
            () = tokio::task::yield_now() => None,
        };
        seen += read.map_or(0, |page| page.len());
    }
    assert_eq!(seen + read_rest(&*store, &mut cursor).await.len(), 51);
}
