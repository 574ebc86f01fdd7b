//! Where the database is, and connections that are set up as every one of ours has to be.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::address;

/// The schema that everything is in, unless another is named.
pub const DEFAULT_SCHEMA: &str = "cairn";

/// Longest name of a schema, in bytes; PostgreSQL cuts longer ones.
const MAX_SCHEMA_BYTES: usize = 63;

/// How long a connection may take to be made; a server that answers takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What every session is set to. Locks are waited for as long as a few batches of others take; a statement takes no
/// longer than a batch on a slow disk; a session of ours is never idle within a transaction for longer than it takes to
/// handle a page; a peer that is gone is noticed within half a minute. Who has asked for less durability than a commit
/// on this server's disk does not get it, who has asked for more does.
const SETTINGS: &str = "
    SELECT set_config('search_path', '\"' || $1 || '\"', false),
        set_config('lock_timeout', '10s', false),
        set_config('statement_timeout', '30s', false),
        set_config('idle_in_transaction_session_timeout', '10s', false),
        set_config('client_connection_check_interval', '5s', false),
        set_config('tcp_keepalives_idle', '10', false),
        set_config('tcp_keepalives_interval', '5', false),
        set_config('tcp_keepalives_count', '3', false),
        set_config('tcp_user_timeout', '30s', false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('default_transaction_read_only', $2, false),
        set_config('synchronous_commit', CASE
            WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
            THEN current_setting('synchronous_commit') ELSE 'on' END, false)";

/// A database and the schema in it. Shows no password.
#[derive(Clone)]
pub(super) struct Place {
    options: PgConnectOptions,
    schema: String,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// The address without the password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&address::shown(&self.options))?;
        if self.schema != DEFAULT_SCHEMA {
            write!(f, " (schema {})", self.schema)?;
        }
        Ok(())
    }
}

impl Place {
    /// Reads an address; `name` is what the database's administrator sees.
    pub(super) fn new(url: &str, schema: &str, name: &str) -> Result<Self, sqlx::Error> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins_well = schema.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        if !begins_well || !schema.bytes().all(is_name) || schema.len() > MAX_SCHEMA_BYTES {
            let reason = "a schema's name has at most 63 lower-case letters, digits and underscores";
            return Err(sqlx::Error::Configuration(reason.into()));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            let reason = "the address of a database begins with `postgres://`";
            return Err(sqlx::Error::Configuration(reason.into()));
        }
        let options = PgConnectOptions::from_str(url)?.application_name(name).disable_statement_logging();
        Ok(Self { options, schema: schema.to_owned() })
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// What errors name it by.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(self.to_string())
    }

    /// A connection as the server sets it up.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A new connection.
    pub(super) async fn connect(&self, access: Access) -> Result<PgConnection, sqlx::Error> {
        timely(CONNECT_TIMEOUT, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            self.set_up(&mut connection, access).await?;
            Ok(connection)
        })
        .await
    }

    /// Sets a session up.
    pub(super) async fn set_up(
        &self,
        connection: &mut PgConnection,
        access: Access,
    ) -> Result<(), sqlx::Error> {
        let read_only = match access {
            Access::Read => "on",
            Access::Write => "off",
        };
        sqlx::query(SETTINGS).bind(&self.schema).bind(read_only).execute(connection).await?;
        Ok(())
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It changes nothing; the server sees to it.
    Read,
    /// It may change what the role may.
    Write,
}

/// Gives up after `limit`. What was under way on a connection is then unknown, so the connection has to go.
pub(super) async fn timely<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url = "postgres://cairn:s3cret@db.example:5433/events?sslmode=disable";
        let place = Place::new(url, "cairn", "test").unwrap();
        assert_eq!(place.to_string(), "postgres://cairn@db.example:5433/events");
        assert!(!format!("{place:?}").contains("s3cret"));
        let other = Place::new(url, "other_1", "test").unwrap();
        assert_eq!(other.to_string(), "postgres://cairn@db.example:5433/events (schema other_1)");
    }

    #[test]
    fn an_address_that_cannot_be_read_does_not_show_its_password() {
        for url in ["postgres://cairn:s3cret@db:notaport/x", "cairn:s3cret@db", "postgres://u:s3cret@[::1/x"]
        {
            let error = Place::new(url, "cairn", "test").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn a_schema_is_a_plain_name() {
        for bad in ["", "1a", "A", "a\"b", "a;b", "a b", &"a".repeat(64)] {
            assert!(Place::new("postgres://u@h/d", bad, "test").is_err(), "{bad}");
        }
        assert!(Place::new("postgres://u@h/d", &"a".repeat(63), "test").is_ok());
    }
}
