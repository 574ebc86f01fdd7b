//! Is the end of a log torn, or is the log damaged?
//!
//! A process or machine that stops in the middle of a write leaves a part of what it wrote: the file may end anywhere
//! in it, and where power was lost, whole sectors of it may read as zeros. Nothing of it was acknowledged, because
//! that comes after the fsync; so it is cut off. Anything else is damage to what was acknowledged, and is refused.
//!
//! What is not a sound line, at the end of the last segment, counts as **torn** if
//!
//! - it has no line break and is shorter than it announces, or too short to announce anything, or it is nothing
//!   like a line; or
//! - a sector of it, that is 512 bytes at a multiple of 512 or what of these lies in it, is all zeros; or
//! - it has a line break and yet none of the marks of a line (the beginning, the end, the announced length);
//!
//! and every sound line after it is of the same write. All else is **damage**: in particular a line that is all
//! there, break included, and does not match its checksum.
//!
//! What cannot be told, by anybody who has only the file:
//!
//! - a log that was cut short at or after acknowledged lines from one that never had them: a file shortened by other
//!   hands looks like a torn write. (Snapshots, other stores and agents that know higher positions can tell.)
//! - a zeroed sector, or text overwritten so that no line is recognisable, in the *last* acknowledged write from one
//!   that was never finished.
//! - two or more changes that together look like one of the above. A change of a single bit never does.

use super::super::error::DamageReason;
use super::super::queue::MAX_BATCH_BYTES;
use super::line::{AppendLine, FRAME_START, MAX_LINE_BYTES, announced_bytes, announced_digits, is_sound};

/// The unit in which a disk writes or does not write.
const SECTOR_BYTES: u64 = 512;

/// The most that one write puts into a file: a header, and a batch that a largest line has filled up. A longer end
/// cannot be a torn write.
pub(super) const MAX_WRITE_BYTES: usize = MAX_BATCH_BYTES + MAX_LINE_BYTES + 512;

/// What the unsound end of a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A write that was not finished; to be cut off.
    Torn,
    /// Not what was written.
    Damaged(DamageReason),
    /// A sound line: the write has been finished since somebody looked.
    Finished,
}

/// Which writes an unsound end may belong to: the one that the line before it belongs to, or the one that would begin
/// there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writes {
    pub(super) last_batch: Option<u64>,
    pub(super) next_position: u64,
}

impl Writes {
    fn may_include(self, batch: u64) -> bool {
        batch == self.next_position || Some(batch) == self.last_batch
    }
}

/// Judges `tail`, all that stands from `offset` on in the last segment, where no sound line was found.
pub(super) fn judge(tail: &[u8], offset: u64, writes: Writes) -> Verdict {
    if announced_bytes(tail).and_then(|bytes| tail.get(..bytes)).is_some_and(is_sound) {
        return Verdict::Finished;
    }
    let line_break = tail.iter().position(|&byte| byte == b'\n');
    let text = &tail[..line_break.map_or(tail.len(), |at| at + 1)];
    let reason = flaw(text, line_break.is_some());
    let torn = tail.len() <= MAX_WRITE_BYTES
        && (reason.is_none() || has_zeroed_sector(text, offset))
        && sound_lines(tail).all(|batch| writes.may_include(batch));
    if torn { Verdict::Torn } else { Verdict::Damaged(reason.unwrap_or(DamageReason::NoLine)) }
}

/// Why `text` is a damaged line; `None` if it may be the beginning of a line, or is none at all.
fn flaw(text: &[u8], has_break: bool) -> Option<DamageReason> {
    if !has_break {
        let is_whole = announced_bytes(text).is_some_and(|bytes| text.len() >= bytes);
        return is_whole.then_some(DamageReason::Length);
    }
    let length_fits = announced_digits(text) == Some(text.len());
    let ends_well = text.ends_with(b"}]}\n") || text.ends_with(b"\"}\n");
    let is_line = text.starts_with(FRAME_START) || length_fits || ends_well;
    is_line.then_some(if length_fits { DamageReason::Checksum } else { DamageReason::Length })
}

fn has_zeroed_sector(text: &[u8], offset: u64) -> bool {
    let first = usize::try_from(SECTOR_BYTES - offset % SECTOR_BYTES).unwrap_or(usize::MAX).min(text.len());
    let (head, rest) = text.split_at(first);
    std::iter::once(head)
        .chain(rest.chunks(SECTOR_BYTES as usize))
        .any(|sector| !sector.is_empty() && sector.iter().all(|&byte| byte == 0))
}

/// The writes that the sound lines of appends in `tail` belong to, wherever they begin.
fn sound_lines(tail: &[u8]) -> impl Iterator<Item = u64> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = find(&tail[at..], FRAME_START) {
            let text = &tail[at + found..];
            let line =
                announced_bytes(text).and_then(|bytes| text.get(..bytes)).filter(|line| is_sound(line));
            at += found + line.map_or(1, <[u8]>::len);
            if let Some(append) = line.and_then(AppendLine::parse) {
                return Some(append.batch);
            }
        }
        None
    })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text[at..].iter().position(|&byte| byte == wanted[0])?;
        if text[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
}
