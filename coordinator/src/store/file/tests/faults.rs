//! Every operation that can fail, fails; power is lost at every step. What was acknowledged is there afterwards, and
//! nothing that nobody submitted.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::super::error::{AppendError, OpenError};
use super::super::super::event_store::{EventStore, Ticket};
use super::super::super::record::Append;
use super::super::store::{FileStore, events_path};
use super::disks::{Fault, FaultyDisk, PowerDisk};
use super::{Random, event, open, open_on, read_all};

/// Small enough that a short run has several segments.
const SEGMENT_BYTES: u64 = 4_000;

/// Submits `appends` in groups of up to four, the tickets of a group awaited together; returns how many were
/// acknowledged. Behind the first failure all must fail.
fn submit_all(store: &FileStore, appends: &[Append]) -> usize {
    let mut acknowledged = 0;
    let mut failed = false;
    for (index, group) in appends.chunks(4).enumerate() {
        let tickets: Vec<Ticket> = if index % 2 == 0 {
            group.iter().map(|append| store.submit(append.clone())).collect()
        } else {
            group.iter().map(|append| Ticket::answered(store.submit(append.clone()).wait())).collect()
        };
        for ticket in tickets {
            match ticket.wait() {
                Ok(appended) => {
                    assert!(!failed, "acknowledged after a failure");
                    acknowledged += 1;
                    assert_eq!(appended.position, appends[acknowledged - 1].records[0].first_version);
                }
                Err(AppendError::Stopped(stopped)) => {
                    failed = true;
                    assert!(store.stopped().is_some_and(|told| told.path == stopped.path));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    acknowledged
}

/// What is in the log must be the first of `appends`, `acknowledged` of them at least; returns how many.
fn assert_kept(state: &Path, appends: &[Append], acknowledged: usize, what: &str) -> usize {
    let records = read_all(state);
    let kept = records.len();
    assert!(kept >= acknowledged, "{what}: {acknowledged} were acknowledged, {kept} are there");
    assert!(kept <= appends.len(), "{what}: {kept} are there, {} were submitted", appends.len());
    for (record, append) in records.iter().zip(appends) {
        assert_eq!(record.body, append.records[0].body, "{what}");
    }
    kept
}

fn appends(from: u64, count: u64) -> Vec<Append> {
    (from..from + count)
        .map(|version| event("s", version, 40 + usize::try_from(version * 97 % 1_500).unwrap()))
        .collect()
}

/// Runs with a fault at operation `at`; returns how many operations there were.
fn run_with_fault(at: usize, fault: Fault) -> usize {
    let what = format!("{fault:?} at operation {at}");
    let state = tempfile::tempdir().unwrap();
    let all = appends(1, 20);
    // A torn end, so that opening has something to cut.
    drop(open(state.path(), SEGMENT_BYTES).unwrap());
    let first = super::super::segment::segment_path(&events_path(state.path()), 1);
    let header = std::fs::read(&first).unwrap();
    std::fs::write(&first, [&header[..], &header[..30]].concat()).unwrap();

    let operations = Arc::new(Mutex::new(0));
    let disk = FaultyDisk { at, fault, operations: operations.clone() };
    let acknowledged = match open_on(disk, state.path(), SEGMENT_BYTES) {
        Ok(store) => submit_all(&store, &all),
        Err(OpenError::Io(_)) => 0,
        Err(other) => panic!("{what}: {other}"),
    };
    if at < *operations.lock().unwrap() {
        assert!(acknowledged < all.len(), "{what}: not noticed");
    }
    let store = open(state.path(), SEGMENT_BYTES).unwrap_or_else(|error| panic!("{what}: {error}"));
    let kept = assert_kept(state.path(), &all, acknowledged, &what);
    assert_eq!(submit_all(&store, &all[kept..]), all.len() - kept, "{what}");
    drop(store);
    assert_eq!(assert_kept(state.path(), &all, all.len(), &what), all.len());
    let count = operations.lock().unwrap();
    *count
}

#[test]
fn any_operation_may_fail() {
    let codes = [Errno::IO, Errno::NOSPC, Errno::ROFS].map(Errno::raw_os_error);
    let faults = [
        Fault::Undone(codes[0]),
        Fault::Done(codes[0]),
        Fault::Undone(codes[2]),
        Fault::Part(codes[1], 1),
        Fault::Part(codes[1], 700),
    ];
    for fault in faults {
        let mut at = 0;
        // The run without a fault is the last one.
        while at < run_with_fault(at, fault) {
            at += 1;
        }
        assert!(at > 20, "only {at} operations");
    }
}

#[test]
fn a_full_disk_is_told_by_its_path_and_stays_told() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path(), SEGMENT_BYTES).unwrap());
    // Opening writes and syncs twice; the first append is the operation after that.
    let fault = Fault::Part(Errno::NOSPC.raw_os_error(), 10);
    let disk = FaultyDisk { at: 3, fault, operations: Arc::default() };
    let store = open_on(disk, state.path(), SEGMENT_BYTES).unwrap();
    assert!(store.stopped().is_none());
    for _ in 0..2 {
        let error = store.submit(event("s", 1, 10)).wait().unwrap_err();
        let AppendError::Stopped(stopped) = &error else { panic!("{error}") };
        assert_eq!(stopped.cause.kind(), std::io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("events/00000000000000000001.jsonl"), "{error}");
    }
    assert!(store.stopped().is_some());
}

#[test]
fn power_may_be_lost_at_any_moment() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let state = tempfile::tempdir().unwrap();
        let events = events_path(state.path());
        std::fs::create_dir(&events).unwrap();
        let all = appends(1, 40);
        let mut kept = 0;
        // Several lives; each may end while it puts right what the one before has left.
        for life in 0..6 {
            let what = format!("seed {seed}, life {life}");
            let disk = PowerDisk::new(random.below(16), &events);
            let acknowledged = match open_on(disk.clone(), state.path(), SEGMENT_BYTES) {
                Ok(store) => submit_all(&store, &all[kept..]),
                Err(OpenError::Io(_)) => 0,
                Err(other) => panic!("{what}: {other}"),
            };
            disk.lose_power(&mut random);
            kept = assert_kept(state.path(), &all, kept + acknowledged, &what);
        }
        let store = open(state.path(), SEGMENT_BYTES).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(submit_all(&store, &all[kept..]), all.len() - kept, "seed {seed}");
        drop(store);
        assert_kept(state.path(), &all, all.len(), &format!("seed {seed}"));
    }
}

#[test]
fn what_a_failed_sync_has_left_is_made_sure_of_before_anything_is_built_on_it() {
    for operations in 0..60 {
        let what = format!("failure after {operations} operations");
        let state = tempfile::tempdir().unwrap();
        let events = events_path(state.path());
        std::fs::create_dir(&events).unwrap();
        let all = appends(1, 24);
        let disk = PowerDisk::new(operations, &events);
        let acknowledged = match open_on(disk.clone(), state.path(), SEGMENT_BYTES) {
            Ok(store) => submit_all(&store, &all[..20]),
            Err(_) => 0,
        };
        // The process starts again, the machine does not: what was not written is still read.
        disk.works_for(usize::MAX);
        let kept = match open_on(disk.clone(), state.path(), SEGMENT_BYTES) {
            Ok(store) => {
                let kept = assert_kept(state.path(), &all, acknowledged, &what);
                assert_eq!(submit_all(&store, &all[kept..kept + 3]), 3, "{what}");
                kept + 3
            }
            Err(error) => panic!("{what}: {error}"),
        };
        disk.lose_all_that_is_not_synced();
        assert_eq!(assert_kept(state.path(), &all, kept, &what), kept);
        drop(open(state.path(), SEGMENT_BYTES).unwrap_or_else(|error| panic!("{what}: {error}")));
    }
}
