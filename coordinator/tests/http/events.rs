//! Events in pages and as a stream.

use crate::support::{Bench, PLAN, read_until};
use axum::body::Body;
use cairn_coordinator::http::Role;
use cairn_coordinator::http::model::EventPage;

async fn page(bench: &Bench, path: &str) -> EventPage {
    let answer = bench.get(path).await;
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("a page: {}", answer.text()))
}

/// A run that has ended between two that have not.
async fn three_runs() -> Bench {
    let bench = Bench::new().await;
    for project in ["zeus", "apollo", "zeus"] {
        bench.submit(&PLAN.replace("apollo", project)).await;
    }
    bench.join("apollo.1").await;
    bench.finish("apollo.1").await;
    bench
}

fn ids(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
}

#[tokio::test]
async fn pages_hold_each_event_of_the_run_once() {
    let bench = three_runs().await;
    let all = page(&bench, "/api/v1/runs/apollo.1/events").await;
    assert_eq!(all.events[0].event_type, "RunSubmitted");
    assert_eq!(all.events.last().expect("events").event_type, "RunCompleted");
    assert!(all.events.iter().all(|event| event.stream_id.starts_with("apollo.1")) && !all.has_more);
    let mut positions = Vec::new();
    let mut from = 0;
    loop {
        let page = page(&bench, &format!("/api/v1/runs/apollo/events?from={from}&limit=2")).await;
        positions.extend(page.events.iter().map(|event| event.position));
        from = page.next;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(positions, all.events.iter().map(|event| event.position).collect::<Vec<_>>());
    assert!(page(&bench, &format!("/api/v1/runs/apollo/events?from={from}")).await.events.is_empty());
    for bad in ["limit=0", "limit=10001", "from=x"] {
        let answer = bench.get(&format!("/api/v1/runs/apollo.1/events?{bad}")).await;
        assert_eq!(answer.problem(), "invalid-request", "{bad}");
    }
}

#[tokio::test]
async fn a_stream_of_an_ended_run_tells_all_and_ends() {
    let bench = three_runs().await;
    let all = page(&bench, "/api/v1/runs/apollo.1/events").await;
    let request = bench.request("GET", "/api/v1/runs/apollo.1/events").header("accept", "text/event-stream");
    let answer = bench.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let positions: Vec<_> = all.events.iter().map(|event| event.position).collect();
    assert_eq!(ids(&answer.text()), positions);
    assert!(answer.text().ends_with("event: end\ndata: {\"run\":\"apollo.1\"}\n\n"));
    // Wherever it was cut, the client goes on behind the last event that it has.
    for (at, last) in positions.iter().enumerate() {
        let request =
            bench.request("GET", "/api/v1/runs/apollo.1/events?follow=true").header("last-event-id", *last);
        let rest = bench.send(request.body(Body::empty()).expect("a request")).await.text();
        assert_eq!(ids(&rest), positions[at + 1..]);
    }
}

#[tokio::test]
async fn a_stream_goes_on_while_the_run_does() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let request = bench.request("GET", "/api/v1/runs/apollo.1/events?follow=true");
    let mut body =
        bench.open(request.body(Body::empty()).expect("a request")).await.into_body().into_data_stream();
    let mut text = read_until(&mut body, "RunSubmitted").await;
    bench.join("apollo.1").await;
    text.push_str(&read_until(&mut body, "TaskDispatched").await);
    bench.finish("apollo.1").await;
    text.push_str(&read_until(&mut body, "event: end").await);
    let all = page(&bench, "/api/v1/runs/apollo.1/events").await;
    assert_eq!(ids(&text), all.events.iter().map(|event| event.position).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_ends_with_the_coordinator_and_with_its_token() {
    use futures_util::StreamExt as _;
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let viewer = bench.token("viewer", Role::Viewer, &["apollo"]);
    let open = async |token: &str| {
        let request = bench.request_by(token, "GET", "/api/v1/runs/apollo.1/events?follow=true");
        bench.open(request.body(Body::empty()).expect("a request")).await.into_body().into_data_stream()
    };
    let (mut revoked, mut ended) = (open(&viewer).await, open(&bench.admin).await);
    read_until(&mut revoked, "RunSubmitted").await;
    read_until(&mut ended, "RunSubmitted").await;
    bench.parts.tokens.revoke("viewer").expect("revoked");
    bench.join("apollo.1").await;
    assert!(revoked.next().await.is_none(), "a revoked token sees nothing more");
    read_until(&mut ended, "TaskDispatched").await;
    bench.shutdown.cancel();
    assert!(ended.next().await.is_none());
}

#[tokio::test]
async fn streams_of_a_token_are_bounded() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let request = || {
        let request = bench.request("GET", "/api/v1/runs/apollo.1/events?follow=true");
        request.body(Body::empty()).expect("a request")
    };
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(bench.open(request()).await);
    }
    let refused = bench.send(request()).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (429, "too-many-followers"));
    assert!(refused.headers.contains_key("retry-after"));
    open.pop();
    assert_eq!(bench.open(request()).await.status().as_u16(), 200);
}
