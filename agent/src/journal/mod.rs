//! What an agent must not forget when its keeper dies: which attempts it has taken, which may start, have started, have
//! ended and were acknowledged.
//!
//! One file. A batch of records is one frame, written and synced before what it justifies is said or done:
//!
//! ```text
//!   | length, u32 little-endian | crc32, u32 little-endian | bincode of the records |
//! ```
//!
//! A batch is begun only when the one before it is on disk. So a frame that is not whole at the end of the file is what a
//! crash left, and is cut; one with something behind it is damage, and the journal is not used.
//!
//! Not here: what follows from the records ([`crate::machine`]).

mod file;

pub use file::{Appended, Journal, JournalError, Opened};

use crate::machine::AttemptId;
use bincode::{Decode, Encode};
use cairn_model::TaskIndex;
use cairn_shared::message::wire::{Offer, WireOutcome};

/// The version of what is in a journal.
pub const FORMAT: u16 = 1;

/// Bytes of a batch at most: the largest message has 4 MiB.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

const HEADER_BYTES: usize = 8;

/// The name of an attempt in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Key {
    /// The agent's own number for the run.
    pub run: u32,
    /// Which task.
    pub task: u32,
    /// The attempt's number.
    pub attempt: u32,
}

impl From<AttemptId> for Key {
    fn from(id: AttemptId) -> Self {
        Self { run: id.run, task: id.task.0, attempt: id.attempt }
    }
}

impl From<Key> for AttemptId {
    fn from(key: Key) -> Self {
        Self { run: key.run, task: TaskIndex(key.task), attempt: key.attempt }
    }
}

/// One record. The variants only grow at their end, under a new [`FORMAT`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Record {
    /// Whose journal it is; the first record of each.
    Life {
        /// The version of the format.
        format: u16,
        /// The agent.
        agent: String,
        /// Its life.
        incarnation: u64,
    },
    /// What is called by a number from here on.
    Run {
        /// The number.
        number: u32,
        /// The run.
        name: String,
    },
    /// The highest epoch that was heard for a run.
    Epoch {
        /// The run.
        run: u32,
        /// The epoch.
        epoch: u64,
    },
    /// An attempt was taken.
    Offered {
        /// Which.
        key: Key,
        /// It starts only on a grant.
        awaits_grant: bool,
        /// All of it.
        offer: Box<Offer>,
    },
    /// It may start.
    Granted(Key),
    /// It is about to start.
    Started(Key),
    /// It has ended.
    Ended {
        /// Which.
        key: Key,
        /// How.
        outcome: WireOutcome,
        /// When it began.
        started_micros: i64,
        /// When it ended.
        finished_micros: i64,
    },
    /// Its end was acknowledged.
    Settled(Key),
    /// The run is over.
    Forgotten {
        /// The run.
        run: u32,
    },
    /// It was declined, and stays so.
    Declined(Key),
}

/// What is in the bytes of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Records; what is behind the first `bytes` is the rest of a batch that was not written in full.
    Records {
        /// What was recorded.
        records: Vec<Record>,
        /// How much of the file they are.
        bytes: usize,
    },
    /// A batch that was on disk once is not what it was.
    Damaged {
        /// Where it begins, in bytes.
        at: usize,
    },
}

/// The frame of a batch.
#[must_use]
pub fn encode(records: &[Record]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    // Writing to memory does not fail, and our own types have no form that cannot be encoded.
    let written = bincode::encode_into_std_write(records, &mut frame, bincode::config::standard());
    debug_assert!(written.is_ok());
    let (length, crc) = (frame.len() - HEADER_BYTES, crc32fast::hash(&frame[HEADER_BYTES..]));
    frame[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// What the bytes of a journal say.
#[must_use]
pub fn decode(bytes: &[u8]) -> Content {
    let (mut records, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let Some((header, body)) = rest.split_at_checked(HEADER_BYTES) else { break };
        let number = |from: usize| {
            header[from..from + 4].iter().rev().fold(0_usize, |number, &byte| number << 8 | usize::from(byte))
        };
        let (length, crc) = (number(0), number(4));
        let frame = body.get(..length).filter(|frame| crc32fast::hash(frame) as usize == crc);
        let batch = frame.and_then(|frame| {
            let config = bincode::config::standard().with_limit::<{ 4 * MAX_BATCH_BYTES }>();
            let (batch, used) = bincode::decode_from_slice::<Vec<Record>, _>(frame, config).ok()?;
            (used == length).then_some(batch)
        });
        let Some(batch) = batch else {
            // A file system may have made the file longer and not yet written into it: those bytes are zeros.
            let is_last = body.len() <= length || rest.iter().all(|&byte| byte == 0);
            return match is_last {
                true => Content::Records { records, bytes: at },
                false => Content::Damaged { at },
            };
        };
        records.extend(batch);
        at += HEADER_BYTES + length;
    }
    Content::Records { records, bytes: at }
}

#[cfg(test)]
mod tests;
