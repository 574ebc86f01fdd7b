//! Reading pages of a log, also while it is written, also by another process. Takes no lock, changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use uuid::Uuid;

use super::super::chain::Link;
use super::super::cursor::{Cursor, Hint, READ_PAGE_BYTES};
use super::super::error::{Damage, DamageReason, ReadError};
use super::super::record::{Head, StoredRecord, StreamId};
use super::index::Index;
use super::line::{AppendLine, HeaderError, SegmentHeader};
use super::segment::{Found, LineReader, list_segments, segment_path};
use super::tail::{MAX_WRITE_BYTES, Verdict, Writes, judge};

/// A log to read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) events: &'a Path,
    /// The last position that may be given out; `None`: all that is there.
    pub(super) until: Option<u64>,
    /// Finds places faster than by looking at the files.
    pub(super) index: Option<&'a RwLock<Index>>,
}

/// Why reading a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The page is full, or all that may be given out has been.
    Page,
    /// The file ends right after a line.
    File,
    /// There is something that is no sound line, or not yet.
    Unsound,
}

/// A page while it is filled.
#[derive(Debug, Default)]
struct Page {
    records: Vec<StoredRecord>,
    bytes: usize,
}

impl Reading<'_> {
    /// The next page of what `cursor` reads. Moves the cursor unless there is an error.
    pub(super) fn page(&self, cursor: &mut Cursor) -> Result<Vec<StoredRecord>, ReadError> {
        let mut moved = cursor.clone();
        let mut page = Page::default();
        let filled = self.fill(&mut moved, &mut page);
        // What was read before an error is good: it is given out, and the error comes with the next call.
        if page.records.is_empty() {
            filled?;
        }
        *cursor = moved;
        Ok(page.records)
    }

    fn fill(&self, cursor: &mut Cursor, page: &mut Page) -> Result<(), ReadError> {
        let Some(mut place) = self.locate(cursor)? else { return Ok(()) };
        // The segment that has been looked at once more since a later one was seen.
        let mut looked_again = None;
        loop {
            if self.is_done(cursor) {
                return Ok(());
            }
            let mut reader = LineReader::open(segment_path(self.events, place.segment), place.offset)?;
            let (end, position) = self.read_segment(&mut reader, place, cursor, page)?;
            let here = Hint { position, segment: place.segment, offset: reader.offset() };
            if end == End::Page || self.is_done(cursor) {
                return Ok(());
            }
            if end == End::File && self.has_next_segment(here) {
                let Some(next) = self.next_place(cursor)? else { return Ok(()) };
                place = next;
            } else if self.has_later_segment(here)? {
                // The writer may have finished this one and begun the next between our two looks. A later segment is
                // begun only when this one is whole, so the second look is conclusive.
                if looked_again == Some(here.segment) {
                    return Err(self.broken_off(&mut reader, here, end, cursor));
                }
                looked_again = Some(here.segment);
                place = here;
            } else if end == End::Unsound {
                return self.check_end(&mut reader, here, cursor);
            } else {
                return Ok(());
            }
        }
    }

    /// The end of the log, by reading its last segment.
    pub(super) fn head(&self) -> Result<Head, ReadError> {
        for &start in list_segments(self.events)?.iter().rev() {
            // The last file may be one whose first write was not finished.
            if let Some(head) = self.head_of_segment(start)? {
                return Ok(head);
            }
        }
        Ok(Head { position: 0, chain: Link::EMPTY })
    }

    /// The log's identity; `None` if there is no log yet.
    pub(super) fn store_id(&self) -> Result<Option<Uuid>, ReadError> {
        let Some(&start) = list_segments(self.events)?.first() else { return Ok(None) };
        let mut reader = LineReader::open(segment_path(self.events, start), 0)?;
        let file = reader.path().to_owned();
        match reader.next_line()? {
            Found::Line(line) => match check_header(line, start) {
                Ok(header) => Ok(Some(header.store_id)),
                Err(reason) => Err(Damage { file, offset: 0, position: start, reason }.into()),
            },
            Found::End | Found::Unsound => Ok(None),
        }
    }

    fn head_of_segment(&self, start: u64) -> Result<Option<Head>, ReadError> {
        let mut reader = LineReader::open(segment_path(self.events, start), 0)?;
        let file = reader.path().to_owned();
        let damage = |position, offset, reason| Damage { file: file.clone(), offset, position, reason };
        let mut head = None;
        let mut cursor = Cursor::all(start);
        loop {
            let offset = reader.offset();
            let position = cursor.next_position;
            match reader.next_line()? {
                Found::Line(line) if head.is_none() => {
                    let header = check_header(line, start).map_err(|reason| damage(start, 0, reason))?;
                    head = Some(Head { position: start - 1, chain: header.chain });
                }
                Found::Line(line) => {
                    let append = AppendLine::parse(line).filter(|append| append.position == position);
                    let append = append.ok_or_else(|| damage(position, offset, DamageReason::Sequence))?;
                    let events: u64 = append.records().flatten().map(|record| u64::from(record.count)).sum();
                    cursor.next_position += events;
                    cursor.last_batch = Some(append.batch);
                    head = Some(Head { position: cursor.next_position - 1, chain: append.chain });
                }
                Found::End => return Ok(head),
                Found::Unsound => {
                    let here = Hint { position, segment: start, offset };
                    return self.check_end(&mut reader, here, &cursor).map(|()| head);
                }
            }
        }
    }

    fn is_done(&self, cursor: &Cursor) -> bool {
        self.until.is_some_and(|until| cursor.next_position > until)
    }

    /// Reads lines into the page; tells why it stopped, and before which position.
    fn read_segment(
        &self,
        reader: &mut LineReader,
        place: Hint,
        cursor: &mut Cursor,
        page: &mut Page,
    ) -> Result<(End, u64), ReadError> {
        let path = reader.path().to_owned();
        let damage = |offset, position, reason| Damage { file: path.clone(), offset, position, reason };
        let mut position = place.position;
        if place.offset == 0 {
            match reader.next_line()? {
                Found::Line(line) => {
                    check_header(line, place.segment).map_err(|reason| damage(0, place.segment, reason))?;
                }
                Found::End | Found::Unsound => return Ok((End::Unsound, place.segment)),
            }
            position = place.segment;
        }
        loop {
            let offset = reader.offset();
            let line = match reader.next_line()? {
                Found::Line(line) => line,
                Found::End => return Ok((End::File, position)),
                Found::Unsound => return Ok((End::Unsound, position)),
            };
            position =
                take_line(line, position, cursor, page).map_err(|reason| damage(offset, position, reason))?;
            let offset = reader.offset();
            if position > cursor.next_position {
                cursor.next_position = position;
            }
            if position == cursor.next_position {
                cursor.hint = Some(Hint { position, segment: place.segment, offset });
            }
            if page.bytes >= READ_PAGE_BYTES || self.is_done(cursor) {
                return Ok((End::Page, position));
            }
        }
    }

    /// Where to begin; `None` if there is nothing (yet).
    fn locate(&self, cursor: &mut Cursor) -> Result<Option<Hint>, ReadError> {
        if let Some(hint) = cursor.hint.filter(|hint| self.is_good(hint, cursor)) {
            return Ok(Some(hint));
        }
        cursor.hint = None;
        self.next_place(cursor)
    }

    /// A hint is good if its file is there and is that long.
    fn is_good(&self, hint: &Hint, cursor: &Cursor) -> bool {
        let length = std::fs::metadata(segment_path(self.events, hint.segment)).map(|file| file.len());
        hint.position == cursor.next_position && length.is_ok_and(|length| hint.offset <= length)
    }

    fn next_place(&self, cursor: &mut Cursor) -> Result<Option<Hint>, ReadError> {
        if let Some(index) = self.index {
            let index = index.read().unwrap_or_else(PoisonError::into_inner);
            return Ok(next_indexed(&index, cursor));
        }
        let starts = list_segments(self.events)?;
        if starts.is_empty() {
            return Ok(None);
        }
        let after = starts.partition_point(|&start| start <= cursor.next_position);
        let Some(at) = after.checked_sub(1) else {
            let (file, position) = (self.events.to_owned(), cursor.next_position);
            return Err(Damage { file, offset: 0, position, reason: DamageReason::Missing }.into());
        };
        Ok(Some(Hint { position: starts[at], segment: starts[at], offset: 0 }))
    }

    /// Whether the log goes on in a file of its own where `here` ends.
    fn has_next_segment(&self, here: Hint) -> bool {
        here.position > here.segment && segment_path(self.events, here.position).exists()
    }

    fn has_later_segment(&self, here: Hint) -> Result<bool, ReadError> {
        Ok(list_segments(self.events)?.last().is_some_and(|&last| last > here.segment))
    }

    /// The error of a segment that ends before the next one begins.
    fn broken_off(&self, reader: &mut LineReader, here: Hint, end: End, cursor: &Cursor) -> ReadError {
        let position = here.position;
        if end == End::File {
            let file = segment_path(self.events, position);
            return Damage { file, offset: 0, position, reason: DamageReason::Missing }.into();
        }
        let file = reader.path().to_owned();
        match self.check_end(reader, here, cursor) {
            Err(error) => error,
            Ok(()) => Damage { file, offset: here.offset, position, reason: DamageReason::CutShort }.into(),
        }
    }

    /// Judges the end of the last segment: a write that is not finished, or was not when it was read, is just the end.
    fn check_end(&self, reader: &mut LineReader, here: Hint, cursor: &Cursor) -> Result<(), ReadError> {
        let tail = reader.rest(MAX_WRITE_BYTES as u64 + 1)?;
        let writes = Writes { last_batch: cursor.last_batch, next_position: here.position };
        match judge(&tail, here.offset, writes) {
            Verdict::Torn | Verdict::Finished => Ok(()),
            Verdict::Damaged(reason) => {
                let file: PathBuf = reader.path().to_owned();
                Err(Damage { file, offset: here.offset, position: here.position, reason }.into())
            }
        }
    }
}

fn next_indexed(index: &Index, cursor: &mut Cursor) -> Option<Hint> {
    if let Some(stream) = &cursor.stream {
        cursor.next_position = index.next_in_stream(stream, cursor.from_version, cursor.next_position)?;
    }
    index.locate(cursor.next_position)
}

fn check_header(line: &[u8], segment: u64) -> Result<SegmentHeader, DamageReason> {
    match SegmentHeader::parse(line) {
        Ok(header) if header.start == segment => Ok(header),
        Ok(_) => Err(DamageReason::Segment),
        Err(HeaderError::Form) => Err(DamageReason::Form),
        Err(HeaderError::Format(format)) => Err(DamageReason::Format { format }),
    }
}

/// Puts the wanted records of a line that should begin at `position` into the page; returns where it ends.
fn take_line(line: &[u8], position: u64, cursor: &mut Cursor, page: &mut Page) -> Result<u64, DamageReason> {
    let append = AppendLine::parse(line).ok_or(DamageReason::Form)?;
    if append.position != position {
        return Err(DamageReason::Sequence);
    }
    cursor.last_batch = Some(append.batch);
    let mut next = position;
    for record in append.records() {
        let record = record.ok_or(DamageReason::Form)?;
        let position = next;
        next = position.checked_add(u64::from(record.count)).ok_or(DamageReason::Form)?;
        let last_version = record.first_version.saturating_add(u64::from(record.count)).saturating_sub(1);
        if next <= cursor.next_position || !cursor.wants(&record.stream, last_version) {
            continue;
        }
        let body = String::from_utf8(record.body.to_vec()).map_err(|_| DamageReason::Form)?;
        page.bytes += body.len() + record.stream.len();
        page.records.push(StoredRecord {
            position,
            stream: stream_id(page.records.last(), &record.stream),
            first_version: record.first_version,
            count: record.count,
            epoch: append.epoch,
            body,
        });
    }
    Ok(next)
}

/// The name of a stream; shared with the record before it if that is of the same stream, as most are.
fn stream_id(last: Option<&StoredRecord>, name: &str) -> StreamId {
    match last {
        Some(last) if last.stream.as_str() == name => last.stream.clone(),
        _ => StreamId::from(name),
    }
}
