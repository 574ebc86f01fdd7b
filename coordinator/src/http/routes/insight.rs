//! What can be said of a run beyond its state.

use super::tasks::find;
use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Path, Query};
use crate::http::model::{
    CriticalPathBody, DemandBody, ExplanationBody, LevelBody, OverviewBody, PathStep, ProblemBody,
};
use crate::http::problem::Problem;
use crate::insight::{explain_task, level_sizes, run_critical_path};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cairn_engine::State as Run;
use cairn_model::TaskIndex;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The critical path of a run
///
/// The longest chain of tasks: what has ended counts as long as it took, the rest as the plan expects.
#[utoipa::path(get, path = "/api/v1/runs/{run}/critical-path", tag = "insight", operation_id = "get_critical_path",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3")),
    responses((status = 200, description = "The path.", body = CriticalPathBody),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn critical_path(
    State(api): State<Api>,
    caller: Caller,
    Path(run): Path<String>,
) -> Result<Json<CriticalPathBody>, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let body = api.work(&run.text, |state| {
        let path = run_critical_path(state);
        CriticalPathBody {
            run: state.run().id.clone(),
            tasks: path.tasks.iter().map(|&task| step(state, task)).collect(),
            length_seconds: path.length().map(|length| length.as_secs_f64()),
            known_seconds: path.known.as_secs_f64(),
            unknown: path.unknown,
        }
    });
    Ok(Json(body.await?))
}

fn step(state: &Run, task: TaskIndex) -> PathStep {
    let row = state.task(task);
    let has_run = row.status.is_final() && row.attempt > 0;
    PathStep {
        id: state.plan().task_name(task),
        status: row.status,
        expected_seconds: state.plan().expected_duration(task).map(|duration| duration.as_secs_f64()),
        duration_seconds: has_run.then_some(row.duration.as_secs_f64()),
    }
}

/// What is to be explained.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ExplainQuery {
    /// A task, `MILESTONE/TASK`; the run as a whole without one.
    #[param(example = "build/compile")]
    task: Option<String>,
}

/// Either answer.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "stands for both bodies in the OpenAPI document")]
pub(in crate::http) enum Explained {
    Task(ExplanationBody),
    Run(OverviewBody),
}

/// Explain a run, or a task of it
///
/// With `task`: where it stands and why, for example what it waits for. Without: the shape of the run, and what holds
/// it up.
#[utoipa::path(get, path = "/api/v1/runs/{run}/explain", tag = "insight", operation_id = "explain_run",
    params(("run" = String, Path, description = "`PROJECT.N`, or `PROJECT` for its newest run.", example = "apollo.3"),
        ExplainQuery),
    responses((status = 200, description = "The explanation.", body = Explained),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn explain(
    State(api): State<Api>,
    caller: Caller,
    Path(run): Path<String>,
    Query(query): Query<ExplainQuery>,
) -> Result<Response, Problem> {
    let run = caller.on_run(Action::View, &run)?;
    let Some(task) = query.task else {
        return Ok(Json(api.work(&run.text, overview).await?).into_response());
    };
    let explanation = api.work(&run.text, move |state| {
        let (milestone, task) = task.split_once('/').unwrap_or(("main", &task));
        find(state, milestone, task).map(|index| explain_task(state, index))
    });
    Ok(Json(explanation.await??).into_response())
}

fn overview(state: &Run) -> OverviewBody {
    let (plan, path) = (state.plan(), run_critical_path(state));
    let sizes = level_sizes(plan, state.graph());
    // The first of the widest.
    let widest = sizes.iter().enumerate().rev().max_by_key(|(_, size)| **size);
    let (level, tasks) = widest.map_or((0, 0), |(at, size)| (at + 1, *size));
    OverviewBody {
        run: state.run().id.clone(),
        project: plan.project.clone(),
        tasks: plan.task_count(),
        depth: sizes.len(),
        widest_level: LevelBody { level, tasks },
        critical_path: path.tasks.iter().map(|&task| step(state, task)).collect(),
        critical_path_seconds: path.length().map(|length| length.as_secs_f64()),
        demands: demands(state),
    }
}

/// What tasks ask of an agent; those that ask for the same are counted together.
fn demands(state: &Run) -> Vec<DemandBody> {
    let (plan, order) = (state.plan(), state.order());
    let mut counts = vec![0; order.classes().len()];
    for task in plan.tasks().filter(|&task| !plan.is_checkpoint(task)) {
        counts[order.class_of(task)] += 1;
    }
    let mut demands: Vec<DemandBody> = Vec::new();
    for (class, tasks) in order.classes().iter().zip(counts).filter(|(_, tasks)| *tasks > 0) {
        let asks = if class.takes_slot { class.describe() } else { "a timer".to_owned() };
        // Classes may differ in what people do not ask for.
        match demands.iter_mut().find(|demand| demand.asks == asks) {
            Some(demand) => demand.tasks += tasks,
            None => demands.push(DemandBody { asks, tasks }),
        }
    }
    demands.sort_by_key(|demand| std::cmp::Reverse(demand.tasks));
    demands
}
