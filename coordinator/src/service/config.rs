//! The configuration of a coordinator. `config/coordinator.yaml` lists every key with its default and its meaning; a
//! test holds the two together.
//!
//! Not here: how it is read (`cairn_shared::config`).

pub use cairn_shared::transport::amqp::QueueType;

use crate::store::StoreUrl;
use cairn_shared::config::{LogConfig, TransportUrl, duration};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// The shortest lease. Agents send a heartbeat five times in a lease; a tenth of a second is as often as is sound.
pub const MIN_LEASE: Duration = Duration::from_millis(500);
/// The longest lease: a lost agent is noticed no sooner.
pub const MAX_LEASE: Duration = Duration::from_secs(3_600);
/// The port that coordinators listen at.
pub const DEFAULT_PORT: u16 = 7420;

/// What a coordinator is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// Its name, for people and in the log; without one the host's name.
    pub name: Option<String>,
    /// Where it answers HTTP.
    pub listen: SocketAddr,
    /// The names under which it is reached, besides the address it listens at: requests for others are refused.
    pub host_names: Vec<String>,
    /// Certificate and key.
    pub tls: TlsConfig,
    /// Listens beyond the machine without TLS.
    pub insecure: bool,
    /// The state directory.
    pub state: PathBuf,
    /// Where events are kept; without one in the state directory.
    pub store: Option<StoreUrl>,
    /// Where events may be moved to.
    pub stores: Vec<StoreUrl>,
    /// How messages go to agents and back.
    pub transport: TransportUrl,
    /// Certificates (PEM) that vouch for the broker besides those of the system.
    pub transport_authority: Option<PathBuf>,
    /// What kind of queue carries them.
    pub queue_type: QueueType,
    /// How work finds its agent.
    pub route: Route,
    /// How long an agent may be silent before its attempts are given to others.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// Processes at a time on this machine, where the transport is within the process; without a number one for each
    /// core.
    pub slots: Option<NonZeroU32>,
    /// Events are published for other systems.
    pub events: bool,
    /// How long tasks of this process may take to end when it is asked to end; a broker's agents keep theirs.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// Its log.
    pub log: LogConfig,
    /// How much of each is allowed.
    pub limits: LimitsConfig,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            name: None,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            host_names: Vec::new(),
            tls: TlsConfig::default(),
            insecure: false,
            state: PathBuf::from(".milestones"),
            store: None,
            stores: Vec::new(),
            transport: TransportUrl::InProcess,
            transport_authority: None,
            queue_type: QueueType::default(),
            route: Route::default(),
            lease: Duration::from_secs(10),
            slots: None,
            events: false,
            drain: Duration::from_secs(20),
            log: LogConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

/// Certificate and key: both or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The chain of certificates, PEM.
    pub certificate: Option<PathBuf>,
    /// The private key, PEM.
    pub key: Option<PathBuf>,
}

/// How much of each is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Runs that have not ended; a submission beyond is refused.
    pub active_runs: usize,
    /// Projects that metrics tell apart; those beyond are in the sums over all runs only.
    pub metric_projects: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { active_runs: 1_000, metric_projects: 100 }
    }
}

/// How work finds its agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// The coordinator chooses an agent.
    #[default]
    Direct,
    /// The agents of a capability share a queue.
    Shared,
}

/// Why a configuration whose values are each sound cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigMisfit {
    /// One half of TLS is missing.
    #[error("`tls.certificate` and `tls.key` go together: one of them is missing")]
    HalfTls,
    /// It would be open to the network.
    #[error(
        "`listen: {listen}` is beyond this machine and would be without TLS: set `tls.certificate` and `tls.key`, or \
         `insecure: true` where something in front of it does TLS"
    )]
    OpenToAll {
        /// Where it would listen.
        listen: SocketAddr,
    },
    /// The lease is too short or too long.
    #[error("`lease` is to be from {}ms to {}s", MIN_LEASE.as_millis(), MAX_LEASE.as_secs())]
    Lease,
    /// Slots are agents' where there is a broker.
    #[error("`slots` is for `transport: in-process`; agents over a broker have their own")]
    SlotsOverBroker,
    /// Nobody could hear them.
    #[error("`events: true` needs a broker: within one process nobody else can listen")]
    EventsInProcess,
}

impl CoordinatorConfig {
    /// Checks what no value tells by itself.
    ///
    /// # Errors
    /// The first thing that does not fit together.
    pub fn check(&self) -> Result<(), ConfigMisfit> {
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err(ConfigMisfit::HalfTls);
        }
        if !self.listen.ip().is_loopback() && self.tls.certificate.is_none() && !self.insecure {
            return Err(ConfigMisfit::OpenToAll { listen: self.listen });
        }
        if !(MIN_LEASE..=MAX_LEASE).contains(&self.lease) {
            return Err(ConfigMisfit::Lease);
        }
        if self.slots.is_some() && self.transport != TransportUrl::InProcess {
            return Err(ConfigMisfit::SlotsOverBroker);
        }
        if self.events && self.transport == TransportUrl::InProcess {
            return Err(ConfigMisfit::EventsInProcess);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
