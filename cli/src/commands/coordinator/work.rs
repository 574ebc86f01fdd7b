//! Who does the work: agents over a broker, or one within this process.

use crate::commands::daemon::transport_of_coordinator;
use crate::exit::{Exit, Failure};
use cairn_agent::config::{AgentConfig, OnPartition};
use cairn_agent::keeper::{Embedded, Launch};
use cairn_coordinator::service::config::CoordinatorConfig;
use cairn_shared::clock::Clock;
use cairn_shared::config::TransportUrl;
use cairn_shared::transport::Transport;
use cairn_shared::transport::in_process::InProcess;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name of the agent within a coordinator's process.
const AGENT: &str = "local";

/// How long an agent may take to say how the tasks ended that were killed. It need not: the next one tells that they are
/// lost.
const LAST_WORDS_MAY_TAKE: Duration = Duration::from_secs(2);

/// Requests to end after which an agent kills its tasks.
const REQUESTS_TO_KILL: usize = 3;

/// The way to agents.
pub(super) enum Work {
    /// They are elsewhere.
    Elsewhere(Arc<dyn Transport>),
    /// One is to be within this process.
    Here(Arc<InProcess>),
}

impl Work {
    pub fn connect(config: &CoordinatorConfig, name: &str) -> Result<Self, Failure> {
        Ok(match &config.transport {
            TransportUrl::InProcess => Self::Here(Arc::new(InProcess::new())),
            TransportUrl::Amqp(url) => Self::Elsewhere(transport_of_coordinator(config, url, name)?),
        })
    }

    pub fn transport(&self) -> Arc<dyn Transport> {
        match self {
            Self::Elsewhere(transport) => transport.clone(),
            Self::Here(hub) => hub.clone(),
        }
    }

    /// Starts the agent of this process, if there is to be one.
    pub fn start(
        &self,
        config: &CoordinatorConfig,
        state: &Path,
        clock: Clock,
        command_line: &str,
    ) -> Result<OwnAgent, Failure> {
        let Self::Here(hub) = self else { return Ok(OwnAgent(None)) };
        let agent = AgentConfig {
            id: Some(AGENT.to_owned()),
            slots: config.slots.and_then(|slots| NonZeroUsize::try_from(slots).ok()),
            // Both sides of the lease are in one process: nobody else can be given what this one runs.
            on_partition: OnPartition::Hold,
            listen: String::new(),
            ..AgentConfig::default()
        };
        let settings = agent
            .settings(state, Launch::Here(hub.clone()), command_line.to_owned())
            .map_err(|error| Failure::because(Exit::Usage, &error))?;
        tracing::info!(slots = settings.slots, workspace = %settings.workspace.display(), "runs tasks itself");
        let started = Embedded::start(settings, clock);
        Ok(OwnAgent(Some(started.map_err(|error| Failure::because(Exit::OutOfReach, &error))?)))
    }
}

/// The agent of this process, if there is one and it has not ended.
pub(super) struct OwnAgent(Option<Embedded>);

impl OwnAgent {
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Asks it to end: first when its tasks have ended, then by ending them, then by killing them.
    pub async fn terminate(&self) {
        if let Some(agent) = &self.0 {
            agent.terminate().await;
        }
    }

    /// Kills its tasks and lets it go.
    pub async fn kill(&mut self) {
        for _ in 0..REQUESTS_TO_KILL {
            self.terminate().await;
        }
        if self.is_there() {
            // How it ends changes nothing any more.
            let _ = tokio::time::timeout(LAST_WORDS_MAY_TAKE, self.ended()).await;
        }
    }

    /// Waits for its end; for ever if it is not there.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        let Some(agent) = &mut self.0 else { return std::future::pending().await };
        let ended = agent.ended().await;
        self.0 = None;
        match ended {
            Ok(Some(_)) => Ok(()),
            // What it was is reported where it happened.
            Ok(None) => Err(Failure::new(Exit::Bug, "the agent of this process ended in an unforeseen way")),
            Err(error) => Err(Failure::because(Exit::OutOfReach, &error)),
        }
    }
}
