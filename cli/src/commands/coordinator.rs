//! `cairn coordinator`: a coordinator as a daemon in the foreground.

mod place;
mod running;
mod work;

use crate::arguments::Global;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use cairn_coordinator::http::{Parts, Reload, Server, Settings, TlsFiles, Tokens};
use cairn_coordinator::service::config::CoordinatorConfig;
use cairn_coordinator::service::{Handle, LogEnds, Service, ServiceConfig, serve_submissions};
use cairn_coordinator::store::StoreUrl;
use cairn_coordinator::store::postgres::{DEFAULT_SCHEMA, Submissions};
use cairn_shared::config::{self, Loaded};
use cairn_shared::telemetry::{LogHandle, Metrics, UPKEEP_INTERVAL, start_log};
use place::{Events, UrlFile, open_store};
use running::{Next, Running, Signals};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use work::Work;

/// Run a coordinator: it takes plans over HTTP and has agents run them
///
/// It stays in the foreground and tells on stderr what it does. Without a broker it runs the tasks itself: as many at a
/// time as the configuration's `slots` say, starting in `workspace` of the state directory.
///
/// SIGTERM ends it in good order: what was decided is recorded, and the next coordinator on the state directory goes on.
/// Running tasks are left to their agents; those that it runs itself may go on for `drain`, then they are ended, to run
/// again at the next start. A second signal ends it, and them, at once. SIGHUP reads the log's level and the certificate
/// again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cairn coordinator                                       by itself, files in .milestones
  cairn coordinator --transport amqp://user:pass@broker   a fleet over RabbitMQ
  CAIRN_STORE_FILE=store cairn coordinator                events in the database whose address that file holds
  cairn coordinator --config /etc/cairn/coordinator.yaml
  CAIRN_TRANSPORT=amqp://broker cairn coordinator --listen 127.0.0.1:7420")]
pub struct Args {
    /// The configuration; config/coordinator.yaml of the project lists every key
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Where to answer HTTP [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where events are kept: `file:///DIR`, `sqlite:///DIR/cairn.db` or `postgres://USER@HOST/DB`; better without the
    /// password, which CAIRN_STORE and CAIRN_STORE_FILE keep from others [default: the state directory]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The way to agents: `in-process` or `amqp://…` [default: in-process]
    #[arg(long, value_name = "URL")]
    transport: Option<String>,
    /// Answer beyond this machine without TLS: something in front of it does that
    #[arg(long)]
    insecure: bool,
}

/// Runs until a signal.
///
/// # Errors
/// The configuration, the state directory, the store, the broker or the address cannot be used.
pub fn execute(args: &Args, global: &Global, context: &Context) -> Result<Exit, Failure> {
    let loaded = load(args, global)?;
    let log = start_log(&loaded.value.log).map_err(|error| Failure::because(Exit::Usage, &error))?;
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot set up an event loop: {error}")))?;
    let reload = || load(args, global);
    runtime.block_on(run(loaded.value, &log, &reload, context))
}

fn load(args: &Args, global: &Global) -> Result<Loaded<CoordinatorConfig>, Failure> {
    let flag = |key: &str, value: &Option<String>| Some((key.to_owned(), value.clone()?));
    let state = global.state.as_ref().map(|state| state.to_string_lossy().into_owned());
    let flags = [
        flag("listen", &args.listen),
        flag("store", &args.store),
        flag("transport", &args.transport),
        flag("state", &state),
        args.insecure.then(|| ("insecure".to_owned(), "true".to_owned())),
    ];
    let flags: Vec<_> = flags.into_iter().flatten().collect();
    let loaded: Loaded<CoordinatorConfig> = config::load(args.config.as_deref(), std::env::vars(), &flags)
        .map_err(|error| Failure::because(Exit::Usage, &error))?;
    loaded.value.check().map_err(|error| Failure::because(Exit::Usage, &error))?;
    Ok(loaded)
}

async fn run(
    config: CoordinatorConfig,
    log: &LogHandle,
    reload: &dyn Fn() -> Result<Loaded<CoordinatorConfig>, Failure>,
    context: &Context,
) -> Result<Exit, Failure> {
    let metrics = Metrics::install().map_err(|error| Failure::because(Exit::Bug, &error))?;
    cairn_coordinator::metric_definitions::describe();
    cairn_shared::transport::metrics::describe();
    // Whoever is asked to end while it still begins ends in good order.
    let mut signals = Signals::listen()?;
    let state = crate::commands::daemon::absolute(&config.state)?;
    let Events { store, url: store_url, clock, lock: _lock } = open_store(&state, &config, context)?;
    let name = config.name.clone().unwrap_or_else(crate::commands::daemon::host_name);
    let work = Work::connect(&config, &name)?;
    let (head_in, head) = watch::channel(0);
    let (handle, requests) = Handle::new(head);
    let log_ends = LogEnds::default();
    let out_of_reach = |error: &dyn std::error::Error| Failure::because(Exit::OutOfReach, error);
    let tokens = Arc::new(Tokens::open(&state, clock.clone()).map_err(|error| out_of_reach(&error))?);
    let new_token = tokens.ensure_admin().map_err(|error| out_of_reach(&error))?;
    let service_config = ServiceConfig {
        name,
        state_directory: state.clone(),
        store: store.clone(),
        transport: work.transport(),
        clock: clock.clone(),
        lease: config.lease,
        route: config.route,
        log_ends: log_ends.clone(),
        events: config.events,
        max_active_runs: config.limits.active_runs,
        metric_projects: config.limits.metric_projects,
        store_backend: store_url.backend(),
    };
    let service = Service::start(service_config, head_in).await.map_err(|error| out_of_reach(&error))?;
    let shutdown = CancellationToken::new();
    let (directory, render) = (state.clone(), metrics.clone());
    let submissions = match &store_url {
        StoreUrl::Postgres(url) => Some(Submissions::new(url.expose(), DEFAULT_SCHEMA)),
        StoreUrl::File(_) | StoreUrl::Sqlite(_) => None,
    };
    let submissions = submissions.transpose().map_err(|error| out_of_reach(&error))?;
    let submitting = submissions.map(|from| serve_submissions(from, handle.clone(), shutdown.clone()));
    let parts = Parts {
        handle,
        store,
        state_directory: state.clone(),
        clock: clock.clone(),
        tokens,
        metrics: Arc::new(move || render.render()),
        log_is_complete: Arc::new(move |run, task, attempt| {
            log_ends.is_complete(&directory, run, task, attempt)
        }),
        shutdown: shutdown.clone(),
    };
    let settings = http_settings(&config);
    let server = Server::bind(&settings, parts).await.map_err(|error| out_of_reach(&error))?;
    let certificate = server.reload();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", reachable(server.address()));
    let agent = work.start(&config, &state, clock, &context.command_line)?;
    let url_file = UrlFile::write(&state, &url)?;
    if let Some(path) = new_token {
        tracing::info!(path = %path.display(), "wrote a token for its first administrator");
    }
    tracing::info!(%url, state = %state.display(), "cairn coordinator {} serves", env!("CARGO_PKG_VERSION"));
    let serving = tokio::spawn(service.serve(requests, shutdown.clone()));
    let answering = tokio::spawn(server.serve());
    let submitting = submitting.map(tokio::spawn);
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            metrics.upkeep();
        }
    });
    crate::commands::daemon::say_ready();
    let mut running = Running::new(serving, agent, shutdown.clone(), config.drain);
    let lived = loop {
        match running.next(&mut signals).await {
            Next::Reload => reload_now(reload, log, &certificate).await,
            Next::AskedToEnd => break Ok(()),
            Next::Failed(failure) => break Err(failure),
        }
    };
    crate::commands::daemon::say_stopping();
    let ended = running.end(&mut signals).await;
    drop(url_file);
    let Some(ended) = ended else {
        tracing::warn!("ends at once; nothing that was recorded is lost");
        std::process::exit(i32::from(Exit::Interrupted as u8));
    };
    let _ = answering.await;
    if let Some(submitting) = submitting {
        let _ = submitting.await;
    }
    work.transport().close().await;
    upkeep.abort();
    lived.and(ended).map(|()| Exit::Done)
}

/// Where an address can be reached from this machine: "all addresses" is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn http_settings(config: &CoordinatorConfig) -> Settings {
    let tls = config.tls.certificate.clone().zip(config.tls.key.clone());
    Settings {
        listen: config.listen,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        insecure: config.insecure,
        hosts: config.host_names.clone(),
    }
}

/// Reads the configuration and the certificate again. Of the configuration only the log's level can change in a process
/// that runs; an invalid file changes nothing.
async fn reload_now(
    reload: &dyn Fn() -> Result<Loaded<CoordinatorConfig>, Failure>,
    log: &LogHandle,
    certificate: &Reload,
) {
    match reload() {
        Ok(loaded) => match log.set_level(&loaded.value.log.level) {
            Ok(()) => tracing::info!(
                "the configuration was read again; what is not the log's level needs a restart"
            ),
            Err(error) => tracing::error!(%error, "the configuration is not in force; the one before stays"),
        },
        Err(failure) => tracing::error!(
            error = failure.message,
            "the configuration is not in force; the one before stays"
        ),
    }
    if let Err(error) = certificate.reload().await {
        tracing::error!(%error, "the certificate is not in force; the one before stays");
    }
}
