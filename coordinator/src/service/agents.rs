//! What follows for the runs when agents come, change and go.

use super::config::Route;
use super::porter::POOL_PREFIX;
use super::service::Service;
use super::side_log::SideEvent;
use crate::fleet::{Gone, Member};
use crate::runtime::{AgentLife, Input};
use cairn_model::time::micros;
use cairn_model::{AgentRole, AgentSpec, RunId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many leases an offer may lie in a shared queue before another attempt follows. Agents take what they have room
/// for, so one that lies longer is lost, or there is nobody to take it.
const OFFER_LEASES: u32 = 3;

impl Service {
    /// An agent is there, in a life that was not known or was lost.
    pub(super) fn joined(&mut self, agent: &str) {
        self.post.learn(&self.registry, agent);
        let Some(member) = self.registry.member(agent) else { return };
        tracing::info!(agent, slots = member.spec.slots, "agent joined");
        let event = SideEvent::AgentJoined {
            agent: agent.to_owned(),
            incarnation: member.spec.incarnation,
            slots: member.spec.slots,
            version: member.version.clone(),
        };
        self.write(&event);
        self.present(agent);
    }

    /// An agent has more, or less, than before; or takes work, or not.
    pub(super) fn changed(&mut self, agent: &str) {
        self.post.learn(&self.registry, agent);
        self.present(agent);
    }

    /// An agent will not report any more in that life.
    pub(super) fn lost(&mut self, agent: &str, incarnation: u64, reason: &str, gone: Gone) {
        match gone {
            Gone::AsPlanned => tracing::info!(agent, "agent left"),
            Gone::Silent => tracing::warn!(agent, reason, "agent lost"),
        }
        self.post.forget(agent);
        self.holds.remove(agent);
        self.named.remove(agent);
        if gone == Gone::Silent {
            self.around.metrics.fleet.leases_expired(1);
            self.write(&SideEvent::LeaseExpired { agent: agent.to_owned(), incarnation });
        }
        let event = SideEvent::AgentLost { agent: agent.to_owned(), incarnation, reason: reason.to_owned() };
        self.write(&event);
        self.around.shares.remove(agent);
        let life = AgentLife { id: agent.into(), incarnation };
        for active in self.runs.values() {
            let (life, reason) = (life.clone(), reason.into());
            active.send(Input::Lost { life, reason, as_planned: gone == Gone::AsPlanned });
        }
        self.present_pools();
    }

    /// Tells a run of the agents that are there.
    pub(super) fn introduce_fleet(&self, run: &RunId) {
        let Some(active) = self.runs.get(run) else { return };
        let pools = self.pools();
        let members =
            self.registry.members().filter(|member| !member.is_lost).map(|member| self.spec_of(member));
        for spec in pools.into_iter().chain(members) {
            active.present(spec);
        }
    }

    /// Tells all runs of an agent, and what follows for the pools.
    fn present(&self, agent: &str) {
        let Some(member) = self.registry.member(agent).filter(|member| !member.is_lost) else { return };
        let spec = self.spec_of(member);
        let slots = if spec.role == AgentRole::Own { spec.slots } else { 0 };
        self.present_pools();
        for active in self.runs.values() {
            active.present(spec.clone());
        }
        self.around.shares.open(agent, slots, !member.takes_work());
    }

    fn present_pools(&self) {
        for pool in self.pools() {
            for active in self.runs.values() {
                active.present(pool.clone());
            }
            self.around.shares.open(&pool.id, pool.slots, false);
        }
    }

    /// What a run is told of an agent: on the shared route it is one of its capability's pool.
    fn spec_of(&self, member: &Member) -> AgentSpec {
        let pool = self.pool_of(member).map(|pool| AgentRole::Member { pool });
        // One that has not said hello to us yet is what the log says: what it reports of its pool is believed.
        AgentSpec { role: pool.unwrap_or_else(|| member.spec.role.clone()), ..member.spec.clone() }
    }

    fn pool_of(&self, member: &Member) -> Option<String> {
        match self.config.route {
            Route::Direct => None,
            Route::Shared => Some(format!("{POOL_PREFIX}{}", member.capability.as_deref()?)),
        }
    }

    /// The pools, with what their members have together and the labels that all of them have.
    fn pools(&self) -> Vec<AgentSpec> {
        let lease: Duration = self.config.lease * OFFER_LEASES;
        let offer_lease_micros = u64::try_from(micros(lease)).unwrap_or(u64::MAX);
        let mut pools: BTreeMap<String, AgentSpec> = BTreeMap::new();
        // By pool, of those that take work; that none is left is not that none was seen.
        let mut common: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for member in self.registry.members() {
            let Some(id) = self.pool_of(member) else { continue };
            let pool = pools.entry(id.clone()).or_insert_with(|| AgentSpec {
                id,
                incarnation: 1,
                role: AgentRole::Pool { offer_lease_micros },
                ..AgentSpec::default()
            });
            if !member.takes_work() {
                continue;
            }
            let spec = &member.spec;
            pool.slots += spec.slots;
            pool.backlog += spec.backlog;
            pool.timers += spec.timers;
            for (name, amount) in &spec.resources {
                match pool.resources.iter_mut().find(|(known, _)| known == name) {
                    Some((_, sum)) => *sum = sum.saturating_add(*amount),
                    None => pool.resources.push((name.clone(), *amount)),
                }
            }
            pool.resources.sort_unstable();
            match common.get_mut(&pool.id) {
                Some(labels) => labels.retain(|label| spec.labels.contains(label)),
                None => drop(common.insert(pool.id.clone(), spec.labels.clone())),
            }
        }
        for (id, labels) in common {
            if let Some(pool) = pools.get_mut(&id) {
                pool.labels = labels;
            }
        }
        pools.into_values().collect()
    }
}
