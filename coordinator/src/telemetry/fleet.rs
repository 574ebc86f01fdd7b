//! Metrics of the agents and of the way to them.

use crate::metric_definitions::{
    AGENT_SLOTS, AGENTS, LEASES_EXPIRED_TOTAL, STALE_REPORTS_TOTAL, TRANSPORT_UP,
};
use crate::service::AgentView;
use cairn_shared::transport::Health;
use metrics::{Counter, Gauge, counter, gauge};

/// The states of [`AgentView`].
const STATES: [&str; 5] = ["joined", "draining", "silent", "lost", "left"];

/// Metrics of the fleet.
#[derive(Clone)]
pub struct FleetMetrics {
    agents: [Gauge; 5],
    slots_used: Gauge,
    slots_free: Gauge,
    leases_expired: Counter,
    stale_reports: Counter,
    transport_up: Gauge,
}

impl Default for FleetMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl FleetMetrics {
    /// Takes hold of the metrics.
    #[must_use]
    pub fn new() -> Self {
        Self {
            agents: STATES.map(|state| gauge!(AGENTS, "state" => state)),
            slots_used: gauge!(AGENT_SLOTS, "state" => "used"),
            slots_free: gauge!(AGENT_SLOTS, "state" => "free"),
            leases_expired: counter!(LEASES_EXPIRED_TOTAL),
            stale_reports: counter!(STALE_REPORTS_TOTAL),
            transport_up: gauge!(TRANSPORT_UP),
        }
    }

    /// The fleet as it is. Once a second is enough.
    pub fn observe(&self, agents: &[AgentView]) {
        for (state, gauge) in STATES.iter().zip(&self.agents) {
            gauge.set(agents.iter().filter(|agent| agent.state == *state).count() as f64);
        }
        let there = || agents.iter().filter(|agent| !matches!(agent.state, "lost" | "left"));
        let used: u32 = there().map(|agent| agent.slots_used.min(agent.slots)).sum();
        // One that drains takes nothing: its free slots are nobody's.
        let open = there().filter(|agent| agent.state != "draining");
        let free: u32 = open.map(|agent| agent.slots.saturating_sub(agent.slots_used)).sum();
        self.slots_used.set(f64::from(used));
        self.slots_free.set(f64::from(free));
    }

    /// Leases of agents have ended.
    pub fn leases_expired(&self, count: u64) {
        self.leases_expired.increment(count);
    }

    /// Reports came too late or twice.
    pub fn stale_reports(&self, count: u64) {
        self.stale_reports.increment(count);
    }

    /// How the transport is.
    pub fn transport(&self, health: &Health) {
        self.transport_up.set(if matches!(health, Health::Up(_)) { 1.0 } else { 0.0 });
    }
}
