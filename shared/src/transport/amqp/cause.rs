//! Why there is no connection, in words for people.

use super::settings::{BrokerUrl, Role};
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use std::sync::Arc;

/// Why something does not work, and whether trying again soon can help.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) text: Arc<str>,
    /// Somebody has to change something first: tried again slowly.
    pub(super) slow: bool,
}

impl Cause {
    /// It may be over at any moment.
    pub(super) fn soon(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), slow: false }
    }

    /// It stays until somebody does something.
    pub(super) fn configuration(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), slow: true }
    }

    /// What the error of a connection, or of a channel on it, means.
    pub(super) fn of(error: &lapin::Error, url: &BrokerUrl) -> Self {
        let ErrorKind::ProtocolError(told) = error.kind() else {
            return match error.kind() {
                ErrorKind::IOError(io) => {
                    Self::soon(format!("the connection to {} broke: {io}", url.place()))
                }
                ErrorKind::MissingHeartbeatError => {
                    Self::soon(format!("{} gives no sign of life", url.place()))
                }
                _ => Self::soon(format!("the connection to {} ended: {error}", url.place())),
            };
        };
        let text = told.get_message();
        match told.kind() {
            AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => {
                Self::soon(format!("the broker closed the connection: {text}"))
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if !refused_login(text.as_str()) => {
                Self::configuration(format!("the user {} lacks a permission: {text}", url.user()))
            }
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::configuration(format!(
                "the broker refuses the user {} or its password: {text}",
                url.user()
            )),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                Self::configuration(format!("the broker does not let the user {} in: {text}", url.user()))
            }
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Self::configuration(text.as_str()),
            _ => Self::soon(format!("the broker reports: {text}")),
        }
    }

    /// What a failed declaration of a queue or an exchange means.
    pub(super) fn of_declaration(error: &lapin::Error, what: &str, url: &BrokerUrl) -> Self {
        if is(error, AMQPSoftError::PRECONDITIONFAILED) {
            return Self::configuration(format!(
                "{what} is there already, but made otherwise ({}); delete it (what it holds is sent again), or set what \
                 differs alike everywhere",
                told(error)
            ));
        }
        Self::of(error, url)
    }

    /// Another coordinator listens where only one may.
    pub(super) fn occupied() -> Self {
        Self::configuration(
            "another coordinator uses this broker's virtual host: stop it, or give this one a virtual host of its own (a \
             connection that broke may count for some seconds)",
        )
    }

    /// What a failed subscription means.
    pub(super) fn of_subscription(error: &lapin::Error, queue: &str, role: Role, url: &BrokerUrl) -> Self {
        if is(error, AMQPSoftError::NOTFOUND) && role == Role::Agent {
            return Self::soon(format!("the queue {queue} is not there; a coordinator makes it"));
        }
        Self::of(error, url)
    }
}

/// Whether a refusal is about who we are, and not about what we do.
fn refused_login(text: &str) -> bool {
    text.contains("Login was refused") || text.contains("authentication")
}

pub(super) fn is(error: &lapin::Error, kind: AMQPSoftError) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(told) if *told.kind() == AMQPErrorKind::Soft(kind.clone()))
}

/// Whether the broker refused because another consumer is alone there.
pub(super) fn is_taken(error: &lapin::Error) -> bool {
    is(error, AMQPSoftError::ACCESSREFUSED) && told(error).contains("exclusive use")
}

/// The size of the message that is over the broker's own limit, if that is the error: `message size 200 is larger than …`.
pub(super) fn refused_bytes(error: &lapin::Error) -> Option<usize> {
    let (_, rest) = told(error).split_once("message size ")?;
    rest.split_once(" is larger")?.0.parse().ok()
}

fn told(error: &lapin::Error) -> &str {
    match error.kind() {
        ErrorKind::ProtocolError(told) => told.get_message().as_str(),
        _ => "",
    }
}
