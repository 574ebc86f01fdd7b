//! The end of the log beside the database: what a deleted write-ahead log would take away without a trace.
//!
//! After a crash the newest commits are in `cairn.db-wal` only. If that file goes, or an older database is put in its
//! place, SQLite finds a sound database with a shorter log. So the end is noted in `cairn.db-end` after each commit: not
//! synced, since the loss of power takes at most the note, and a note that is too old only says less. It survives the
//! process, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;

use super::super::chain::Link;
use super::super::error::{IoFailure, LogFault, TableFlaw};
use super::super::file::create_private_file;
use super::super::record::Head;
use super::connection::{damage, fault};
use super::rows::signed;

/// A position, a link, and a checksum of both.
const BYTES: usize = 8 + 32 + 4;

/// The record that ends an append at or before a position.
const LINK_BEFORE: &str =
    "SELECT position + count - 1, link FROM records WHERE position <= ?1 ORDER BY position DESC LIMIT 1";

/// The file with the end of the log.
#[derive(Debug)]
pub(super) struct End(File);

/// Where the end of a database's log is noted.
pub(super) fn end_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-end");
    path.into()
}

impl End {
    /// Opens the note of a database, whose log ends at `head`, and makes sure that this has all that was noted.
    pub(super) async fn open(
        connection: &mut SqliteConnection,
        database: &Path,
        head: Head,
    ) -> Result<Self, LogFault> {
        let path = end_path(database);
        let failed = |doing| {
            let path = path.clone();
            move |source| IoFailure { doing, path, source }
        };
        let file = create_private_file(&path, OpenOptions::new().create(true)).map_err(failed("open"))?;
        let mut bytes = [0; BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            // A new one, or one that the loss of power has cut.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(failed("read")(error).into()),
            Ok(()) => {
                if let Some(noted) = parse(&bytes)
                    && !holds(connection, database, head, noted).await?
                {
                    let flaw = TableFlaw::Shorter { noted: noted.position, found: head.position };
                    return Err(damage(database, head.position.min(noted.position) + 1, flaw).into());
                }
            }
        }
        Ok(Self(file))
    }

    /// Notes the end of the log.
    pub(super) fn note(&self, head: Head) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&head.position.to_be_bytes());
        bytes[8..40].copy_from_slice(head.chain.bytes());
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..].copy_from_slice(&crc.to_be_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// What a note says; nothing if it is not whole.
fn parse(bytes: &[u8; BYTES]) -> Option<Head> {
    let (position, rest) = bytes.split_first_chunk::<8>()?;
    let (link, crc) = rest.split_first_chunk::<32>()?;
    let is_whole = crc32fast::hash(&bytes[..40]).to_be_bytes() == crc;
    is_whole.then_some(Head { position: u64::from_be_bytes(*position), chain: Link::from_bytes(link)? })
}

/// Whether the log has what was noted.
async fn holds(
    connection: &mut SqliteConnection,
    database: &Path,
    head: Head,
    noted: Head,
) -> Result<bool, LogFault> {
    if noted.position >= head.position {
        return Ok(noted == head);
    }
    let found: Option<(i64, Option<Vec<u8>>)> = sqlx::query_as(LINK_BEFORE)
        .bind(signed(noted.position))
        .fetch_optional(connection)
        .await
        .map_err(fault(database, noted.position))?;
    Ok(match found {
        None => noted.position == 0,
        Some((last, link)) => {
            last.cast_unsigned() == noted.position && link.as_deref() == Some(&noted.chain.bytes()[..])
        }
    })
}
