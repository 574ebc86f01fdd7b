//! For those who watch over the process.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::limits::PROBE_PATIENCE;
use crate::http::model::{CheckBody, HealthBody, ProblemBody};
use crate::http::problem::Problem;
use crate::service::Request;
use axum::Json;
use axum::extract::{self, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

/// Whether the process is alive
#[utoipa::path(get, path = "/livez", tag = "probes", operation_id = "is_alive", security(()),
    responses((status = 200, description = "It is.", body = String, content_type = "text/plain")))]
pub(in crate::http) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether the coordinator can do its work
///
/// `?verbose` tells each check, and needs a token.
#[utoipa::path(get, path = "/readyz", tag = "probes", operation_id = "is_ready", security((), ("token" = [])),
    params(("verbose" = Option<String>, Query, description = "Tell each check.")),
    responses((status = 200, description = "It can.", body = HealthBody),
        (status = 503, description = "It cannot.", body = HealthBody),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn readyz(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    caller: Option<extract::Extension<Caller>>,
) -> Result<impl IntoResponse, Problem> {
    let is_verbose = match query.as_deref() {
        None | Some("") => false,
        Some("verbose" | "verbose=" | "verbose=true") => true,
        Some(_) => return Err(Problem::invalid("there is no such query", "use `?verbose`, or nothing")),
    };
    if is_verbose {
        // The gate asks for a token where there is a query.
        let extract::Extension(caller) = caller.ok_or_else(Problem::internal)?;
        caller.check(Action::ViewHealth, None)?;
    }
    let asked = tokio::time::timeout(PROBE_PATIENCE, api.parts.handle.ask(Request::Health)).await;
    let mut body = match asked {
        Ok(Ok(health)) => {
            HealthBody { is_ready: health.is_ready, checks: health.checks.into_iter().map(check).collect() }
        }
        Ok(Err(_)) | Err(_) => {
            let message = "the coordinator does not answer: it is ending, or busy".to_owned();
            HealthBody { is_ready: false, checks: vec![check(("coordinator", false, message))] }
        }
    };
    if !is_verbose {
        body.checks.clear();
    }
    let status = if body.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(body)))
}

fn check((name, is_good, message): (&'static str, bool, String)) -> CheckBody {
    CheckBody { name: name.to_owned(), is_good, message }
}

/// The metrics of the process
///
/// Where the coordinator listens on this machine only, they need no token; elsewhere one for all projects.
#[utoipa::path(get, path = "/metrics", tag = "probes", operation_id = "get_metrics", security((), ("token" = [])),
    responses((status = 200, description = "As Prometheus reads them.", body = String,
            content_type = "text/plain; version=0.0.4"),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn metrics(
    State(api): State<Api>,
    caller: Option<extract::Extension<Caller>>,
) -> Result<impl IntoResponse, Problem> {
    if let Some(extract::Extension(caller)) = caller {
        caller.check(Action::ViewMetrics, None)?;
    }
    let text = (api.parts.metrics)();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

/// This document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "probes", operation_id = "get_openapi", security(()),
    responses((status = 200, description = "The interface, as OpenAPI 3.1.", body = Object)))]
pub(in crate::http) async fn openapi(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api.openapi.clone())
}
