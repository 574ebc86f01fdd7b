//! `POST /runs`: a plan becomes a run.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Query, idempotency_key, media_type, read_body};
use crate::http::limits::{MAX_NAME_BYTES, MAX_PARAMETERS};
use crate::http::model::{ProblemBody, SubmittedBody};
use crate::http::problem::{Problem, ProblemKind};
use crate::service::{ReadPlan, Request as Wanted, Submission};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_shared::plan::Limits;

/// Submit a plan
///
/// The body is the plan itself. The answer comes when the run is durable. With an `Idempotency-Key` the same request
/// can be sent again whatever became of the first one: it makes one run.
#[utoipa::path(post, path = "/api/v1/runs", tag = "runs", operation_id = "submit_run",
    params(
        ("param" = Option<Vec<String>>, Query, description = "A parameter of the plan, `NAME=VALUE`; may be repeated.",
            example = json!(["region=eu"])),
        ("fail_fast" = Option<bool>, Query, description = "The first failure ends the run."),
        ("name" = Option<String>, Query, description = "What the plan is called where it comes from.",
            example = "plan.yaml"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters.")),
    request_body(description = "The plan: YAML, or JSON.", content(
        (String = "application/yaml",
            example = "version: 1\nproject: apollo\ntasks:\n  - {id: hello, run: echo hello}\n"),
        (Object = "application/json",
            example = json!({"version": 1, "project": "apollo", "tasks": [{"id": "hello", "run": "echo hello"}]})))),
    responses(
        (status = 201, description = "The run was made; `Location` leads to it.", body = SubmittedBody,
            headers(("Location" = String, description = "Where the run is."))),
        (status = 200, description = "The run had been made by the same request before.", body = SubmittedBody),
        (status = 409, description = "The key was used with another plan.", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "The plan is not valid; `diagnostics` says where and why.", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn submit(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Problem> {
    caller.check(Action::Submit, None)?;
    let wish = Wish::read(query)?;
    let (parts, body) = request.into_parts();
    let kind = media_type(&parts.headers);
    let extension = match kind.as_deref() {
        Some("application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml") => "yaml",
        Some("application/json") => "json",
        _ => {
            let help = "send the plan itself with `Content-Type: application/yaml` or `application/json`";
            let detail = "the body is not said to be a plan in YAML or JSON";
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail, help));
        }
    };
    let key = idempotency_key(&parts.headers)?;
    let name = wish.name.unwrap_or_else(|| format!("plan.{extension}"));
    let Ok(permit) = api.submissions.clone().try_acquire_owned() else {
        return Err(
            Problem::unavailable("as many plans as may be are being received and read").retry_after(1)
        );
    };
    let bytes = read_body(&parts.headers, body, Limits::http().plan_bytes).await?;
    let parameters = wish.parameters;
    let read = tokio::task::spawn_blocking(move || ReadPlan::read(&name, bytes, parameters));
    let read = read.await.map_err(|_| Problem::internal())?;
    let plan = read.map_err(|diagnostics| Problem::invalid_plan(&diagnostics))?;
    // Only the plan says which project the caller must be allowed.
    let project = plan.plan().project.clone();
    caller.check(Action::Submit, Some(&project))?;
    let user = caller.name.to_string();
    let submission = Submission { plan, fail_fast: wish.fail_fast, key, user };
    let submitted = api.ask(|reply| Wanted::Submit(Box::new(submission), reply)).await??;
    drop(permit);
    let run = submitted.run.to_string();
    let location = format!("/api/v1/runs/{run}");
    let status = if submitted.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let body = SubmittedBody { run, project, is_new: submitted.is_new };
    Ok((status, [(header::LOCATION, location)], Json(body)).into_response())
}

/// What stands in the query.
#[derive(Default)]
struct Wish {
    parameters: Vec<(String, String)>,
    fail_fast: bool,
    name: Option<String>,
}

impl Wish {
    fn read(query: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut wish = Self::default();
        for (key, value) in query {
            match key.as_str() {
                "param" => {
                    let (name, value) = value.split_once('=').ok_or_else(|| {
                        Problem::invalid("a `param` has no value", "write `param=NAME=VALUE`")
                    })?;
                    wish.parameters.push((name.to_owned(), value.to_owned()));
                }
                "fail_fast" => {
                    wish.fail_fast = match value.as_str() {
                        "true" | "" => true,
                        "false" => false,
                        _ => return Err(Problem::invalid("`fail_fast` is neither", "write true or false")),
                    };
                }
                "name" if value.len() <= MAX_NAME_BYTES && !value.chars().any(char::is_control) => {
                    wish.name = Some(value).filter(|name| !name.is_empty());
                }
                "name" => {
                    let help = "use at most 200 bytes, without control characters";
                    return Err(Problem::invalid("that `name` cannot be used", help));
                }
                _ => {
                    let help = "there are `param`, `fail_fast` and `name`";
                    let key: String = key.chars().take(100).collect();
                    return Err(Problem::invalid(format!("nothing is called {}", key.escape_debug()), help));
                }
            }
        }
        if wish.parameters.len() > MAX_PARAMETERS {
            let help = "put the values into the plan";
            return Err(Problem::invalid(format!("there are more than {MAX_PARAMETERS} parameters"), help));
        }
        Ok(wish)
    }
}
