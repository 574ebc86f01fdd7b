//! Plans become runs; runs are listed, shown, acted upon.

use crate::support::{Bench, PLAN};
use axum::body::Body;
use axum::http::header;
use cairn_coordinator::http::Role;
use cairn_coordinator::http::model::{
    ActionBody, AgentList, CriticalPathBody, ExplanationBody, OverviewBody, RunPage, StatusBody,
    SubmittedBody, TaskPage, TaskRow,
};
use cairn_engine::{RunStatus, TaskStatus};
use serde_json::json;

#[tokio::test]
async fn a_plan_is_submitted_once_for_each_key() {
    let bench = Bench::new().await;
    let submit = |key: &str, plan: &str| {
        let request = bench
            .request("POST", "/api/v1/runs?name=apollo.yaml&fail_fast=true")
            .header(header::CONTENT_TYPE, "application/yaml; charset=utf-8")
            .header("idempotency-key", key);
        bench.send(request.body(Body::from(plan.to_owned())).expect("a request"))
    };
    let first = submit("k1", PLAN).await;
    assert_eq!(
        (first.status.as_u16(), &first.headers[header::LOCATION]),
        (201, &"/api/v1/runs/apollo.1".parse().expect("a value"))
    );
    let body: SubmittedBody = serde_json::from_slice(&first.body).expect("a body");
    assert_eq!((body.run.as_str(), body.project.as_str(), body.is_new), ("apollo.1", "apollo", true));
    let again = submit("k1", PLAN).await;
    assert_eq!((again.status.as_u16(), again.json()["run"].clone()), (200, json!("apollo.1")));
    let reused = submit("k1", &PLAN.replace("4m", "5m")).await;
    assert_eq!((reused.status.as_u16(), reused.problem().as_str()), (409, "key-reused"));
    assert_eq!(submit("k2", PLAN).await.json()["run"], "apollo.2");
    assert_eq!(submit("no spaces", PLAN).await.problem(), "invalid-request");
}

#[tokio::test]
async fn what_is_wrong_with_a_plan_is_told_by_line() {
    let bench = Bench::new().await;
    let plan = "version: 1\nproject: apollo\ntasks:\n  - {id: a, rum: x}\n";
    let request = bench.request("POST", "/api/v1/runs").header(header::CONTENT_TYPE, "application/yaml");
    let answer = bench.send(request.body(Body::from(plan)).expect("a request")).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (422, "invalid-plan"));
    let first = &answer.json()["diagnostics"][0];
    assert_eq!((&first["line"], &first["column"]), (&json!(4), &json!(13)));
    assert!(first["help"].as_str().expect("help").contains("run"), "{first}");
}

#[tokio::test]
async fn bodies_of_other_types_sizes_and_queries_are_refused() {
    let bench = Bench::new().await;
    let send = async |path: &str, kind: &str, body: Body| {
        let request = bench.request("POST", path).header(header::CONTENT_TYPE, kind);
        bench.send(request.body(body).expect("a request")).await
    };
    let path = "/api/v1/runs";
    assert_eq!(send(path, "text/html", Body::from(PLAN)).await.problem(), "unsupported-media-type");
    for query in ["nonsense=1", "param=novalue", "fail_fast=perhaps", "name=%07"] {
        let answer = send(&format!("{path}?{query}"), "application/yaml", Body::from(PLAN)).await;
        assert_eq!(answer.problem(), "invalid-request", "{query}");
    }
    // Announced, and not announced: the second is counted while it comes.
    let too_many = bench
        .request("POST", path)
        .header(header::CONTENT_TYPE, "application/yaml")
        .header(header::CONTENT_LENGTH, (64 << 20) + 1);
    assert_eq!(bench.send(too_many.body(Body::from("x")).expect("a request")).await.problem(), "too-large");
    bench.submit(PLAN).await;
    let chunks = (0..65).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 10]));
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let answer = send("/api/v1/runs/apollo.1/pause", "application/json", body).await;
    assert_eq!(answer.problem(), "too-large");
    let unknown = bench.post("/api/v1/runs/apollo.1/pause", &json!({"reson": "x"})).await;
    assert_eq!(unknown.problem(), "invalid-request");
    let no_json = send("/api/v1/runs/apollo.1/pause", "application/json", Body::from("{")).await;
    assert_eq!(no_json.problem(), "invalid-request");
}

#[tokio::test]
async fn runs_are_listed_in_pages() {
    let bench = Bench::new().await;
    for project in ["apollo", "zeus", "apollo", "apollo"] {
        bench.submit(&PLAN.replace("apollo", project)).await;
    }
    bench.join("apollo.1").await;
    bench.finish("apollo.1").await;
    let page = async |path: &str| -> RunPage {
        let answer = bench.get(path).await;
        serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("a page: {}", answer.text()))
    };
    let names = |page: &RunPage| page.runs.iter().map(|run| run.run.clone()).collect::<Vec<_>>();
    let first = page("/api/v1/runs?project=apollo&limit=2").await;
    assert_eq!(names(&first), ["apollo.1", "apollo.2"]);
    let cursor = first.next_cursor.expect("another page");
    let second = page(&format!("/api/v1/runs?project=apollo&limit=2&cursor={cursor}")).await;
    assert_eq!((names(&second), second.next_cursor), (vec!["apollo.3".to_owned()], None));
    let done = page("/api/v1/runs?status=completed").await;
    assert_eq!((names(&done), done.runs[0].tasks_completed), (vec!["apollo.1".to_owned()], 3));
    let own = bench.token("zeus-only", Role::Viewer, &["zeus"]);
    let request = bench.request_by(&own, "GET", "/api/v1/runs").body(Body::empty()).expect("a request");
    let seen: RunPage = serde_json::from_slice(&bench.send(request).await.body).expect("a page");
    assert_eq!(names(&seen), ["zeus.1"]);
    for bad in ["limit=0", "limit=1001", "cursor=x", "status=unknown", "order=x"] {
        assert_eq!(bench.get(&format!("/api/v1/runs?{bad}")).await.problem(), "invalid-request", "{bad}");
    }
}

#[tokio::test]
async fn a_run_is_shown_as_the_contract_says() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    bench.join("apollo.1").await;
    bench.complete("apollo.1", "build/compile").await;
    // The newest run of the project is meant.
    let answer = bench.get("/api/v1/runs/apollo").await;
    let status: StatusBody = serde_json::from_slice(&answer.body).expect("a status");
    assert_eq!(
        (status.run.as_str(), status.status, status.counts["completed"]),
        ("apollo.1", RunStatus::Active, 1)
    );
    let tasks = status.tasks.expect("tasks");
    assert_eq!(
        (tasks[0].id.as_str(), tasks[0].exit_code, tasks[0].agent.as_deref()),
        ("build/compile", Some(0), Some("builder-1"))
    );
    assert_eq!(status.critical_path.len(), 3);
    let page = bench.get("/api/v1/runs/apollo/events").await.json();
    let last = &page["events"].as_array().expect("events").last().expect("one")["position"];
    assert_eq!(
        answer.headers["cairn-position"].to_str().expect("text"),
        last.to_string(),
        "up to here it knows"
    );
    let short = bench.get("/api/v1/runs/apollo.1?tasks=false").await.json();
    assert!(short.get("tasks").is_none() && short["milestones"][0]["id"] == "build");
    for gone in
        ["/api/v1/runs/apollo.9", "/api/v1/runs/Apollo", "/api/v1/runs/..%2f", "/api/v1/runs/zeus/events"]
    {
        assert_eq!(bench.get(gone).await.problem(), "run-not-found", "{gone}");
    }
}

#[tokio::test]
async fn a_run_is_shown_as_it_was() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    bench.join("apollo.1").await;
    let get = async |path: &str| bench.get(&format!("/api/v1/runs/apollo.1{path}")).await;
    let (before, tasks) = (get("").await, get("/tasks?status=dispatched").await.json());
    let task = get("/tasks/build/compile").await.json();
    let at = before.headers["cairn-position"].to_str().expect("text").to_owned();
    bench.complete("apollo.1", "build/compile").await;
    assert_ne!(get("").await.json(), before.json());
    let then = get(&format!("?at={at}")).await;
    assert_eq!(then.json(), before.json());
    assert_eq!(then.headers["cairn-position"], at.as_str());
    assert_eq!(get(&format!("/tasks?status=dispatched&at={at}")).await.json(), tasks);
    assert_eq!(get(&format!("/tasks/build/compile?at={at}")).await.json(), task);
    assert_eq!(get("?at=2999-01-01T00:00:00Z").await.json(), get("").await.json());
    assert_eq!(get("?at=0").await.problem(), "run-not-found");
    for bad in ["?at=yesterday", "/tasks?at=-1", "/tasks/build/compile?at="] {
        assert_eq!(get(bad).await.problem(), "invalid-request", "{bad}");
    }
}

#[tokio::test]
async fn tasks_come_in_pages_and_one_by_one() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    bench.join("apollo.1").await;
    let page: TaskPage =
        serde_json::from_slice(&bench.get("/api/v1/runs/apollo.1/tasks?limit=2").await.body).expect("a page");
    assert_eq!((page.tasks.len(), page.next_cursor.as_deref()), (2, Some("2")));
    let rest: TaskPage =
        serde_json::from_slice(&bench.get("/api/v1/runs/apollo.1/tasks?cursor=2").await.body)
            .expect("a page");
    assert_eq!((rest.tasks[0].id.as_str(), rest.next_cursor), ("ship/publish", None));
    let out = bench.get("/api/v1/runs/apollo.1/tasks?milestone=build&status=dispatched").await.json();
    assert_eq!(out["tasks"].as_array().expect("tasks").len(), 1);
    let one: TaskRow =
        serde_json::from_slice(&bench.get("/api/v1/runs/apollo.1/tasks/build/compile").await.body)
            .expect("a task");
    assert_eq!((one.status, one.attempt), (TaskStatus::Dispatched, 1));
    for gone in
        ["tasks/build/nothing", "tasks/nothing/compile", "tasks?milestone=nothing", "explain?task=a/b"]
    {
        let answer = bench.get(&format!("/api/v1/runs/apollo.1/{gone}")).await;
        assert_eq!(answer.problem(), "part-not-found", "{gone}");
    }
}

#[tokio::test]
async fn wishes_are_granted_or_refused_with_the_reason() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let act = async |what: &str, body: serde_json::Value| {
        bench.post(&format!("/api/v1/runs/apollo/{what}"), &body).await
    };
    let paused = act("pause", json!({"reason": "lunch"})).await;
    let body: ActionBody = serde_json::from_slice(&paused.body).expect("a body");
    assert_eq!((body.run.as_str(), body.status), ("apollo.1", RunStatus::Paused));
    let again = act("pause", json!({})).await;
    assert_eq!((again.status.as_u16(), again.problem().as_str()), (409, "not-possible-now"));
    assert!(again.json()["detail"].as_str().expect("a detail").contains("paused already"));
    assert_eq!(act("resume", json!({})).await.json()["status"], "active");
    assert_eq!(act("pause", json!({"milestone": "ship"})).await.status.as_u16(), 200);
    assert_eq!(act("pause", json!({"task": "build/unit"})).await.status.as_u16(), 200);
    assert_eq!(act("pause", json!({"task": "unit"})).await.problem(), "invalid-request");
    assert_eq!(act("pause", json!({"milestone": "no"})).await.problem(), "part-not-found");
    assert_eq!(act("pause", json!({"downstream": true})).await.problem(), "invalid-request");
    assert_eq!(act("pause", json!({"reason": "x".repeat(1_001)})).await.problem(), "invalid-request");
    assert_eq!(act("retry", json!({"downstream": true})).await.status.as_u16(), 200);
    let request = bench.request("DELETE", "/api/v1/runs/apollo.1").body(Body::empty()).expect("a request");
    assert_eq!(bench.send(request).await.json()["status"], "cancelled");
    assert_eq!(act("cancel", json!({})).await.problem(), "not-possible-now");
    let audit = bench.fake.lock().await.audit.clone();
    let line = |action: &str, status| (action.to_owned(), "admin".to_owned(), status);
    assert_eq!(audit[0], line("POST /api/v1/runs", 201));
    assert!(audit.contains(&line("POST /api/v1/runs/apollo/pause", 409)));
    assert_eq!(audit.iter().filter(|entry| entry.0 == "DELETE /api/v1/runs/apollo.1").count(), 1);
}

#[tokio::test]
async fn a_write_with_a_key_is_done_once() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let act = async |token: &str, key: &str, path: &str, body: &str| {
        let request = bench
            .request_by(token, "POST", path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key);
        bench.send(request.body(Body::from(body.to_owned())).expect("a request")).await
    };
    let (admin, pause) = (bench.admin.clone(), "/api/v1/runs/apollo.1/pause");
    let first = act(&admin, "k1", pause, "{}").await;
    let again = act(&admin, "k1", pause, "{}").await;
    assert_eq!((first.status.as_u16(), &first.body), (200, &again.body));
    assert_eq!(again.status.as_u16(), 200);
    assert_eq!(act(&admin, "k1", pause, "{\"reason\": \"x\"}").await.problem(), "key-reused");
    assert_eq!(act(&admin, "k1", "/api/v1/runs/apollo.1/resume", "{}").await.problem(), "key-reused");
    assert_eq!(act(&admin, "k2", pause, "{}").await.problem(), "not-possible-now");
    // What was refused may be tried again with the same key; a key is its token's own.
    assert_eq!(act(&admin, "k3", "/api/v1/runs/apollo.1/resume", "{}").await.status.as_u16(), 200);
    assert_eq!(act(&admin, "k2", pause, "{}").await.status.as_u16(), 200);
    let other = bench.token("other", Role::Operator, &[]);
    assert_eq!(act(&other, "k1", pause, "{}").await.problem(), "not-possible-now");
}

#[tokio::test]
async fn insight_and_the_fleet() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let get = async |path: &str| bench.get(path).await.body;
    let path: CriticalPathBody =
        serde_json::from_slice(&get("/api/v1/runs/apollo.1/critical-path").await).expect("a path");
    assert_eq!((path.tasks.len(), path.known_seconds, path.unknown), (3, 240.0, 2));
    let task: ExplanationBody =
        serde_json::from_slice(&get("/api/v1/runs/apollo.1/explain?task=build/unit").await).expect("why");
    assert_eq!((task.status, &task.reasons[0]["kind"]), (TaskStatus::Pending, &json!("needs")));
    let run: OverviewBody =
        serde_json::from_slice(&get("/api/v1/runs/apollo.1/explain").await).expect("an overview");
    assert_eq!((run.tasks, run.depth, run.demands[0].tasks), (3, 3, 3));
    let fleet: AgentList = serde_json::from_slice(&get("/api/v1/agents").await).expect("agents");
    assert_eq!((fleet.agents[0].resources["cpus"], fleet.agents[0].attempts.len()), (4.0, 2));
    // What runs for other projects is not told.
    let own = bench.token("zeus-only", Role::Viewer, &["zeus"]);
    let request = bench.request_by(&own, "GET", "/api/v1/agents").body(Body::empty()).expect("a request");
    assert_eq!(bench.send(request).await.json()["agents"][0]["attempts"], json!(["zeus.1 main/a.1"]));
    let drained = bench.post("/api/v1/agents/builder-1/drain", &json!({"drain": true})).await;
    assert_eq!(drained.json(), json!({"agent": "builder-1", "drain": true}));
    assert_eq!(bench.fake.lock().await.drained, [("builder-1".to_owned(), true)]);
    let unknown = bench.post("/api/v1/agents/nobody/drain", &json!({"drain": true})).await;
    assert_eq!(unknown.problem(), "agent-not-found");
}
