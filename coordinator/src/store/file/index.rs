//! Where in the files a position or a stream is found. Small, kept in memory, made anew at every start.

use std::collections::HashMap;

use super::super::cursor::Hint;
use super::super::record::StreamId;

/// One mark is kept for so many bytes of log: reading from a position passes over half of it on average, and a log
/// of 10 GiB has a megabyte of marks.
const MARK_BYTES: u64 = 256 << 10;

/// Finds positions and streams. It never says that something is not there while it is.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In order of position; every segment has one at its first line.
    marks: Vec<Hint>,
    /// The first record of a stream in each segment that has one, in order.
    streams: HashMap<StreamId, Vec<Occurrence>>,
}

/// The first record of a stream in a segment.
#[derive(Clone, Copy, Debug)]
struct Occurrence {
    position: u64,
    version: u64,
}

impl Index {
    /// Notes that the line of `line.position` begins there, if it is far enough from the last one noted.
    pub(super) fn mark(&mut self, line: Hint) {
        let is_near = self.marks.last().is_some_and(|last| {
            last.segment == line.segment && line.offset.saturating_sub(last.offset) < MARK_BYTES
        });
        if !is_near {
            self.marks.push(line);
        }
    }

    /// Notes the first record of a stream in a segment.
    pub(super) fn first_in_segment(&mut self, stream: &StreamId, position: u64, version: u64) {
        self.streams.entry(stream.clone()).or_default().push(Occurrence { position, version });
    }

    /// A line at or before the one that holds `position`.
    pub(super) fn locate(&self, position: u64) -> Option<Hint> {
        let after = self.marks.partition_point(|mark| mark.position <= position);
        after.checked_sub(1).map(|at| self.marks[at])
    }

    /// The position, `next_position` or later, from which on a reader of `stream` from `version` has to look; all of
    /// the stream before it is not wanted. `None` if there is nothing of the stream there.
    pub(super) fn next_in_stream(&self, stream: &StreamId, version: u64, next_position: u64) -> Option<u64> {
        let occurrences = self.streams.get(stream)?;
        let wanted = occurrences.partition_point(|found| found.version <= version).saturating_sub(1);
        let from = next_position.max(occurrences.get(wanted)?.position);
        let after = occurrences.partition_point(|found| found.position <= from);
        let same_segment = after
            .checked_sub(1)
            .is_some_and(|at| self.segment_of(occurrences[at].position) == self.segment_of(from));
        if same_segment { Some(from) } else { occurrences.get(after).map(|found| found.position) }
    }

    fn segment_of(&self, position: u64) -> Option<u64> {
        self.locate(position).map(|mark| mark.segment)
    }
}
