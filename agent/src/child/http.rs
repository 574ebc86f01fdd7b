//! The agent's own HTTP port: is it there, is it ready, how is it.

use axum::Router;
use axum::extract;
use axum::http::StatusCode;
use axum::routing::get;
use cairn_shared::telemetry::{Metrics, UPKEEP_INTERVAL};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;

/// What is told.
#[derive(Clone)]
pub(super) struct State {
    metrics: Option<Metrics>,
    ready: Arc<Readiness>,
}

#[derive(Default)]
pub(super) struct Readiness {
    pub linked: AtomicBool,
    pub welcomed: AtomicBool,
    pub draining: AtomicBool,
}

impl State {
    pub fn new(metrics: Option<Metrics>) -> Self {
        Self { metrics, ready: Arc::default() }
    }

    /// Whether anybody looks at this agent by itself.
    pub fn is_seen(&self) -> bool {
        self.metrics.is_some()
    }

    pub fn readiness(&self) -> &Readiness {
        &self.ready
    }
}

/// Serves in the background, at `listen` or, if that is taken, at a free port of the same address. An agent works
/// without it.
pub(super) async fn serve(listen: &str, state: State) {
    let Some(metrics) = state.metrics.clone() else { return };
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.upkeep();
        }
    });
    if listen.is_empty() {
        return;
    }
    let listener = match bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, listen, "there is no HTTP interface");
            return;
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "listening");
    }
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|| async move { metrics.render() }))
        .with_state(state);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the HTTP interface has ended");
        }
    });
}

async fn bind(listen: &str) -> std::io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let taken = tokio::net::lookup_host(listen).await?.next();
            let Some(taken) = taken else { return Err(error) };
            let listener = TcpListener::bind(SocketAddr::new(taken.ip(), 0)).await?;
            let address = listener.local_addr()?;
            tracing::warn!(%address, "{listen} is taken; listening at a free port");
            Ok(listener)
        }
        result => result,
    }
}

async fn readyz(extract::State(state): extract::State<State>) -> (StatusCode, String) {
    let ready = state.readiness();
    let checks = [
        ("transport", ready.linked.load(Ordering::Relaxed), "messages flow", "no connection to the broker"),
        (
            "coordinator",
            ready.welcomed.load(Ordering::Relaxed),
            "welcomed",
            "no coordinator has answered yet",
        ),
        ("work", !ready.draining.load(Ordering::Relaxed), "taking work", "draining"),
    ];
    let is_ready = checks.iter().all(|(_, is_well, ..)| *is_well);
    let line = |(name, is_well, well, ill): &(&str, bool, &str, &str)| match is_well {
        true => format!("[+] {name}: {well}\n"),
        false => format!("[-] {name}: {ill}\n"),
    };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, checks.iter().map(line).collect())
}
