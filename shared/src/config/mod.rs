//! The configuration of a daemon: a YAML file, over it environment variables, over them flags.
//!
//! ```text
//! T::default() ──▶ file ──▶ environment ──▶ flags ──▶ T, and for each value who chose it
//! ```
//!
//! The keys are those that the default of the type serialises to; there is no second list of them.
//!
//! - **File**: an unknown key is an error, with file, line, column and the nearest known key.
//! - **Environment**: the key `tls.certificate` is `CAIRN_TLS__CERTIFICATE`. Lists and mappings are written as in the
//!   file (`[a, b]`, `{os: linux}`). Other variables that begin with `CAIRN_` have other readers and are left alone,
//!   but one that looks like a misspelt key is told in [`Loaded::notices`]. An empty variable is like none.
//! - **Secrets**: each key that holds one value has a twin with `_file` after its name (`transport_file`,
//!   `CAIRN_TRANSPORT_FILE`), which names a file that holds the value. Values that may hold a secret have a type that
//!   shows itself without it ([`SecretUrl`]).
//!
//! A file that is an empty mapping by default (labels) takes any key. Relative paths are relative to the daemon's
//! working directory.
//!
//! Not here: which keys a daemon has (its own package), and `.cairn.yaml` of a project (the command line's own: two
//! files of four plain values, found by walking up the folders, with paths relative to the file).

mod layers;
mod reader;
mod values;

pub use values::{
    LogConfig, LogFormat, SecretUrl, TransportUrl, UrlError, duration, optional_duration, resource_amount,
};

use layers::Node;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of a configuration file at most; one that lists every key with its meaning has a few thousand.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Bytes of a file that holds one value at most.
pub const MAX_SECRET_BYTES: u64 = 64 << 10;

/// What every variable begins with.
const PREFIX: &str = "CAIRN_";

/// Who chose a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Nobody.
    Default,
    /// The file.
    File {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
        /// The column in characters, from 1.
        column: u32,
    },
    /// A variable.
    Environment {
        /// Which one.
        name: String,
    },
    /// A flag.
    Flag {
        /// The key that it sets.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment { name } => f.write_str(name),
            Self::Flag { key } => write!(f, "--{key}"),
        }
    }
}

/// One value in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// The key: `tls.certificate`.
    pub key: String,
    /// The value, without secrets.
    pub value: serde_json::Value,
    /// Who chose it.
    pub origin: Origin,
}

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The values.
    pub value: T,
    /// Each of them, by key, with who chose it.
    pub settings: Vec<Setting>,
    /// What is probably meant otherwise, for the log.
    pub notices: Vec<String>,
}

/// Why a configuration is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than any that is meant.
    #[error("{} has more than {limit} bytes", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file that is to hold certificates holds none.
    #[error("{} holds no certificate: it is to be PEM, with `-----BEGIN CERTIFICATE-----`", path.display())]
    NoCertificate {
        /// Which one.
        path: PathBuf,
    },
    /// A key or a value is wrong.
    #[error("{origin}: {message}{}", help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
    Wrong {
        /// Who says it.
        origin: Origin,
        /// What is wrong.
        message: String,
        /// What to write instead.
        help: Option<String>,
    },
    /// The defaults of the type cannot be shown as a mapping: a mistake in the program.
    #[error("the defaults are no mapping of keys")]
    Defaults(#[source] Option<serde_json::Error>),
}

/// Reads a configuration. `overrides` are keys (`tls.certificate`) with values, from flags.
///
/// # Errors
/// A file cannot be read, or a key or a value is wrong: who says it, and what to write instead.
pub fn load<T: Default + Serialize + DeserializeOwned>(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<Loaded<T>, ConfigError> {
    let defaults = serde_json::to_value(T::default()).map_err(|error| ConfigError::Defaults(Some(error)))?;
    let keys = layers::keys(&defaults);
    if keys.is_empty() {
        return Err(ConfigError::Defaults(None));
    }
    let mut root = match file {
        Some(path) => layers::from_file(path, &keys)?,
        None => Node::empty(Origin::Default),
    };
    let notices = layers::add_environment(&mut root, &keys, environment)?;
    layers::add_flags(&mut root, &keys, overrides)?;
    let value: T = reader::read(&root)?;
    let shown = serde_json::to_value(&value).map_err(|error| ConfigError::Defaults(Some(error)))?;
    let settings = keys.iter().map(|key| Setting {
        key: key.path.clone(),
        value: key.value_in(&shown).cloned().unwrap_or_default(),
        origin: root.origin_of(&key.path),
    });
    Ok(Loaded { settings: settings.collect(), value, notices })
}

/// Reads the certificates that `transport_authority` names, as PEM; none if it names no file.
///
/// # Errors
/// The file cannot be read, is larger than a few certificates ([`MAX_FILE_BYTES`]), or holds none.
pub fn read_authority(path: Option<&Path>) -> Result<Option<String>, ConfigError> {
    let Some(path) = path else { return Ok(None) };
    let text = String::from_utf8(read_bounded(path, MAX_FILE_BYTES)?).ok();
    match text.filter(|text| text.contains("-----BEGIN CERTIFICATE-----")) {
        Some(text) => Ok(Some(text)),
        None => Err(ConfigError::NoCertificate { path: path.to_owned() }),
    }
}

/// Reads a value that is the content of a file, but for the line feed at its end.
///
/// # Errors
/// The file cannot be read, or is larger than any that is meant ([`MAX_SECRET_BYTES`]).
pub fn read_secret(path: &Path) -> Result<String, ConfigError> {
    let bytes = read_bounded(path, MAX_SECRET_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| ConfigError::Unreadable {
        path: path.to_owned(),
        // Says where it is no text, and none of it.
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()),
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Reads a file of at most `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ConfigError> {
    use std::io::Read as _;
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}
