//! Plans of a state directory: the texts that its runs were submitted with, by their SHA-256.
//!
//! A plan is stored before the event that names it, and never changes.

use crate::store::IoFailure;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why a stored plan cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The file is not the one that was stored.
    #[error("the stored plan {} was changed: its hash is {found}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The hash that it has now.
        found: String,
    },
}

/// The name of a plan: SHA-256 of its text, in hexadecimal.
#[must_use]
pub fn hash(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::with_capacity(64), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Where the plan of that hash is kept.
#[must_use]
pub fn path(state_directory: &Path, hash: &str) -> PathBuf {
    state_directory.join("plans").join(format!("{hash}.plan"))
}

/// Keeps a plan durably and gives its hash. What is there already under its name is left alone if it is the same, and
/// mended if it is not.
///
/// # Errors
/// A file operation failed; then nothing new is there under that name.
pub fn save(state_directory: &Path, text: &str) -> Result<String, PlanError> {
    let hash = hash(text);
    let path = path(state_directory, &hash);
    let failed = |doing: &'static str| {
        let path = path.clone();
        move |source: io::Error| PlanError::Io(IoFailure { doing, path, source })
    };
    let directory = state_directory.join("plans");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(failed("make the directory of"))?;
    if fs::read(&path).is_ok_and(|kept| kept == text.as_bytes()) {
        // Whoever wrote it may have been killed before its name was durable.
        sync(&directory).and_then(|()| sync(state_directory)).map_err(failed("sync the directory of"))?;
        return Ok(hash);
    }
    let draft = directory.join(format!("{hash}.{}.tmp", std::process::id()));
    let written = write_synced(&draft, text).and_then(|()| fs::rename(&draft, &path));
    if let Err(error) = written {
        // What is left of the draft only takes room.
        let _ = fs::remove_file(&draft);
        return Err(failed("write")(error));
    }
    // The directory itself may be new: its name must last, too.
    sync(&directory).and_then(|()| sync(state_directory)).map_err(failed("sync the directory of"))?;
    Ok(hash)
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The text of a plan.
///
/// # Errors
/// It is not there, cannot be read, or is not what was stored.
pub fn load(state_directory: &Path, wanted: &str) -> Result<String, PlanError> {
    let path = path(state_directory, wanted);
    let text = fs::read_to_string(&path).map_err(|source| IoFailure {
        doing: "read the stored plan",
        path: path.clone(),
        source,
    })?;
    let found = hash(&text);
    if found == wanted { Ok(text) } else { Err(PlanError::Changed { path, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_kept_once_and_checked_when_read() {
        let state = tempfile::tempdir().expect("a directory");
        let first = save(state.path(), "version: 1").expect("saved");
        assert_eq!(save(state.path(), "version: 1").expect("saved"), first);
        assert_eq!(load(state.path(), &first).expect("loaded"), "version: 1");
        fs::write(path(state.path(), &first), "version: 2").expect("written");
        assert!(matches!(load(state.path(), &first), Err(PlanError::Changed { .. })));
        assert!(matches!(load(state.path(), "00"), Err(PlanError::Io(_))));
    }

    #[test]
    fn a_plan_that_was_changed_is_mended_by_the_next_run_of_it() {
        let state = tempfile::tempdir().expect("a directory");
        let hash = save(state.path(), "version: 1").expect("saved");
        fs::write(path(state.path(), &hash), "version: 2").expect("written");
        assert_eq!(save(state.path(), "version: 1").expect("saved"), hash);
        assert_eq!(load(state.path(), &hash).expect("loaded"), "version: 1");
    }

    #[test]
    fn a_plan_that_cannot_be_kept_leaves_nothing_behind() {
        let state = tempfile::tempdir().expect("a directory");
        // A directory stands where the plan should.
        let taken = path(state.path(), &hash("version: 1"));
        fs::create_dir_all(taken.join("inside")).expect("made");
        assert!(matches!(save(state.path(), "version: 1"), Err(PlanError::Io(_))));
        let names = fs::read_dir(state.path().join("plans")).expect("listed");
        assert_eq!(names.count(), 1, "no draft is left");
    }
}
