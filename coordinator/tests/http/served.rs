//! The interface on a real socket.

use crate::support::{Bench, PATIENCE, PLAN};
use cairn_coordinator::http::{ServeError, Server, Settings, TlsFiles};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn served(bench: &Bench) -> (SocketAddr, JoinHandle<Result<(), ServeError>>) {
    let settings = Settings { listen: ANY_PORT, ..Settings::default() };
    let server = Server::bind(&settings, bench.parts.clone()).await.expect("bound");
    (server.address(), tokio::spawn(server.serve()))
}

async fn ended(serving: JoinHandle<Result<(), ServeError>>) {
    timeout(PATIENCE, serving).await.expect("in time").expect("no panic").expect("no error");
}

#[tokio::test]
async fn an_address_that_others_reach_needs_tls() {
    let bench = Bench::new().await;
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let settings = Settings { listen: everywhere, ..Settings::default() };
    let refused = Server::bind(&settings, bench.parts.clone()).await;
    assert!(matches!(refused, Err(ServeError::Insecure { .. })));
    let settings = Settings { insecure: true, ..settings };
    assert!(Server::bind(&settings, bench.parts.clone()).await.is_ok());
    assert_eq!(Settings::default().listen.to_string(), "127.0.0.1:7420");
}

#[tokio::test]
async fn open_streams_end_with_the_server() {
    let bench = Bench::new().await;
    bench.submit(PLAN).await;
    let (address, serving) = served(&bench).await;
    let client = reqwest::Client::new();
    let url = format!("http://{address}/api/v1/runs/apollo.1/events?follow=true");
    let mut stream = client.get(url).bearer_auth(&bench.admin).send().await.expect("an answer");
    let mut text = String::new();
    while !text.contains("RunSubmitted") {
        let chunk = timeout(PATIENCE, stream.chunk()).await.expect("in time").expect("a chunk");
        text.push_str(&String::from_utf8_lossy(&chunk.expect("more")));
    }
    bench.shutdown.cancel();
    assert!(timeout(PATIENCE, stream.chunk()).await.expect("in time").expect("an end").is_none());
    ended(serving).await;
    assert!(client.get(format!("http://{address}/livez")).send().await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let bench = Bench::new().await;
    let (address, serving) = served(&bench).await;
    let mut silent = TcpStream::connect(address).await.expect("connected");
    let mut slow = TcpStream::connect(address).await.expect("connected");
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.expect("written");
    let mut left = Vec::new();
    for stream in [&mut silent, &mut slow] {
        // Closed by the server, within the time that a head may take.
        let closed = timeout(Duration::from_secs(30), stream.read_to_end(&mut left)).await;
        let _ = closed.expect("closed");
    }
    bench.shutdown.cancel();
    ended(serving).await;
}

/// A certificate for `localhost` that trusts itself.
fn certificate(directory: &Path) -> TlsFiles {
    let files = TlsFiles { certificate: directory.join("certificate.pem"), key: directory.join("key.pem") };
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-addext"])
        .args(["basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&files.key)
        .arg("-out")
        .arg(&files.certificate)
        .output()
        .expect("openssl is there");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

async fn is_trusted(files: &TlsFiles, port: u16) -> bool {
    let pem = std::fs::read(&files.certificate).expect("read");
    let root = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([root]).build().expect("a client");
    let answer = client.get(format!("https://localhost:{port}/livez")).send().await;
    answer.is_ok_and(|answer| answer.status().as_u16() == 200)
}

#[tokio::test]
async fn a_certificate_is_changed_while_it_serves() {
    let bench = Bench::new().await;
    let first = certificate(bench.directory.path());
    let settings = Settings { listen: ANY_PORT, tls: Some(first.clone()), ..Settings::default() };
    let server = Server::bind(&settings, bench.parts.clone()).await.expect("bound");
    let (reload, port) = (server.reload(), server.address().port());
    let serving = tokio::spawn(server.serve());
    assert!(is_trusted(&first, port).await);
    let elsewhere = tempfile::tempdir().expect("a directory");
    let other = certificate(elsewhere.path());
    assert!(!is_trusted(&other, port).await);
    // What cannot be used leaves the old one in force.
    std::fs::write(&first.key, "no key").expect("written");
    assert!(matches!(reload.reload().await, Err(ServeError::Tls { .. })));
    assert!(is_trusted(&first, port).await);
    std::fs::copy(&other.key, &first.key).expect("copied");
    std::fs::copy(&other.certificate, &first.certificate).expect("copied");
    reload.reload().await.expect("read again");
    assert!(is_trusted(&other, port).await);
    bench.shutdown.cancel();
    ended(serving).await;
}
