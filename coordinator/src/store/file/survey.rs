//! Reading and checking a whole log: every checksum, every link of the chain, every version and epoch. Nothing is
//! changed by it.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::chain::Link;
use super::super::cursor::Hint;
use super::super::error::{Damage, DamageReason, LogFault};
use super::super::heads::Heads;
use super::super::record::{Head, StreamId};
use super::index::Index;
use super::line::{AppendLine, HeaderError, SegmentHeader};
use super::segment::{Found, LineReader, list_segments, segment_path};
use super::tail::{MAX_WRITE_BYTES, Verdict, Writes, judge};

/// What a log holds, and how it ends.
#[derive(Debug)]
pub(super) struct Survey {
    /// The log's identity; `None` if there is no log yet.
    pub(super) store_id: Option<Uuid>,
    pub(super) head: Head,
    pub(super) heads: Heads<NewestSegment>,
    pub(super) index: Index,
    /// The last segment that has a header.
    pub(super) last: Option<LastSegment>,
    /// The end of the last file, if it has to be cut off.
    pub(super) torn: Option<Torn>,
    /// The write that the last line belongs to.
    last_batch: Option<u64>,
}

/// The segment that has a stream's newest record; 0 before there is one.
pub(super) type NewestSegment = u64;

/// Notes that a stream has a record in `segment`; tells whether it is the first there.
pub(super) fn is_first_in(segment: u64, newest: &mut NewestSegment) -> bool {
    std::mem::replace(newest, segment) != segment
}

/// The segment that the log goes on in.
#[derive(Clone, Debug)]
pub(super) struct LastSegment {
    pub(super) start: u64,
    pub(super) path: PathBuf,
    /// Where its last sound line ends.
    pub(super) bytes: u64,
    /// Where its last write begins.
    pub(super) last_write: u64,
}

/// A write that was not finished.
#[derive(Clone, Debug)]
pub(super) struct Torn {
    pub(super) path: PathBuf,
    /// Where it begins; at 0 the whole file is to go.
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Reads the log in the directory `events` and checks all of it.
pub(super) fn survey(events: &Path) -> Result<Survey, LogFault> {
    let mut survey = Survey {
        store_id: None,
        head: Head { position: 0, chain: Link::EMPTY },
        heads: Heads::default(),
        index: Index::default(),
        last: None,
        torn: None,
        last_batch: None,
    };
    let starts = list_segments(events)?;
    for (index, &start) in starts.iter().enumerate() {
        let path = segment_path(events, start);
        if start != survey.head.position + 1 {
            let missing = segment_path(events, survey.head.position + 1);
            return Err(survey.damage(missing, 0, DamageReason::Missing).into());
        }
        let mut reader = LineReader::open(path, 0)?;
        let is_last = index + 1 == starts.len();
        loop {
            if reader.offset() == 0 {
                survey.read_header(&mut reader, start)?;
            }
            survey.read_lines(&mut reader, start)?;
            if survey.check_end(&mut reader, is_last)? {
                break;
            }
        }
    }
    Ok(survey)
}

impl Survey {
    fn read_header(&mut self, reader: &mut LineReader, start: u64) -> Result<(), LogFault> {
        let path = reader.path().to_owned();
        if let Found::Line(line) = reader.next_line()? {
            self.check_header(line, start).map_err(|reason| self.damage(path.clone(), 0, reason))?;
            self.last = Some(LastSegment { start, path, bytes: reader.offset(), last_write: 0 });
        }
        Ok(())
    }

    /// Reads sound lines until there are none.
    fn read_lines(&mut self, reader: &mut LineReader, start: u64) -> Result<(), LogFault> {
        let path = reader.path().to_owned();
        while reader.offset() > 0 {
            let offset = reader.offset();
            let Found::Line(line) = reader.next_line()? else { break };
            let batch_before = self.last_batch;
            let position = self.head.position + 1;
            let checked = self.check_append(line, Hint { position, segment: start, offset });
            checked.map_err(|reason| Damage { file: path.clone(), offset, position, reason })?;
            if let Some(last) = &mut self.last {
                // The first write of a segment has begun with the header.
                if self.last_batch != batch_before && self.last_batch != Some(start) {
                    last.last_write = offset;
                }
                last.bytes = reader.offset();
            }
        }
        Ok(())
    }

    fn check_header(&mut self, line: &[u8], start: u64) -> Result<(), DamageReason> {
        let header = SegmentHeader::parse(line).map_err(|error| match error {
            HeaderError::Form => DamageReason::Form,
            HeaderError::Format(format) => DamageReason::Format { format },
        })?;
        let is_same_log = self.store_id.is_none_or(|id| id == header.store_id);
        if !is_same_log || header.start != start || header.chain != self.head.chain {
            return Err(DamageReason::Segment);
        }
        self.store_id = Some(header.store_id);
        Ok(())
    }

    fn check_append(&mut self, line: &[u8], place: Hint) -> Result<(), DamageReason> {
        let append = AppendLine::parse(line).ok_or(DamageReason::Form)?;
        let begins_write = append.batch == append.position;
        if append.position != place.position || !(begins_write || Some(append.batch) == self.last_batch) {
            return Err(DamageReason::Sequence);
        }
        for record in append.records() {
            let record = record.ok_or(DamageReason::Form)?;
            let (stream, version, count) = (&*record.stream, record.first_version, record.count);
            let is_first = self
                .heads
                .advance(stream, version, count, append.epoch, |newest| is_first_in(place.segment, newest))
                .map_err(|_| DamageReason::Sequence)?;
            if is_first {
                self.index.first_in_segment(&StreamId::from(stream), self.head.position + 1, version);
            }
            self.head.chain = self.head.chain.followed_by(stream, version, count, append.epoch, record.body);
            self.head.position += u64::from(count);
        }
        if append.chain != self.head.chain || self.head.position < append.position {
            return Err(DamageReason::Sequence);
        }
        self.last_batch = Some(append.batch);
        self.index.mark(place);
        Ok(())
    }

    /// Judges what stands where no sound line was found. Returns whether the segment ends there; if not, its writer has
    /// come further in the meantime.
    fn check_end(&mut self, reader: &mut LineReader, is_last: bool) -> Result<bool, LogFault> {
        let offset = reader.offset();
        let bytes = reader.remaining()?;
        if bytes == 0 && offset > 0 {
            return Ok(true);
        }
        let tail = reader.rest(MAX_WRITE_BYTES as u64 + 1)?;
        let writes = Writes { last_batch: self.last_batch, next_position: self.head.position + 1 };
        let reason = match judge(&tail, offset, writes) {
            Verdict::Torn if is_last => {
                self.torn = Some(Torn { path: reader.path().to_owned(), offset, bytes });
                return Ok(true);
            }
            Verdict::Finished => return Ok(false),
            Verdict::Torn => DamageReason::CutShort,
            Verdict::Damaged(reason) => reason,
        };
        Err(self.damage(reader.path().to_owned(), offset, reason).into())
    }

    fn damage(&self, file: PathBuf, offset: u64, reason: DamageReason) -> Damage {
        Damage { file, offset, position: self.head.position + 1, reason }
    }
}
