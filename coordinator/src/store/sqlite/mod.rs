//! The SQLite store: one file, `cairn.db` in the state directory, that any tool for SQLite can look into.
//!
//! `schema/1.sql` has the tables. What the modules promise:
//!
//! - `writer`: one transaction and one fsync for many appends (WAL, `synchronous=FULL`); what is acknowledged is
//!   committed. The first error stops the store for good, also a full disk: the process ends and is started again when
//!   there is space, and finds whole transactions only.
//! - the lock of the state directory keeps a second writer of ours out and says who holds it; against other programs
//!   that write there is SQLite's own lock, which is waited for.
//! - opening writes once more what an earlier life has left in the write-ahead log, before anything is built on it, and
//!   checks the last record; if that life was cut short also the structure, unless the database is large. It reads where
//!   each stream ends, not the log.
//! - `end`: a write-ahead log that was deleted after a crash is noticed.
//! - `read`: readers see whole transactions only, in this process and in others, and stop no writer. Each record is
//!   checked against a checksum of its own. `verify` checks all that can be checked, the hash chain among it.
//! - `schema`: a database of a later version, or of another program, is refused and left as it is.
//!
//! A bit that flips where SQLite keeps nothing, in a free page or between two rows, is not found and harms nobody.
//!
//! Not here: compaction, backup, encryption, network file systems (WAL needs shared memory).

mod connection;
mod end;
mod insert;
mod raw;
mod read;
mod reader;
mod readers;
mod rows;
mod schema;
mod snapshots;
mod store;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use raw::RawWriter;
pub use reader::SqliteReader;
pub use store::{Options, SqliteStore, database_path};
