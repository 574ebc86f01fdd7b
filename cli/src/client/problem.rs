//! What went wrong with a request, as a failure with an exit code and the next step.

use super::Target;
use crate::exit::{Exit, Failure};
use cairn_coordinator::http::model::{DiagnosticBody, ProblemBody};
use reqwest::StatusCode;
use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// Most bytes of a foreign answer that are shown.
const MAX_SHOWN_BYTES: usize = 200;
/// Things wrong with a plan that are shown as text; the others are counted.
const MAX_SHOWN: usize = 20;

/// A request that got no answer.
pub fn no_answer(target: &Target, error: &reqwest::Error) -> Failure {
    let Target { url, named_by, .. } = target;
    let place = format!("{url} (from {named_by})");
    let cause = root_cause(error);
    let (message, help) = match kind(error) {
        Kind::Refused => (
            format!("nobody listens at {place}"),
            "start one with `cairn coordinator`, or name another with --url URL".to_owned(),
        ),
        Kind::TimedOut => (
            format!("the coordinator at {place} did not answer in time"),
            "see whether it is overloaded or a firewall drops what is sent: `cairn doctor`".to_owned(),
        ),
        Kind::Unknown => (
            format!("cannot find the coordinator at {place}: {cause}"),
            "check the name in the URL".to_owned(),
        ),
        Kind::Tls => (
            format!("no secure connection to {place}: {cause}"),
            "check that the URL is one of https with the name in its certificate; a certificate of your own \
             authority is trusted if the variable SSL_CERT_FILE names it"
                .to_owned(),
        ),
        Kind::Broken => (
            format!("the connection to the coordinator at {place} broke: {cause}"),
            "try again; `cairn doctor` looks for the reason".to_owned(),
        ),
    };
    Failure::new(Exit::OutOfReach, message).help(help)
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nobody listens.
    Refused,
    /// Nobody answered in time.
    TimedOut,
    /// There is no machine of that name.
    Unknown,
    /// The connection is not to be trusted.
    Tls,
    /// The connection ended early.
    Broken,
}

fn kind(error: &reqwest::Error) -> Kind {
    let io_kind = causes(error).find_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    let text = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    match io_kind {
        Some(io::ErrorKind::ConnectionRefused) => Kind::Refused,
        _ if error.is_timeout() => Kind::TimedOut,
        Some(io::ErrorKind::TimedOut) => Kind::TimedOut,
        // The library has no type for it.
        _ if error.is_connect() && text.contains("dns error") => Kind::Unknown,
        Some(io::ErrorKind::InvalidData | io::ErrorKind::Other) if error.is_connect() => Kind::Tls,
        _ => Kind::Broken,
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |&error| error.source())
}

fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

/// Whether the same request may be answered a little later: a coordinator that restarts refuses connections, breaks
/// those that it had, or says so itself.
pub fn may_pass(error: &reqwest::Error) -> bool {
    match kind(error) {
        Kind::Refused | Kind::TimedOut | Kind::Broken => !error.is_builder() && !error.is_decode(),
        Kind::Unknown | Kind::Tls => false,
    }
}

/// The same of an answer.
pub fn will_pass(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// An answer that says no.
pub fn refusal(target: &Target, status: StatusCode, body: &[u8]) -> Failure {
    let exit = exit_of(status);
    let Ok(problem) = serde_json::from_slice::<ProblemBody>(body) else {
        return foreign(target, status, body);
    };
    let mut message = if problem.detail.is_empty() { problem.title } else { problem.detail };
    if !problem.diagnostics.is_empty() {
        message = format!("{}{message}", shown(&problem.diagnostics, problem.omitted));
    }
    let failure = Failure::new(exit, message);
    match help(&problem.kind, target) {
        Some(help) => failure.help(help),
        None if problem.help.is_empty() => failure,
        None => failure.help(problem.help),
    }
}

/// What to do at a shell, where the coordinator can only say what to do over HTTP.
fn help(kind: &str, target: &Target) -> Option<String> {
    let help = match (kind.strip_prefix("urn:cairn:problem:")?, &target.token) {
        ("unauthenticated", None) => {
            "no token was sent: name its file with --token-file or CAIRN_TOKEN_FILE; who runs the coordinator makes \
             one with `cairn token create`"
        }
        ("unauthenticated", Some(token)) => {
            return Some(format!(
                "the token of {} is not known there, or not good any more: ask for another (`cairn token create`)",
                token.from
            ));
        }
        ("run-not-found", _) => "`cairn list` shows all runs",
        ("part-not-found", _) => "`cairn status RUN --all` shows all milestones and tasks",
        ("agent-not-found", _) => "`cairn agents` shows all agents",
        ("token-not-found", _) => "`cairn token list` shows all tokens",
        ("key-reused", _) => "use a key of its own for each plan, or leave --key out",
        _ => return None,
    };
    Some(help.to_owned())
}

/// An answer that a coordinator would not give.
fn foreign(target: &Target, status: StatusCode, body: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN_BYTES)]);
    let line = text.lines().next().unwrap_or_default().escape_debug().to_string();
    let said = if line.is_empty() { String::new() } else { format!(": {line}") };
    let exit = match exit_of(status) {
        exit @ Exit::NotAllowed => exit,
        _ => Exit::OutOfReach,
    };
    Failure::new(exit, format!("{} answered {status}{said}", target.url))
        .help(format!("that is no answer of a coordinator: check the URL, it is from {}", target.named_by))
}

/// An answer that cannot be read.
pub fn unreadable(target: &Target, error: &dyn Error) -> Failure {
    let message = format!("the answer of {} cannot be read: {error}", target.url);
    Failure::new(Exit::OutOfReach, message)
        .help("see whether coordinator and command are of the same version: `cairn doctor`")
}

fn exit_of(status: StatusCode) -> Exit {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NotAllowed,
        StatusCode::NOT_FOUND | StatusCode::GONE => Exit::NotFound,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Exit::OutOfReach,
        status if status.is_client_error() => Exit::Usage,
        _ => Exit::OutOfReach,
    }
}

/// What is wrong with a plan, without the plan at hand.
fn shown(diagnostics: &[DiagnosticBody], omitted: usize) -> String {
    let mut out = String::new();
    for one in diagnostics.iter().take(MAX_SHOWN) {
        let _ = match (one.line, one.column) {
            (Some(line), Some(column)) => write!(out, "{line}:{column}: "),
            _ => Ok(()),
        };
        let _ = writeln!(out, "{}", one.message);
        if let Some(help) = &one.help {
            let _ = writeln!(out, "  help: {help}");
        }
    }
    let more = omitted + diagnostics.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        let _ = writeln!(out, "and {more} more");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_exit_code() {
        let exit = |status: u16| exit_of(StatusCode::from_u16(status).expect("a status"));
        assert_eq!([400, 409, 413, 415, 422].map(exit), [Exit::Usage; 5]);
        assert_eq!([401, 403].map(exit), [Exit::NotAllowed; 2]);
        assert_eq!([404, 410].map(exit), [Exit::NotFound; 2]);
        assert_eq!([302, 429, 500, 503].map(exit), [Exit::OutOfReach; 4]);
    }
}
