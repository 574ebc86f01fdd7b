//! The fleet.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Json as Body, Path};
use crate::http::model::{AgentBody, AgentList, DrainBody, DrainRequest, ProblemBody};
use crate::http::problem::Problem;
use crate::service::{AgentView, Request};
use axum::Json;
use axum::extract::State;
use cairn_model::RunId;

/// List the agents
#[utoipa::path(get, path = "/api/v1/agents", tag = "agents", operation_id = "list_agents",
    responses((status = 200, description = "The fleet.", body = AgentList),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<AgentList>, Problem> {
    caller.check(Action::ViewFleet, None)?;
    let agents = api.ask(Request::Agents).await?;
    Ok(Json(AgentList { agents: agents.into_iter().map(|agent| body(&caller, agent)).collect() }))
}

fn body(caller: &Caller, agent: AgentView) -> AgentBody {
    // The fleet is everybody's, what runs on it is not.
    let may_see = |attempt: &String| {
        let run = attempt.split(' ').next().and_then(RunId::parse);
        run.is_some_and(|run| caller.may(Action::View, Some(run.project())))
    };
    AgentBody {
        id: agent.id,
        state: agent.state.to_owned(),
        incarnation: agent.incarnation,
        version: agent.version,
        slots: agent.slots,
        slots_used: agent.slots_used,
        resources: agent.resources.into_iter().collect(),
        labels: agent.labels.into_iter().collect(),
        joined_at: agent.joined_at,
        heard_seconds_ago: agent.heard_seconds_ago,
        attempts: agent.attempts.into_iter().filter(may_see).collect(),
    }
}

/// Drain an agent, or let it work again
///
/// A draining agent is given nothing new; what it runs goes on.
#[utoipa::path(post, path = "/api/v1/agents/{id}/drain", tag = "agents", operation_id = "drain_agent",
    params(("id" = String, Path, description = "The agent.", example = "builder-1"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters.")),
    request_body(content = DrainRequest, example = json!({"drain": true})),
    responses((status = 200, description = "It is durable.", body = DrainBody),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn drain(
    State(api): State<Api>,
    caller: Caller,
    Path(agent): Path<String>,
    Body(wish): Body<DrainRequest>,
) -> Result<Json<DrainBody>, Problem> {
    caller.check(Action::Drain, None)?;
    let (user, drain, named) = (caller.name.to_string(), wish.drain, agent.clone());
    api.ask(|reply| Request::Drain { agent: named, drain, user, reply }).await??;
    Ok(Json(DrainBody { agent, drain }))
}
