//! Who may do what: every route of the document with every role.

use crate::support::{Bench, PLAN};
use axum::body::Body;
use axum::http::header;
use cairn_coordinator::http::{Role, Rules, openapi};
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// Who may, in the order of [`Role::ALL`]: viewer, submitter, operator, admin, agent, coordinator.
const LOOK: [bool; 6] = [true, true, true, true, false, true];
const SUBMIT: [bool; 6] = [false, true, true, true, false, false];
const OPERATE: [bool; 6] = [false, false, true, true, false, false];
const ADMIN: [bool; 6] = [false, false, false, true, false, false];

/// Method, route, a path of it, a body, who may, and whether it is about the project `apollo`.
type Route = (&'static str, &'static str, &'static str, &'static str, [bool; 6], bool);

const ROUTES: &[Route] = &[
    ("GET", "/api/v1/runs", "/api/v1/runs?project=apollo", "", LOOK, true),
    ("POST", "/api/v1/runs", "/api/v1/runs", "PLAN", SUBMIT, true),
    ("GET", "/api/v1/runs/{run}", "/api/v1/runs/apollo.1", "", LOOK, true),
    ("DELETE", "/api/v1/runs/{run}", "/api/v1/runs/apollo.1", "", SUBMIT, true),
    ("POST", "/api/v1/runs/{run}/pause", "/api/v1/runs/apollo.1/pause", "{}", SUBMIT, true),
    ("POST", "/api/v1/runs/{run}/resume", "/api/v1/runs/apollo.1/resume", "{}", SUBMIT, true),
    ("POST", "/api/v1/runs/{run}/cancel", "/api/v1/runs/apollo.1/cancel", "{}", SUBMIT, true),
    ("POST", "/api/v1/runs/{run}/retry", "/api/v1/runs/apollo/retry", "{}", SUBMIT, true),
    ("GET", "/api/v1/runs/{run}/tasks", "/api/v1/runs/apollo/tasks", "", LOOK, true),
    (
        "GET",
        "/api/v1/runs/{run}/tasks/{milestone}/{task}",
        "/api/v1/runs/apollo.1/tasks/build/unit",
        "",
        LOOK,
        true,
    ),
    (
        "GET",
        "/api/v1/runs/{run}/tasks/{milestone}/{task}/logs",
        "/api/v1/runs/apollo.1/tasks/build/compile/logs",
        "",
        LOOK,
        true,
    ),
    ("GET", "/api/v1/runs/{run}/events", "/api/v1/runs/apollo.1/events", "", LOOK, true),
    ("GET", "/api/v1/runs/{run}/critical-path", "/api/v1/runs/apollo.1/critical-path", "", LOOK, true),
    ("GET", "/api/v1/runs/{run}/explain", "/api/v1/runs/apollo.1/explain", "", LOOK, true),
    ("GET", "/api/v1/agents", "/api/v1/agents", "", LOOK, false),
    (
        "POST",
        "/api/v1/agents/{id}/drain",
        "/api/v1/agents/builder-1/drain",
        "{\"drain\": true}",
        OPERATE,
        false,
    ),
    ("GET", "/api/v1/tokens", "/api/v1/tokens", "", ADMIN, false),
    ("POST", "/api/v1/tokens", "/api/v1/tokens", "{\"name\": \"x\", \"role\": \"viewer\"}", ADMIN, false),
    ("DELETE", "/api/v1/tokens/{id}", "/api/v1/tokens/nobody", "", ADMIN, false),
    ("GET", "/readyz", "/readyz?verbose", "", LOOK, false),
    ("GET", "/metrics", "/metrics", "", LOOK, false),
];

/// Those that tell nothing that needs a token.
const OPEN: &[(&str, &str)] = &[("GET", "/livez"), ("GET", "/readyz"), ("GET", "/api/v1/openapi.json")];

async fn status(bench: &Bench, token: &str, method: &str, path: &str, body: &str) -> u16 {
    let (kind, body) = match body {
        "PLAN" => ("application/yaml", PLAN),
        body => ("application/json", body),
    };
    let request = bench.request_by(token, method, path).header(header::CONTENT_TYPE, kind);
    let answer = bench.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
    if answer.status.is_client_error() {
        answer.problem();
    }
    answer.status.as_u16()
}

/// A run with an attempt that wrote nothing, so that each route has something to find.
async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    bench.join("apollo.1").await;
    bench
}

#[test]
fn the_table_has_every_route() {
    let document = serde_json::to_value(openapi()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let served: BTreeSet<(String, String)> = paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let pair = |(method, path): (&str, &str)| (method.to_owned(), path.to_owned());
    let mut known: BTreeSet<_> = ROUTES.iter().map(|&(method, route, ..)| pair((method, route))).collect();
    known.extend(OPEN.iter().map(|&open| pair(open)));
    assert_eq!(served, known);
}

#[tokio::test]
async fn nothing_is_told_or_done_without_a_token() {
    let bench = bench().await;
    let before = bench.fake.lock().await.audit.len();
    for &(method, _, path, body, ..) in ROUTES {
        assert_eq!(status(&bench, "", method, path, body).await, 401, "{method} {path}");
    }
    for path in ["/", "/api/v1/nothing", "/api/v1/runs/apollo.1/nothing", "/admin"] {
        let status = status(&bench, "", "GET", path, "").await;
        assert_eq!(status, 401, "{path}: what there is is not told either");
    }
    // Too many of these are told to wait, so nobody tries out tokens.
    let mut told_to_wait = 0;
    for &(method, _, path, body, ..) in ROUTES {
        for token in ["cairn_", "nonsense", &bench.admin[..60], &bench.admin.replace("cairn_", "cairn-")] {
            match status(&bench, token, method, path, body).await {
                401 => {}
                429 => told_to_wait += 1,
                other => panic!("{other}: {method} {path}"),
            }
        }
    }
    assert!(told_to_wait > 0);
    for &(method, path) in OPEN {
        assert_eq!(status(&bench, "", method, path, "").await, 200, "{method} {path}");
    }
    let fake = bench.fake.lock().await;
    let refused = &fake.audit[before..];
    assert!(!refused.is_empty() && refused.len() < 40, "refusals are audited at a bounded rate");
    assert!(refused.iter().all(|(_, user, status)| user == "-" && *status == 401), "{refused:?}");
    assert!(fake.drained.is_empty());
}

#[tokio::test]
async fn each_role_may_do_what_it_is_for() {
    let bench = bench().await;
    for (at, &role) in Role::ALL.iter().enumerate() {
        let all = bench.token(&format!("{}-all", role.name()), role, &[]);
        let own = bench.token(&format!("{}-own", role.name()), role, &["apollo", "hermes"]);
        let other = bench.token(&format!("{}-other", role.name()), role, &["zeus"]);
        for &(method, route, path, body, may, is_of_project) in ROUTES {
            let said = format!("{} {method} {path}", role.name());
            let is_let = async |token: &str| status(&bench, token, method, path, body).await != 403;
            assert_eq!(is_let(&all).await, may[at], "{said}");
            // What touches all projects at once is for tokens of all projects only.
            let is_global = may == OPERATE || may == ADMIN || route == "/metrics";
            assert_eq!(is_let(&own).await, may[at] && !is_global, "{said}, of the project");
            let elsewhere = may[at] && !is_of_project && !is_global;
            assert_eq!(is_let(&other).await, elsewhere, "{said}, of another project");
        }
    }
}

#[tokio::test]
async fn a_token_of_another_project_learns_nothing_of_what_there_is() {
    let bench = bench().await;
    let other = bench.token("zeus", Role::Admin, &["zeus"]);
    for path in ["/api/v1/runs/apollo.1", "/api/v1/runs/apollo.99"] {
        assert_eq!(status(&bench, &other, "GET", path, "").await, 403, "{path}");
    }
    let plan = PLAN.replace("apollo", "zeus");
    let request =
        bench.request_by(&other, "POST", "/api/v1/runs").header(header::CONTENT_TYPE, "application/yaml");
    let own = bench.send(request.body(Body::from(plan)).expect("a request")).await;
    assert_eq!(own.status.as_u16(), 201);
}

#[tokio::test]
async fn a_page_of_another_site_reaches_nothing() {
    let bench = Bench::with(Rules { hosts: vec!["cairn.example.org".to_owned()], ..Rules::default() }).await;
    let ask = async |host: &str| {
        let mut request = axum::http::Request::get("/api/v1/runs");
        if !host.is_empty() {
            request = request.header(header::HOST, host);
        }
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", bench.admin));
        bench.send(request.body(Body::empty()).expect("a request")).await
    };
    for host in
        ["localhost", "localhost:7420", "127.0.0.1:7420", "[::1]:7420", "10.0.0.9", "Cairn.Example.org:443"]
    {
        assert_eq!(ask(host).await.status.as_u16(), 200, "{host}");
    }
    for host in ["", "evil.example", "evil.example:7420", "localhost.evil.example", "127.0.0.1.evil.example"]
    {
        let answer = ask(host).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (421, "wrong-host"), "{host}");
    }
    let answer = ask("localhost").await;
    assert!(!answer.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
}

#[tokio::test]
async fn requests_of_a_token_are_bounded() {
    let rules = Rules { requests_per_second: NonZeroU32::new(1), ..Rules::default() };
    let bench = Bench::with(rules).await;
    let other = bench.token("other", Role::Viewer, &[]);
    let mut refused = None;
    for _ in 0..100 {
        let answer = bench.get("/api/v1/runs").await;
        if answer.status.as_u16() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("one a second is not a hundred at once");
    assert_eq!(refused.problem(), "too-many-requests");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(status(&bench, &other, "GET", "/api/v1/runs", "").await, 200, "each for itself");
}

#[tokio::test]
async fn probes_and_metrics() {
    let bench = Bench::with(Rules { open_metrics: true, ..Rules::default() }).await;
    let open = bench.request_by("", "GET", "/metrics").body(Body::empty()).expect("a request");
    assert_eq!(bench.send(open).await.text(), "cairn_build_info 1\n");
    assert_eq!(bench.get("/readyz").await.json(), serde_json::json!({"is_ready": true}));
    bench.fake.lock().await.is_ready = false;
    let verbose = bench.get("/readyz?verbose").await;
    assert_eq!((verbose.status.as_u16(), &verbose.json()["checks"][0]["is_good"]), (503, &false.into()));
    assert_eq!(bench.get("/livez").await.text(), "ok\n");
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let bench = Bench::new().await;
    assert_eq!(bench.get("/api/v1/runs/apollo/forecast").await.problem(), "not-found");
    let request = bench.request("PUT", "/api/v1/runs").body(Body::empty()).expect("a request");
    let answer = bench.send(request).await;
    assert_eq!(answer.problem(), "method-not-allowed");
    let allowed = answer.headers[header::ALLOW].to_str().expect("text").to_owned();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    assert_eq!(bench.get("/api/v1/runs/%ff").await.problem(), "invalid-request");
}

#[tokio::test]
async fn a_defect_of_ours_and_a_coordinator_that_is_ending_are_told_as_problems() {
    let bench = Bench::new().await;
    let (_, seen) = tokio::sync::watch::channel(0);
    let (handle, requests) = cairn_coordinator::service::Handle::new(seen);
    drop(requests);
    let parts = cairn_coordinator::http::Parts {
        handle,
        metrics: std::sync::Arc::new(|| panic!("a defect")),
        ..bench.parts.clone()
    };
    let bench = Bench { router: cairn_coordinator::http::router(parts, Rules::default()), ..bench };
    let defect = bench.get("/metrics").await;
    assert_eq!((defect.status.as_u16(), defect.problem().as_str()), (500, "internal"));
    let ending = bench.get("/api/v1/agents").await;
    assert_eq!((ending.status.as_u16(), ending.problem().as_str()), (503, "unavailable"));
    assert!(ending.headers.contains_key(header::RETRY_AFTER));
    // A write is told so too, although the audit stream takes nothing any more.
    let write = bench.post("/api/v1/agents/builder-1/drain", &serde_json::json!({"drain": true})).await;
    assert_eq!(write.problem(), "unavailable");
    let ready = bench.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()), (503, serde_json::json!({"is_ready": false})));
}
