//! What can go wrong with a store, in words that say what happened, where, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::lock::LockError;
use super::record::{MAX_APPEND_BYTES, MAX_STREAM_ID_BYTES, StreamId};

/// Why an append was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream is not where the append expected it: another owner has written, or an append before this failed.
    #[error("stream {stream} is at version {actual}, not at {expected}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// The version that the stream had to have: one less than the record's first.
        expected: u64,
        /// The version that it has.
        actual: u64,
    },
    /// The stream has an owner with a higher epoch.
    #[error("stream {stream} belongs to epoch {current}; epoch {epoch} is over")]
    Fenced {
        /// The stream.
        stream: StreamId,
        /// The epoch of the append.
        epoch: u64,
        /// The epoch of the stream.
        current: u64,
    },
    /// The append can never be made as it is.
    #[error(transparent)]
    Invalid(#[from] InvalidAppend),
    /// Too much is under way. Await room and submit again.
    #[error("{in_flight_bytes} bytes are waiting to be written, more than a store takes on; wait for room")]
    Full {
        /// Bytes submitted and not yet answered.
        in_flight_bytes: usize,
    },
    /// The store has stopped taking appends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The store was closed before it answered.
    #[error("the store was closed")]
    Closed,
}

/// What is wrong with an append itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAppend {
    /// There is nothing in it.
    #[error("an append needs at least one record")]
    NoRecords,
    /// It is larger than a store keeps in one piece.
    #[error("an append of {bytes} bytes is over the limit of {MAX_APPEND_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A stream without a name, or with one that is too long or has control characters.
    #[error(
        "a stream's name has 1 to {MAX_STREAM_ID_BYTES} bytes and no control characters; this one has {bytes}"
    )]
    StreamName {
        /// The name's size.
        bytes: usize,
    },
    /// A record that holds no event, or begins at version 0.
    #[error("a record of stream {stream} holds no event, or begins at version 0")]
    NoEvents {
        /// Its stream.
        stream: StreamId,
    },
    /// Versions beyond what can be counted.
    #[error("a record of stream {stream} goes beyond the last version, from {first_version}")]
    Version {
        /// Its stream.
        stream: StreamId,
        /// Its first version.
        first_version: u64,
    },
    /// An epoch beyond what a database can count.
    #[error("epoch {epoch} is beyond the last one, {}", i64::MAX)]
    Epoch {
        /// The epoch.
        epoch: u64,
    },
    /// A body that is empty or holds a control character.
    #[error("the body at version {first_version} of stream {stream} is empty or holds a control character")]
    Body {
        /// Its stream.
        stream: StreamId,
        /// Its first version.
        first_version: u64,
    },
}

/// The failure after which a store takes no more appends until the process starts again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store has stopped: {doing} failed for `{}`", path.display())]
pub struct Stopped {
    /// What was being done, as a noun phrase: `a write`.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub cause: Arc<io::Error>,
}

/// A file operation that failed outside an append.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing} `{}`", path.display())]
pub struct IoFailure {
    /// What was being done, as a verb: `read`.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What is wrong with a log that was looked into, when it was opened or by a reader.
#[derive(Debug)]
pub(super) enum LogFault {
    Damaged(Damage),
    Schema(SchemaError),
    Io(IoFailure),
}

impl From<Damage> for LogFault {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<SchemaError> for LogFault {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}

impl From<IoFailure> for LogFault {
    fn from(failure: IoFailure) -> Self {
        Self::Io(failure)
    }
}

impl From<LogFault> for OpenError {
    fn from(fault: LogFault) -> Self {
        match fault {
            LogFault::Damaged(damage) => damage.into(),
            LogFault::Schema(error) => error.into(),
            LogFault::Io(failure) => failure.into(),
        }
    }
}

impl From<LogFault> for ReadError {
    fn from(fault: LogFault) -> Self {
        match fault {
            LogFault::Damaged(damage) => damage.into(),
            LogFault::Schema(error) => error.into(),
            LogFault::Io(failure) => failure.into(),
        }
    }
}

/// Why a database cannot be used as a store, though nothing is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It was made by a later version.
    #[error(
        "the database `{}` has schema version {found}, and this version of cairn knows {known} at most; use a \
         version of cairn at least as new as the one that wrote it", database.display()
    )]
    Newer {
        /// The database.
        database: PathBuf,
        /// The schema version that it has.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// It was made by another program, or is no database at all.
    #[error(
        "`{}` was not made by cairn; nothing was changed; move it away, or use another state directory \
         (`--state DIR`)", database.display()
    )]
    Foreign {
        /// The database.
        database: PathBuf,
    },
    /// There is none in it yet.
    #[error("there are no events in `{}`; whoever writes to it first makes room for them", database.display())]
    Absent {
        /// The database.
        database: PathBuf,
    },
    /// It is set up so that events would not be safe in it.
    #[error("the database `{}` cannot keep events: {reason}", database.display())]
    Unfit {
        /// The database.
        database: PathBuf,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
}

/// Why a store could not be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to it, or the lock could not be tried.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be trusted.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The database is of a later version or of another program.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log cannot be trusted from there on.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The database is of a later version or of another program.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The runtime is shutting down and takes no more work.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// A place where a log is not what was written. Nothing is changed by finding it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log is damaged: `{}`, {}, at event {position}: {reason}; nothing was changed; {}",
    file.display(), reason.place(*offset), reason.remedy()
)]
pub struct Damage {
    /// The file, or the database.
    pub file: PathBuf,
    /// Where in it the line begins that is not right; 0 in a database, where the reason names the table.
    pub offset: u64,
    /// The position of the event that should be there; all events before it are good.
    pub position: u64,
    /// What is wrong.
    pub reason: DamageReason,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DamageReason {
    /// A complete line whose checksum does not match.
    #[error("the line does not match its checksum")]
    Checksum,
    /// A line of another length than it says.
    #[error("the line does not have the length that it announces")]
    Length,
    /// A line whose checksum matches but that does not say what a line says.
    #[error("the line is not of the form that this version writes")]
    Form,
    /// Text that is no line at all, where lines follow or came before.
    #[error("there is no line here")]
    NoLine,
    /// A line cut short that is not the last of the log.
    #[error("the line is cut short, and the log goes on after it")]
    CutShort,
    /// A line that does not continue the line before it.
    #[error("the line does not follow the one before it (position, version, epoch or hash chain)")]
    Sequence,
    /// A file whose beginning does not continue the file before it, or belongs to another log.
    #[error("the file does not continue the one before it, or belongs to another log")]
    Segment,
    /// A file that should be there is not.
    #[error("the file that holds this event is missing")]
    Missing,
    /// A file written by a later version.
    #[error("the file has format {format}, which this version does not know")]
    Format {
        /// The format that it says it has.
        format: u64,
    },
    /// Something in a table of a database.
    #[error(transparent)]
    Table(#[from] TableFlaw),
}

/// What is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFlaw {
    /// What was committed is not there: the write-ahead log was deleted after a crash, or this is an older database.
    #[error(
        "the log ended at event {noted}, and the database does not have it (it ends at event {found}): its `-wal` file \
         was removed, or an older database was put here; to go on without what is missing, remove the `-end` file"
    )]
    Shorter {
        /// The end that was noted.
        noted: u64,
        /// The end that was found.
        found: u64,
    },
    /// A row of the records that does not match its checksum.
    #[error("the row does not match its checksum")]
    Checksum,
    /// A row of the records that holds what no record holds.
    #[error("the row is not of the form that this version writes")]
    Form,
    /// A row of the records that does not continue the one before it, or is missing.
    #[error(
        "the row does not follow the one before it (position, version, epoch or hash chain), or is missing"
    )]
    Sequence,
    /// A stream's row that does not agree with its records.
    #[error("the end of stream {stream} is not that of its records")]
    Stream {
        /// The stream.
        stream: StreamId,
    },
    /// What the database itself finds wrong with its tables and indices.
    #[error("the database says: {found}")]
    Structure {
        /// Its words.
        found: Box<str>,
    },
}

impl TableFlaw {
    fn place(&self) -> &'static str {
        match self {
            Self::Checksum | Self::Form | Self::Sequence | Self::Shorter { .. } => "table `records`",
            Self::Stream { .. } => "table `streams`",
            Self::Structure { .. } => "the database's structure",
        }
    }
}

impl DamageReason {
    /// Where it is: in a file at `offset`, in a database by the table.
    fn place(&self, offset: u64) -> String {
        match self {
            Self::Table(flaw) => flaw.place().to_owned(),
            _ => format!("byte {offset}"),
        }
    }

    /// What a person can do about it.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Format { .. } => "use a version of cairn at least as new as the one that wrote it",
            Self::Missing => "put the file back, or restore the state directory from a backup",
            Self::Checksum
            | Self::Length
            | Self::Form
            | Self::NoLine
            | Self::CutShort
            | Self::Sequence
            | Self::Segment
            | Self::Table(_) => {
                "restore the state directory from a backup, or use another one (`--state DIR`)"
            }
        }
    }
}

/// Something that was put right without loss, and that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The end of the log was incomplete: the process or the machine stopped while it was written. It was never
    /// acknowledged.
    TailCut {
        /// The file.
        file: PathBuf,
        /// Where it ends now; 0 if the whole file was taken away.
        offset: u64,
        /// How much was cut off.
        bytes_cut: u64,
        /// The last event that is left.
        after_position: u64,
    },
    /// A snapshot was passed over; the state is rebuilt from an older one or from the log.
    SnapshotIgnored {
        /// Its file.
        file: PathBuf,
        /// Why.
        flaw: SnapshotFlaw,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TailCut { file, offset, bytes_cut, after_position } => write!(
                f,
                "truncated {bytes_cut} bytes after event {after_position}: the end of `{}` (from byte {offset}) was \
                 incomplete and had never been acknowledged",
                file.display()
            ),
            Self::SnapshotIgnored { file, flaw } => {
                write!(f, "ignored the snapshot `{}` ({flaw}); it is rebuilt from the log", file.display())
            }
        }
    }
}

/// Why a snapshot is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFlaw {
    /// It does not match its checksum, or is cut short.
    #[error("it is damaged")]
    Damaged,
    /// It was written by a later version.
    #[error("it has format {format}, which this version does not know")]
    Format {
        /// The format that it says it has.
        format: u64,
    },
    /// It belongs to another log or to another name.
    #[error("it belongs to another log")]
    OtherLog,
    /// It includes events that the log does not have.
    #[error("it is at event {position}, and the log ends at {head}")]
    AheadOfLog {
        /// Its position.
        position: u64,
        /// The end of the log.
        head: u64,
    },
}

/// Why a snapshot was not saved, or none could be looked for.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It includes events that are not durable.
    #[error("the snapshot {name} is at event {position}, but only {durable} are durable")]
    AheadOfLog {
        /// Its name.
        name: String,
        /// Its position.
        position: u64,
        /// The end of what is durable.
        durable: u64,
    },
    /// A name that cannot be used.
    #[error("a snapshot's name has 1 to {MAX_STREAM_ID_BYTES} bytes, not {bytes}")]
    Name {
        /// The name's size.
        bytes: usize,
    },
    /// The log that it has to fit cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The runtime is shutting down and takes no more work.
    #[error("the process is shutting down")]
    ShuttingDown,
}
