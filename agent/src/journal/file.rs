//! The file of a journal.

use super::{Content, Record, decode, encode};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// What the file had right after it was last rewritten.
    rewritten_bytes: u64,
}

/// What was in a journal when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    New,
    /// Records.
    Records {
        /// What was recorded.
        records: Vec<Record>,
        /// How much a crash had left behind them.
        cut_bytes: u64,
    },
    /// It was damaged: nothing of it was used.
    Damaged {
        /// Where the damaged file is now.
        kept_as: PathBuf,
        /// Where the damage begins, in bytes.
        at: u64,
    },
}

/// A batch is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The file has grown so much that it should be [rewritten](Journal::rewrite).
    pub is_long: bool,
}

/// The journal cannot be used. What it was to promise cannot be promised: its owner must stop.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} the journal {}", path.display())]
pub struct JournalError {
    /// What was tried.
    pub doing: &'static str,
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A journal below this is not rewritten: to read it takes some milliseconds.
const MIN_REWRITE_BYTES: u64 = 4 << 20;

/// How many times longer than what it must hold a journal may become.
const REWRITE_FACTOR: u64 = 4;

impl Journal {
    /// Opens the journal at `path`, or begins one. Its owner holds the lock of the directory.
    ///
    /// # Errors
    /// The file cannot be read, or made ready to be written to.
    pub fn open(path: &Path) -> Result<(Self, Opened), JournalError> {
        let failed = |doing| move |source| JournalError { doing, path: path.to_owned(), source };
        let (opened, bytes) = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Opened::New, 0),
            Err(source) => return Err(failed("read")(source)),
            Ok(content) if content.is_empty() => (Opened::New, 0),
            Ok(content) => match decode(&content) {
                Content::Records { records, bytes } => {
                    let cut_bytes = (content.len() - bytes) as u64;
                    (Opened::Records { records, cut_bytes }, bytes as u64)
                }
                Content::Damaged { at } => {
                    let kept_as = free_name(path);
                    fs::rename(path, &kept_as).map_err(failed("put aside"))?;
                    (Opened::Damaged { kept_as, at: at as u64 }, 0)
                }
            },
        };
        let file = open_for_appending(path).map_err(failed("open"))?;
        // The cut must be on disk before something is written behind it.
        file.set_len(bytes).and_then(|()| file.sync_all()).map_err(failed("cut"))?;
        sync_directory(path).map_err(failed("sync the directory of"))?;
        Ok((Self { path: path.to_owned(), file, bytes, rewritten_bytes: bytes }, opened))
    }

    /// Writes a batch and waits until it is on disk.
    ///
    /// # Errors
    /// It is not, and it is not known how much of it is: the journal must not be used any more.
    pub fn append(&mut self, records: &[Record]) -> Result<Appended, JournalError> {
        let frame = encode(records);
        self.file.write_all(&frame).map_err(|source| self.failed("write to", source))?;
        self.file.sync_data().map_err(|source| self.failed("sync", source))?;
        self.bytes += frame.len() as u64;
        let is_long = self.bytes > MIN_REWRITE_BYTES.max(self.rewritten_bytes * REWRITE_FACTOR);
        Ok(Appended { is_long })
    }

    /// Replaces all records by these, in one step.
    ///
    /// # Errors
    /// As for [`Journal::append`].
    pub fn rewrite(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let new = self.path.with_extension("new");
        let frame = encode(records);
        let written = || {
            let mut file = File::create(&new)?;
            file.write_all(&frame)?;
            file.sync_all()?;
            drop(file);
            fs::rename(&new, &self.path)?;
            sync_directory(&self.path)?;
            open_for_appending(&self.path)
        };
        self.file = written().map_err(|source| self.failed("rewrite", source))?;
        self.bytes = frame.len() as u64;
        self.rewritten_bytes = self.bytes;
        Ok(())
    }

    /// The length of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> JournalError {
        JournalError { doing, path: self.path.clone(), source }
    }
}

fn open_for_appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A name beside `path` that is not taken.
fn free_name(path: &Path) -> PathBuf {
    let names = (1_u32..).map(|number| path.with_extension(format!("damaged-{number}")));
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| path.with_extension("damaged"))
}
