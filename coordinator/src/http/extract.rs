//! Parts of a request, read in bounds; what is wrong with them is told in the common form.

use super::limits::{BODY_TIMEOUT, DEFAULT_PAGE, MAX_BODY_BYTES, MAX_KEY_BYTES, MAX_PAGE};
use super::problem::{Problem, ProblemKind};
use axum::body::{Body, Bytes};
use axum::extract::{self, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

/// Names in the path.
pub(super) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = extract::Path::from_request_parts(parts, state).await;
        path.map(|extract::Path(value)| Self(value)).map_err(|error| {
            Problem::invalid(error.body_text(), "write names in the path as UTF-8, percent-encoded")
        })
    }
}

/// The query.
pub(super) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = extract::Query::from_request_parts(parts, state).await;
        query.map(|extract::Query(value)| Self(value)).map_err(|error| {
            Problem::invalid(error.body_text(), "GET /api/v1/openapi.json tells what may stand in the query")
        })
    }
}

/// A JSON body.
pub(super) struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, MAX_BODY_BYTES).await?;
        parse(&parts.headers, &bytes).map(Self)
    }
}

/// A JSON body that may be left out.
pub(super) struct MaybeJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, MAX_BODY_BYTES).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&parts.headers, &bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Problem> {
    if media_type(headers).as_deref() != Some("application/json") {
        let help = "send JSON with `Content-Type: application/json`";
        return Err(Problem::new(ProblemKind::UnsupportedMediaType, "the body is not said to be JSON", help));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let help = "GET /api/v1/openapi.json tells what the body may be";
        Problem::invalid(format!("the body cannot be read: {error}"), help)
    })
}

/// The type of the body, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The whole body, if it is not larger than `limit` and comes in time.
pub(super) async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let detail = format!("the body has more than {limit} bytes, which is the limit here");
        let help = "divide a large plan into several; a wish needs no more than its names and a reason";
        Problem::new(ProblemKind::TooLarge, detail, help)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit as u64) {
        return Err(too_large());
    }
    let read = async {
        let mut bytes = Vec::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk: Bytes = chunk.map_err(|error| {
                Problem::invalid(format!("the body ended early: {error}"), "send it again, whole")
            })?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
        Err(Problem::new(ProblemKind::Timeout, detail, "send it again, over a faster connection"))
    })
}

/// The `Idempotency-Key`, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let is_good = |text: &&str| {
        (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let key = value.to_str().ok().filter(is_good).ok_or_else(|| {
        let help = "use 1 to 200 visible ASCII characters without spaces, for example a UUID";
        Problem::invalid("the Idempotency-Key is not of the right form", help)
    });
    key.map(|key| Some(key.to_owned()))
}

/// How many rows a page is to have.
pub(super) fn page_size(limit: Option<usize>) -> Result<usize, Problem> {
    match limit {
        None => Ok(DEFAULT_PAGE),
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid(
            format!("a page cannot have that many rows: 1 to {MAX_PAGE}"),
            "leave `limit` out, or ask for several pages with `cursor`",
        )),
    }
}

/// Where a page begins.
pub(super) fn page_start(cursor: Option<&str>) -> Result<usize, Problem> {
    let Some(cursor) = cursor else { return Ok(0) };
    cursor.parse().map_err(|_| {
        Problem::invalid("there is no such cursor", "send the `next_cursor` of the page before, unchanged")
    })
}
