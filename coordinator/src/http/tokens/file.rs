//! `tokens.json`: written whole, synced, then renamed into its place; never changed in place.

use super::super::model::TokenInfo;
use super::TokenError;
use crate::store::IoFailure;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The version of the form.
const SCHEMA: u32 = 1;

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    #[serde(flatten)]
    pub info: TokenInfo,
    /// Of the whole token as text, in hexadecimal.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    tokens: Vec<Kept>,
}

/// Tells one content of the file from another: it is replaced, so the inode changes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("tokens.json")
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokenError {
    let path = path.to_owned();
    move |source| TokenError::Io(IoFailure { doing, path, source })
}

/// Which content the file has; none, if there is no file.
pub(super) fn stamp(directory: &Path) -> Result<Option<Stamp>, TokenError> {
    let path = path(directory);
    match fs::metadata(&path) {
        Ok(found) => Ok(Some(Stamp {
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            bytes: found.len(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at", &path)(error)),
    }
}

/// Held while the file is read, changed and replaced; let go of when dropped.
pub(super) fn lock(directory: &Path) -> Result<File, TokenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("make", directory))?;
    let path = directory.join("tokens.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed("open", &path))?;
    file.lock().map_err(failed("lock", &path))?;
    Ok(file)
}

/// All that the file holds; nothing, if there is no file.
pub(super) fn read(directory: &Path) -> Result<Vec<Kept>, TokenError> {
    let path = path(directory);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let document: Result<Document, _> = serde_json::from_slice(&text);
    document.map(|document| document.tokens).map_err(|source| TokenError::Damaged { path, source })
}

/// Replaces the file.
pub(super) fn write(directory: &Path, tokens: &[Kept]) -> Result<(), TokenError> {
    let path = path(directory);
    let document = Document { schema: SCHEMA, tokens: tokens.to_vec() };
    let text = serde_json::to_vec_pretty(&document)
        .map_err(|source| TokenError::Damaged { path: path.clone(), source })?;
    replace(directory, &path, &text)
}

/// Leaves the first token where its user finds it.
pub(super) fn write_admin_token(directory: &Path, secret: &str) -> Result<PathBuf, TokenError> {
    let path = directory.join("admin.token");
    replace(directory, &path, format!("{secret}\n").as_bytes())?;
    Ok(path)
}

fn replace(directory: &Path, path: &Path, text: &[u8]) -> Result<(), TokenError> {
    let draft = path.with_extension("tmp");
    // Left behind by one that was killed; whoever is here holds the lock.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed("make", &draft))?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(failed("write", &draft))?;
    fs::rename(&draft, path).map_err(failed("replace", path))?;
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed("sync", directory))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}
