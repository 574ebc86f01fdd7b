//! Runs: a list of them, and one as it stands.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Path, Query, page_size, page_start};
use crate::http::model::{ProblemBody, RunPage, RunRow, StatusBody};
use crate::http::problem::Problem;
use crate::http::stream::json_stream;
use crate::projection::{At, RunOverview, StatusView};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cairn_engine::RunStatus;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListQuery {
    /// Only runs of this project.
    #[param(example = "apollo")]
    project: Option<String>,
    /// Only runs that stand there: `active`, `paused`, `completed`, `failed` or `cancelled`.
    #[param(value_type = Option<String>)]
    status: Option<RunStatus>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1,000; 100, if it is left out.
    limit: Option<usize>,
}

/// List runs
///
/// In the order of their submission. Those of projects that the token may not see are left out.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", operation_id = "list_runs", params(ListQuery),
    responses((status = 200, description = "A page of runs.", body = RunPage),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<RunPage>, Problem> {
    caller.check(Action::View, query.project.as_deref())?;
    let (limit, start) = (page_size(query.limit)?, page_start(query.cursor.as_deref())?);
    let is_wanted = |run: &RunOverview| {
        let project = run.run.project();
        query.project.as_deref().is_none_or(|wanted| wanted == project)
            && query.status.is_none_or(|wanted| wanted == run.status)
            && caller.may(Action::View, Some(project))
    };
    let page = api.runs.all(|runs| {
        let wanted = runs.iter().enumerate().skip(start).filter(|(_, run)| is_wanted(run));
        // One more than asked for says that there is another page, and where it begins.
        let found: Vec<_> = wanted.take(limit + 1).collect();
        let next_cursor = found.get(limit).map(|(place, _)| place.to_string());
        RunPage { runs: found.iter().take(limit).map(|(_, run)| row(run)).collect(), next_cursor }
    });
    Ok(Json(page.await?))
}

fn row(run: &RunOverview) -> RunRow {
    RunRow {
        run: run.run.to_string(),
        project: run.run.project().to_owned(),
        status: run.status,
        interrupted: run.interrupted,
        cancelling: run.cancelling,
        progress: run.progress(),
        tasks_total: run.tasks,
        tasks_completed: run.completed,
        tasks_failed: run.failed,
        tasks_skipped: run.skipped,
        tasks_cancelled: run.cancelled,
        milestones_total: run.milestones,
        submitted_at: run.submitted_at.to_string(),
        started_at: run.started_at.map(|at| at.to_string()),
        finished_at: run.finished_at.map(|at| at.to_string()),
        duration_seconds: run.duration().map(|duration| duration.as_secs_f64()),
        plan: run.plan_name.clone(),
    }
}

/// What of a run.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct GetQuery {
    /// `false` leaves the tasks out.
    tasks: Option<bool>,
    /// As it was: a position of the log, or a time (RFC 3339). Behind the newest event: as it is.
    #[param(value_type = Option<String>, example = "412")]
    at: Option<At>,
}

/// Get a run
///
/// Where the run, its milestones and its tasks stand; with `at`, where they stood.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs", operation_id = "get_run",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        GetQuery),
    responses((status = 200, description = "The run.", body = StatusBody,
            headers(("Cairn-Position" = u64, description = "The answer knows all events up to this position: a stream \
                of events from the next one on leaves no gap."))),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(run): Path<String>,
    Query(query): Query<GetQuery>,
) -> Result<Response, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let with_tasks = query.tasks.unwrap_or(true);
    let (state, position, permit) = match query.at {
        Some(at) => api.past(&run.text, at).await?,
        None => {
            // Read before the run is: what is durable now is in the copy, and perhaps more.
            let position = *api.parts.handle.head().borrow();
            let (state, permit) = api.copy(&run.text).await?;
            (state, position, permit)
        }
    };
    let mut response = json_stream(move |out| {
        let _permit = permit;
        let view = StatusView::new(&state);
        serde_json::to_writer(out, &if with_tasks { view } else { view.without_tasks() })
    });
    response.headers_mut().insert("cairn-position", position.into());
    Ok(response)
}
