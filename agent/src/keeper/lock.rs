//! One keeper for each directory of an agent: a lock of the kernel on a file that says who holds it.
//!
//! A child whose keeper has died holds it while it ends what the keeper's tasks left: a new keeper waits for that.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most of a lock file that is read.
const MAX_TEXT_BYTES: u64 = 4 << 10;

/// How long a new keeper waits for a child of a dead one: the grace of its tasks, and what killing takes.
const SWEEP_PATIENCE: Duration = Duration::from_secs(30);

/// How long the files of a dead process may take to be closed.
const DEATH_PATIENCE: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
const SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// What the lock file begins with while a child sweeps.
const SWEEPING: &str = "sweeping: ";

/// A lock, held until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("`{}` is in use: held by {holder}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder says of itself.
        holder: String,
    },
    /// It could not be tried.
    #[error("cannot lock `{}`", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of an agent's directory for a keeper.
    ///
    /// # Errors
    /// Somebody has it, or the system refuses.
    pub fn of_keeper(directory: &Path, command: &str) -> Result<Self, LockError> {
        let mut left = SWEEP_PATIENCE;
        loop {
            match Self::acquire(directory, &format!("`{command}`, process {}", std::process::id())) {
                Err(LockError::Held { holder, .. }) if is_passing(&holder) && !left.is_zero() => {
                    std::thread::sleep(SWEEP_INTERVAL);
                    left = left.saturating_sub(SWEEP_INTERVAL);
                }
                result => return result,
            }
        }
    }

    /// Takes it for a child whose keeper is gone. The system closes the files of a dead process one by one: the lock may
    /// be the last of them.
    ///
    /// # Errors
    /// A new keeper has it already.
    pub fn of_child(directory: &Path) -> Result<Self, LockError> {
        let mut left = DEATH_PATIENCE;
        loop {
            match Self::acquire(directory, &format!("{SWEEPING}process {}", std::process::id())) {
                Err(LockError::Held { .. }) if !left.is_zero() => {
                    std::thread::sleep(SWEEP_INTERVAL);
                    left = left.saturating_sub(SWEEP_INTERVAL);
                }
                result => return result,
            }
        }
    }

    fn acquire(directory: &Path, holder: &str) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                // What cannot be read only makes the message shorter.
                let _ = file.take(MAX_TEXT_BYTES).read_to_end(&mut text);
                let text = String::from_utf8_lossy(&text).trim_end().to_owned();
                let holder =
                    if text.is_empty() { "a process that has not said who it is".to_owned() } else { text };
                return Err(LockError::Held { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let text = format!("{holder}\n");
        file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64)).map_err(failed)?;
        Ok(Self(file))
    }
}

/// Whether whoever holds a lock will not for long: a child that sweeps, or one that has not come to say so, which shows by
/// the name of a keeper that is dead.
fn is_passing(holder: &str) -> bool {
    let keeper = holder.rsplit_once("process ").and_then(|(_, id)| id.parse::<u32>().ok());
    let is_alive = |id: u32| Path::new("/proc").join(id.to_string()).exists();
    holder.starts_with(SWEEPING) || !keeper.is_some_and(is_alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeper_is_refused_and_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::of_keeper(directory.path(), "cairn agent --id a-rather-long-name").unwrap();
        let refused = Lock::of_keeper(directory.path(), "cairn agent").unwrap_err().to_string();
        assert!(refused.contains("`cairn agent --id a-rather-long-name`, process"), "{refused}");
        assert!(Lock::of_child(directory.path()).is_err());
        drop(first);
        // A process that another test is just starting has the lock for as long as it takes to become its program.
        let mut tries = 0..1_000;
        while let Err(error) = Lock::of_keeper(directory.path(), "x") {
            assert!(tries.next().is_some(), "{error}");
            std::thread::yield_now();
        }
    }

    /// The child of a dead keeper has the lock, and has not said so yet.
    #[test]
    fn a_lock_in_the_name_of_a_dead_process_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        // No process can have that number.
        let child = Lock::acquire(directory.path(), "`cairn agent`, process 4194305").unwrap();
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| Lock::of_keeper(directory.path(), "cairn agent").map(drop));
            drop(child);
            keeper.join().unwrap().unwrap();
        });
        assert!(is_passing("") && is_passing("sweeping: process 1") && is_passing("`x`, process 4194305"));
        assert!(!is_passing(&format!("`cairn agent`, process {}", std::process::id())));
    }

    #[test]
    fn a_keeper_waits_for_a_child_that_sweeps() {
        let directory = tempfile::tempdir().unwrap();
        let child = Lock::of_child(directory.path()).unwrap();
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| Lock::of_keeper(directory.path(), "cairn agent").map(drop));
            drop(child);
            keeper.join().unwrap().unwrap();
        });
    }
}
