//! An exclusive lock on a directory that says who holds it.
//!
//! The lock is the kernel's (`flock` on a file that stays open), so it ends with its holder however that ends: after
//! `kill -9` it is free, and no process number needs to be judged. The file's text only tells people, and the one who
//! is refused, who the holder is. The file is never removed: two processes could then hold locks on two files of the
//! same name.
//!
//! Not here: waiting for a lock, shared locks, network file systems without `flock`.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cairn_model::Timestamp;

use super::error::IoFailure;

/// Most of a lock file that is read: what another program wrote there is not ours to hold in memory.
const MAX_LOCK_FILE_BYTES: u64 = 64 << 10;

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The kernel's name for the time since the machine was started; process numbers mean nothing beyond it.
    pub boot_id: String,
    /// When the process was started, in clock ticks after boot: with it a process number is unmistakable.
    pub started_ticks: u64,
    /// The machine's name.
    pub host: String,
    /// The command line, for people.
    pub command: String,
    /// Since when it holds the lock, for people: RFC 3339.
    pub since: String,
}

impl Holder {
    /// This process, which was called as `command` and takes a lock at `now`. What the system does not tell stays
    /// empty; only messages suffer.
    #[must_use]
    pub fn this_process(command: impl Into<String>, now: Timestamp) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            boot_id: boot_id(),
            started_ticks: started_ticks(pid).unwrap_or(0),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            command: command.into(),
            since: now.to_string(),
        }
    }

    /// Whether the process still runs. A process on another machine, or before the last start of this one, does not
    /// as far as this machine can tell.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.boot_id == boot_id() && started_ticks(self.pid) == Some(self.started_ticks)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, host, command, since, .. } = self;
        write!(f, "`{command}`, process {pid} on {host}, since {since}")
    }
}

/// A lock, held until this is dropped or the process ends.
#[derive(Debug)]
#[must_use = "the lock is held only as long as this lives"]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("`{}` is in use: held by {}", path.display(), describe(holder.as_deref()))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder says of itself, if it can be read.
        holder: Option<Box<Holder>>,
    },
    /// The lock could not be tried.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

fn describe(holder: Option<&Holder>) -> String {
    match holder {
        None => "a process that has not said who it is".to_owned(),
        Some(holder) if holder.is_running() || holder.boot_id != boot_id() => holder.to_string(),
        Some(holder) => format!("a process that was started by {holder}, which has ended itself"),
    }
}

impl Lock {
    /// Takes the lock at `path`, creating the file if need be, and writes `holder` into it. Does not wait.
    ///
    /// # Errors
    /// [`LockError::Held`] with what the other holder says of itself, or an IO error.
    pub fn acquire(path: &Path, holder: &Holder) -> Result<Self, LockError> {
        let failed = |doing| move |source| IoFailure { doing, path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: read_holder(&mut file).map(Box::new),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source).into()),
        }
        let mut text = serde_json::to_vec(holder).expect("a holder is plain text and numbers");
        text.push(b'\n');
        // Cut after writing, not before: some file systems wait for the disk when a file was emptied.
        file.write_all(&text).and_then(|()| file.set_len(text.len() as u64)).map_err(failed("write"))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would do as well, but a child that is being started may still have a copy of it.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(path = %self.path.display(), %error, "could not let go of the lock");
        }
    }
}

/// What the holder of the lock at `path` says of itself, without trying to take it. `None` if nobody ever held it or
/// the text cannot be read.
#[must_use]
pub fn last_holder(path: &Path) -> Option<Holder> {
    read_holder(&mut File::open(path).ok()?)
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.take(MAX_LOCK_FILE_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

/// Field 22 of `/proc/PID/stat` (proc(5)): when the process was started. The second field, the program's name, may
/// hold spaces and parentheses, so counting begins behind its last parenthesis. A zombie holds nothing any more.
fn started_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests;
