//! Tasks of a run, in pages or one of them.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Path, Query, page_size, page_start};
use crate::http::model::{ProblemBody, TaskPage, TaskRow};
use crate::http::problem::Problem;
use crate::projection::{At, TaskView};
use axum::Json;
use axum::extract::State;
use cairn_engine::{State as Run, TaskStatus};
use cairn_model::TaskIndex;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::IntoParams;

/// Which tasks.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListQuery {
    /// Only tasks of this milestone.
    #[param(example = "build")]
    milestone: Option<String>,
    /// Only tasks that stand there.
    #[param(value_type = Option<String>, example = "failed")]
    status: Option<TaskStatus>,
    /// As it was: a position of the log, or a time (RFC 3339). Behind the newest event: as it is.
    #[param(value_type = Option<String>, example = "412")]
    at: Option<At>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1,000; 100, if it is left out.
    limit: Option<usize>,
}

/// A page as it is sent: the tasks were written on the thread that owns the run.
#[derive(Serialize)]
pub(in crate::http) struct Page {
    tasks: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

/// List the tasks of a run
///
/// In the order of the plan.
#[utoipa::path(get, path = "/api/v1/runs/{run}/tasks", tag = "tasks", operation_id = "list_tasks",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        ListQuery),
    responses((status = 200, description = "A page of tasks.", body = TaskPage),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(run): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page>, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let (limit, start) = (page_size(query.limit)?, page_start(query.cursor.as_deref())?);
    let page = api.look_at(&run.text, query.at, move |state| page(state, &query, start, limit));
    Ok(Json(page.await??))
}

fn page(state: &Run, query: &ListQuery, start: usize, limit: usize) -> Result<Page, Problem> {
    let plan = state.plan();
    let milestone = match &query.milestone {
        Some(id) => Some(
            plan.find_milestone(id)
                .ok_or_else(|| Problem::no_such_part(&state.run().id, &format!("milestone {id}")))?,
        ),
        None => None,
    };
    let is_wanted = |task: &TaskIndex| {
        milestone.is_none_or(|wanted| plan.milestone_of(*task) == wanted)
            && query.status.is_none_or(|wanted| state.task(*task).status == wanted)
    };
    let mut wanted = plan.tasks().skip(start).filter(is_wanted);
    let tasks = wanted.by_ref().take(limit).map(|task| to_raw_value(&TaskView::new(state, task)));
    let tasks = tasks.collect::<Result<_, _>>().map_err(|_| Problem::internal())?;
    Ok(Page { tasks, next_cursor: wanted.next().map(|task| task.get().to_string()) })
}

/// Of a task.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct GetQuery {
    /// As it was: a position of the log, or a time (RFC 3339). Behind the newest event: as it is.
    #[param(value_type = Option<String>, example = "412")]
    at: Option<At>,
}

/// Get a task
#[utoipa::path(get, path = "/api/v1/runs/{run}/tasks/{milestone}/{task}", tag = "tasks", operation_id = "get_task",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        ("milestone" = String, Path, description = "Its milestone; `main`, if the plan has none.", example = "build"),
        ("task" = String, Path, description = "Its id; `#` is written `%23`.", example = "compile"), GetQuery),
    responses((status = 200, description = "The task.", body = TaskRow),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((run, milestone, task)): Path<(String, String, String)>,
    Query(query): Query<GetQuery>,
) -> Result<Json<Box<RawValue>>, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let found = api.look_at(&run.text, query.at, move |state| {
        let index = find(state, &milestone, &task)?;
        to_raw_value(&TaskView::new(state, index)).map_err(|_| Problem::internal())
    });
    Ok(Json(found.await??))
}

/// The task of those names.
pub(in crate::http) fn find(state: &Run, milestone: &str, task: &str) -> Result<TaskIndex, Problem> {
    let plan = state.plan();
    let found = plan.find_milestone(milestone).and_then(|milestone| plan.find_task(milestone, task));
    found.ok_or_else(|| {
        let cut = |text: &str| text.chars().take(200).collect::<String>();
        Problem::no_such_part(&state.run().id, &format!("task {}/{}", cut(milestone), cut(task)))
    })
}
