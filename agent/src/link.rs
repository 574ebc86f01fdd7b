//! What keeper and child say to each other, over the socket that the keeper hands to each child as its standard input.
//!
//! Frames: a length (u32, little-endian) and bincode. Both sides are of one program, so the form may change with it:
//! [`LINK`] rises, and a keeper whose program was replaced on disk meanwhile starts its children from the file that it
//! still has open.
//!
//! Not here: what is said between machines ([`cairn_shared::message::wire`]), though much of it goes through here.

use bincode::{Decode, Encode};
use cairn_shared::message::trace::TraceContext;
use cairn_shared::message::wire::{Held, Hello, RunOrders, WireReport};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The version of what is said here.
pub const LINK: u16 = 2;

/// What [`Setup::queue_type`] says for queues on several brokers.
pub const QUORUM: &str = "quorum";

/// Bytes of a frame at most: orders of one message, in another form.
const MAX_FRAME_BYTES: usize = 8 << 20;

/// What the keeper says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToChild {
    /// What to be. The first frame.
    Setup(Box<Setup>),
    /// Tell a coordinator that the agent lives, and answer [`ToKeeper::Alive`].
    Beat(Box<Beat>),
    /// Tell a coordinator.
    Reports {
        /// The run.
        run: String,
        /// The run's trace, if it is known.
        trace: Option<TraceContext>,
        /// What there is to say.
        reports: Vec<WireReport>,
    },
    /// All that the orders of a delivery asked for is durable, and its reports are in the frames before this one.
    Taken {
        /// Which, as the child counts them.
        delivery: u64,
    },
    /// How many attempts the agent takes from a shared queue now.
    Room(u32),
    /// A task may write output.
    Started(LogName),
    /// A task writes no more output.
    Ended(LogName),
    /// A task has ended that has printed nothing: there is no log.
    Silent(LogName),
    /// Say that the agent ends in good order, and end.
    Goodbye,
}

/// What the child says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum ToKeeper {
    /// It runs. The first frame; its form never changes.
    Attached {
        /// Its [`LINK`].
        link: u16,
    },
    /// It has done what the beat asked for.
    Alive,
    /// Whether messages flow.
    Linked(bool),
    /// A coordinator has welcomed the agent.
    Welcomed {
        /// How long an attempt may go on without an answered beat.
        lease_millis: u64,
        /// How often to beat.
        heartbeat_millis: u64,
    },
    /// A beat was answered.
    Answered {
        /// Which.
        sequence: u64,
    },
    /// A coordinator says whether to take new work.
    Drain(bool),
    /// Orders of one delivery.
    Orders {
        /// Which, as the child counts them.
        delivery: u64,
        /// They come from a queue that agents share.
        shared: bool,
        /// The trace that they came with.
        trace: Option<TraceContext>,
        /// The orders.
        orders: RunOrders,
    },
    /// All output of a task is with the broker.
    Shipped(LogName),
    /// Goodbye was said.
    Done,
}

/// What a child is started with.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Setup {
    /// How to introduce the agent; whether it is draining is told by each beat.
    pub hello: Hello,
    /// Where messages go.
    pub transport: String,
    /// Certificates (PEM) that vouch for it besides those of the system.
    pub certificate_authority: Option<String>,
    /// Which kind of queue to ask a broker for; its default if nobody said.
    pub queue_type: Option<String>,
    /// Where to serve HTTP; nowhere if empty.
    pub listen: String,
    /// The directory of the agent.
    pub directory: String,
}

/// A sign of life, and what people may want to know.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub struct Beat {
    /// Counts up.
    pub sequence: u64,
    /// The agent takes nothing new.
    pub draining: bool,
    /// What it holds.
    pub holds: Vec<Held>,
    /// How it stands.
    pub status: Status,
}

/// How the keeper stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
pub struct Status {
    /// Processes that run.
    pub processes: u32,
    /// Attempts that wait or run.
    pub busy: u32,
    /// Orders that were refused because they were stale.
    pub stale_orders: u64,
    /// The lease has ended; `None` before the first one.
    pub lease_held: Option<bool>,
    /// Batches appended to the journal so far.
    pub appends: u64,
    /// How long the newest of them took, in microseconds.
    pub append_micros: u64,
    /// How often a child was started again.
    pub restarts: u64,
}

/// A log, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LogName {
    /// The run.
    pub run: String,
    /// `MILESTONE/TASK`.
    pub task: String,
    /// The attempt's number.
    pub attempt: u32,
}

impl LogName {
    /// The file, relative to the directory of logs.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}.{}.log", self.run, self.task, self.attempt)
    }

    /// What the file is called that is at that path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let (run, rest) = path.split_once('/')?;
        let (task, attempt) = rest.strip_suffix(".log")?.rsplit_once('.')?;
        Some(Self { run: run.to_owned(), task: task.to_owned(), attempt: attempt.parse().ok()? })
    }
}

/// Reads frames.
#[derive(Debug)]
pub struct Reader(BufReader<OwnedReadHalf>);

/// Writes frames.
#[derive(Debug)]
pub struct Writer(OwnedWriteHalf);

impl Reader {
    /// Frames of this half of a socket.
    #[must_use]
    pub fn new(half: OwnedReadHalf) -> Self {
        Self(BufReader::new(half))
    }

    /// The next frame; `None` when the other side is gone. To be awaited to its end.
    ///
    /// # Errors
    /// What is read is no frame, or the socket fails.
    pub async fn next<T: Decode<()>>(&mut self) -> io::Result<Option<T>> {
        let length = match self.0.read_u32_le().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            length => length? as usize,
        };
        if length > MAX_FRAME_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        let config = bincode::config::standard().with_limit::<{ 4 * MAX_FRAME_BYTES }>();
        let decoded = bincode::decode_from_slice(&body, config);
        decoded
            .map(|(frame, _)| Some(frame))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Writer {
    /// Frames into this half of a socket.
    #[must_use]
    pub fn new(half: OwnedWriteHalf) -> Self {
        Self(half)
    }

    /// Writes frames together.
    ///
    /// # Errors
    /// The other side is gone, or a frame is too long.
    pub async fn write<T: Encode>(&mut self, frames: &[T]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            let at = bytes.len();
            bytes.extend([0; 4]);
            bincode::encode_into_std_write(frame, &mut bytes, bincode::config::standard())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let length = bytes.len() - at - 4;
            let length = u32::try_from(length).ok().filter(|&length| length as usize <= MAX_FRAME_BYTES);
            let Some(length) = length else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
            };
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        self.0.write_all(&bytes).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    fn pair() -> (Writer, Reader) {
        let (one, other) = UnixStream::pair().unwrap();
        (Writer::new(one.into_split().1), Reader::new(other.into_split().0))
    }

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent_and_an_end_is_an_end() {
        let (mut writer, mut reader) = pair();
        let name = LogName { run: "apollo.1".into(), task: "build/unit".into(), attempt: 2 };
        let frames = [ToKeeper::Alive, ToKeeper::Shipped(name), ToKeeper::Linked(true)];
        writer.write(&frames).await.unwrap();
        drop(writer);
        for frame in frames {
            assert_eq!(reader.next().await.unwrap(), Some(frame));
        }
        assert_eq!(reader.next::<ToKeeper>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error() {
        for bytes in [&[255, 255, 255, 255][..], &[1, 0, 0, 0, 99]] {
            let (mut writer, mut reader) = pair();
            writer.0.write_all(bytes).await.unwrap();
            assert!(reader.next::<ToKeeper>().await.is_err());
        }
    }

    #[test]
    fn a_log_is_found_by_its_name_and_named_by_its_file() {
        let name = LogName { run: "apollo.1".into(), task: "build/a.b#1".into(), attempt: 12 };
        assert_eq!(name.path(), "apollo.1/build/a.b#1.12.log");
        assert_eq!(LogName::of_path(&name.path()), Some(name));
        assert_eq!(LogName::of_path("apollo.1/x.log"), None);
    }
}
