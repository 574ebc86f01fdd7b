//! What is read page by page.

use super::Client;
use crate::exit::Failure;
use cairn_coordinator::http::model::{RunPage, RunRow, StatusBody, TaskPage, TaskRow};
use cairn_engine::TaskStatus;

/// Rows of a page: as many as a coordinator gives at most.
const PAGE: usize = 1_000;

/// The header that tells up to which position of the log an answer knows.
const POSITION: &str = "cairn-position";

/// The status of a run, and the position from which on events may tell more; the first, if the coordinator does not say.
///
/// # Errors
/// The coordinator is out of reach, refuses, or cannot be understood.
pub async fn status(client: &Client, run: &str, with_tasks: bool) -> Result<(StatusBody, u64), Failure> {
    status_at(client, run, with_tasks, None).await
}

/// The same, or as it was at a point of its history.
///
/// # Errors
/// As [`status`]; the run began later.
pub async fn status_at(
    client: &Client,
    run: &str,
    with_tasks: bool,
    at: Option<&str>,
) -> Result<(StatusBody, u64), Failure> {
    let with_tasks = if with_tasks { "true" } else { "false" };
    let mut query = vec![("tasks", with_tasks)];
    query.extend(at.map(|at| ("at", at)));
    let response = client.open(&["runs", run], &query, &[]).await?;
    let position = response.headers().get(POSITION);
    let position = position.and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    Ok((client.read(response).await?, position.saturating_add(1)))
}

/// The runs of a coordinator, in the order of their submission.
///
/// # Errors
/// The coordinator is out of reach, refuses, or cannot be understood.
pub async fn runs(
    client: &Client,
    project: Option<&str>,
    status: Option<&str>,
) -> Result<Vec<RunRow>, Failure> {
    let (mut runs, mut cursor) = (Vec::new(), None::<String>);
    let limit = PAGE.to_string();
    loop {
        let mut query = vec![("limit", limit.as_str())];
        query.extend(project.map(|project| ("project", project)));
        query.extend(status.map(|status| ("status", status)));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: RunPage = client.get(&["runs"], &query).await?;
        runs.extend(page.runs);
        match page.next_cursor {
            // A cursor that leads nowhere new would be followed for ever.
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => return Ok(runs),
        }
    }
}

/// The first tasks of a run that are in a status, or in any, in the order of the plan.
///
/// # Errors
/// As [`runs`].
pub async fn tasks(
    client: &Client,
    run: &str,
    status: Option<TaskStatus>,
    most: usize,
) -> Result<Vec<TaskRow>, Failure> {
    tasks_at(client, run, status, most, None).await
}

/// The same, or as they were at a point of the run's history.
///
/// # Errors
/// As [`status_at`].
pub async fn tasks_at(
    client: &Client,
    run: &str,
    status: Option<TaskStatus>,
    most: usize,
    at: Option<&str>,
) -> Result<Vec<TaskRow>, Failure> {
    let (mut tasks, mut cursor) = (Vec::new(), None::<String>);
    let limit = PAGE.min(most).to_string();
    while tasks.len() < most {
        let mut query = vec![("limit", limit.as_str())];
        query.extend(status.map(|status| ("status", status.name())));
        query.extend(at.map(|at| ("at", at)));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: TaskPage = client.get(&["runs", run, "tasks"], &query).await?;
        tasks.extend(page.tasks);
        match page.next_cursor {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => break,
        }
    }
    tasks.truncate(most);
    Ok(tasks)
}
