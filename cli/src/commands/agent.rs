//! `cairn agent`: an agent of a fleet as a daemon in the foreground.

use crate::arguments::Global;
use crate::commands::daemon::{absolute, authority};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use cairn_agent::child;
use cairn_agent::config::AgentConfig;
use cairn_agent::keeper::{self, Ended, KeeperError, Launch, Settings};
use cairn_agent::link::{QUORUM, Setup};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::config::{self, LogConfig};
use cairn_shared::telemetry::start_log;
use cairn_shared::transport::Transport;
use cairn_shared::transport::amqp::{self, Amqp, QueueType, Role};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Run an agent: it takes work from a coordinator over a broker
///
/// It stays in the foreground and tells on stderr what it does. SIGTERM drains it: nothing new is taken, what waits is
/// given back, what runs goes on to its end. A second SIGTERM ends what runs. SIGHUP reads the configuration again and
/// starts the part of it that has the network anew, from the program that is on disk then; no task notices.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cairn agent --transport amqp://user:pass@broker
  cairn agent --config /etc/cairn/agent.yaml
  CAIRN_TRANSPORT_FILE=/run/secrets/broker cairn agent --slots 8 --label zone=b")]
pub struct Args {
    /// The configuration; config/agent.yaml of the project lists every key
    #[arg(long, value_name = "FILE", env = "CAIRN_CONFIG")]
    config: Option<PathBuf>,
    /// The broker: `amqp://…` or `amqps://…`
    #[arg(long, value_name = "URL")]
    transport: Option<String>,
    /// Its name in the fleet [default: the host's]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Processes at a time [default: one for each core]
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// What tasks can require; may be repeated
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Where to answer /livez, /readyz and /metrics [default: 127.0.0.1:7421]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Be the child of the keeper at the other end of the standard input; how to keep the log
    #[arg(long, value_name = "LOG", hide = true)]
    child: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs until it is drained.
///
/// # Errors
/// The configuration or the state directory cannot be used, or the journal fails.
pub fn execute(args: &Args, global: &Global, context: &Context) -> Result<Exit, Failure> {
    if let Some(log) = &args.child {
        return run_child(log);
    }
    // Before the file can be replaced by a newer one.
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(Exit::OutOfReach, format!("cannot find the own program: {error}")))?;
    let config = load(args, global)?;
    let log = start_log(&config.log).map_err(|error| Failure::because(Exit::Usage, &error))?;
    let state = absolute(&config.state)?;
    let command_line = context.command_line.clone();
    let settings = {
        let state = state.clone();
        move |config: &AgentConfig| settings(config, &state, &program, &command_line)
    };
    let (first, reload) = (settings(&config)?, {
        let (args, global) = (args.clone(), global.clone());
        move || {
            let config = load(&args, &global).map_err(|failure| failure.message)?;
            let settings = settings(&config).map_err(|failure| failure.message)?;
            log.set_level(&config.log.level).map_err(|error| error.to_string())?;
            Ok(settings)
        }
    });
    tracing::info!(agent = first.id, slots = first.slots, directory = %first.directory.display(), "cairn agent");
    match keeper::run(first, Box::new(reload), Clock::start(Timestamp(0))) {
        Ok(Ended::Drained) => Ok(Exit::Done),
        Ok(Ended::Stopped) => Ok(Exit::Interrupted),
        Err(error @ KeeperError::Lock(_)) => Err(Failure::because(Exit::OutOfReach, &error)
            .help("each agent has a directory of its own: end the other one, or name this one with --id ID")),
        Err(error) => Err(Failure::because(Exit::OutOfReach, &error)),
    }
}

fn load(args: &Args, global: &Global) -> Result<AgentConfig, Failure> {
    let flag = |key: &str, value: Option<String>| Some((key.to_owned(), value?));
    let flags = [
        flag("transport", args.transport.clone()),
        flag("id", args.id.clone()),
        flag("slots", args.slots.map(|slots| slots.to_string())),
        flag("listen", args.listen.clone()),
        flag("state", global.state.as_ref().map(|state| state.to_string_lossy().into_owned())),
    ];
    let flags: Vec<_> = flags.into_iter().flatten().collect();
    let loaded = config::load::<AgentConfig>(args.config.as_deref(), std::env::vars(), &flags)
        .map_err(|error| Failure::because(Exit::Usage, &error))?;
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let mut config = loaded.value;
    config.labels.extend(args.labels.iter().cloned());
    Ok(config)
}

fn settings(
    config: &AgentConfig,
    state: &Path,
    program: &Path,
    command_line: &str,
) -> Result<Settings, Failure> {
    let log = serde_json::to_string(&config.log).map_err(|error| Failure::because(Exit::Bug, &error))?;
    let arguments = ["agent".into(), "--child".into(), log.into()].to_vec();
    let launch = Launch::Program { program: program.to_owned(), arguments };
    let settings = config.settings(state, launch, command_line.to_owned());
    let mut settings = settings.map_err(|error| Failure::because(Exit::Usage, &error))?;
    settings.certificate_authority = authority(config.transport_authority.as_deref())?;
    broker(&settings.transport)?;
    Ok(settings)
}

fn broker(url: &str) -> Result<amqp::BrokerUrl, Failure> {
    url.parse().map_err(|error: amqp::UrlError| Failure::because(Exit::Usage, &error))
}

fn run_child(log: &str) -> Result<Exit, Failure> {
    let log: LogConfig = serde_json::from_str(log).map_err(|error| Failure::because(Exit::Usage, &error))?;
    start_log(&log).map_err(|error| Failure::because(Exit::Usage, &error))?;
    child::run(connect).map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    Ok(Exit::Done)
}

async fn connect(setup: Setup) -> Result<Arc<dyn Transport>, String> {
    let url = broker(&setup.transport).map_err(|failure| failure.message)?;
    let queue_type = match setup.queue_type.as_deref() {
        Some(QUORUM) => QueueType::Quorum,
        _ => QueueType::Classic,
    };
    let name = format!("cairn agent {}", setup.hello.agent);
    let certificate_authority = setup.certificate_authority;
    let settings = amqp::Settings { url, queue_type, role: Role::Agent, name, certificate_authority };
    Ok(Arc::new(Amqp::connect(settings)))
}
