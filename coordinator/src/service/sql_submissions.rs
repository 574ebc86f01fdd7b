//! Plans that come out of the database instead of over HTTP: `SELECT cairn.submit(...)` in a transaction of the caller's.
//!
//! A plan is taken up as often as it takes until its answer is written; its key makes one run of it.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::handle::{Handle, Request, Submission, SubmitError};
use super::reading::ReadPlan;
use crate::store::postgres::{PendingPlan, Submissions};

/// How long is waited before a plan is taken up again that could not be answered: the coordinator has as many runs as it
/// may have, or the database is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What is said of a plan whose reading broke off; the log has more.
const BROKEN: &str = "the coordinator could not read the plan";

/// Takes up the plans that wait in a database, one after the other, until `shutdown`.
pub async fn serve_submissions(mut submissions: Submissions, handle: Handle, shutdown: CancellationToken) {
    let work = async {
        loop {
            let pending = submissions.next().await;
            let id = pending.id;
            let is_answered = match answer(pending, &handle).await {
                Some(answer) => {
                    let answer = answer.as_deref().map_err(String::as_str);
                    let written = submissions.answer(id, answer).await;
                    written.inspect_err(|error| tracing::warn!(%error, "trying again")).is_ok()
                }
                None => false,
            };
            if !is_answered {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// What becomes of a plan: its run, or why there is none. `None` for now.
async fn answer(pending: PendingPlan, handle: &Handle) -> Option<Result<String, String>> {
    let user = format!("sql:{}", pending.user);
    let (key, fail_fast) = (Some(pending.key.to_string()), pending.fail_fast);
    let parameters = match parameters(&pending.parameters) {
        Ok(parameters) => parameters,
        Err(error) => return Some(Err(error)),
    };
    let name = format!("submission-{}.yaml", pending.id);
    let read =
        tokio::task::spawn_blocking(move || ReadPlan::read(&name, pending.plan.into_bytes(), parameters));
    let plan = match read.await {
        Ok(Ok(plan)) => plan,
        Ok(Err(diagnostics)) => return Some(Err(diagnostics.to_string())),
        Err(_panic) => return Some(Err(BROKEN.to_owned())),
    };
    let submission = Submission { plan, fail_fast, key, user };
    match handle.ask(|reply| Request::Submit(Box::new(submission), reply)).await.ok()? {
        Ok(submitted) => Some(Ok(submitted.run.to_string())),
        Err(error @ SubmitError::KeyReused { .. }) => Some(Err(error.to_string())),
        Err(SubmitError::TooMany { .. } | SubmitError::Unavailable { .. }) => None,
    }
}

/// Names and values of a JSON object, as `--param NAME=VALUE` would give them.
fn parameters(text: &str) -> Result<Vec<(String, String)>, String> {
    let object: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("the parameters cannot be read: {error}"))?;
    let value = |(name, value): (String, Value)| match value {
        Value::String(value) => Ok((name, value)),
        Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("the parameter {} is no text, number or truth value", name.escape_debug()))
        }
    };
    object.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_what_the_command_line_would_give() {
        let read = parameters(r#"{"a": "x y", "n": 3, "t": true}"#).expect("three values");
        let pairs: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "x y"), ("n", "3"), ("t", "true")]);
        for wrong in [r#"{"a": null}"#, r#"{"a": [1]}"#, "[]", ""] {
            assert!(parameters(wrong).is_err(), "{wrong}");
        }
    }
}
