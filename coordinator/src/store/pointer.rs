//! The pointer of a state directory: the file `store` in it, which says where the events are and which log they are.
//!
//! Two lines: the address of the store without any password, and the identity of its log. A store inside the directory is
//! told by its kind alone (`sqlite`), so that the directory can be moved. It is replaced atomically.
//!
//! Not here: which store is in force ([`in_force`](super::in_force)).

use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::error::IoFailure;
use super::in_force::InForceError;
use super::replace;
use super::url::{StoreUrl, StoreUrlError};

/// The pointer's name in a state directory.
const NAME: &str = "store";

/// Most of a pointer that is read: an address is shorter.
const MAX_BYTES: u64 = 4_096;

/// What a pointer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    /// Where the events are.
    pub(super) url: StoreUrl,
    /// Which log that is. Pointers of early versions do not say it.
    pub(super) store_id: Option<Uuid>,
}

impl Pointer {
    /// The pointer of a state directory. What is no directory has none: whoever opens a store in it is told.
    pub(super) fn read(state: &Path) -> Result<Option<Self>, InForceError> {
        let path = state.join(NAME);
        match replace::read(&path, MAX_BYTES) {
            Ok(bytes) => match parse(&bytes, state) {
                Ok(pointer) => Ok(Some(pointer)),
                Err(source) => Err(InForceError::Pointer { path, source }),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(source) => Err(IoFailure { doing: "read", path, source }.into()),
        }
    }

    /// Puts it into a state directory, durably and in one step.
    pub(super) fn write(&self, state: &Path) -> Result<(), IoFailure> {
        let path = state.join(NAME);
        replace::replace(&path, self.text(state).as_bytes()).map_err(|source| IoFailure {
            doing: "write",
            path,
            source,
        })
    }

    fn text(&self, state: &Path) -> String {
        let mut text = match &self.url {
            inside if inside.is_inside(state) => inside.backend().to_owned(),
            elsewhere => elsewhere.to_string(),
        };
        if let Some(id) = self.store_id {
            text.push_str(&format!("\n{id}"));
        }
        text + "\n"
    }
}

/// Where the pointer of a state directory is.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join(NAME)
}

fn parse(bytes: &[u8], state: &Path) -> Result<Pointer, StoreUrlError> {
    let text = str::from_utf8(bytes).map_err(|_| StoreUrlError::Unknown)?.trim_end();
    let (address, store_id) = match text.split_once('\n') {
        Some((address, id)) => (address, Some(Uuid::parse_str(id).map_err(|_| StoreUrlError::Unknown)?)),
        None => (text, None),
    };
    let url = match address {
        "file" => StoreUrl::File(state.to_owned()),
        "sqlite" => StoreUrl::Sqlite(state.to_owned()),
        address => address.parse()?,
    };
    Ok(Pointer { url, store_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ID: Uuid = Uuid::from_u128(7);

    fn put(state: &Path, url: StoreUrl) {
        Pointer { url, store_id: Some(ID) }.write(state).expect("written");
    }

    fn read(state: &Path) -> Option<Pointer> {
        Pointer::read(state).expect("read")
    }

    #[test]
    fn a_state_directory_can_be_moved() {
        let root = tempfile::tempdir().expect("a directory");
        let (before, after) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir(&before).expect("made");
        assert_eq!(read(&before), None);
        put(&before, StoreUrl::Sqlite(before.clone()));
        fs::rename(&before, &after).expect("moved");
        assert_eq!(read(&after), Some(Pointer { url: StoreUrl::Sqlite(after), store_id: Some(ID) }));
    }

    #[test]
    fn a_store_elsewhere_is_told_in_full_and_without_its_password() {
        let state = tempfile::tempdir().expect("a directory");
        put(state.path(), StoreUrl::File("/srv/my cairn".into()));
        assert_eq!(
            read(state.path()).map(|pointer| pointer.url),
            Some(StoreUrl::File("/srv/my cairn".into()))
        );
        put(state.path(), "postgres://cairn:s3cret@db/cairn".parse().expect("an address"));
        let text = fs::read_to_string(path(state.path())).expect("there");
        assert_eq!(text, format!("postgres://cairn@db:5432/cairn\n{ID}\n"));
        let shown = "postgres://cairn@db:5432/cairn".parse().expect("an address");
        assert_eq!(read(state.path()), Some(Pointer { url: shown, store_id: Some(ID) }));
    }

    #[test]
    fn a_pointer_of_an_early_version_says_no_identity() {
        let state = tempfile::tempdir().expect("a directory");
        fs::write(path(state.path()), "sqlite\n").expect("written");
        let found = Pointer { url: StoreUrl::Sqlite(state.path().into()), store_id: None };
        assert_eq!(read(state.path()), Some(found));
    }

    #[test]
    fn a_pointer_that_names_nothing_is_refused() {
        let state = tempfile::tempdir().expect("a directory");
        for text in [&b"mongo\n"[..], b"", b"\xff\xfe", b"sqlite:cairn.db", b"sqlite\nmine\n"] {
            fs::write(path(state.path()), text).expect("written");
            let refused = Pointer::read(state.path()).expect_err("no store");
            assert!(matches!(refused, InForceError::Pointer { .. }), "{refused}");
        }
    }
}
