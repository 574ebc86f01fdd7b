//! Plans that others submit from within transactions of their own: `SELECT cairn.submit(...)` puts a row into
//! `submissions`, and whoever coordinates takes it from there once it is committed.

use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::{PgListener, PgPoolOptions, PgRow};
use uuid::Uuid;

use super::connect::{Access, Place, timely};
use super::retry::failure;
use crate::store::error::IoFailure;

/// How often it is looked for new ones if no hint comes.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a broken connection is left alone before it is made again.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the server may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer, in bytes: the diagnostics of a plan that is wrong all over.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// Bytes of a schema's name that the channel's has (`schema_2.sql`); PostgreSQL allows 63 for all of it.
const CHANNEL_SCHEMA_BYTES: usize = 50;

const NEXT: &str = "
    SELECT id, key::text AS key, plan, parameters::text AS parameters, fail_fast, submitted_by
    FROM submissions WHERE answered_at IS NULL ORDER BY id LIMIT 1";

const ANSWER: &str = "
    UPDATE submissions SET answered_at = now(), run = $2, error = $3, plan = ''
    WHERE id = $1 AND answered_at IS NULL";

/// A plan that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingPlan {
    /// Its number, by which it is answered.
    pub id: i64,
    /// The same however often it is read.
    pub key: Uuid,
    /// The text of the plan.
    pub plan: String,
    /// Values of its parameters, a JSON object.
    pub parameters: String,
    /// The first failure ends the run.
    pub fail_fast: bool,
    /// The login of whoever submitted it.
    pub user: String,
}

/// The plans that wait, in the order in which they were submitted. Its calls need a tokio runtime.
#[derive(Debug)]
pub struct Submissions {
    place: Place,
    listener: Option<PgListener>,
}

impl Submissions {
    /// Those of a database; it is connected when it is needed.
    ///
    /// # Errors
    /// That is no address.
    pub fn new(url: &str, schema: &str) -> Result<Self, IoFailure> {
        let place = Place::new(url, schema, "cairn submissions").map_err(|error| IoFailure {
            doing: "read the address of",
            path: "the database".into(),
            source: super::retry::io_error(error),
        })?;
        Ok(Self { place, listener: None })
    }

    /// The first one that is not answered; waits for it, and for a database that is away. The same one again until it is
    /// answered. May be dropped.
    pub async fn next(&mut self) -> PendingPlan {
        let mut is_told = false;
        loop {
            match self.look().await {
                Ok(Some(found)) => return found,
                Ok(None) => is_told = false,
                Err(error) => {
                    self.listener = None;
                    let place = &self.place;
                    if !is_told {
                        tracing::warn!(%place, %error, "cannot look for submitted plans; trying again");
                    }
                    is_told = true;
                    tokio::time::sleep(RECONNECT_INTERVAL).await;
                    continue;
                }
            }
            if let Some(listener) = &mut self.listener {
                // A hint, a broken connection or neither: it is looked again.
                let _ = tokio::time::timeout(LOOK_INTERVAL, listener.try_recv()).await;
            }
        }
    }

    /// Says what became of a plan: its run, or why there is none.
    ///
    /// # Errors
    /// The database did not say that it is written; the plan may come again.
    pub async fn answer(&mut self, id: i64, answer: Result<&str, &str>) -> Result<(), IoFailure> {
        let (run, error) = (answer.ok(), answer.err().map(cut));
        let place = self.place.clone();
        let written = timely(CALL_TIMEOUT, async {
            let listener = self.connected().await?;
            sqlx::query(ANSWER).bind(id).bind(run).bind(error).execute(listener).await
        })
        .await;
        if written.is_err() {
            self.listener = None;
        }
        written.map(drop).map_err(failure(&place, "answer a submission in"))
    }

    async fn look(&mut self) -> Result<Option<PendingPlan>, sqlx::Error> {
        timely(CALL_TIMEOUT, async {
            let listener = self.connected().await?;
            let row = sqlx::query(NEXT).fetch_optional(listener).await?;
            row.map(|row| read(&row)).transpose()
        })
        .await
    }

    async fn connected(&mut self) -> Result<&mut PgListener, sqlx::Error> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => listen(&self.place).await?,
        };
        Ok(self.listener.insert(listener))
    }
}

/// The hints come over the connection that looks, so none can be missed in between.
async fn listen(place: &Place) -> Result<PgListener, sqlx::Error> {
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
    listener.eager_reconnect(false);
    let schema = place.schema();
    let schema = schema.get(..CHANNEL_SCHEMA_BYTES).unwrap_or(schema);
    listener.listen(&format!("{schema} submit")).await?;
    Ok(listener)
}

fn read(row: &PgRow) -> Result<PendingPlan, sqlx::Error> {
    let key: String = row.try_get("key")?;
    Ok(PendingPlan {
        id: row.try_get("id")?,
        key: Uuid::parse_str(&key).map_err(|error| sqlx::Error::Decode(error.into()))?,
        plan: row.try_get("plan")?,
        parameters: row.try_get("parameters")?,
        fail_fast: row.try_get("fail_fast")?,
        user: row.try_get("submitted_by")?,
    })
}

/// The beginning of a text that may be too long.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ERROR_BYTES)]
}
