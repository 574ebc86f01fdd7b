//! The session of a coordinator: a lock that the server holds for it as long as it is connected, and the hints that the
//! log has grown. Both are on one connection.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use tokio::sync::watch;

use super::connect::{Access, Place, timely};

/// How often an idle connection is tried.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How long the server may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a broken connection is left alone before it is made again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// How many pings lie between two notes that the writer is still there: about an hour.
const PINGS_PER_NOTE: u32 = 720;

const LOCK: &str = "SELECT pg_advisory_lock(hashtext('cairn writer ' || current_schema()), $1)";

const NOTE: &str = "UPDATE writers SET seen_at = now() WHERE id = $1";

const LIVE: &str = "
    SELECT w.id, w.name FROM writers AS w JOIN pg_locks AS l
        ON l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.mode = 'ExclusiveLock'
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid::bigint = (hashtext('cairn writer ' || current_schema())::bigint & 4294967295)
        AND l.objid::bigint = w.id
    ORDER BY w.id";

/// A store that is open for writing somewhere, and connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number, never used again.
    pub id: i32,
    /// What it was opened as.
    pub name: String,
}

/// The sessions whose locks are held.
pub(super) async fn live(connection: &mut PgConnection) -> Result<Vec<Session>, sqlx::Error> {
    let rows: Vec<(i32, String)> = sqlx::query_as(LIVE).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(id, name)| Session { id, name }).collect())
}

/// Waits until nobody holds the lock of a session.
pub(super) async fn ended(place: &Place, id: i32) -> Result<(), sqlx::Error> {
    let mut connection = place.connect(Access::Read).await?;
    sqlx::query("SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', '0', false)")
        .execute(&mut connection)
        .await?;
    // Shared, so that several can wait. It goes with the connection.
    sqlx::query("SELECT pg_advisory_lock_shared(hashtext('cairn writer ' || current_schema()), $1)")
        .bind(id)
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// What a session tells its store.
#[derive(Debug)]
pub(super) struct Signals {
    /// The highest position that was heard of.
    pub(super) hints: watch::Sender<u64>,
    /// Whether the lock is held just now.
    pub(super) is_held: watch::Sender<bool>,
    /// Ends the session, when it is dropped.
    pub(super) closing: watch::Receiver<()>,
}

/// Holds the session's lock and passes hints on, until the store closes.
pub(super) async fn hold(place: Place, id: i32, mut signals: Signals) {
    loop {
        let lost = hold_once(&place, id, &mut signals).await;
        signals.is_held.send_replace(false);
        let Err(error) = lost else { return };
        tracing::warn!(%place, %error, "the session's connection is lost; making it again");
        // An error here says that the store closes.
        if tokio::time::timeout(RECONNECT_INTERVAL, signals.closing.changed()).await.is_ok() {
            return;
        }
    }
}

/// Until the store closes, or with an error until the connection breaks.
async fn hold_once(place: &Place, id: i32, signals: &mut Signals) -> Result<(), sqlx::Error> {
    let mut listener = timely(PING_TIMEOUT, connect(place, id)).await?;
    signals.is_held.send_replace(true);
    for ping in 0_u32.. {
        if ping.is_multiple_of(PINGS_PER_NOTE) {
            timely(PING_TIMEOUT, execute(&mut listener, NOTE, id)).await?;
        } else {
            timely(PING_TIMEOUT, execute(&mut listener, "SELECT $1::integer", id)).await?;
        }
        tokio::select! {
            _closed = signals.closing.changed() => break,
            lost = listen(&mut listener, &signals.hints) => return Err(lost),
            () = tokio::time::sleep(PING_INTERVAL) => {}
        }
    }
    // The connection itself goes later, with the runtime.
    timely(PING_TIMEOUT, execute(&mut listener, "SELECT pg_advisory_unlock_all(), $1::integer", id)).await
}

async fn connect(place: &Place, id: i32) -> Result<PgListener, sqlx::Error> {
    // A listener wants a pool; this one never has another connection.
    let of_ours = place.clone();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .after_connect(move |connection, _| {
            let place = of_ours.clone();
            Box::pin(async move { place.set_up(connection, Access::Write).await })
        })
        .connect_with(place.options().clone())
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // A connection made behind our back would not hold the lock.
    listener.eager_reconnect(false);
    listener.listen(place.schema()).await?;
    execute(&mut listener, LOCK, id).await?;
    Ok(listener)
}

async fn execute(listener: &mut PgListener, statement: &'static str, id: i32) -> Result<(), sqlx::Error> {
    sqlx::query(statement).bind(id).execute(listener).await?;
    Ok(())
}

/// Passes hints on until the connection breaks.
async fn listen(listener: &mut PgListener, hints: &watch::Sender<u64>) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => {
                // Anybody may notify; what is no number is a hint to look all the same.
                let position = notification.payload().parse().unwrap_or(0);
                hints.send_modify(|highest| *highest = position.max(*highest));
            }
            Ok(None) => return sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into()),
            Err(error) => return error,
        }
    }
}
