//! What every request passes, in this order: host, token, rate; then its route; then the audit. What a route does not
//! tell in the common form, or dies of, is told here.

use super::access::Caller;
use super::context::{Api, in_time};
use super::extract::{idempotency_key, read_body};
use super::limits::{MAX_AUDITED_PATH_BYTES, MAX_BODY_BYTES};
use super::problem::{Problem, ProblemKind};
use super::replays::{Turn, fingerprint};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

/// What nobody may make of an answer: a page, a script, a copy in a cache.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Lets a request through, or tells why not.
pub(super) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let is_write = !matches!(*request.method(), Method::GET | Method::HEAD);
    let answer = answer(api, request, next);
    let mut response = if is_write {
        // A client that goes away must not leave half of a write, or one without its line in the audit stream.
        tokio::spawn(answer).await.unwrap_or_else(|_| Problem::internal().into_response())
    } else {
        answer.await
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn answer(api: Api, mut request: Request, next: Next) -> Response {
    let is_write = !matches!(*request.method(), Method::GET | Method::HEAD);
    let path: String = request.uri().path().chars().take(MAX_AUDITED_PATH_BYTES).collect();
    let action = format!("{} {path}", request.method());
    let mut user = None;
    let response = match admit(&api, &mut request, &mut user) {
        Ok(()) => {
            let answered = AssertUnwindSafe(once(&api, &action, request, next)).catch_unwind().await;
            let answered = answered.unwrap_or_else(|_| {
                tracing::error!(%action, "a request made a thread panic");
                Err(Problem::internal())
            });
            answered.unwrap_or_else(Problem::into_response)
        }
        Err(problem) => problem.into_response(),
    };
    let status = response.status();
    let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let is_audited = match is_refused {
        true => api.audited_refusals.check().is_ok(),
        // Without a user nothing was done.
        false => is_write && user.is_some(),
    };
    if is_audited {
        let user = user.map_or_else(|| "-".to_owned(), |caller: Caller| caller.name.to_string());
        let told = async { Ok(api.parts.handle.audit(action, user, status.as_u16()).await?) };
        if let Err(problem) = in_time(told).await {
            tracing::warn!(?problem, "the audit stream takes nothing");
        }
    }
    response
}

/// Does a write with an `Idempotency-Key` once, and everything else.
async fn once(api: &Api, action: &str, request: Request, next: Next) -> Result<Response, Problem> {
    let caller = request.extensions().get::<Caller>();
    // Submissions keep their keys with their runs, and nobody may keep a token.
    let is_kept = !matches!(*request.method(), Method::GET | Method::HEAD)
        && !matches!(request.uri().path(), "/api/v1/runs" | "/api/v1/tokens");
    let (Some(caller), true, Some(key)) = (caller, is_kept, idempotency_key(request.headers())?) else {
        return Ok(next.run(request).await);
    };
    let name = (caller.token.clone(), key);
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, MAX_BODY_BYTES).await?;
    // The path whole: what is audited may be cut.
    let fingerprint = fingerprint(&format!("{action} {}", parts.uri.path()), parts.uri.query(), &body);
    let first = match api.replays.turn(name, fingerprint)? {
        Turn::First(first) => first,
        Turn::Answered(status, body) => {
            return Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response());
        }
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        // Nothing was done: it may be tried again.
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| Problem::internal())?;
    first.keep(parts.status, body.clone());
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Host, token, rate.
fn admit(api: &Api, request: &mut Request, user: &mut Option<Caller>) -> Result<(), Problem> {
    check_host(api, request)?;
    if is_open(api, request.method(), request.uri()) {
        // A probe of life costs nothing, and must not fail because of others.
        let is_free = request.uri().path() == "/livez" || api.open.check().is_ok();
        return if is_free { Ok(()) } else { Err(too_many("requests without a token")) };
    }
    let Some(caller) = token(request).and_then(|secret| api.parts.tokens.verify(secret)) else {
        if api.refusals.check().is_err() {
            return Err(too_many("requests without a good token"));
        }
        let help = "send `Authorization: Bearer TOKEN`; the first token is in `admin.token` of the coordinator's \
                    state directory, `cairn token create` makes others";
        let detail = "the request has no token, or one that is not known, expired or revoked";
        return Err(Problem::new(ProblemKind::Unauthenticated, detail, help));
    };
    *user = Some(caller.clone());
    if api.rate.check_key(&caller.token).is_err() {
        return Err(too_many("requests with this token"));
    }
    request.extensions_mut().insert(caller);
    Ok(())
}

fn too_many(what: &str) -> Problem {
    let help = "wait as long as Retry-After says; follow a stream where you ask again and again";
    Problem::new(ProblemKind::TooManyRequests, format!("there are too many {what}"), help).retry_after(1)
}

/// What tells nothing that needs a token.
fn is_open(api: &Api, method: &Method, uri: &Uri) -> bool {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    match uri.path() {
        "/livez" | "/api/v1/openapi.json" => true,
        "/readyz" => uri.query().is_none_or(str::is_empty),
        "/metrics" => api.rules.open_metrics,
        _ => false,
    }
}

fn token(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A page of another site whose name was bound to this address (DNS rebinding) names itself as the host. An address
/// cannot be bound anew.
fn check_host(api: &Api, request: &Request) -> Result<(), Problem> {
    let by_header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(by_header);
    let name = host.map(without_port).unwrap_or_default();
    let is_address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let is_ours = || api.rules.hosts.iter().any(|own| own.eq_ignore_ascii_case(name));
    if is_address || name.eq_ignore_ascii_case("localhost") || is_ours() {
        return Ok(());
    }
    let detail = match name {
        "" => "the request names no host".to_owned(),
        name => format!("this coordinator is not called {}", name.escape_debug()),
    };
    let help = "use its address, or have its name added to `host_names` in the coordinator's configuration";
    Err(Problem::new(ProblemKind::WrongHost, detail, help))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_host() {
        let hosts = ["localhost", "localhost:7420", "[::1]:7420", "[::1]", "127.0.0.1:80"];
        assert_eq!(hosts.map(without_port), ["localhost", "localhost", "[::1]", "[::1]", "127.0.0.1"]);
    }
}
