//! Connections to the database, and what their errors mean.
//!
//! Each connection of sqlx has a thread of its own that makes the calls to SQLite; its futures only wait for that
//! thread and need no runtime.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::super::error::{Damage, IoFailure, LogFault, SchemaError, TableFlaw};

/// How long a call waits for somebody else's lock: another program that writes, or one that repairs the index of the
/// write-ahead log after a crash.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that a connection keeps in memory, as SQLite takes it: negative, in KiB.
const CACHE_KIB: &str = "-8192";

/// SQLite's result codes that mean something to us (<https://www.sqlite.org/rescode.html>), without what extends them.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const READONLY: i32 = 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const NOTADB: i32 = 26;
}

/// Opens the one connection that writes. The file must be there. Changes nothing in it.
pub(super) async fn connect_writer(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = options(database).synchronous(SqliteSynchronous::Full).create_if_missing(false);
    // The writer folds the write-ahead log itself, so that it hears of failures.
    options.pragma("wal_autocheckpoint", "0").connect().await
}

/// Opens a connection that cannot write.
pub(super) async fn connect_reader(database: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(database).read_only(true).connect().await
}

fn options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("cache_size", CACHE_KIB)
        .disable_statement_logging()
}

/// Closes a connection and waits until it has let go of the files. What fails then matters no more: all that counts
/// is in the files.
pub(super) async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "could not close the database");
    }
}

/// What SQLite said, without its extension.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Whether somebody else's lock was in the way, and nothing has been done.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(code::BUSY)
}

/// The error as one of the system, of the kind that says what to do.
pub(super) fn io_error(error: sqlx::Error) -> io::Error {
    let kind = match (primary_code(&error), error) {
        (_, sqlx::Error::Io(error)) => return error,
        (Some(code::FULL), error) => (io::ErrorKind::StorageFull, error),
        (Some(code::READONLY), error) => (io::ErrorKind::ReadOnlyFilesystem, error),
        (Some(code::BUSY), error) => (io::ErrorKind::ResourceBusy, error),
        (Some(code::CORRUPT | code::NOTADB), error) => (io::ErrorKind::InvalidData, error),
        (_, error) => (io::ErrorKind::Other, error),
    };
    io::Error::new(kind.0, kind.1)
}

/// What a failure to `doing` the database means.
pub(super) fn io_failure(doing: &'static str, database: &Path) -> impl FnOnce(sqlx::Error) -> IoFailure {
    move |error| IoFailure { doing, path: database.to_owned(), source: io_error(error) }
}

/// What a failure to read the log from `position` means.
pub(super) fn fault(database: &Path, position: u64) -> impl FnOnce(sqlx::Error) -> LogFault {
    fault_in("read", database, position)
}

/// What a failure to open the database means.
pub(super) fn open_fault(database: &Path) -> impl FnOnce(sqlx::Error) -> LogFault {
    fault_in("open", database, 1)
}

fn fault_in(doing: &'static str, database: &Path, position: u64) -> impl FnOnce(sqlx::Error) -> LogFault {
    move |error| match primary_code(&error) {
        Some(code::CORRUPT) => {
            let found = error.to_string().into();
            damage(database, position, TableFlaw::Structure { found }).into()
        }
        Some(code::NOTADB) => SchemaError::Foreign { database: database.to_owned() }.into(),
        _ => io_failure(doing, database)(error).into(),
    }
}

pub(super) fn damage(database: &Path, position: u64, flaw: TableFlaw) -> Damage {
    Damage { file: database.to_owned(), offset: 0, position, reason: flaw.into() }
}

/// Waits for a future on this thread. Works without a runtime, and blocks inside of one.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
