//! Logs of tasks.

use crate::support::{Bench, PLAN, read_until};
use axum::body::Body;
use cairn_model::{ReportKind, Timestamp};
use futures_util::StreamExt as _;
use std::fs;
use std::io::Write as _;

const LOGS: &str = "/api/v1/runs/apollo.1/tasks/build/compile/logs";

fn write(bench: &Bench, attempt: u32, text: &str) {
    let directory = bench.directory.path().join("logs/apollo.1/build");
    fs::create_dir_all(&directory).expect("made");
    let path = directory.join(format!("compile.{attempt}.log"));
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

#[tokio::test]
async fn a_log_is_sent_as_it_is() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    assert_eq!(bench.get(LOGS).await.problem(), "log-not-found");
    bench.join("apollo.1").await;
    let nothing = bench.get(LOGS).await;
    assert_eq!((nothing.status.as_u16(), nothing.body.len()), (200, 0), "an attempt that wrote nothing yet");
    let text = "one\ntwo\n\u{1b}[31m<script>\n".repeat(10_000);
    write(&bench, 1, &text);
    let answer = bench.get(LOGS).await;
    assert_eq!((answer.text(), &answer.headers["cairn-attempt"]), (text, &"1".parse().expect("a value")));
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(bench.get(&format!("{LOGS}?tail=2")).await.text(), "two\n\u{1b}[31m<script>\n");
    assert_eq!(bench.get(&format!("{LOGS}?attempt=2")).await.problem(), "log-not-found");
    assert_eq!(bench.get(&format!("{LOGS}?tail=1000001")).await.problem(), "invalid-request");
    let other = "/api/v1/runs/apollo.1/tasks/build/..%2F..%2Fadmin.token/logs";
    assert_eq!(bench.get(other).await.problem(), "part-not-found");
}

#[tokio::test]
async fn a_followed_log_waits_for_its_task_and_ends_with_it() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let request =
        bench.request("GET", &format!("{LOGS}?follow=true")).body(Body::empty()).expect("a request");
    let mut body = bench.open(request).await.into_body().into_data_stream();
    bench.join("apollo.1").await;
    bench.report("apollo.1", "build/compile", ReportKind::Started { at: Timestamp(1_000_000) }).await;
    write(&bench, 1, "first\n");
    let mut text = read_until(&mut body, "first\n").await;
    write(&bench, 1, "second\n");
    text.push_str(&read_until(&mut body, "second\n").await);
    write(&bench, 1, "last\n");
    bench.complete("apollo.1", "build/compile").await;
    while let Some(chunk) = body.next().await {
        text.push_str(&String::from_utf8_lossy(&chunk.expect("a chunk")));
    }
    assert_eq!(text, "first\nsecond\nlast\n");
}

#[tokio::test]
async fn a_followed_log_ends_when_the_coordinator_does() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let request =
        bench.request("GET", &format!("{LOGS}?follow=true")).body(Body::empty()).expect("a request");
    let mut body = bench.open(request).await.into_body().into_data_stream();
    bench.shutdown.cancel();
    // An end that is none is told as such: the client must not take the log for whole.
    assert!(body.next().await.expect("an end").is_err());
}
