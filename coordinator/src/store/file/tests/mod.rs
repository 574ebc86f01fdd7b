//! Tests of what only this store has: its files, and how they survive. What every store promises is in
//! `tests/store_conformance/`.

mod disks;
mod faults;
mod files;
mod group_commit;
mod lines;
mod readers;
mod snapshots;
mod tails;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_model::Timestamp;
use uuid::Uuid;

use super::super::EventReader;
use super::super::chain::Link;
use super::super::record::{Append, NewRecord, StoredRecord};
use super::super::{Cursor, Holder, Lock, OpenError};
use super::disk::Disk;
use super::line::{Place, SegmentHeader, write_append};
use super::reader::LogReader;
use super::segment::segment_path;
use super::store::{FileStore, Options, events_path, lock_path};

const STORE_ID: Uuid = Uuid::from_u128(0x0192_3456_789a_7bcd_8ef0_1234_5678_9abc);

fn options(segment_bytes: u64) -> Options {
    Options { store_id: STORE_ID, segment_bytes }
}

/// Opens a store that does everything but wait for the disk.
fn open(state: &Path, segment_bytes: u64) -> Result<FileStore, OpenError> {
    open_on(disks::QuickDisk, state, segment_bytes)
}

fn open_on(disk: impl Disk + 'static, state: &Path, segment_bytes: u64) -> Result<FileStore, OpenError> {
    let lock = Lock::acquire(&lock_path(state), &Holder::this_process("a test", Timestamp(0)))?;
    FileStore::open_on(Box::new(disk), state, Arc::new(lock), options(segment_bytes))
}

/// One event of `stream` at `version` under epoch 1, with a body of about `bytes`.
fn event(stream: &str, version: u64, bytes: usize) -> Append {
    let body = format!(
        "{{\"event_type\":\"TaskCompleted\",\"v\":{version},\"fill\":\"{}\"}}",
        "x*J ".repeat(bytes / 4)
    );
    let record = NewRecord { stream: stream.into(), first_version: version, count: 1, body };
    Append { epoch: 1, records: vec![record] }
}

/// All that a reader sees.
fn read_all(state: &Path) -> Vec<StoredRecord> {
    let reader = LogReader::open(state).unwrap();
    let mut cursor = Cursor::all(1);
    let mut records = Vec::new();
    loop {
        let page = reader.read(&mut cursor).unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

/// A log written byte for byte as the writer would have, with writes and segments where the test wants them.
struct Log {
    state: tempfile::TempDir,
    chain: Link,
    next_position: u64,
    /// The segment that is being written.
    start: u64,
    bytes: Vec<u8>,
    /// Of the current segment: where each line begins, and the position there.
    lines: Vec<(usize, u64)>,
}

impl Log {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(events_path(state.path())).unwrap();
        let mut log = Self {
            state,
            chain: Link::EMPTY,
            next_position: 1,
            start: 1,
            bytes: Vec::new(),
            lines: Vec::new(),
        };
        log.begin_segment();
        log
    }

    fn begin_segment(&mut self) {
        self.start = self.next_position;
        self.bytes.clear();
        self.lines = vec![(0, self.start)];
        SegmentHeader { store_id: STORE_ID, start: self.start, chain: self.chain }.write(&mut self.bytes);
        self.save(&self.bytes);
    }

    /// One write of events of the stream `s` with bodies of these sizes.
    fn write(&mut self, sizes: &[usize]) {
        let batch = self.next_position;
        for &bytes in sizes {
            let position = self.next_position;
            let append = event("s", position, bytes);
            let body = append.records[0].body.as_bytes();
            self.chain = self.chain.followed_by("s", position, 1, 1, body);
            self.lines.push((self.bytes.len(), position));
            write_append(&mut self.bytes, &append, Place { position, batch, chain: self.chain });
            self.next_position += 1;
        }
        self.save(&self.bytes);
    }

    fn events(&self) -> PathBuf {
        events_path(self.state.path())
    }

    fn path(&self) -> PathBuf {
        segment_path(&self.events(), self.start)
    }

    /// Puts `bytes` into the current segment's file.
    fn save(&self, bytes: &[u8]) {
        put(&self.path(), bytes);
    }

    /// Where the line begins that the byte at `offset` is in, and the position there.
    fn line_of(&self, offset: usize) -> (usize, u64) {
        *self.lines.iter().rev().find(|(start, _)| *start <= offset).unwrap()
    }
}

/// Makes `bytes` the content of a file. Unlike `std::fs::write` it does not empty the file first, upon which some
/// file systems wait for the disk.
fn put(path: &Path, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// A generator for tests: xorshift64*, from a seed that is shown when a test fails.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % limit
    }
}
