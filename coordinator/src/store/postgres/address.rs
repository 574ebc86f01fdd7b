//! The address of a database: written with its password, shown without.

use std::fmt;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// Keys that may stand behind the `?` of an address: those of TLS. Everything else has a place before it, or is set by us.
const QUERY_KEYS: [&str; 7] =
    ["sslmode", "ssl-mode", "sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "sslkey"];

/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, each part percent-encoded; a socket's directory is a host that begins
/// with `%2F`. Without a password, that of `PGPASSWORD` or `~/.pgpass` is taken. `Display` and `Debug` leave the password
/// and the query out, and what they show can be read again.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    whole: String,
    shown: String,
}

/// Why a text is no address of a database. Never says the text itself, which holds a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the address of a database is postgres://USER:PASSWORD@HOST:PORT/DATABASE, each part percent-encoded; {reason}"
)]
pub struct DatabaseUrlError {
    reason: &'static str,
}

impl DatabaseUrl {
    /// The whole address, for whoever connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.whole
    }

    /// Whether both name the same database, perhaps as different users.
    #[must_use]
    pub fn is_same_database(&self, other: &Self) -> bool {
        self.shown.split_once('@').map(|(_, place)| place)
            == other.shown.split_once('@').map(|(_, place)| place)
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let wrong = |reason| DatabaseUrlError { reason };
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or(wrong("this has another scheme"))?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) || rest.contains('#') {
            return Err(wrong("this has spaces or a `#`"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').ok_or(wrong("this names no database"))?;
        // What is left out would come from the environment, and be another database for another user.
        if authority.rsplit('@').next().is_none_or(|host| host.split(':').next() == Some("")) {
            return Err(wrong("this names no host"));
        }
        if database.is_empty() || database.contains(['/', '@']) || query.contains('@') {
            return Err(wrong("a `/`, `@` or `?` in a password is written %2F, %40 or %3F"));
        }
        let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
        if pairs.any(|pair| !QUERY_KEYS.contains(&pair.split('=').next().unwrap_or_default())) {
            return Err(wrong("behind the `?` may stand sslmode, sslrootcert, sslcert and sslkey"));
        }
        let options = PgConnectOptions::from_str(text).map_err(|_hidden| wrong("this cannot be read"))?;
        Ok(Self { whole: text.to_owned(), shown: shown(&options) })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// An address as people may see it, in one form whichever way it was written.
pub(super) fn shown(options: &PgConnectOptions) -> String {
    let user = options.get_username();
    let host = match options.get_socket() {
        Some(path) => encoded(&path.to_string_lossy()),
        // The address of IPv6 stands in brackets.
        None if options.get_host().starts_with('[') => options.get_host().to_owned(),
        None => encoded(options.get_host()),
    };
    let database = options.get_database().unwrap_or(user);
    format!("postgres://{}@{host}:{}/{}", encoded(user), options.get_port(), encoded(database))
}

/// Percent-encoded but for what means only itself.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DatabaseUrl {
        text.parse().expect(text)
    }

    #[test]
    fn an_address_is_shown_without_its_secrets_and_reads_back_as_it_is_shown() {
        for (whole, shown) in [
            ("postgres://cairn:s3cret@db:5433/events?sslmode=require", "postgres://cairn@db:5433/events"),
            ("postgresql://us%40er:s3cret%2F@db/a%20b", "postgres://us%40er@db:5432/a%20b"),
            ("postgres://cairn:s3cret@%2Frun%2Fpg/cairn", "postgres://cairn@%2Frun%2Fpg:5432/cairn"),
            ("postgres://cairn:s3cret@[::1]:5/cairn", "postgres://cairn@[::1]:5/cairn"),
        ] {
            let url = parse(whole);
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(url.expose(), whole);
            assert_eq!(parse(shown).to_string(), shown);
            assert!(url.is_same_database(&parse(shown)) && url != parse(shown));
        }
    }

    #[test]
    fn the_same_database_may_be_named_as_another_user() {
        let url = parse("postgres://cairn@db/cairn");
        assert!(url.is_same_database(&parse("postgres://viewer:pw@db:5432/cairn")));
        assert!(!url.is_same_database(&parse("postgres://cairn@db:5433/cairn")));
        assert!(!url.is_same_database(&parse("postgres://cairn@db/other")));
    }

    #[test]
    fn what_is_no_address_is_refused_without_telling_its_secrets() {
        for text in [
            "mysql://u:s3cret@db/x",
            "postgres://u:s3cret@db",
            "postgres://u:s3cret@db/",
            "postgres://u:s3cret@/x",
            "postgres://u:s3cret@db:port/x",
            "postgres://u:s3cret/x@db/x",
            "postgres://u:5/s3cret@db",
            "postgres://u:5?s3cret@db/x",
            "postgres://u:5/x?s3cret@db/x",
            "postgres://u:5#s3cret@db/x",
            "postgres://u@db/x?passwrod=s3cret",
            "postgres://u@db/x?password=s3cret",
            "postgres://u:s3cret @db/x",
        ] {
            let error = text.parse::<DatabaseUrl>().expect_err(text);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
