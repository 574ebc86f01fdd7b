//! Many appends in one write.

use std::sync::mpsc;

use super::super::super::event_store::{EventStore, MAX_IN_FLIGHT_BYTES, ROOM_BYTES, Ticket};
use super::super::super::record::{Append, NewRecord};
use super::super::super::{AppendError, StreamId};
use super::disks::GatedDisk;
use super::{event, open, open_on, read_all};

const SEGMENT_BYTES: u64 = 1 << 30;

fn large(stream: &str, version: u64, bytes: usize) -> Append {
    let record =
        NewRecord { stream: stream.into(), first_version: version, count: 1, body: "1".repeat(bytes) };
    Append { epoch: 1, records: vec![record] }
}

#[test]
fn what_arrives_while_the_disk_is_busy_goes_in_one_write() {
    let state = tempfile::tempdir().unwrap();
    let disk = GatedDisk::default();
    let store = open_on(disk.clone(), state.path(), SEGMENT_BYTES).unwrap();
    let (writes, syncs) = disk.counts();
    disk.close();
    let first = store.submit(event("s", 1, 10));
    disk.wait_for_sync();
    let tickets: Vec<Ticket> = (2..=1_000).map(|version| store.submit(event("s", version, 10))).collect();
    disk.open();
    assert_eq!(first.wait().unwrap().position, 1);
    for (ticket, position) in tickets.into_iter().zip(2..) {
        assert_eq!(ticket.wait().unwrap().position, position);
    }
    // The first did not wait for the others, and all the others went together.
    assert_eq!(disk.counts(), (writes + 2, syncs + 2));
    drop(store);
    assert_eq!(read_all(state.path()).len(), 1_000);
}

#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let state = tempfile::tempdir().unwrap();
    let disk = GatedDisk::default();
    let store = open_on(disk.clone(), state.path(), SEGMENT_BYTES).unwrap();
    disk.close();
    let mut ticket = Box::pin(store.submit(event("s", 1, 10)));
    disk.wait_for_sync();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let is_answered = runtime.block_on(async {
        tokio::select! { biased; _ = &mut ticket => true, () = std::future::ready(()) => false }
    });
    assert!(!is_answered);
    assert_eq!(runtime.block_on(store.head()).unwrap().position, 0);
    let mut cursor = super::Cursor::all(1);
    assert!(runtime.block_on(store.read(&mut cursor)).unwrap().is_empty());
    disk.open();
    runtime.block_on(ticket).unwrap();
    assert_eq!(runtime.block_on(store.head()).unwrap().position, 1);
    assert_eq!(runtime.block_on(store.read(&mut cursor)).unwrap().len(), 1);
}

#[test]
fn room_is_given_when_little_is_in_flight_and_the_limit_holds() {
    let state = tempfile::tempdir().unwrap();
    let disk = GatedDisk::default();
    let store = open_on(disk.clone(), state.path(), SEGMENT_BYTES).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.room());
    disk.close();
    let bytes = ROOM_BYTES;
    let fitting = MAX_IN_FLIGHT_BYTES / bytes - 1;
    let tickets: Vec<Ticket> =
        (1..=fitting as u64).map(|version| store.submit(large("s", version, bytes))).collect();
    let error = store.submit(large("s", fitting as u64 + 1, 2 * bytes)).wait().unwrap_err();
    assert!(
        matches!(error, AppendError::Full { in_flight_bytes } if in_flight_bytes > fitting * bytes),
        "{error}"
    );
    let waits = runtime.block_on(async {
        tokio::select! { biased; () = store.room() => false, () = std::future::ready(()) => true }
    });
    assert!(waits);
    disk.open();
    runtime.block_on(store.room());
    for ticket in tickets {
        ticket.wait().unwrap();
    }
}

#[test]
fn dropping_the_store_finishes_what_was_submitted() {
    let state = tempfile::tempdir().unwrap();
    let disk = GatedDisk::default();
    let store = open_on(disk.clone(), state.path(), SEGMENT_BYTES).unwrap();
    disk.close();
    let tickets: Vec<Ticket> = (1..=50).map(|version| store.submit(event("s", version, 10))).collect();
    disk.wait_for_sync();
    let (begun, has_begun) = mpsc::channel();
    let closing = std::thread::spawn(move || {
        begun.send(()).unwrap();
        drop(store);
    });
    has_begun.recv().unwrap();
    disk.open();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    closing.join().unwrap();
    // The lock is free again.
    drop(open(state.path(), SEGMENT_BYTES).unwrap());
    assert_eq!(read_all(state.path()).len(), 50);
}

#[test]
fn tickets_may_be_dropped() {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path(), SEGMENT_BYTES).unwrap();
    for version in 1..=10 {
        drop(store.submit(event("s", version, 10)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(store.stream_head(&StreamId::from("s"))).unwrap().version, 10);
    drop(store);
    assert_eq!(read_all(state.path()).len(), 10);
}
