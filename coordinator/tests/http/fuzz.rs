//! Requests as nobody should send them.

use crate::support::{Bench, PATIENCE, PLAN};
use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use cairn_coordinator::http::problem::ProblemKind;
use cairn_coordinator::http::{Role, openapi};
use serde_json::Value;
use std::collections::BTreeMap;
use tower::ServiceExt as _;

const REQUESTS: u64 = 10_000;

/// Splitmix64 (Steele, Lea and Flood 2014): the same seed, the same requests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("small")
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.below(64);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Changes, drops or doubles some bytes.
    fn mutate(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                return bytes;
            }
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] = self.next().to_le_bytes()[0],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    }
}

const NAMES: &[&str] = &[
    "apollo",
    "apollo.1",
    "apollo.2",
    "zeus",
    "zeus.1",
    "apollo.0",
    "apollo.01",
    "apollo.18446744073709551616",
    "..",
    "%2e%2e%2f",
    "%00",
    "%ff",
    "",
    "build",
    "compile",
    "unit",
    "ship",
    "main",
    "builder-1",
    "a%23b",
    "💥",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
const QUERIES: &[&str] = &[
    "",
    "?",
    "?limit=1",
    "?limit=-1",
    "?limit=99999999999999999999",
    "?cursor=1",
    "?cursor=%00",
    "?tasks=false",
    "?tasks=maybe",
    "?from=0",
    "?from=18446744073709551615",
    "?from=-1",
    "?limit=0",
    "?attempt=0",
    "?attempt=1",
    "?attempt=4294967295",
    "?tail=0",
    "?tail=1000000",
    "?tail=1000001",
    "?status=completed",
    "?status=%ff",
    "?project=zeus",
    "?milestone=build",
    "?task=build/compile",
    "?task=%2f",
    "?task=",
    "?verbose",
    "?param=a=b",
    "?param==",
    "?fail_fast=1",
    "?name=%0a",
    "?follow=false",
    "?&&&==",
    "?%",
    "?a=b&a=b",
];
const BODIES: &[&str] = &[
    "",
    "{}",
    "{\"reason\": \"x\"}",
    "{\"milestone\": \"build\"}",
    "{\"task\": \"build/compile\"}",
    "{\"task\": \"/\"}",
    "{\"milestone\": \"\", \"task\": \"\"}",
    "{\"drain\": true}",
    "[]",
    "null",
    "\"",
    "{\"drain\":",
    "{\"name\": \"n\", \"role\": \"viewer\"}",
    "{\"name\": \"n\", \"role\": \"admin\", \"expires_in_seconds\": 18446744073709551615}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "version: 1\nproject: zeus\ntasks: [{id: a}]\n",
    "a: &a [*a]",
    "{version: 1, project: apollo, tasks: [{id: a, needs: [a]}]}",
];
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("content-type", "application/yaml"),
    ("content-type", "text/plain"),
    ("content-type", ";;;"),
    ("accept", "text/html"),
    ("accept", "*/*"),
    ("last-event-id", "1"),
    ("last-event-id", "x"),
    ("idempotency-key", "k"),
    ("idempotency-key", ""),
    ("content-length", "0"),
    ("content-length", "99999999999999999999"),
    ("content-encoding", "gzip"),
    ("origin", "https://evil.example"),
    ("if-match", "\"1\""),
    ("transfer-encoding", "chunked"),
];

/// A request of that number; none, if it is not one that HTTP can carry.
fn request(random: &mut Random, routes: &[(String, String)], tokens: &[String]) -> Option<Request<Body>> {
    let (method, route) = &routes[random.below(routes.len())];
    let mut path = String::new();
    for part in route.split_inclusive('}') {
        match part.split_once('{') {
            Some((fixed, _)) => {
                path.push_str(fixed);
                path.push_str(random.one(NAMES));
            }
            None => path.push_str(part),
        }
    }
    if random.below(2) == 0 {
        path.push_str(random.one(QUERIES));
    }
    if random.below(8) == 0 {
        path = String::from_utf8_lossy(&random.mutate(path.into_bytes())).into_owned();
    }
    let method = match random.below(8) {
        0 => Method::from_bytes(
            random
                .one(&["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW", "GET", "POST", "DELETE"])
                .as_bytes(),
        ),
        _ => Method::from_bytes(method.as_bytes()),
    };
    let mut request = Request::builder().method(method.ok()?).uri(path);
    if random.below(16) != 0 {
        request = request.header(header::HOST, "localhost:7420");
    }
    let mut token = tokens[random.below(tokens.len())].clone().into_bytes();
    if random.below(16) == 0 {
        token = random.mutate(token);
    }
    let mut value = match random.below(16) {
        0 => random.one(&["Basic ", "", "bearer", "Bearer	"]).as_bytes().to_vec(),
        _ => b"Bearer ".to_vec(),
    };
    value.extend(token);
    request = request.header(header::AUTHORIZATION, HeaderValue::from_bytes(&value).ok()?);
    if random.below(2) == 0 {
        request = request.header(header::CONTENT_TYPE, random.one(&["application/json", "application/yaml"]));
    }
    for _ in 0..random.below(3) {
        let (name, value) = HEADERS[random.below(HEADERS.len())];
        let value = random.mutate(value.as_bytes().to_vec());
        request = request.header(HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?);
    }
    let body = match random.below(8) {
        0 => random.bytes(),
        1 => PLAN.as_bytes().to_vec(),
        _ => random.one(BODIES).as_bytes().to_vec(),
    };
    let body = if random.below(2) == 0 { random.mutate(body) } else { body };
    request.body(Body::from(body)).ok()
}

#[tokio::test]
async fn no_request_does_harm() {
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| cairn_coordinator::runtime::new_id().as_u64_pair().1);
    println!("CAIRN_SEED={seed}");
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    bench.join("apollo.1").await;
    let mut tokens = vec![bench.admin.clone(), bench.admin.clone(), String::new()];
    tokens.extend(Role::ALL.iter().map(|role| bench.token(&format!("fuzz-{}", role.name()), *role, &[])));
    tokens.push(bench.token("bound", Role::Submitter, &["zeus"]));
    let document = serde_json::to_value(openapi()).expect("JSON");
    let routes: Vec<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let known: Vec<&str> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
    let mut random = Random(seed);
    let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
    let mut sent = 0;
    while sent < REQUESTS {
        let Some(request) = request(&mut random, &routes, &tokens) else { continue };
        sent += 1;
        let said = format!("CAIRN_SEED={seed}, request {sent}: {request:?}");
        let answer = tokio::time::timeout(PATIENCE, bench.router.clone().oneshot(request)).await;
        let response = answer.unwrap_or_else(|_| panic!("hangs: {said}")).expect("infallible");
        let status = response.status();
        *seen.entry(status.as_u16()).or_default() += 1;
        assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{said}");
        // A stream may go on for ever; a problem is whole.
        if status.is_client_error() || status.is_server_error() {
            let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            if body.is_empty() {
                continue; // To HEAD.
            }
            let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {said}"));
            let kind = body["type"].as_str().unwrap_or_default();
            let is_probe = body.get("is_ready").is_some();
            assert!(is_probe || known.contains(&kind), "{kind}: {said}");
        }
    }
    println!("{seen:?}");
    for status in [200, 400, 401, 403, 404, 405, 409, 415, 421, 422] {
        assert!(seen.contains_key(&status), "no {status} with CAIRN_SEED={seed}: {seen:?}");
    }
    assert_eq!(bench.get("/api/v1/runs/apollo.1").await.status, 200, "it goes on");
}
