//! `cairn coordinator`: a coordinator as a daemon in the foreground.

use crate::arguments::Global;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use cairn_coordinator::http::{Parts, Server, Settings, TlsFiles, Tokens};
use cairn_coordinator::runtime::{last_moment, new_id};
use cairn_coordinator::service::config::CoordinatorConfig;
use cairn_coordinator::service::{Handle, LogEnds, Service, ServiceConfig};
use cairn_coordinator::store::file::{LogReader, Options};
use cairn_coordinator::store::{FileStore, Holder};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::config::{self, Loaded};
use cairn_shared::telemetry::{LogHandle, Metrics, UPKEEP_INTERVAL, start_log};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The file in the state directory that says where a coordinator answers while it runs.
pub const URL_FILE: &str = "coordinator.url";

/// Run a coordinator: it takes plans over HTTP and has agents run them
///
/// It stays in the foreground and tells on stderr what it does. SIGTERM ends it in good order: what was decided is
/// recorded, running tasks are left to their agents, and the next coordinator on the state directory goes on. A second
/// signal ends it at once, which loses nothing either. SIGHUP reads the configuration and the certificate again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cairn coordinator                                       agents within this process, files in .milestones
  cairn coordinator --transport amqp://user:pass@broker   a fleet over RabbitMQ
  cairn coordinator --config /etc/cairn/coordinator.yaml
  CAIRN_TRANSPORT=amqp://broker cairn coordinator --listen 127.0.0.1:7420")]
pub struct Args {
    /// The configuration; config/coordinator.yaml of the project lists every key
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Where to answer HTTP [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where events are kept: `file:///PATH` [default: the state directory]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// The way to agents: `in-process` or `amqp://…` [default: in-process]
    #[arg(long, value_name = "URL")]
    transport: Option<String>,
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
    let state = absolute(&config.state)?;
    let (store, clock) = open_store(&config.store_directory(), context)?;
    let name = config.name.clone().unwrap_or_else(crate::commands::daemon::host_name);
    let transport = crate::commands::daemon::transport_of_coordinator(&config, &name)?;
    let (head_in, head) = watch::channel(0);
    let (handle, requests) = Handle::new(head);
    let log_ends = LogEnds::default();
    let tokens = Arc::new(
        Tokens::open(&state, clock.clone()).map_err(|error| Failure::because(Exit::OutOfReach, &error))?,
    );
    let new_token = tokens.ensure_admin().map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    let service = Service::start(
        ServiceConfig {
            name: name.clone(),
            state_directory: state.clone(),
            store: store.clone(),
            transport: transport.clone(),
            clock: clock.clone(),
            lease: config.lease,
            route: config.route,
            log_ends: log_ends.clone(),
            max_active_runs: config.limits.active_runs,
            metric_projects: config.limits.metric_projects,
            store_backend: "file",
        },
        head_in,
    );
    let service = service.await.map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    let shutdown = CancellationToken::new();
    let settings = Settings {
        listen: config.listen,
        tls: config
            .tls
            .certificate
            .clone()
            .zip(config.tls.key.clone())
            .map(|(certificate, key)| TlsFiles { certificate, key }),
        insecure: config.insecure,
        hosts: config.host_names.clone(),
    };
    let (directory, render) = (state.clone(), metrics.clone());
    let parts = Parts {
        handle,
        store,
        state_directory: state.clone(),
        clock,
        tokens,
        metrics: Arc::new(move || render.render()),
        log_is_complete: Arc::new(move |run, task, attempt| {
            log_ends.is_complete(&directory, run, task, attempt)
        }),
        shutdown: shutdown.clone(),
    };
    let server =
        Server::bind(&settings, parts).await.map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    let certificate = server.reload();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", server.address());
    let url_file = UrlFile::write(&state, &url)?;
    if let Some(path) = new_token {
        tracing::info!(path = %path.display(), "wrote a token for its first administrator");
    }
    tracing::info!(%url, state = %state.display(), "cairn coordinator {} serves", env!("CARGO_PKG_VERSION"));
    let serving = tokio::spawn(service.serve(requests, shutdown.clone()));
    let answering = tokio::spawn(server.serve());
    let upkeep = tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            metrics.upkeep();
        }
    });
    crate::commands::daemon::say_ready();
    let mut serving = serving;
    let (mut terminate, mut interrupt, mut hang_up) = (
        signals(SignalKind::terminate())?,
        signals(SignalKind::interrupt())?,
        signals(SignalKind::hangup())?,
    );
    let result = loop {
        tokio::select! {
            ended = &mut serving => break ended,
            _ = hang_up.recv() => {
                reload_now(reload, log);
                if let Err(error) = certificate.reload().await {
                    tracing::error!(%error, "the certificate is not in force; the one before stays");
                }
                continue;
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if shutdown.is_cancelled() {
            tracing::warn!("ends at once; nothing that was recorded is lost");
            drop(url_file);
            std::process::exit(i32::from(Exit::Interrupted as u8));
        }
        tracing::info!("ends in good order; once more to end at once");
        crate::commands::daemon::say_stopping();
        shutdown.cancel();
    };
    shutdown.cancel();
    let _ = answering.await;
    transport.close().await;
    upkeep.abort();
    drop(url_file);
    match result {
        Ok(Ok(())) => Ok(Exit::Done),
        Ok(Err(error)) => Err(Failure::because(Exit::OutOfReach, &error).help(
            "nothing that was recorded is lost; mend the cause, then start the coordinator again on the same state directory",
        )),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn signals(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot listen to signals: {error}")))
}

/// Reads the configuration again. Only the log's level can change in a process that runs; an invalid file changes
/// nothing.
fn reload_now(reload: &dyn Fn() -> Result<Loaded<CoordinatorConfig>, Failure>, log: &LogHandle) {
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
}

/// A state directory that is there, by its absolute path.
fn absolute(state: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::create_dir_all(state).and_then(|()| state.canonicalize());
    made.map_err(|error| {
        Failure::new(Exit::OutOfReach, format!("cannot use the state directory {}: {error}", state.display()))
            .help("make it writable, or name another one with --state DIR")
    })
}

/// The store, and a clock that goes on where its log ends.
fn open_store(directory: &Path, context: &Context) -> Result<(Arc<FileStore>, Clock), Failure> {
    let now = Clock::start(Timestamp(0)).now();
    let holder = Holder::this_process(context.command_line.clone(), now);
    let store = FileStore::open(directory, &holder, Options::new(new_id())).map_err(|error| {
        Failure::because(Exit::OutOfReach, &error)
            .help("one coordinator owns a store: end the other one, or name another state directory with --state DIR")
    })?;
    for notice in store.notices() {
        tracing::warn!("{notice}");
    }
    let last = LogReader::open(directory).and_then(|reader| last_moment(&reader));
    let last = last.map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    Ok((Arc::new(store), Clock::start(last)))
}

/// Says where the coordinator answers, for as long as it does.
struct UrlFile(PathBuf);

impl UrlFile {
    fn write(state: &Path, url: &str) -> Result<Self, Failure> {
        let path = state.join(URL_FILE);
        let draft = state.join(format!("{URL_FILE}.{}", std::process::id()));
        let written =
            std::fs::write(&draft, format!("{url}\n")).and_then(|()| std::fs::rename(&draft, &path));
        written.map_err(|error| {
            Failure::new(Exit::OutOfReach, format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        // Where it stays, whoever follows it finds nobody and says so.
        let _ = std::fs::remove_file(&self.0);
    }
}
