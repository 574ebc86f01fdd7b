//! The routes put together, and the OpenAPI document that is made from them.

use super::context::{Api, Parts, Rules};
use super::gate::gate;
use super::problem::{Problem, ProblemKind};
use super::routes::{agents, events, insight, logs, probes, runs, submit, tasks, tokens, wishes};
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the document says beside its routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Cairn", version = "1",
        description = "The interface of a Cairn coordinator. Errors are `application/problem+json` (RFC 9457) with a \
            stable `type` and a `help` that says what to do. A write may carry an `Idempotency-Key`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")),
    security(("token" = [])),
    tags((name = "runs", description = "Plans that are executed"),
        (name = "actions", description = "What can be done to a run"),
        (name = "tasks", description = "The work of a run"),
        (name = "events", description = "The history of a run"),
        (name = "insight", description = "What can be said beyond the state"),
        (name = "agents", description = "The fleet"),
        (name = "tokens", description = "Who may do what"),
        (name = "probes", description = "For those who watch over the process")))]
struct Document;

fn routes() -> OpenApiRouter<Api> {
    let mut document = <Document as utoipa::OpenApi>::openapi();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token that `cairn token create` made"))
        .build();
    let components = document.components.get_or_insert_with(Components::default);
    components.add_security_scheme("token", SecurityScheme::Http(scheme));
    OpenApiRouter::with_openapi(document)
        .routes(routes!(runs::list, submit::submit))
        .routes(routes!(runs::get, wishes::delete))
        .routes(routes!(wishes::pause))
        .routes(routes!(wishes::resume))
        .routes(routes!(wishes::cancel))
        .routes(routes!(wishes::retry))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::get))
        .routes(routes!(logs::get))
        .routes(routes!(events::list))
        .routes(routes!(insight::critical_path))
        .routes(routes!(insight::explain))
        .routes(routes!(agents::list))
        .routes(routes!(agents::drain))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(probes::openapi))
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
}

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> OpenApi {
    routes().into_openapi()
}

/// The whole interface as a service; [`Server::serve`](super::Server::serve) puts it on a socket.
pub fn router(parts: Parts, rules: Rules) -> Router {
    let api = api(parts, rules);
    router_of(api)
}

pub(super) fn api(parts: Parts, rules: Rules) -> Api {
    // A document of our own types cannot fail to be written.
    let document = openapi().to_json().unwrap_or_default();
    Api::new(parts, rules, document)
}

pub(super) fn router_of(api: Api) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(api.clone(), gate))
        .with_state(api)
}

async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let help = "GET /api/v1/openapi.json lists what there is";
    Problem::new(ProblemKind::NotFound, format!("there is nothing at {}", path.escape_debug()), help)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("{} does not know {method}", path.escape_debug());
    let help = "the header Allow lists the methods that it knows";
    Problem::new(ProblemKind::MethodNotAllowed, detail, help)
}
