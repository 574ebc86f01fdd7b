//! What can be done to a run: pause, resume, cancel, retry.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{MaybeJson, Path};
use crate::http::limits::MAX_REASON_CHARS;
use crate::http::model::{ActionBody, ActionRequest, ProblemBody};
use crate::http::problem::Problem;
use crate::service::{Part, Request, Wish};
use axum::Json;
use axum::extract::State;

macro_rules! action {
    ($(#[doc = $doc:literal])* $name:ident, $path:literal, $id:literal, $wish:expr) => {
        $(#[doc = $doc])*
        #[utoipa::path(post, path = $path, tag = "actions", operation_id = $id,
            params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.",
                example = "apollo.3"),
                ("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters.")),
            request_body(content = Option<ActionRequest>, description = "Of what, and why; may be left out."),
            responses((status = 200, description = "It is durable.", body = ActionBody),
                (status = 409, description = "Not possible in this state; nothing has changed.", body = ProblemBody,
                    content_type = "application/problem+json"),
                (status = "default", description = "A problem.", body = ProblemBody,
                    content_type = "application/problem+json")))]
        pub(in crate::http) async fn $name(
            State(api): State<Api>,
            caller: Caller,
            Path(run): Path<String>,
            MaybeJson(body): MaybeJson<ActionRequest>,
        ) -> Result<Json<ActionBody>, Problem> {
            let wish: fn(String, bool) -> Wish = $wish;
            act(&api, &caller, &run, body, wish).await
        }
    };
}

action! {
    /// Pause a run
    ///
    /// Nothing of it is dispatched until it is resumed; what runs goes on.
    pause, "/api/v1/runs/{run}/pause", "pause_run", |reason, _| Wish::Pause { reason }
}
action! {
    /// Resume a run
    ///
    /// Goes on with what was paused.
    resume, "/api/v1/runs/{run}/resume", "resume_run", |_, _| Wish::Resume
}
action! {
    /// Cancel a run
    ///
    /// Ends what has not ended; running tasks are stopped.
    cancel, "/api/v1/runs/{run}/cancel", "cancel_run", |reason, _| Wish::Cancel { reason }
}
action! {
    /// Retry what failed
    ///
    /// Runs again the tasks that failed, and what was skipped because of them; or the part that is named.
    retry, "/api/v1/runs/{run}/retry", "retry_run", |_, downstream| Wish::Retry { downstream }
}

/// Cancel a run
///
/// The same as `POST …/cancel` without a body. The run and its history stay.
#[utoipa::path(delete, path = "/api/v1/runs/{run}", tag = "actions", operation_id = "delete_run",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters.")),
    responses((status = 200, description = "It is durable.", body = ActionBody),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(run): Path<String>,
) -> Result<Json<ActionBody>, Problem> {
    act(&api, &caller, &run, ActionRequest::default(), |reason, _| Wish::Cancel { reason }).await
}

async fn act(
    api: &Api,
    caller: &Caller,
    run: &str,
    body: ActionRequest,
    wish: fn(String, bool) -> Wish,
) -> Result<Json<ActionBody>, Problem> {
    let named = caller.on_run(Action::Act, run)?;
    let reason = body.reason.clone().unwrap_or_default();
    if reason.chars().count() > MAX_REASON_CHARS {
        let help = "say it shorter, and keep the long form elsewhere";
        return Err(Problem::invalid(
            format!("the reason has more than {MAX_REASON_CHARS} characters"),
            help,
        ));
    }
    let wish = wish(reason, body.downstream);
    if body.downstream && !matches!(wish, Wish::Retry { .. }) {
        return Err(Problem::invalid("`downstream` says nothing here", "leave it out: it is for `retry`"));
    }
    let part = part(body)?;
    // From here on one run is meant, whatever is submitted meanwhile.
    let run = api.look(&named.text, |state| state.run().id.clone()).await?;
    let user = caller.name.to_string();
    let wanted = run.clone();
    api.ask(|reply| Request::Wish { run: wanted, part, wish, user, reply }).await??;
    let status = api.look(&run, |state| state.run().status).await?;
    Ok(Json(ActionBody { run, status }))
}

fn part(body: ActionRequest) -> Result<Part, Problem> {
    match (body.milestone, body.task) {
        (None, Some(task)) => match task.split_once('/') {
            Some((milestone, task)) => {
                Ok(Part { milestone: Some(milestone.to_owned()), task: Some(task.to_owned()) })
            }
            None => Err(Problem::invalid(
                "the task's milestone is not named",
                "write `\"task\": \"MILESTONE/TASK\"`, or name the milestone beside it",
            )),
        },
        (milestone, task) => Ok(Part { milestone, task }),
    }
}
