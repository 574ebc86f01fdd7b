//! Reading while somebody writes, from another process as it were.

use super::super::super::EventReader;
use super::super::super::error::{DamageReason, ReadError};
use super::super::super::event_store::EventStore;
use super::super::super::{Cursor, Notice};
use super::super::reader::LogReader;
use super::super::store::events_path;
use super::{Log, event, open, read_all};

/// Runs `look` again and again while a writer makes one write after the other, in many segments, until `look` says
/// that it has seen the last of `events`.
fn beside_a_writer(events: u64, bytes: usize, segment_bytes: u64, mut look: impl FnMut(&LogReader) -> bool) {
    let state = tempfile::tempdir().unwrap();
    let store = open(state.path(), segment_bytes).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=events {
                assert!(store.submit(event("s", version, bytes)).wait().is_ok());
            }
        });
        let reader = LogReader::open(state.path()).unwrap();
        while !look(&reader) {}
    });
}

#[test]
fn a_reader_follows_a_writer_without_a_gap() {
    for (events, bytes, segment_bytes) in [(2_000, 100, 1_000), (300, 100_000, 250_000)] {
        let mut cursor = Cursor::all(1);
        let mut next = 1;
        beside_a_writer(events, bytes, segment_bytes, |reader| {
            for record in reader.read(&mut cursor).unwrap() {
                assert_eq!((record.position, record.first_version), (next, next));
                next += 1;
            }
            assert_eq!(cursor.next_position(), next);
            next > events
        });
    }
}

#[test]
fn the_head_and_the_whole_log_can_be_looked_at_beside_a_writer() {
    for (events, bytes, segment_bytes) in [(500, 100, 1_000), (50, 100_000, 250_000)] {
        let mut last = 0;
        beside_a_writer(events, bytes, segment_bytes, |reader| {
            let head = reader.head().unwrap().position;
            let verified = reader.verify().unwrap().head.position;
            assert!(last <= head && head <= verified, "{last} {head} {verified}");
            last = verified;
            verified == events
        });
    }
}

#[test]
fn an_unfinished_write_is_the_end_and_stays_as_it_is() {
    let mut log = Log::new();
    log.write(&[100, 200]);
    let whole = log.bytes.len();
    log.write(&[50, 600]);
    let reader = LogReader::open(log.state.path()).unwrap();
    for length in whole + 1..log.bytes.len() {
        log.save(&log.bytes[..length]);
        let (start, position) = log.line_of(length);
        assert_eq!(read_all(log.state.path()).len() as u64, position - 1, "at {length}");
        let verified = reader.verify().unwrap();
        let is_cut = length != start;
        assert_eq!(verified.unfinished.is_some(), is_cut, "at {length}");
        assert_eq!(reader.head().unwrap(), verified.head);
        assert_eq!(std::fs::metadata(log.path()).unwrap().len(), length as u64);
    }
    // The rest of it comes, and a reader that has waited goes on.
    log.save(&log.bytes[..whole + 100]);
    let mut cursor = Cursor::all(1);
    assert_eq!(reader.read(&mut cursor).unwrap().len(), 2);
    assert!(reader.read(&mut cursor).unwrap().is_empty());
    log.save(&log.bytes);
    assert_eq!(reader.read(&mut cursor).unwrap().len(), 2);
}

#[test]
fn a_cursor_behind_a_cut_goes_on_with_what_was_written_instead() {
    let mut log = Log::new();
    log.write(&[100, 200]);
    let whole = log.bytes.clone();
    log.write(&[50, 50, 50]);
    let reader = LogReader::open(log.state.path()).unwrap();
    let mut cursor = Cursor::all(1);
    assert_eq!(reader.read(&mut cursor).unwrap().len(), 5);
    log.save(&whole);
    assert!(reader.read(&mut cursor).unwrap().is_empty());
    let store = open(log.state.path(), 1 << 20).unwrap();
    for version in 3..=8 {
        store.submit(event("s", version, 700)).wait().unwrap();
    }
    let positions: Vec<u64> =
        reader.read(&mut cursor).unwrap().iter().map(|record| record.position).collect();
    assert_eq!(positions, [6, 7, 8]);
}

#[test]
fn what_stands_before_damage_is_read_and_then_the_damage_is_told() {
    let mut log = Log::new();
    log.write(&[100]);
    log.write(&[100]);
    let (start, position) = *log.lines.last().unwrap();
    let mut bytes = log.bytes.clone();
    bytes[start + 200] ^= 4;
    log.save(&bytes);
    let reader = LogReader::open(log.state.path()).unwrap();
    let mut cursor = Cursor::all(1);
    assert_eq!(reader.read(&mut cursor).unwrap().len(), 1);
    for _ in 0..2 {
        let error = reader.read(&mut cursor).unwrap_err();
        let ReadError::Damaged(damage) = error else { panic!("{error}") };
        assert_eq!((damage.offset, damage.position), (start as u64, position));
        assert_eq!(damage.reason, DamageReason::Checksum);
    }
    assert!(matches!(reader.head().unwrap_err(), ReadError::Damaged(_)));
    assert!(matches!(reader.verify().unwrap_err(), ReadError::Damaged(_)));
}

#[test]
fn a_gap_between_segments_is_told() {
    let mut log = Log::new();
    log.write(&[100, 100]);
    log.begin_segment();
    let middle = log.path();
    log.write(&[100]);
    log.begin_segment();
    log.write(&[100]);
    let whole = std::fs::read(&middle).unwrap();
    std::fs::remove_file(&middle).unwrap();
    let reader = LogReader::open(log.state.path()).unwrap();
    let reason_at = |cursor: &mut Cursor| match reader.read(cursor).unwrap_err() {
        ReadError::Damaged(damage) => (damage.reason, damage.position),
        other => panic!("{other}"),
    };
    let mut cursor = Cursor::all(1);
    assert_eq!(reader.read(&mut cursor).unwrap().len(), 2);
    assert_eq!(reason_at(&mut cursor), (DamageReason::Missing, 3));
    std::fs::write(&middle, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(reason_at(&mut cursor), (DamageReason::CutShort, 3));
    std::fs::write(&middle, &whole).unwrap();
    assert_eq!(reader.read(&mut cursor).unwrap().len(), 2);
}

#[test]
fn no_state_is_an_error_and_an_empty_one_is_empty() {
    let state = tempfile::tempdir().unwrap();
    assert!(matches!(LogReader::open(state.path()), Err(ReadError::Io(_))));
    std::fs::create_dir(events_path(state.path())).unwrap();
    let reader = LogReader::open(state.path()).unwrap();
    assert!(reader.read(&mut Cursor::all(1)).unwrap().is_empty());
    assert_eq!(reader.head().unwrap().position, 0);
    assert_eq!(reader.verify().unwrap().store_id, None);
    assert_eq!(reader.load_snapshot("s").unwrap().snapshot, None);
}

#[test]
fn notices_are_sentences() {
    let notice =
        Notice::TailCut { file: "events/1.jsonl".into(), offset: 7, bytes_cut: 30, after_position: 9 };
    assert_eq!(
        notice.to_string(),
        "truncated 30 bytes after event 9: the end of `events/1.jsonl` (from byte 7) was incomplete and had never \
         been acknowledged"
    );
}
