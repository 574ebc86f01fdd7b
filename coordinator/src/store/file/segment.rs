//! Segments: their names, and reading one line after the other.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::super::error::IoFailure;
use super::line::{FRAME_BYTES, MAX_LINE_BYTES, announced_bytes, is_sound};

/// How much is read from a file at once.
const CHUNK_BYTES: usize = 256 << 10;

const NAME_DIGITS: usize = 20;
const NAME_END: &str = ".jsonl";

/// The file of the segment whose first event has the position `start`.
pub(super) fn segment_path(events: &Path, start: u64) -> PathBuf {
    events.join(format!("{start:0NAME_DIGITS$}{NAME_END}"))
}

/// The first positions of all segments, in order. Files with other names are not ours and are passed over.
pub(super) fn list_segments(events: &Path) -> Result<Vec<u64>, IoFailure> {
    let failed = |source| IoFailure { doing: "list", path: events.to_owned(), source };
    let mut starts = Vec::new();
    for entry in std::fs::read_dir(events).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        starts.extend(name.to_str().and_then(segment_start));
    }
    starts.sort_unstable();
    Ok(starts)
}

fn segment_start(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(NAME_END)?;
    (digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    digits.parse().ok()
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A sound line.
    Line(&'a [u8]),
    /// The end of the file, right after a line.
    End,
    /// Something that is no sound line, or not yet.
    Unsound,
}

/// Reads the lines of one file, in bounded memory: a chunk, or the longest line.
#[derive(Debug)]
pub(super) struct LineReader {
    file: File,
    path: PathBuf,
    /// Bytes `start..end` of the buffer are read and not yet given out.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the file `start` is.
    offset: u64,
}

impl LineReader {
    /// Begins to read at `offset`, where a line begins.
    pub(super) fn open(path: PathBuf, offset: u64) -> Result<Self, IoFailure> {
        let opened = File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        });
        match opened {
            Ok(file) => Ok(Self { file, path, buffer: Vec::new(), start: 0, end: 0, offset }),
            Err(source) => Err(IoFailure { doing: "open", path, source }),
        }
    }

    /// Where in the file the next line begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next line. After `End` or `Unsound` the reader stays where it is.
    pub(super) fn next_line(&mut self) -> Result<Found<'_>, IoFailure> {
        let available = self.fill(FRAME_BYTES)?;
        if available == 0 {
            return Ok(Found::End);
        }
        let Some(bytes) = announced_bytes(&self.buffer[self.start..self.end]) else {
            return Ok(Found::Unsound);
        };
        // Nothing is allocated for a length that the file does not have.
        if bytes > MAX_LINE_BYTES || (bytes > available && self.remaining()? < bytes as u64) {
            return Ok(Found::Unsound);
        }
        if self.fill(bytes)? < bytes || !is_sound(&self.buffer[self.start..self.start + bytes]) {
            return Ok(Found::Unsound);
        }
        let line = self.start..self.start + bytes;
        self.start += bytes;
        self.offset += bytes as u64;
        Ok(Found::Line(&self.buffer[line]))
    }

    /// What is left of the file now, at most `limit` bytes. The reader stays where it is.
    pub(super) fn rest(&mut self, limit: u64) -> Result<Vec<u8>, IoFailure> {
        let mut rest = Vec::new();
        (self.start, self.end) = (0, 0);
        self.file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| (&self.file).take(limit).read_to_end(&mut rest))
            .and_then(|_| self.file.seek(SeekFrom::Start(self.offset)))
            .map_err(|source| self.failed(source))?;
        Ok(rest)
    }

    /// How many bytes of the file are behind the reader.
    pub(super) fn remaining(&self) -> Result<u64, IoFailure> {
        let length = self.file.metadata().map_err(|source| self.failed(source))?.len();
        Ok(length.saturating_sub(self.offset))
    }

    /// Sees to it that `wanted` bytes are in the buffer unless the file ends before; returns how many there are.
    fn fill(&mut self, wanted: usize) -> Result<usize, IoFailure> {
        if self.buffer.len() - self.start < wanted {
            let rest = self.start..self.end;
            (self.start, self.end) = (0, rest.len());
            if self.buffer.len() < wanted {
                let mut larger = vec![0; wanted.max(CHUNK_BYTES)];
                larger[..rest.len()].copy_from_slice(&self.buffer[rest]);
                self.buffer = larger;
            } else {
                self.buffer.copy_within(rest, 0);
            }
        }
        while self.end - self.start < wanted {
            match self.file.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(bytes) => self.end += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Ok(self.end - self.start)
    }

    fn failed(&self, source: io::Error) -> IoFailure {
        IoFailure { doing: "read", path: self.path.clone(), source }
    }
}
