//! Snapshots as files: `snapshots/NAME@VERSION.snapshot`.
//!
//! The first line is a JSON object, the rest is the snapshot's bytes as they are:
//!
//! ```text
//! {"cairn_snapshot":1,"sha256":"64 digits","store":"UUID","name":"apollo.3","version":V,"position":P,"bytes":N}
//! ```
//!
//! The hash is over all that follows its digits, to the end of the file. A file is written under another name, synced,
//! renamed, and the directory synced, so that a half-written one is never taken for a snapshot. In the file's name
//! what is not a letter, a digit, `_`, `-` or `.` stands as `%` and two hexadecimal digits, and a long name ends in
//! its hash; the name that counts is the one inside.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::error::{IoFailure, Notice, SnapshotError, SnapshotFlaw};
use super::super::snapshot::{LoadedSnapshot, MAX_SNAPSHOT_NAME_BYTES, SNAPSHOTS_KEPT, Snapshot};
use super::disk::{Disk, RealDisk, create_private_dir, create_private_file};

const FORMAT: u64 = 1;
const NAME_END: &str = ".snapshot";
const HASH_DIGITS: usize = 64;
/// Longest name in a file's name as it is; file systems allow 255 bytes for all of it.
const MAX_SHOWN_BYTES: usize = 140;

/// What the first line says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Header {
    cairn_snapshot: u64,
    sha256: String,
    store: String,
    name: String,
    version: u64,
    position: u64,
    bytes: u64,
}

/// What the first line of any format says.
#[derive(serde::Deserialize)]
struct AnyHeader {
    cairn_snapshot: u64,
}

/// Writes a snapshot and removes what it makes superfluous.
pub(super) fn save(dir: &Path, store_id: Uuid, snapshot: &Snapshot) -> Result<(), SnapshotError> {
    check_name(&snapshot.name)?;
    create_private_dir(&mut RealDisk, dir)?;
    let path = dir.join(format!("{}@{:020}{NAME_END}", file_stem(&snapshot.name), snapshot.version));
    let temporary = path.with_extension("tmp");
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| IoFailure { doing, path, source }
    };
    write_file(&temporary, &head_line(store_id, snapshot), &snapshot.bytes)
        .map_err(failed("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
    RealDisk.sync_dir(dir).map_err(failed("sync the directory", dir))?;
    remove_superfluous(dir, snapshot)?;
    Ok(())
}

/// Looks for the newest snapshot of `name` that fits a log which ends at `head`.
pub(super) fn load(
    dir: &Path,
    store_id: Uuid,
    name: &str,
    head: u64,
) -> Result<LoadedSnapshot, SnapshotError> {
    check_name(name)?;
    let mut loaded = LoadedSnapshot::default();
    for (_, path) in list(dir, name)?.into_iter().rev() {
        let content = std::fs::read(&path);
        let content = content.map_err(|source| IoFailure { doing: "read", path: path.clone(), source })?;
        match parse(&content, store_id, name, head) {
            Ok(snapshot) => {
                loaded.snapshot = Some(snapshot);
                break;
            }
            Err(flaw) => {
                tracing::warn!(path = %path.display(), %flaw, "ignored a snapshot");
                loaded.notices.push(Notice::SnapshotIgnored { file: path, flaw });
            }
        }
    }
    Ok(loaded)
}

fn check_name(name: &str) -> Result<(), SnapshotError> {
    let bytes = name.len();
    if (1..=MAX_SNAPSHOT_NAME_BYTES).contains(&bytes) { Ok(()) } else { Err(SnapshotError::Name { bytes }) }
}

fn write_file(path: &Path, head: &[u8], bytes: &[u8]) -> io::Result<()> {
    let mut file = create_private_file(path, OpenOptions::new().create(true).truncate(true))?;
    file.write_all(head)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn head_line(store_id: Uuid, snapshot: &Snapshot) -> Vec<u8> {
    let header = Header {
        cairn_snapshot: FORMAT,
        sha256: "0".repeat(HASH_DIGITS),
        store: store_id.to_string(),
        name: snapshot.name.clone(),
        version: snapshot.version,
        position: snapshot.position,
        bytes: snapshot.bytes.len() as u64,
    };
    let mut line = serde_json::to_vec(&header).expect("a header is plain text and numbers");
    line.push(b'\n');
    let hash = hash(&line, &snapshot.bytes);
    line[HASH_AT..HASH_AT + HASH_DIGITS].copy_from_slice(hash.as_bytes());
    line
}

/// Where the digits of the hash stand.
const HASH_AT: usize = b"{\"cairn_snapshot\":1,\"sha256\":\"".len();

fn hash(line: &[u8], bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(line.get(HASH_AT + HASH_DIGITS..).unwrap_or_default());
    hash.update(bytes);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes any text.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse(content: &[u8], store_id: Uuid, name: &str, head: u64) -> Result<Snapshot, SnapshotFlaw> {
    let end = content.iter().position(|&byte| byte == b'\n').ok_or(SnapshotFlaw::Damaged)? + 1;
    let (line, bytes) = content.split_at(end);
    let any: AnyHeader = serde_json::from_slice(line).map_err(|_| SnapshotFlaw::Damaged)?;
    if any.cairn_snapshot != FORMAT {
        return Err(SnapshotFlaw::Format { format: any.cairn_snapshot });
    }
    let header: Header = serde_json::from_slice(line).map_err(|_| SnapshotFlaw::Damaged)?;
    let is_sound = line.get(HASH_AT..HASH_AT + HASH_DIGITS) == Some(hash(line, bytes).as_bytes());
    if !is_sound || header.bytes != bytes.len() as u64 {
        return Err(SnapshotFlaw::Damaged);
    }
    if header.store != store_id.to_string() || header.name != name {
        return Err(SnapshotFlaw::OtherLog);
    }
    if header.position > head {
        return Err(SnapshotFlaw::AheadOfLog { position: header.position, head });
    }
    let Header { name, version, position, .. } = header;
    Ok(Snapshot { name, version, position, bytes: bytes.to_vec() })
}

/// The versions and files of the snapshots of a name, the oldest first.
fn list(dir: &Path, name: &str) -> Result<Vec<(u64, PathBuf)>, IoFailure> {
    let failed = |source| IoFailure { doing: "list", path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let stem = file_stem(name);
    let mut found = Vec::new();
    for entry in entries {
        let file_name = entry.map_err(failed)?.file_name();
        let version = file_name.to_str().and_then(|text| {
            text.strip_suffix(NAME_END)?.strip_prefix(stem.as_str())?.strip_prefix('@')?.parse().ok()
        });
        found.extend(version.map(|version| (version, dir.join(file_name))));
    }
    found.sort_unstable();
    Ok(found)
}

/// Keeps the snapshot just written and those right before it. One of a higher version is of a log that has been put
/// back to an earlier state.
fn remove_superfluous(dir: &Path, saved: &Snapshot) -> Result<(), IoFailure> {
    let (mut older, newer): (Vec<_>, Vec<_>) =
        list(dir, &saved.name)?.into_iter().partition(|(version, _)| *version <= saved.version);
    older.truncate(older.len().saturating_sub(SNAPSHOTS_KEPT));
    for (_, path) in older.into_iter().chain(newer) {
        std::fs::remove_file(&path).map_err(|source| IoFailure { doing: "remove", path, source })?;
    }
    Ok(())
}

fn file_stem(name: &str) -> String {
    let mut stem = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => stem.push(char::from(byte)),
            other => {
                // A string takes any text.
                let _ = write!(stem, "%{other:02X}");
            }
        }
    }
    if stem.len() > MAX_SHOWN_BYTES {
        stem.truncate(MAX_SHOWN_BYTES - HASH_DIGITS);
        stem.push_str(&hex(&Sha256::digest(name)));
    }
    stem
}
