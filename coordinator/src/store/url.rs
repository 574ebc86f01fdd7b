//! How a store is named: `file:///DIRECTORY`, `sqlite:///DIRECTORY/cairn.db`, `postgres://USER:PASSWORD@HOST/DATABASE`.
//! Shown, printed and serialised a store tells no password.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::postgres::{DatabaseUrl, DatabaseUrlError};

/// The name of every database that a SQLite store makes.
const DATABASE: &str = "cairn.db";

/// Where events are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In files below a state directory: `file:///var/lib/cairn`.
    File(PathBuf),
    /// In the SQLite database of a state directory, which is what this holds: `sqlite:///var/lib/cairn/cairn.db`.
    Sqlite(PathBuf),
    /// In a PostgreSQL database.
    Postgres(DatabaseUrl),
}

/// Why a text is no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// It names no kind of store.
    #[error(
        "a store is written `file:///DIRECTORY`, `sqlite:///DIRECTORY/{DATABASE}` or `postgres://USER@HOST/DATABASE`"
    )]
    Unknown,
    /// The path is relative.
    #[error("the path of a store is absolute: `{scheme}:///PATH`, with three slashes")]
    Relative {
        /// `file` or `sqlite`.
        scheme: &'static str,
    },
    /// The database has another name.
    #[error("the database of a store is called {DATABASE}: `sqlite:///DIRECTORY/{DATABASE}`")]
    DatabaseName,
    /// The address of the database cannot be read.
    #[error(transparent)]
    Address(#[from] DatabaseUrlError),
}

impl StoreUrl {
    /// The kind of store, as metrics and commands call it.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Whether it lies in the state directory `state` itself.
    #[must_use]
    pub fn is_inside(&self, state: &Path) -> bool {
        match self {
            Self::File(directory) | Self::Sqlite(directory) => directory == state,
            Self::Postgres(_) => false,
        }
    }

    /// Whether both are the same store, whoever they are opened as.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Postgres(one), Self::Postgres(other)) => one.is_same_database(other),
            (one, other) => one == other,
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let absolute = |path: &str, scheme| match path.starts_with('/') {
            true => Ok(PathBuf::from(path)),
            false => Err(StoreUrlError::Relative { scheme }),
        };
        match text.split_once("://") {
            Some(("file", path)) => absolute(path, "file").map(Self::File),
            Some(("sqlite", path)) => {
                let path = absolute(path, "sqlite")?;
                match (path.file_name(), path.parent()) {
                    (Some(name), Some(directory)) if name == DATABASE => {
                        Ok(Self::Sqlite(directory.to_owned()))
                    }
                    _ => Err(StoreUrlError::DatabaseName),
                }
            }
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.parse()?)),
            _ => Err(StoreUrlError::Unknown),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(directory) => write!(f, "file://{}", directory.display()),
            Self::Sqlite(directory) => write!(f, "sqlite://{}", directory.join(DATABASE).display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_reads_back_as_it_is_written() {
        for text in ["file:///var/lib/cairn", "sqlite:///var/lib/cairn/cairn.db"] {
            let url: StoreUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), text);
            assert!(url.is_inside(Path::new("/var/lib/cairn")) && url.is_same_place(&url));
        }
    }

    #[test]
    fn what_is_no_store_is_told_how_to_write_one() {
        let refused = |text: &str| text.parse::<StoreUrl>().expect_err(text);
        assert_eq!(refused("/var/lib/cairn"), StoreUrlError::Unknown);
        assert_eq!(refused("mysql://db"), StoreUrlError::Unknown);
        assert_eq!(refused("file://a"), StoreUrlError::Relative { scheme: "file" });
        assert_eq!(refused("sqlite://cairn.db"), StoreUrlError::Relative { scheme: "sqlite" });
        assert_eq!(refused("sqlite:///srv/other.db"), StoreUrlError::DatabaseName);
        assert!(matches!(refused("postgres://db"), StoreUrlError::Address(_)));
    }

    #[test]
    fn a_database_is_told_without_its_password() {
        let url: StoreUrl = "postgres://cairn:s3cret@db/cairn".parse().expect("an address");
        let shown = "postgres://cairn@db:5432/cairn";
        assert_eq!(url.to_string(), shown);
        assert_eq!(serde_json::to_value(&url).expect("JSON"), shown);
        assert!(!format!("{url:?}").contains("s3cret"));
        assert!(url.is_same_place(&shown.parse().expect("an address")));
        assert!(!url.is_same_place(&StoreUrl::File("/srv".into())) && !url.is_inside(Path::new("/srv")));
    }
}
