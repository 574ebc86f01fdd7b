//! Which store of a state directory is in force, and opening it.
//!
//! A state directory keeps its events in files unless its pointer says otherwise (`pointer.rs`). Whoever opens a store
//! reads that first. It holds no password: a database is opened as the configuration says, if both name the same one.
//!
//! Not here: moving events from one store to another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::error::{IoFailure, Notice, OpenError, ReadError};
use super::event_reader::EventReader;
use super::event_store::EventStore;
use super::file::{self, FileStore, LogReader, lock_path};
use super::lock::{Holder, Lock};
use super::pointer::{self, Pointer};
use super::postgres::{self, DEFAULT_SCHEMA, PostgresReader, PostgresStore};
use super::sqlite::{self, SqliteReader, SqliteStore};
use super::url::{StoreUrl, StoreUrlError};

/// Why it is not known which store is in force, or it cannot be.
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
    /// The store holds another log than the state directory belongs to.
    #[error(
        "{url} holds the log {found}, and `{}` names the log {expected}: put the events back where they were, or use \
         another state directory", pointer.display()
    )]
    OtherLog {
        /// The store.
        url: StoreUrl,
        /// The pointer.
        pointer: PathBuf,
        /// The log that it names.
        expected: Uuid,
        /// The log that was found.
        found: Uuid,
    },
    /// The pointer cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
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

/// The store of a state directory, opened for writing.
pub struct InForce {
    /// Which one it is.
    pub url: StoreUrl,
    /// The store.
    pub opened: Opened,
    /// That of the state directory, where the store does not hold it itself. To be kept as long as the state directory
    /// is in use.
    pub lock: Option<Lock>,
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
    let in_force = Pointer::read(state)?.map(|pointer| pointer.url);
    // `cairn run` leaves no pointer to files: what it has written must not be passed over for an empty store.
    let in_force = in_force.or_else(|| file::holds_events(state).then(|| StoreUrl::File(state.to_owned())));
    let Some(in_force) = in_force else {
        return Ok(configured.cloned().unwrap_or_else(|| StoreUrl::File(state.to_owned())));
    };
    // The configuration's own words have the password.
    match configured.into_iter().chain(permitted).find(|known| known.is_same_place(&in_force)) {
        Some(known) => Ok(known.clone()),
        None => match configured {
            Some(configured) => Err(InForceError::Elsewhere { in_force, configured: configured.clone() }),
            None => Ok(in_force),
        },
    }
}

/// Opens the store that is in force, checks that it holds the log of the state directory, and notes in the pointer where
/// it is. Files in the state directory itself need no pointer.
///
/// # Errors
/// As [`in_force`] and [`open`]; another process works on the state directory; the store holds another log.
pub fn open_in_force(
    state: &Path,
    configured: Option<&StoreUrl>,
    permitted: &[StoreUrl],
    holder: &Holder,
    new_id: Uuid,
) -> Result<InForce, InForceError> {
    let url = in_force(state, configured, permitted)?;
    let lock = match url.is_inside(state) {
        true => None,
        false => Some(Lock::acquire(&lock_path(state), holder).map_err(OpenError::from)?),
    };
    let opened = open(&url, holder, new_id)?;
    let pointer = Pointer::read(state)?;
    if let Some(expected) = pointer.as_ref().and_then(|pointer| pointer.store_id)
        && expected != opened.store_id
    {
        let (pointer, found) = (pointer::path(state), opened.store_id);
        return Err(InForceError::OtherLog { url, pointer, expected, found });
    }
    if pointer.is_some() || url != StoreUrl::File(state.to_owned()) {
        put_in_force(state, &url, opened.store_id)?;
    }
    Ok(InForce { url, opened, lock })
}

/// Puts the log `store_id` at `url` in force for the state directory `state`, durably and in one step. Does nothing if it
/// is in force already.
///
/// # Errors
/// The pointer cannot be read or written; the old one holds.
pub fn put_in_force(state: &Path, url: &StoreUrl, store_id: Uuid) -> Result<(), InForceError> {
    let is_there = |pointer: &Pointer| pointer.url.is_same_place(url) && pointer.store_id == Some(store_id);
    if Pointer::read(state)?.as_ref().is_some_and(is_there) {
        return Ok(());
    }
    Ok(Pointer { url: url.clone(), store_id: Some(store_id) }.write(state)?)
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
        StoreUrl::Postgres(url) => {
            let store = PostgresStore::open(url.expose(), postgres::Options::new(new_id))?;
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
        StoreUrl::Postgres(url) => Box::new(PostgresReader::open(url.expose(), DEFAULT_SCHEMA)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_model::Timestamp;
    use std::fs;

    fn open_at(state: &Path, configured: Option<&StoreUrl>, id: u128) -> Result<InForce, InForceError> {
        let holder = Holder::this_process("a test", Timestamp(0));
        open_in_force(state, configured, &[], &holder, Uuid::from_u128(id))
    }

    #[test]
    fn a_pointer_says_which_store_is_in_force() {
        let state = tempfile::tempdir().expect("a directory");
        let (files, database) = (StoreUrl::File(state.path().into()), StoreUrl::Sqlite(state.path().into()));
        assert_eq!(in_force(state.path(), None, &[]).expect("found"), files);
        assert_eq!(in_force(state.path(), Some(&database), &[]).expect("found"), database);
        put_in_force(state.path(), &database, Uuid::from_u128(7)).expect("written");
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
    fn the_configuration_has_the_password_that_the_pointer_has_not() {
        let state = tempfile::tempdir().expect("a directory");
        let url = |text: &str| text.parse::<StoreUrl>().expect("an address");
        let whole = url("postgres://cairn:s3cret@db/cairn");
        put_in_force(state.path(), &whole, Uuid::from_u128(7)).expect("written");
        let found = in_force(state.path(), Some(&whole), &[]).expect("found");
        assert_eq!(found, whole);
        let files = StoreUrl::File(state.path().into());
        let found = in_force(state.path(), Some(&files), std::slice::from_ref(&whole)).expect("found");
        assert_eq!(found, whole);
        assert_ne!(in_force(state.path(), None, &[]).expect("found"), whole);
        let other = url("postgres://cairn:s3cret@db/other");
        let refused = in_force(state.path(), Some(&other), &[]).expect_err("elsewhere");
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
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
    fn another_log_in_the_same_place_is_refused() {
        let state = tempfile::tempdir().expect("a directory");
        let database = StoreUrl::Sqlite(state.path().into());
        drop(open_at(state.path(), Some(&database), 7).expect("made"));
        drop(open_at(state.path(), None, 8).expect("the same log"));
        for name in ["cairn.db", "cairn.db-wal", "cairn.db-shm"] {
            // The last two go with the last connection.
            let _ = fs::remove_file(state.path().join(name));
        }
        let refused = open_at(state.path(), None, 8).err().expect("another log");
        assert!(matches!(refused, InForceError::OtherLog { .. }), "{refused}");
    }

    #[test]
    fn a_pointer_that_is_right_is_left_alone_and_files_need_none() {
        let state = tempfile::tempdir().expect("a directory");
        drop(open_at(state.path(), None, 7).expect("made"));
        assert_eq!(Pointer::read(state.path()).expect("read"), None);
        let elsewhere = tempfile::tempdir().expect("a directory");
        let files = StoreUrl::File(state.path().into());
        drop(open_at(elsewhere.path(), Some(&files), 8).expect("opened"));
        let written =
            || fs::metadata(pointer::path(elsewhere.path())).expect("there").modified().expect("known");
        let first = written();
        drop(open_at(elsewhere.path(), Some(&files), 8).expect("opened"));
        assert_eq!(written(), first);
    }

    #[test]
    fn a_state_directory_whose_events_are_elsewhere_is_one_processs_alone() {
        let (state, elsewhere) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
        let files = StoreUrl::File(elsewhere.path().into());
        let held = open_at(state.path(), Some(&files), 7).expect("opened");
        drop(held.opened);
        let refused = open_at(state.path(), Some(&files), 7).err().expect("held");
        assert!(matches!(refused, InForceError::Open(OpenError::Lock(_))), "{refused}");
    }
}
