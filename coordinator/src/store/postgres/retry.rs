//! Which failures pass, and how long they are waited for.

use std::io;
use std::time::Duration;

use super::connect::Place;
use crate::store::error::IoFailure;

/// The waits between two tries double from this to the next; half of each is random.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What a database raises when it does not know what it has acknowledged (`schema_1.sql`).
const FORGOTTEN: &str = "CA001";

/// Whether the same may well succeed in a moment: the server restarts, fails over, or is busy. Everything else comes from
/// the statement, the tables or the rights, and would come again.
pub(super) fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Syntax and rights; data; constraints; protocol of functions; damage; our own.
            let stays = ["42", "22", "23", "2F", "39", "XX", FORGOTTEN];
            !stays.iter().any(|class| code.starts_with(class))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether the session that said so is as good as before.
pub(super) fn keeps_connection(error: &sqlx::Error) -> bool {
    // Transactions that lost against others, and limits on waiting.
    let database = error.as_database_error().and_then(|error| error.code());
    database.is_some_and(|code| code.starts_with("40") || code == "55P03" || code == "57014")
}

/// Tries that follow each other.
#[derive(Debug)]
pub(super) struct Retry<'a> {
    place: &'a Place,
    what: &'static str,
    wait: Duration,
    last: Option<sqlx::Error>,
}

impl<'a> Retry<'a> {
    /// `what` is being tried, a noun phrase.
    pub(super) fn new(place: &'a Place, what: &'static str) -> Self {
        Self { place, what, wait: FIRST_WAIT, last: None }
    }

    /// Waits a moment after a failure; gives it back if it would come again.
    pub(super) async fn pause(&mut self, error: sqlx::Error) -> Result<(), sqlx::Error> {
        if !passes(&error) {
            return Err(error);
        }
        if self.last.is_none() {
            tracing::warn!(place = %self.place, %error, "{} failed; trying again", self.what);
        }
        self.last = Some(error);
        tokio::time::sleep(jittered(self.wait)).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }

    /// What went wrong last, when there is no more time to try again.
    pub(super) fn give_up(self) -> sqlx::Error {
        self.last.unwrap_or_else(|| sqlx::Error::Io(io::ErrorKind::TimedOut.into()))
    }
}

/// Between half of a time and all of it, so that writers that failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    // Without randomness they come together, which is slow and not wrong.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    wait / 2 + (wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// A database's error as the store's errors carry it.
pub(super) fn io_error(error: sqlx::Error) -> io::Error {
    match error {
        sqlx::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// A failed call outside an append. `doing` is a verb.
pub(super) fn failure(place: &Place, doing: &'static str) -> impl FnOnce(sqlx::Error) -> IoFailure {
    let path = place.path();
    move |error| IoFailure { doing, path, source: io_error(error) }
}
