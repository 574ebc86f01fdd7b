//! Tokens: in their file, and over HTTP.

use crate::support::Bench;
use axum::body::Body;
use cairn_coordinator::http::model::{TokenCreated, TokenList};
use cairn_coordinator::http::{NewToken, Role, TokenError, Tokens};
use cairn_shared::clock::Clock;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

fn wish(name: &str) -> NewToken {
    NewToken { name: name.to_owned(), role: Role::Viewer, projects: Vec::new(), life: None }
}

fn open(directory: &Path) -> Tokens {
    Tokens::open(directory, Clock::start(cairn_model::Timestamp(0))).expect("opened")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn files_are_for_their_user_only_and_hold_no_token() {
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = open(directory.path());
    let path = tokens.ensure_admin().expect("made").expect("the first");
    let admin = fs::read_to_string(&path).expect("read");
    assert!(admin.starts_with("cairn_") && admin.trim().len() == 70, "{admin}");
    let (secret, _) = tokens.create(&wish("ada")).expect("made");
    let kept = fs::read_to_string(directory.path().join("tokens.json")).expect("read");
    assert!(!kept.contains(admin.trim()) && !kept.contains(&secret[6..]));
    assert_eq!((mode(&path), mode(&directory.path().join("tokens.json"))), (0o600, 0o600));
    // The first token is made once, also when its file was taken away.
    fs::remove_file(&path).expect("removed");
    assert_eq!(open(directory.path()).ensure_admin().expect("looked"), None);
}

#[test]
fn names_are_used_once_and_wishes_have_a_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let tokens = open(directory.path());
    let (_, info) = tokens.create(&wish("ada")).expect("made");
    assert!(matches!(tokens.create(&wish("ada")), Err(TokenError::NameTaken { .. })));
    assert!(matches!(tokens.create(&wish("a b")), Err(TokenError::Invalid { .. })));
    let bad = NewToken { projects: vec!["Apollo".to_owned()], ..wish("x") };
    assert!(matches!(tokens.create(&bad), Err(TokenError::Invalid { .. })));
    let bad = NewToken { life: Some(Duration::ZERO), ..wish("x") };
    assert!(matches!(tokens.create(&bad), Err(TokenError::Invalid { .. })));
    assert_eq!(tokens.revoke(&info.id).expect("by its id").name, "ada");
    assert!(matches!(tokens.revoke("ada"), Err(TokenError::NoSuchToken { .. })));
    assert!(tokens.list().expect("listed").is_empty());
}

#[test]
fn writers_at_once_lose_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let path = directory.path();
            scope.spawn(move || {
                let tokens = open(path);
                for number in 0..10 {
                    tokens.create(&wish(&format!("t{writer}-{number}"))).expect("made");
                }
            });
        }
    });
    assert_eq!(open(directory.path()).list().expect("listed").len(), 40);
}

#[test]
fn a_file_that_is_not_one_of_tokens_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("tokens.json"), "{").expect("written");
    let opened = Tokens::open(directory.path(), Clock::start(cairn_model::Timestamp(0)));
    assert!(matches!(opened, Err(TokenError::Damaged { .. })));
}

async fn status(bench: &Bench, token: &str) -> u16 {
    let request = bench.request_by(token, "GET", "/api/v1/runs").body(Body::empty()).expect("a request");
    bench.send(request).await.status.as_u16()
}

#[tokio::test]
async fn a_running_server_sees_what_others_change() {
    let bench = Bench::new().await;
    // Another process on the same directory.
    let others = open(bench.directory.path());
    let (secret, _) = others.create(&wish("ada")).expect("made");
    let until = async |wanted: u16| {
        let deadline = bench.parts.clock.now().plus(Duration::from_secs(30));
        while status(&bench, &secret).await != wanted {
            assert!(bench.parts.clock.now() < deadline, "never {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    until(200).await;
    others.revoke("ada").expect("revoked");
    until(401).await;
    // A file that cannot be read changes nothing.
    fs::write(bench.directory.path().join("tokens.json"), "{").expect("written");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(status(&bench, &bench.admin).await, 200);
}

#[tokio::test]
async fn a_token_ends_when_it_should() {
    let bench = Bench::new().await;
    let short = NewToken { life: Some(Duration::from_secs(3_600)), ..wish("hour") };
    let (secret, _) = bench.parts.tokens.create(&short).expect("made");
    assert_eq!(status(&bench, &secret).await, 200);
    // The same file, seen by a clock that is an hour ahead.
    let later = bench.parts.clock.now().plus(Duration::from_secs(3_601));
    let late = Tokens::open(bench.directory.path(), Clock::start(later)).expect("opened");
    let parts = cairn_coordinator::http::Parts { tokens: late.into(), ..bench.parts.clone() };
    let router = cairn_coordinator::http::router(parts, cairn_coordinator::http::Rules::default());
    let bench = Bench { router, ..bench };
    assert_eq!((status(&bench, &secret).await, status(&bench, &bench.admin).await), (401, 200));
    bench.parts.tokens.create(&wish("hour")).expect_err("not expired by the clock of the other");
}

#[tokio::test]
async fn administrators_manage_tokens_over_http() {
    let bench = Bench::new().await;
    let wish = json!({"name": "ci", "role": "submitter", "projects": ["apollo"], "expires_in_seconds": 60});
    let answer = bench.post("/api/v1/tokens", &wish).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    let made: TokenCreated = serde_json::from_slice(&answer.body).expect("a token");
    assert_eq!(
        (made.info.role, made.info.projects.as_slice()),
        (Role::Submitter, &["apollo".to_owned()][..])
    );
    assert!(made.info.expires_at.is_some());
    assert_eq!(status(&bench, &made.token).await, 200);
    assert_eq!(bench.post("/api/v1/tokens", &wish).await.problem(), "name-taken");
    let list = bench.get("/api/v1/tokens").await;
    assert!(!list.text().contains(&made.token[6..]) && !list.text().contains("sha256"));
    let list: TokenList = serde_json::from_slice(&list.body).expect("a list");
    assert_eq!(list.tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["admin", "ci"]);
    let path = format!("/api/v1/tokens/{}", made.info.id);
    let revoke = || bench.request("DELETE", &path).body(Body::empty()).expect("a request");
    assert_eq!(bench.send(revoke()).await.json()["name"], "ci");
    assert_eq!(bench.send(revoke()).await.problem(), "token-not-found");
    assert_eq!(status(&bench, &made.token).await, 401);
    for bad in [json!({"name": "a b", "role": "viewer"}), json!({"name": "a", "role": "king"}), json!([])] {
        assert_eq!(bench.post("/api/v1/tokens", &bad).await.problem(), "invalid-request", "{bad}");
    }
}
