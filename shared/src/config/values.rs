//! Types of values that daemons have in common.

use crate::plan::scalar;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How a daemon keeps its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is told: a level, or directives of `tracing` (`info,lapin=warn`).
    pub level: String,
    /// In which form.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON value a line.
    Json,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is no `SCHEME://` at its start.
    #[error("an address begins with its scheme, like `amqp://`")]
    NoScheme,
    /// It has spaces or control characters.
    #[error("an address has no spaces")]
    Blank,
    /// The transport is not known.
    #[error("{scheme}:// is no transport; write `in-process`, `amqp://HOST` or `amqps://HOST`")]
    UnknownTransport {
        /// What stands before `://`.
        scheme: String,
    },
}

/// An address that may hold a password. Shown, printed and serialised it does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

/// What stands where a password would.
const HIDDEN: &str = "***";

impl SecretUrl {
    /// The whole address, for whoever connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands before `://`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split("://").next().unwrap_or_default()
    }
}

impl FromStr for SecretUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, _) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || !scheme.chars().all(is_scheme) {
            return Err(UrlError::NoScheme);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UrlError::Blank);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // A query can hold secrets of its own: nothing of it is shown.
        let (path, query) = path.find(['?', '#']).map_or((path, ""), |at| (&path[..at], HIDDEN));
        let mark = if query.is_empty() { "" } else { "?" };
        match authority.rsplit_once('@') {
            // A password with an `@` or `/` in it that was not encoded ends the authority early; the user before the
            // first colon is all that is surely no secret.
            Some((login, host)) => match login.split_once(':') {
                Some((user, _)) => write!(f, "{scheme}://{user}:{HIDDEN}@{host}{path}{mark}{query}"),
                None => write!(f, "{scheme}://{login}@{host}{path}{mark}{query}"),
            },
            None if path.contains('@') => write!(f, "{scheme}://{HIDDEN}"),
            None => write!(f, "{scheme}://{authority}{path}{mark}{query}"),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TransportUrl {
    /// Within the process: agents of this machine only.
    #[default]
    InProcess,
    /// Over RabbitMQ: `amqp://` or `amqps://`.
    Amqp(SecretUrl),
}

/// The name of the transport within the process.
const IN_PROCESS: &str = "in-process";

impl FromStr for TransportUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text == IN_PROCESS {
            return Ok(Self::InProcess);
        }
        let url: SecretUrl = text.parse()?;
        match url.scheme() {
            "amqp" | "amqps" => Ok(Self::Amqp(url)),
            scheme => Err(UrlError::UnknownTransport { scheme: scheme.to_owned() }),
        }
    }
}

impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess => f.write_str(IN_PROCESS),
            Self::Amqp(url) => url.fmt(f),
        }
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {
        $(impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        })*
    };
}

as_text!(SecretUrl, TransportUrl);

/// For `#[serde(with = "…")]`: a duration as in a plan, `10s`, `1h30m`.
pub mod duration {
    use super::{Deserialize, Deserializer, Serializer, scalar};
    use std::time::Duration;

    /// Writes it as it is read.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::written(*duration))
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is no duration: what to write instead.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        scalar::duration(&text)
            .map_err(|wrong| serde::de::Error::custom(format_args!("{}; {}", wrong.message, wrong.help)))
    }
}

/// For `#[serde(with = "…")]`: a duration, or nothing.
pub mod optional_duration {
    use super::{Deserialize, Deserializer, Serialize, Serializer, duration};
    use std::time::Duration;

    /// Writes it as it is read.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(super::written).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is no duration: what to write instead.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Read(#[serde(with = "duration")] Duration);
        Ok(Option::<Read>::deserialize(deserializer)?.map(|read| read.0))
    }
}

/// A duration as the plan language reads it; parts of a millisecond are dropped.
fn written(duration: std::time::Duration) -> String {
    const UNITS: [(u128, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (millis, unit) in UNITS {
        let count = rest / millis;
        rest %= millis;
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0s", "10s", "1h30m", "2d", "500ms", "1m500ms"] {
            let read = scalar::duration(text).expect("a duration");
            assert_eq!(written(read), text);
        }
        assert_eq!(written(Duration::from_millis(1_500)), "1s500ms");
    }

    #[test]
    fn an_address_hides_its_password() {
        let shown = |text: &str| text.parse::<SecretUrl>().expect("an address").to_string();
        assert_eq!(shown("amqp://cairn:s3cret@broker:5672/%2f"), "amqp://cairn:***@broker:5672/%2f");
        assert_eq!(shown("amqp://broker"), "amqp://broker");
        assert_eq!(shown("amqp://me@broker/x?password=s3cret"), "amqp://me@broker/x?***");
        assert_eq!(shown("file:///var/lib/cairn"), "file:///var/lib/cairn");
        for hostile in ["amqp://u:s3cret/x@broker", "amqp://u:a@s3cret@broker", "amqp://broker#s3cret"] {
            assert!(!shown(hostile).contains("s3cret"), "{hostile}: {}", shown(hostile));
        }
        let url: SecretUrl = "amqp://u:s3cret@broker".parse().expect("an address");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert!(!serde_json::to_string(&url).expect("JSON").contains("s3cret"));
        assert_eq!(url.expose(), "amqp://u:s3cret@broker");
    }

    #[test]
    fn transports_are_told_apart() {
        assert_eq!("in-process".parse(), Ok(TransportUrl::InProcess));
        assert!(matches!("amqps://broker".parse(), Ok(TransportUrl::Amqp(_))));
        assert_eq!(
            "kafka://broker".parse::<TransportUrl>(),
            Err(UrlError::UnknownTransport { scheme: "kafka".into() })
        );
        assert_eq!("broker:5672".parse::<TransportUrl>(), Err(UrlError::NoScheme));
        assert_eq!("amqp://a b".parse::<TransportUrl>(), Err(UrlError::Blank));
    }
}
