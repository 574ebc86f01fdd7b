//! The end of every stream: what an append is checked against.

use std::collections::HashMap;

use super::super::error::AppendError;
use super::super::record::{Append, NewRecord, StreamHead, StreamId};

/// The end of every stream, and the epochs given out.
#[derive(Debug, Default)]
pub(super) struct Table {
    streams: HashMap<StreamId, Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    head: StreamHead,
    /// The highest epoch that was given out.
    claimed_epoch: u64,
    /// The segment that has the stream's newest record.
    segment: u64,
}

/// Why a record does not continue its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The stream's epoch is higher.
    Epoch(u64),
    /// The stream is at another version.
    Version(u64),
}

impl Table {
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

    /// Moves a stream behind a record, if the record continues it. Tells whether it is the stream's first record in
    /// `segment`.
    pub(super) fn advance(
        &mut self,
        stream: &str,
        first_version: u64,
        count: u32,
        epoch: u64,
        segment: u64,
    ) -> Result<bool, Misfit> {
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
        let is_first = std::mem::replace(&mut entry.segment, segment) != segment;
        entry.head = StreamHead { version, epoch };
        Ok(is_first)
    }

    /// Moves the streams of an append behind its records, all of them or none. `on_first` is told of each record that
    /// is its stream's first in `segment`, and of how many events stand before it in the append; what it was told is
    /// void if the append is refused.
    pub(super) fn accept<'a>(
        &mut self,
        append: &'a Append,
        segment: u64,
        mut on_first: impl FnMut(&'a NewRecord, u64),
    ) -> Result<(), AppendError> {
        let mut undo: Vec<(&StreamId, Option<Entry>)> = Vec::with_capacity(append.records.len());
        let mut events = 0;
        for record in &append.records {
            let stream = &record.stream;
            undo.push((stream, self.streams.get(stream).copied()));
            match self.advance(stream.as_str(), record.first_version, record.count, append.epoch, segment) {
                Ok(true) => on_first(record, events),
                Ok(false) => {}
                Err(misfit) => {
                    undo.into_iter().rev().for_each(|(stream, entry)| self.put_back(stream, entry));
                    return Err(refusal(record, append.epoch, misfit));
                }
            }
            events += u64::from(record.count);
        }
        Ok(())
    }

    fn put_back(&mut self, stream: &StreamId, entry: Option<Entry>) {
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
