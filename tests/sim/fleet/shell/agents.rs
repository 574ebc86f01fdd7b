//! What follows for the runs when agents come, change and go: `service::agents`, function by function. On the shared
//! route agents of a capability are members of its pool, to which their work is offered.

use super::{LEASE, Shell};
use crate::sim::fleet::bug::Bug;
use crate::sim::fleet::env::Env;
use crate::sim::fleet::owner::Input;
use cairn_coordinator::fleet::Member;
use cairn_coordinator::runtime::AgentLife;
use cairn_model::{AgentRole, AgentSpec, Command};
use std::collections::BTreeMap;

/// How many leases an offer may lie in a shared queue before another attempt follows.
const OFFER_LEASES: u32 = 3;

/// The prefix of a pool's name.
pub const POOL_PREFIX: &str = "pool:";

impl Shell {
    /// Tells a run of the agents that are there.
    pub(super) fn introduce_fleet(&mut self, env: &mut Env, run: usize) {
        let there = self.registry.members().filter(|member| !member.is_lost);
        let members: Vec<_> = there.map(|member| spec_of(env, member)).collect();
        for spec in self.pools(env).into_iter().chain(members) {
            self.command(env, run, Command::AgentJoined(Box::new(spec.clone())));
            self.command(env, run, Command::AgentChanged(Box::new(spec)));
        }
    }

    /// Tells all runs of an agent as it is now (`Service::present`).
    pub(super) fn present(&mut self, env: &mut Env, agent: &str) {
        self.post.learn(&self.registry, agent);
        let Some(member) = self.registry.member(agent).filter(|member| !member.is_lost) else { return };
        let (spec, is_closed) = (spec_of(env, member), !member.takes_work());
        let slots = if spec.role == AgentRole::Own { spec.slots } else { 0 };
        self.present_pools(env);
        self.tell_of(env, &spec);
        self.open(env, agent, slots, is_closed);
    }

    pub(super) fn present_pools(&mut self, env: &mut Env) {
        for pool in self.pools(env) {
            self.tell_of(env, &pool);
            self.open(env, &pool.id, pool.slots, false);
        }
    }

    /// An agent will not report any more in that life (`Service::lost`).
    pub(super) fn lost(&mut self, env: &mut Env, life: &AgentLife, reason: &str) {
        env.summary.agents_lost += 1;
        self.named.remove(&*life.id);
        self.post.ledger.borrow_mut().remove(&life.id);
        self.give_all(env, || Input::Lost(life.clone(), reason.into()));
        self.present_pools(env);
    }

    fn tell_of(&mut self, env: &mut Env, spec: &AgentSpec) {
        self.give_all(env, || Input::Command(Command::AgentJoined(Box::new(spec.clone())), false));
        self.give_all(env, || Input::Command(Command::AgentChanged(Box::new(spec.clone())), false));
    }

    /// `runtime::Shares::open`.
    fn open(&mut self, env: &mut Env, agent: &str, slots: u32, is_closed: bool) {
        let hungry = {
            let mut ledger = self.post.ledger.borrow_mut();
            if ledger.lender(agent) == Some((slots, is_closed)) {
                return;
            }
            ledger.open(agent, slots, is_closed);
            ledger.hungry()
        };
        self.post.wake(env, &hungry);
    }

    /// The pools, with what their members have together and the labels that all of them have.
    fn pools(&self, env: &Env) -> Vec<AgentSpec> {
        let lease = if env.is(Bug::PoolLossNotRetried) { LEASE * 1_000 } else { LEASE * OFFER_LEASES };
        let offer_lease_micros = u64::try_from(lease.as_micros()).expect("small");
        let mut pools: BTreeMap<String, AgentSpec> = BTreeMap::new();
        for member in self.registry.members() {
            let Some(id) = pool_of(env, member) else { continue };
            let is_new = !pools.contains_key(&id);
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
                    Some((_, sum)) => *sum += amount,
                    None => pool.resources.push((name.clone(), *amount)),
                }
            }
            pool.resources.sort_unstable();
            if is_new || pool.labels.is_empty() {
                pool.labels.clone_from(&spec.labels);
            } else {
                pool.labels.retain(|label| spec.labels.contains(label));
            }
        }
        pools.into_values().collect()
    }
}

/// What a run is told of an agent: on the shared route it is one of its capability's pool.
fn spec_of(env: &Env, member: &Member) -> AgentSpec {
    let pool = pool_of(env, member).map(|pool| AgentRole::Member { pool });
    AgentSpec { role: pool.unwrap_or_else(|| member.spec.role.clone()), ..member.spec.clone() }
}

fn pool_of(env: &Env, member: &Member) -> Option<String> {
    let capability = member.capability.as_deref().filter(|_| env.is_shared)?;
    Some(format!("{POOL_PREFIX}{capability}"))
}
