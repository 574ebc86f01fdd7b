//! The commands that speak to a coordinator, against one that says what the test has it say.

mod following;
mod looking;
mod speaking;

use crate::fake::{Answer, Asked, Fake};
use crate::place::{Place, Ran};
use serde_json::{Value, json};

const PLAN: &str = "version: 1\nproject: apollo\ntasks:\n  - {id: a, run: echo}\n";

fn problem(status: u16, kind: &str, detail: &str) -> Answer {
    let kind = format!("urn:cairn:problem:{kind}");
    let body =
        json!({"type": kind, "title": "t", "status": status, "detail": detail, "help": "do something"});
    Answer::Json(status, body)
}

fn task(id: &str, status: &str, attempt: u32, error: Option<(&str, &str)>) -> Value {
    let error = error.map(|(kind, message)| json!({"kind": kind, "message": message}));
    json!({"id": id, "status": status, "attempt": attempt, "agent": null, "exit_code": null, "progress": 0.0,
           "started_at": (attempt > 0).then_some("2026-01-01T00:00:01.000000Z"), "finished_at": null,
           "duration_seconds": null, "error": error})
}

fn tasks(status: &str) -> Vec<Value> {
    match status {
        "completed" => vec![task("build/a", "completed", 1, None), task("build/b", "completed", 1, None)],
        "failed" => vec![
            task("build/a", "completed", 1, None),
            task("build/b", "failed", 2, Some(("exit_code", "exit code 3"))),
        ],
        "unplaceable" => vec![
            task("build/a", "completed", 1, None),
            task("build/b", "failed", 0, Some(("unplaceable", "no agent has gpu 1"))),
        ],
        _ => vec![task("build/a", "in_progress", 1, None), task("build/b", "pending", 0, None)],
    }
}

fn status(status: &str, with_tasks: bool) -> Value {
    let tasks = tasks(status);
    let word = if status == "unplaceable" { "failed" } else { status };
    let count = |kind: &str| tasks.iter().filter(|task| task["status"] == json!(kind)).count();
    let kinds =
        ["pending", "ready", "dispatched", "in_progress", "completed", "failed", "skipped", "cancelled"];
    let counts: serde_json::Map<_, _> =
        kinds.map(|kind| (kind.to_owned(), json!(count(kind)))).into_iter().collect();
    let is_over = !matches!(word, "active" | "paused");
    let mut value = json!({
        "schema": 1, "run": "apollo.3", "project": "apollo", "status": word, "progress": 0.5, "scale": null,
        "pattern": "direct", "storage": "file", "submitted_at": "2026-01-01T00:00:00.000000Z",
        "started_at": null, "finished_at": is_over.then_some("2026-01-01T00:03:05.000000Z"), "counts": counts,
        "milestones": [{"id": "build", "status": "active", "progress": 0.5, "due": null, "tasks_total": 2,
                        "tasks_completed": count("completed")}],
        "forecast": null, "critical_path": ["build/a"], "of_a_later_release": 7,
    });
    if with_tasks {
        value["tasks"] = json!(tasks);
    }
    value
}

fn event(position: u64, kind: &str, data: Value) -> String {
    let event = json!({
        "position": position, "event_id": "x", "stream_id": "apollo.3/build", "event_type": kind,
        "event_data": data, "version": position, "schema": 1,
        "metadata": {"timestamp": "2026-01-01T12:00:00.000000Z", "user_id": "ada", "correlation_id": "c",
                     "causation_id": null},
    });
    format!("id: {position}\ndata: {event}\n\n")
}

fn completed(position: u64, task: &str) -> String {
    event(position, "TaskCompleted", json!({"task": task, "attempt": 1, "duration_seconds": 1.5}))
}

const END: &str = "event: end\ndata: {\"run\":\"apollo.3\"}\n\n";

fn bytes(pieces: &[String]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.clone().into_bytes()).collect()
}

/// Answers what every command asks about a run that ends so once its events have been followed.
fn run(asked: &Asked, is_over: bool, end: &str) -> Option<Answer> {
    let now = if is_over { end } else { "active" };
    let path = asked.line.strip_prefix("GET /api/v1/runs/apollo")?;
    let (name, query) = path.split_once('?').unwrap_or((path, ""));
    Some(match name {
        "" | ".3" => Answer::Json(200, status(now, !query.contains("tasks=false"))),
        ".3/tasks" => {
            let wanted = query.split('&').find_map(|part| part.strip_prefix("status="));
            let mut tasks = tasks(now);
            tasks.retain(|task| wanted.is_none_or(|wanted| task["status"] == json!(wanted)));
            Answer::Json(200, json!({"tasks": tasks, "next_cursor": null}))
        }
        _ => return None,
    })
}

/// A coordinator with a run that ends so at once.
fn ending(end: &'static str) -> Fake {
    let is_over = std::sync::atomic::AtomicBool::new(false);
    Fake::start(move |asked| {
        if asked.line.starts_with("POST /api/v1/runs?") {
            return Answer::Json(201, json!({"run": "apollo.3", "project": "apollo", "is_new": true}));
        }
        if asked.line.contains("/events?") {
            is_over.store(true, std::sync::atomic::Ordering::SeqCst);
            return Answer::Whole(Vec::new(), bytes(&[END.to_owned()]));
        }
        run(asked, is_over.load(std::sync::atomic::Ordering::SeqCst), end).expect("nothing else is asked")
    })
}

fn cairn(place: &Place, fake: &Fake, line: &str) -> Ran {
    place.cairn(&format!("{line} --url {}", fake.url))
}

/// A coordinator with a run that does not end.
fn endless() -> Fake {
    Fake::start(|asked| {
        if asked.line.contains("/events?") {
            return Answer::Open(bytes(&[completed(1, "build/a")]));
        }
        run(asked, false, "").expect("nothing else is asked")
    })
}

fn no_agents(_: &Asked) -> Answer {
    Answer::Json(200, json!({"agents": []}))
}
