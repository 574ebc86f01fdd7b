//! The lines of a segment: how they are written and read.
//!
//! Every line is one JSON object and begins with a frame of fixed width:
//!
//! ```text
//! {"crc":"5bd1e995","bytes":"0000000312",...}
//! ```
//!
//! `bytes` is the length of the whole line with its line break, `crc` the CRC-32 (IEEE) of all that follows the eight
//! digits up to and including the line break. Then, in the first line of a segment:
//!
//! ```text
//! "cairn_log":1,"store":"UUID","segment_start":POSITION,"chain":"LINK"}
//! ```
//!
//! and in each other one, which holds one append:
//!
//! ```text
//! "position":P,"epoch":E,"batch":B,"chain":"LINK","records":[
//!   {"stream":"S","version":V,"count":C,"bytes":N,"body":BODY},...]}
//! ```
//!
//! (without the line breaks shown). `batch` is the position of the first append of the same write, so that a write
//! that was cut short can be told from damage. `chain` of a segment is the link before its first record, of an append
//! the link after its last. A record's `bytes` is the length of its body, so that a reader need not parse it.

use std::borrow::Cow;
use std::io::Write;

use uuid::Uuid;

use super::super::chain::Link;
use super::super::record::{Append, MAX_APPEND_BYTES};

/// The format that this version writes.
pub(super) const FORMAT: u64 = 1;
/// The fixed-width beginning of a line.
pub(super) const FRAME_BYTES: usize = 39;
/// Longest line: the largest append and what stands around its records.
pub(super) const MAX_LINE_BYTES: usize = MAX_APPEND_BYTES + 512;
/// What every line begins with.
pub(super) const FRAME_START: &[u8] = b"{\"crc\":\"";

const CRC_AT: usize = FRAME_START.len();
const CHECKED_FROM: usize = CRC_AT + 8;
const LENGTH_KEY: &[u8] = b"\",\"bytes\":\"";
const LENGTH_AT: usize = CHECKED_FROM + LENGTH_KEY.len();
const LENGTH_DIGITS: usize = 10;
const FRAME: &[u8; FRAME_BYTES] = b"{\"crc\":\"........\",\"bytes\":\"..........\",";

/// The length that the frame at the beginning of `text` announces; `None` if there is no whole frame.
pub(super) fn announced_bytes(text: &[u8]) -> Option<usize> {
    let frame = text.get(..FRAME_BYTES)?;
    let fits = frame.starts_with(FRAME_START)
        && &frame[CHECKED_FROM..LENGTH_AT] == LENGTH_KEY
        && &frame[LENGTH_AT + LENGTH_DIGITS..] == b"\",";
    fits.then_some(())?;
    announced_digits(text)
}

/// The length that the digits at their place announce, whatever stands around them.
pub(super) fn announced_digits(text: &[u8]) -> Option<usize> {
    let digits = text.get(LENGTH_AT..LENGTH_AT + LENGTH_DIGITS)?;
    digits
        .iter()
        .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + usize::from(digit - b'0')))
}

/// Whether `line` has the length that it announces, ends as a line does, and matches its checksum.
pub(super) fn is_sound(line: &[u8]) -> bool {
    let digits = |crc: u32| format!("{crc:08x}");
    announced_bytes(line) == Some(line.len())
        && line.last() == Some(&b'\n')
        && digits(crc32fast::hash(&line[CHECKED_FROM..])).as_bytes() == &line[CRC_AT..CHECKED_FROM]
}

/// Writes a line into `out`: the frame, what `content` writes behind it, the line break.
fn write_line(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(FRAME);
    content(out);
    out.push(b'\n');
    let line = &mut out[start..];
    let length = format!("{:0LENGTH_DIGITS$}", line.len());
    line[LENGTH_AT..LENGTH_AT + LENGTH_DIGITS].copy_from_slice(length.as_bytes());
    let crc = format!("{:08x}", crc32fast::hash(&line[CHECKED_FROM..]));
    line[CRC_AT..CHECKED_FROM].copy_from_slice(crc.as_bytes());
}

/// What the first line of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) store_id: Uuid,
    pub(super) start: u64,
    pub(super) chain: Link,
}

impl SegmentHeader {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { store_id, start, chain } = self;
        write_line(out, |out| {
            put(
                out,
                format_args!("\"cairn_log\":{FORMAT},\"store\":\"{store_id}\",\"segment_start\":{start}"),
            );
            out.extend_from_slice(b",\"chain\":\"");
            chain.write_to(out);
            out.extend_from_slice(b"\"}");
        });
    }

    /// Reads a sound line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, HeaderError> {
        let mut text = Scanner(&line[FRAME_BYTES..]);
        let format = text.literal(b"\"cairn_log\":").and_then(|()| text.number()).ok_or(HeaderError::Form)?;
        if format != FORMAT {
            return Err(HeaderError::Format(format));
        }
        text.header().ok_or(HeaderError::Form)
    }
}

/// Why a line is no header that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It is something else.
    Form,
    /// It is of a later format.
    Format(u64),
}

/// Where an append is put, besides its own content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) position: u64,
    pub(super) batch: u64,
    pub(super) chain: Link,
}

/// Writes the line of `append` into `out`.
pub(super) fn write_append(out: &mut Vec<u8>, append: &Append, place: Place) {
    let Place { position, batch, chain } = place;
    let epoch = append.epoch;
    write_line(out, |out| {
        put(out, format_args!("\"position\":{position},\"epoch\":{epoch},\"batch\":{batch},\"chain\":\""));
        chain.write_to(out);
        out.extend_from_slice(b"\",\"records\":[");
        for (index, record) in append.records.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"stream\":");
            serde_json::to_writer(&mut *out, record.stream.as_str()).expect("memory takes any text");
            let (version, count, bytes) = (record.first_version, record.count, record.body.len());
            put(out, format_args!(",\"version\":{version},\"count\":{count},\"bytes\":{bytes},\"body\":"));
            out.extend_from_slice(record.body.as_bytes());
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    });
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes any text");
}

/// An append as it stands in its line.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendLine<'a> {
    pub(super) position: u64,
    pub(super) epoch: u64,
    pub(super) batch: u64,
    pub(super) chain: Link,
    records: &'a [u8],
}

/// A record as it stands in its line.
#[derive(Clone, Debug)]
pub(super) struct RecordView<'a> {
    pub(super) stream: Cow<'a, str>,
    pub(super) first_version: u64,
    pub(super) count: u32,
    pub(super) body: &'a [u8],
}

impl<'a> AppendLine<'a> {
    /// Reads a sound line as far as its records; `None` if it does not say what such a line says.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        Scanner(line.get(FRAME_BYTES..)?).append()
    }

    /// The records; the last item is `None` where they are not of their form.
    pub(super) fn records(&self) -> impl Iterator<Item = Option<RecordView<'a>>> + use<'a> {
        let mut text = Some(Scanner(self.records));
        std::iter::from_fn(move || {
            let mut rest = text.take()?;
            if rest.0 == b"]}\n" {
                return None;
            }
            let record = rest.record();
            if record.is_some() {
                text = Some(rest);
            }
            Some(record)
        })
    }
}

/// Reads what the functions above write, from left to right.
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    fn literal(&mut self, text: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = self.take(digits)?;
        (!digits.is_empty()).then_some(())?;
        digits.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    fn link(&mut self) -> Option<Link> {
        Link::parse(self.take(64)?)
    }

    /// A JSON string: as it stands if nothing in it is escaped.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.literal(b"\"")?;
        let end = self.0.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if self.0[end] == b'"' {
            let text = self.take(end)?;
            self.literal(b"\"")?;
            return std::str::from_utf8(text).ok().map(Cow::Borrowed);
        }
        let mut escaped = false;
        let end = self.0.iter().position(|byte| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        })?;
        let text = self.take(end + 1)?;
        let quoted = [b"\"", text].concat();
        serde_json::from_slice(&quoted).ok().map(Cow::Owned)
    }

    fn header(&mut self) -> Option<SegmentHeader> {
        self.literal(b",\"store\":\"")?;
        let store_id = Uuid::try_parse_ascii(self.take(36)?).ok()?;
        self.literal(b"\",\"segment_start\":")?;
        let start = self.number()?;
        self.literal(b",\"chain\":\"")?;
        let chain = self.link()?;
        self.literal(b"\"}\n")?;
        Some(SegmentHeader { store_id, start, chain })
    }

    fn append(&mut self) -> Option<AppendLine<'a>> {
        self.literal(b"\"position\":")?;
        let position = self.number()?;
        self.literal(b",\"epoch\":")?;
        let epoch = self.number()?;
        self.literal(b",\"batch\":")?;
        let batch = self.number()?;
        self.literal(b",\"chain\":\"")?;
        let chain = self.link()?;
        self.literal(b"\",\"records\":[")?;
        Some(AppendLine { position, epoch, batch, chain, records: self.0 })
    }

    fn record(&mut self) -> Option<RecordView<'a>> {
        self.literal(b"{\"stream\":")?;
        let stream = self.string()?;
        self.literal(b",\"version\":")?;
        let first_version = self.number()?;
        self.literal(b",\"count\":")?;
        let count = u32::try_from(self.number()?).ok()?;
        self.literal(b",\"bytes\":")?;
        let bytes = usize::try_from(self.number()?).ok()?;
        self.literal(b",\"body\":")?;
        let body = self.take(bytes)?;
        self.literal(b"}")?;
        if self.0.starts_with(b",") {
            self.literal(b",")?;
        }
        Some(RecordView { stream, first_version, count, body })
    }
}
