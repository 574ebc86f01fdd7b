//! What a connection to a broker is made of.

use lapin::uri::AMQPUri;
use std::fmt;
use std::str::FromStr;

/// Seconds without a sign of life after which either end gives a connection up, twice over: half-open connections are
/// seen within 20 s.
const HEARTBEAT_SECONDS: u16 = 10;

/// How to reach a broker, and as what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub url: BrokerUrl,
    /// What kind of queues to make.
    pub queue_type: QueueType,
    /// Who we are: decides which queues and exchanges we declare.
    pub role: Role,
    /// The name of our connections in the broker's own views: `cairn agent build-7`.
    pub name: String,
    /// Certificates (PEM) to trust for `amqps://` besides those of the system.
    pub certificate_authority: Option<String>,
}

/// What kind of queues to make. All of a fleet say the same, for a queue keeps the type that it was made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// On one node of the broker. The quickest; its messages are away while that node is away.
    #[default]
    Classic,
    /// On several nodes: survives the loss of one of them.
    Quorum,
}

/// Who declares what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Declares all exchanges, the queues of coordinators, and the queues that agents share.
    Coordinator,
    /// Declares its own queue only, and waits for the others to be there: its user needs no right to configure them.
    Agent,
}

/// The address of a broker: `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`, each part percent-encoded. Its
/// `Display` and `Debug` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(AMQPUri);

/// Why a text is no address of a broker. Never says the text itself, which holds a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    /// Another scheme.
    #[error("the address of a broker starts with amqp:// or amqps://")]
    Scheme,
    /// No URL.
    #[error("the address of a broker cannot be read ({reason}); it is amqp://USER:PASSWORD@HOST:PORT/VHOST")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest =
            text.strip_prefix("amqp://").or_else(|| text.strip_prefix("amqps://")).ok_or(UrlError::Scheme)?;
        let mut uri = AMQPUri::from_str(text).map_err(|reason| UrlError::Malformed { reason })?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host_and_port = authority.rsplit('@').next().unwrap_or_default();
        // The parser knows names and IPv4 only, and takes localhost for all else.
        if let Some((host, _)) = host_and_port.strip_prefix('[').and_then(|host| host.split_once(']')) {
            host.clone_into(&mut uri.authority.host);
        } else if host_and_port.split(':').next().unwrap_or_default().is_empty() {
            return Err(UrlError::Malformed { reason: "no host".to_owned() });
        }
        // `amqp://host/` names the vhost "", which nobody means.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self(uri))
    }
}

impl BrokerUrl {
    pub(super) fn uri(&self) -> &AMQPUri {
        &self.0
    }

    pub(super) fn user(&self) -> &str {
        &self.0.authority.userinfo.username
    }

    /// `HOST:PORT`.
    pub(super) fn place(&self) -> String {
        let authority = &self.0.authority;
        if authority.host.contains(':') {
            format!("[{}]:{}", authority.host, authority.port)
        } else {
            format!("{}:{}", authority.host, authority.port)
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}@{}", self.0.scheme, self.user(), self.place())?;
        if self.0.vhost == "/" { Ok(()) } else { write!(formatter, "/{}", self.0.vhost) }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl QueueType {
    /// The broker's name of it.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> BrokerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn parts_are_percent_decoded_and_the_password_is_never_shown() {
        let url = parse("amqp://us%40er:p%2Fw%3A@broker:5673/v%2Fh");
        assert_eq!(url.user(), "us@er");
        assert_eq!(url.uri().authority.userinfo.password, "p/w:");
        assert_eq!(url.uri().vhost, "v/h");
        assert_eq!(format!("{url} {url:?}"), "amqp://us@er@broker:5673/v/h amqp://us@er@broker:5673/v/h");
    }

    #[test]
    fn what_is_left_out_has_a_value() {
        for text in ["amqp://broker", "amqp://broker/", "amqp://broker/%2f"] {
            let url = parse(text);
            assert_eq!((url.uri().vhost.as_str(), url.place()), ("/", "broker:5672".to_owned()), "{text}");
            assert_eq!(url.uri().query.heartbeat, Some(HEARTBEAT_SECONDS));
        }
        assert_eq!(parse("amqps://broker").place(), "broker:5671");
        assert_eq!(parse("amqp://u:p@[::1]:5/x").place(), "[::1]:5");
        assert_eq!(parse("amqp://127.0.0.1:5").place(), "127.0.0.1:5");
        assert_eq!(parse("amqp://broker?heartbeat=3").uri().query.heartbeat, Some(3));
    }

    #[test]
    fn errors_do_not_tell_the_password() {
        for text in [
            "http://u:secret@host",
            "amqp:u:secret@host",
            "amqp://u:secret@",
            "amqp://u:secret@host:99999999",
            "amqp://u:%ffsecret@host",
            "amqp://u:secret@host?heartbeat=secret",
            "",
        ] {
            let error = text.parse::<BrokerUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
