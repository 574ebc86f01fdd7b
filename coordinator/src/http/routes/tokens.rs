//! Tokens, for administrators.

use crate::http::access::{Action, Caller};
use crate::http::context::Api;
use crate::http::extract::{Json as Body, Path};
use crate::http::model::{ProblemBody, TokenCreated, TokenInfo, TokenList, TokenRequest};
use crate::http::problem::{Problem, ProblemKind};
use crate::http::tokens::{NewToken, TokenError, Tokens};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use std::time::Duration;

/// Works with the tokens on a thread where files may take a while.
async fn on_files<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Tokens) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, Problem> {
    let tokens = api.parts.tokens.clone();
    let done = tokio::task::spawn_blocking(move || work(&tokens)).await;
    done.map_err(|_| Problem::internal())?.map_err(|error| problem(&error))
}

fn problem(error: &TokenError) -> Problem {
    match error {
        TokenError::Invalid { .. } => {
            Problem::invalid(error.to_string(), "GET /api/v1/openapi.json tells what a token may be")
        }
        TokenError::NameTaken { .. } => {
            Problem::new(ProblemKind::NameTaken, error.to_string(), "use another name, or revoke that token")
        }
        TokenError::NoSuchToken { .. } => {
            Problem::new(ProblemKind::TokenNotFound, error.to_string(), "GET /api/v1/tokens lists them")
        }
        TokenError::TooMany => {
            Problem::new(ProblemKind::NotPossibleNow, error.to_string(), "revoke those that nobody uses")
        }
        TokenError::Io(_) | TokenError::Damaged { .. } | TokenError::Random(_) => {
            tracing::error!(error = error as &dyn std::error::Error, "tokens cannot be read or changed");
            Problem::unavailable("tokens cannot be read or changed; the coordinator's log says why")
        }
    }
}

/// List the tokens
///
/// Without the tokens themselves: only their hashes are kept.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", operation_id = "list_tokens",
    responses((status = 200, description = "All tokens.", body = TokenList),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn list(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<TokenList>, Problem> {
    caller.check(Action::ManageTokens, None)?;
    let tokens = on_files(&api, Tokens::list).await?;
    Ok(Json(TokenList { tokens }))
}

/// Make a token
///
/// The answer is the only time that it is shown.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", operation_id = "create_token",
    request_body = TokenRequest,
    responses((status = 201, description = "The token.", body = TokenCreated),
        (status = 409, description = "A token has that name.", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(wish): Body<TokenRequest>,
) -> Result<(StatusCode, Json<TokenCreated>), Problem> {
    caller.check(Action::ManageTokens, None)?;
    let life = wish.expires_in_seconds.map(Duration::from_secs);
    let wish = NewToken { name: wish.name, role: wish.role, projects: wish.projects, life };
    let (token, info) = on_files(&api, move |tokens| tokens.create(&wish)).await?;
    Ok((StatusCode::CREATED, Json(TokenCreated { token, info })))
}

/// Revoke a token
///
/// It is good for nothing from then on; streams that it opened end.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", operation_id = "revoke_token",
    params(("id" = String, Path, description = "Its id, or its name.", example = "5f0c3a9e21b74d60")),
    responses((status = 200, description = "What was kept of it.", body = TokenInfo),
        (status = "default", description = "A problem.", body = ProblemBody,
            content_type = "application/problem+json")))]
pub(in crate::http) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TokenInfo>, Problem> {
    caller.check(Action::ManageTokens, None)?;
    Ok(Json(on_files(&api, move |tokens| tokens.revoke(&id)).await?))
}
