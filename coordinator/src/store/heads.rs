//! The end of every stream, in memory: what a store that is its log's only writer checks appends against.

use std::collections::HashMap;

use super::error::AppendError;
use super::record::{Append, NewRecord, StreamHead, StreamId};

/// The end of every stream, and the epochs given out. `P` is what the store notes about a stream besides, its default
/// for a stream that is new.
#[derive(Debug)]
pub(super) struct Heads<P> {
    streams: HashMap<StreamId, Entry<P>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry<P> {
    head: StreamHead,
    /// The highest epoch that was given out.
    claimed_epoch: u64,
    note: P,
}

impl<P> Default for Heads<P> {
    fn default() -> Self {
        Self { streams: HashMap::new() }
    }
}

/// Why a record does not continue its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The stream's epoch is higher.
    Epoch(u64),
    /// The stream is at another version.
    Version(u64),
}

impl<P: Copy + Default> Heads<P> {
    /// The end of a stream.
    pub(super) fn head(&self, stream: &StreamId) -> StreamHead {
        self.streams.get(stream).map(|entry| entry.head).unwrap_or_default()
    }

    /// An epoch of the stream higher than any before.
    pub(super) fn next_epoch(&mut self, stream: &StreamId) -> u64 {
        let entry = self.streams.entry(stream.clone()).or_default();
        entry.claimed_epoch = entry.claimed_epoch.max(entry.head.epoch).saturating_add(1);
        entry.claimed_epoch
    }

    /// Notes a stream as it was found when the store was opened.
    pub(super) fn found(&mut self, stream: StreamId, head: StreamHead, note: P) {
        self.streams.insert(stream, Entry { head, claimed_epoch: 0, note });
    }

    /// Every stream and its end.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&StreamId, StreamHead)> {
        self.streams.iter().map(|(stream, entry)| (stream, entry.head))
    }

    /// Moves a stream behind a record, if the record continues it; `note` then reads and changes what is noted about
    /// the stream.
    pub(super) fn advance<R>(
        &mut self,
        stream: &str,
        first_version: u64,
        count: u32,
        epoch: u64,
        note: impl FnOnce(&mut P) -> R,
    ) -> Result<R, Misfit> {
        let known = self.streams.get_mut(stream);
        let head = known.as_ref().map(|entry| entry.head).unwrap_or_default();
        if epoch < head.epoch {
            return Err(Misfit::Epoch(head.epoch));
        }
        let last = first_version.checked_add(u64::from(count)).map(|next| next - 1);
        let version = last.filter(|_| first_version == head.version + 1 && count > 0);
        let version = version.ok_or(Misfit::Version(head.version))?;
        let entry = match known {
            Some(entry) => entry,
            None => self.streams.entry(StreamId::from(stream)).or_default(),
        };
        entry.head = StreamHead { version, epoch };
        Ok(note(&mut entry.note))
    }

    /// Moves the streams of an append behind its records, all of them or none. `on_record` is told of each record, of
    /// how many events stand before it in the append, and of its stream's note; what it was told is void if the
    /// append is refused.
    pub(super) fn accept<'a>(
        &mut self,
        append: &'a Append,
        mut on_record: impl FnMut(&'a NewRecord, u64, &mut P),
    ) -> Result<(), AppendError> {
        let mut undo: Vec<(&StreamId, Option<Entry<P>>)> = Vec::with_capacity(append.records.len());
        let mut events = 0;
        for record in &append.records {
            let stream = &record.stream;
            undo.push((stream, self.streams.get(stream).copied()));
            let note = |note: &mut P| on_record(record, events, note);
            let (version, count) = (record.first_version, record.count);
            if let Err(misfit) = self.advance(stream.as_str(), version, count, append.epoch, note) {
                undo.into_iter().rev().for_each(|(stream, entry)| self.put_back(stream, entry));
                return Err(refusal(record, append.epoch, misfit));
            }
            events += u64::from(record.count);
        }
        Ok(())
    }

    fn put_back(&mut self, stream: &StreamId, entry: Option<Entry<P>>) {
        match entry {
            Some(entry) => self.streams.insert(stream.clone(), entry),
            None => self.streams.remove(stream),
        };
    }
}

fn refusal(record: &NewRecord, epoch: u64, misfit: Misfit) -> AppendError {
    let stream = record.stream.clone();
    match misfit {
        Misfit::Epoch(current) => AppendError::Fenced { stream, epoch, current },
        Misfit::Version(actual) => {
            AppendError::Conflict { stream, expected: record.first_version - 1, actual }
        }
    }
}
