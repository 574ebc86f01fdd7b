//! The file store: a directory that a person can look into.
//!
//! `events/` in the state directory holds the log, cut into segments which are named by the position of their first
//! event: `00000000000000000001.jsonl`. Each line is a JSON object, the first one of a segment its header, each other
//! one an append (`line` has the format). A segment is begun when the last one has 64 MiB. `snapshots/` holds
//! folded state, `lock` says who writes.
//!
//! What the modules promise:
//!
//! - `writer`: one write and one fsync for many appends; what is acknowledged has been synced, and so has the
//!   directory if the file is new. The first error of a write or sync stops the store for good: after a failed fsync
//!   the kernel may have thrown away what it could not write, so trying again would prove nothing. That holds for a
//!   full disk too (`ENOSPC`, `EDQUOT`): the process ends and is started again when there is space; the unfinished
//!   write is cut off then.
//! - `survey`: opening reads the whole log and checks every checksum, link, version and epoch.
//! - `tail`: an unfinished write at the end is cut off with a notice; all else that is not as it was written is
//!   refused with file, offset and position. What cannot be told apart is listed there.
//! - opening writes the last write once more before anything else is appended: it was perhaps never synced, and what
//!   is read back may come from memory.
//! - `read`: readers take no lock, need no writer, see whole appends only, and never repair anything. Readers in
//!   other processes may see an append shortly before it is durable; [`FileStore`] itself gives out what is durable.
//!
//! Not here: compaction, backup, encryption, more than one machine.

mod disk;
mod index;
mod line;
mod read;
mod reader;
mod segment;
mod snapshots;
mod store;
mod survey;
mod tail;
mod writer;

#[cfg(test)]
mod tests;

pub(super) use disk::{Disk, RealDisk, create_private_dir, create_private_file};
pub use reader::{LogReader, Verified};
pub(super) use store::holds_events;
pub use store::{FileStore, Options, SEGMENT_BYTES, lock_path};
