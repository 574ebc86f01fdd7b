//! Which store of a state directory is in force, and opening it.
//!
//! A state directory keeps its events in files unless its pointer says otherwise: the file `store` in it, one line, the
//! address of the store. A store inside the directory itself is told by its kind alone (`sqlite`), so that the directory
//! can be moved. The pointer is replaced atomically; whoever opens a store reads it first.
//!
//! Not here: moving events from one store to another.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::error::{IoFailure, Notice, OpenError, ReadError};
use super::event_reader::EventReader;
use super::event_store::EventStore;
use super::file::{self, FileStore, LogReader};
use super::lock::Holder;
use super::sqlite::{self, SqliteReader, SqliteStore};
use super::url::{StoreUrl, StoreUrlError};

/// The pointer's name in a state directory.
const POINTER: &str = "store";

/// Most of a pointer that is read: an address is shorter.
const MAX_POINTER_BYTES: u64 = 4_096;

/// Why it is not known which store is in force.
#[derive(Debug, thiserror::Error)]
pub enum InForceError {
    /// The pointer holds something else.
    #[error("`{}` does not name a store: {source}", path.display())]
    Pointer {
        /// The pointer.
        path: PathBuf,
        /// What is wrong with it.
        source: StoreUrlError,
    },
    /// The events are elsewhere than the configuration says.
    #[error("the events are in {in_force}, not in {configured}: name {in_force} in `store` or `stores`")]
    Elsewhere {
        /// Where they are.
        in_force: StoreUrl,
        /// What was configured.
        configured: StoreUrl,
    },
    /// The pointer cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

/// A store that was opened for writing.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn EventStore>,
    /// The identity of its log.
    pub store_id: Uuid,
    /// What was put right.
    pub notices: Vec<Notice>,
}

/// Which store of the state directory `state` is in force. `configured` is what a new state directory gets; one that
/// has moved elsewhere may only be opened there if `permitted` names the place, or nothing was configured.
///
/// # Errors
/// The pointer cannot be read, or contradicts the configuration.
pub fn in_force(
    state: &Path,
    configured: Option<&StoreUrl>,
    permitted: &[StoreUrl],
) -> Result<StoreUrl, InForceError> {
    let path = state.join(POINTER);
    let in_force = match read_pointer(&path) {
        Ok(None) => None,
        Ok(Some(bytes)) => {
            Some(parse(&bytes, state).map_err(|source| InForceError::Pointer { path, source })?)
        }
        Err(source) => return Err(IoFailure { doing: "read", path, source }.into()),
    };
    // `cairn run` leaves no pointer: what it has written must not be passed over for an empty store.
    let in_force = in_force.or_else(|| file::holds_events(state).then(|| StoreUrl::File(state.to_owned())));
    match (in_force, configured) {
        (Some(in_force), Some(configured)) if in_force != *configured && !permitted.contains(&in_force) => {
            Err(InForceError::Elsewhere { in_force, configured: configured.clone() })
        }
        (Some(in_force), _) => Ok(in_force),
        (None, Some(configured)) => Ok(configured.clone()),
        (None, None) => Ok(StoreUrl::File(state.to_owned())),
    }
}

/// Puts `url` in force for the state directory `state`, durably and in one step.
///
/// # Errors
/// The pointer cannot be written; the old one holds.
pub fn put_in_force(state: &Path, url: &StoreUrl) -> Result<(), IoFailure> {
    let path = state.join(POINTER);
    let draft = state.join(format!("{POINTER}.{}", std::process::id()));
    let text = match url {
        inside if inside.directory() == state => inside.backend().to_owned(),
        elsewhere => elsewhere.to_string(),
    };
    let written = File::create(&draft)
        .and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, &path))
        .and_then(|()| File::open(state)?.sync_all());
    written.map_err(|source| IoFailure { doing: "write", path, source })
}

/// The pointer's bytes. What is no directory has none: whoever opens a store in it is told.
fn read_pointer(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_POINTER_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn parse(bytes: &[u8], state: &Path) -> Result<StoreUrl, StoreUrlError> {
    match str::from_utf8(bytes).map_err(|_| StoreUrlError::Unknown)?.trim_end() {
        "file" => Ok(StoreUrl::File(state.to_owned())),
        "sqlite" => Ok(StoreUrl::Sqlite(state.to_owned())),
        address => address.parse(),
    }
}

/// Opens a store for writing; makes it if there is nothing. `new_id` is the identity of a log that is made.
///
/// # Errors
/// As the store's own.
pub fn open(url: &StoreUrl, holder: &Holder, new_id: Uuid) -> Result<Opened, OpenError> {
    match url {
        StoreUrl::File(directory) => {
            let store = FileStore::open(directory, holder, file::Options::new(new_id))?;
            let (store_id, notices) = (store.store_id(), store.notices().to_vec());
            Ok(Opened { store: Arc::new(store), store_id, notices })
        }
        StoreUrl::Sqlite(directory) => {
            let store = SqliteStore::open(directory, holder, sqlite::Options::new(new_id))?;
            let store_id = store.store_id();
            Ok(Opened { store: Arc::new(store), store_id, notices: Vec::new() })
        }
    }
}

/// Opens a store for those who only look.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn open_reader(url: &StoreUrl) -> Result<Box<dyn EventReader>, ReadError> {
    Ok(match url {
        StoreUrl::File(directory) => Box::new(LogReader::open(directory)?),
        StoreUrl::Sqlite(directory) => Box::new(SqliteReader::open(directory)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_says_which_store_is_in_force() {
        let state = tempfile::tempdir().expect("a directory");
        let (files, database) = (StoreUrl::File(state.path().into()), StoreUrl::Sqlite(state.path().into()));
        assert_eq!(in_force(state.path(), None, &[]).expect("found"), files);
        assert_eq!(in_force(state.path(), Some(&database), &[]).expect("found"), database);
        put_in_force(state.path(), &database).expect("written");
        assert_eq!(in_force(state.path(), None, &[]).expect("found"), database);
        assert_eq!(
            in_force(state.path(), Some(&files), std::slice::from_ref(&database)).expect("found"),
            database
        );
        let refused = in_force(state.path(), Some(&files), &[]).expect_err("elsewhere");
        assert!(matches!(refused, InForceError::Elsewhere { .. }), "{refused}");
        assert!(refused.to_string().contains(&database.to_string()), "{refused}");
    }

    #[test]
    fn events_in_files_are_not_passed_over_for_an_empty_database() {
        let state = tempfile::tempdir().expect("a directory");
        fs::create_dir(state.path().join("events")).expect("made");
        let database = StoreUrl::Sqlite(state.path().into());
        let refused = in_force(state.path(), Some(&database), &[]).expect_err("the events are in files");
        assert!(matches!(refused, InForceError::Elsewhere { .. }), "{refused}");
    }

    #[test]
    fn a_state_directory_can_be_moved() {
        let root = tempfile::tempdir().expect("a directory");
        let (before, after) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir(&before).expect("made");
        put_in_force(&before, &StoreUrl::Sqlite(before.clone())).expect("written");
        fs::rename(&before, &after).expect("moved");
        assert_eq!(in_force(&after, None, &[]).expect("found"), StoreUrl::Sqlite(after));
    }

    #[test]
    fn a_store_elsewhere_is_told_in_full() {
        let state = tempfile::tempdir().expect("a directory");
        let elsewhere = StoreUrl::File("/srv/cairn".into());
        put_in_force(state.path(), &elsewhere).expect("written");
        assert_eq!(in_force(state.path(), None, &[]).expect("found"), elsewhere);
    }

    #[test]
    fn a_pointer_that_names_nothing_is_refused() {
        let state = tempfile::tempdir().expect("a directory");
        for text in [&b"mongo\n"[..], b"", b"\xff\xfe", b"sqlite:cairn.db"] {
            fs::write(state.path().join(POINTER), text).expect("written");
            let refused = in_force(state.path(), None, &[]).expect_err("no store");
            assert!(matches!(refused, InForceError::Pointer { .. }), "{refused}");
        }
    }
}
