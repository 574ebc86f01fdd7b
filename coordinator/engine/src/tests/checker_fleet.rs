//! The part of the checker that is about agents: who may be offered what, whose an attempt is, what is taken.

use super::{Checker, Verdict, ensure};
use cairn_model::{AgentIndex, AgentRole, AgentSpec, TaskIndex};
use std::collections::BTreeMap;

/// What is known of an agent.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    pub spec: AgentSpec,
    pub lost: bool,
    pub slots: u32,
    pub timers: u32,
    pub taken: BTreeMap<String, u64>,
}

impl AgentFacts {
    pub fn is_pool(&self) -> bool {
        matches!(self.spec.role, AgentRole::Pool { .. })
    }

    /// Whether it is there, and takes work out of that pool.
    pub fn is_member_of(&self, pool: &Self) -> bool {
        !self.lost && matches!(&self.spec.role, AgentRole::Member { pool: id } if *id == pool.spec.id)
    }
}

impl Checker {
    /// Whether an agent could ever run the task.
    pub fn fits(&self, task: TaskIndex, spec: &AgentSpec) -> bool {
        let settings = self.plan.settings(task);
        let has = |name: &str| {
            spec.resources.iter().find(|(known, _)| known == name).map_or(0, |(_, amount)| *amount)
        };
        (if self.plan.takes_slot(task) { spec.slots } else { spec.timers }) > 0
            && settings.resources.iter().all(|(name, amount)| has(name) >= *amount)
            && settings.requires.iter().all(|label| spec.labels.contains(label))
    }

    /// Whether the task could be offered to an agent that is there, or to a pool with a member that could run it.
    pub fn could_take(&self, task: TaskIndex, agent: &AgentFacts) -> bool {
        let is_able = |member: &AgentFacts| member.is_member_of(agent) && self.fits(task, &member.spec);
        let takes_offers = match agent.spec.role {
            AgentRole::Own => true,
            AgentRole::Pool { .. } => self.agents.iter().any(is_able),
            AgentRole::Member { .. } => false,
        };
        !agent.lost && takes_offers && self.fits(task, &agent.spec)
    }

    pub fn join(&mut self, spec: &AgentSpec) -> Verdict {
        let same = |agent: &&AgentFacts| agent.spec.id == spec.id;
        for known in self.agents.iter().filter(same) {
            ensure(known.lost, "an agent is there once")?;
            ensure(known.spec.incarnation <= spec.incarnation, "an incarnation does not come back")?;
        }
        let taken = spec.resources.iter().map(|(name, _)| (name.clone(), 0)).collect();
        self.agents.push(AgentFacts { spec: spec.clone(), lost: false, slots: 0, timers: 0, taken });
        Ok(())
    }

    pub fn change(&mut self, spec: &AgentSpec) -> Verdict {
        let same = |agent: &&mut AgentFacts| agent.spec.id == spec.id && !agent.lost;
        let agent = self.agents.iter_mut().find(same).ok_or("no such agent")?;
        ensure(agent.spec.incarnation == spec.incarnation, "another incarnation")?;
        for (name, _) in &spec.resources {
            agent.taken.entry(name.clone()).or_insert(0);
        }
        agent.spec = spec.clone();
        Ok(())
    }

    /// Whether the attempt that is out is in a pool, and nobody's yet.
    pub fn lies_in_pool(&self, task: TaskIndex) -> bool {
        self.tasks[task.get()].out.is_some_and(|(_, agent)| self.agents[agent.get()].is_pool())
    }

    pub fn grant(&mut self, task: TaskIndex, attempt: u32, agent: AgentIndex) -> Verdict {
        self.ensure_out(task, attempt)?;
        let (_, offered) = self.tasks[task.get()].out.ok_or("it is out")?;
        ensure(!self.tasks[task.get()].granted, "an attempt is bound once")?;
        if offered != agent {
            let is_member = self.agents[agent.get()].is_member_of(&self.agents[offered.get()]);
            ensure(is_member && self.lies_in_pool(task), "it was not offered to this agent")?;
            self.tasks[task.get()].pool = Some(offered);
        }
        let row = &mut self.tasks[task.get()];
        (row.out, row.granted) = (Some((attempt, agent)), true);
        Ok(())
    }

    pub fn dispatch(&mut self, task: TaskIndex, attempt: u32, agent: AgentIndex) -> Verdict {
        self.ensure_may_run(task)?;
        let row = &self.tasks[task.get()];
        let held = row.paused || self.milestones[self.plan.milestone_of(task).get()].paused;
        ensure(!held && !self.paused && !self.interrupted, "it is paused")?;
        ensure(!row.cancelling, "it is to be cancelled")?;
        ensure(attempt == row.attempts + 1, "attempts are counted")?;
        ensure(!self.plan.is_checkpoint(task), "a checkpoint is not dispatched")?;
        let facts = &self.agents[agent.get()];
        ensure(!facts.lost, "its agent is lost")?;
        ensure(self.could_take(task, facts), "its agent could never run it")?;
        let row = &mut self.tasks[task.get()];
        (row.out, row.attempts, row.started, row.granted) = (Some((attempt, agent)), attempt, false, false);
        self.occupy(task, agent, true);
        let (facts, settings) = (&self.agents[agent.get()], self.plan.settings(task));
        let may_wait = settings.resources.is_empty() && !settings.at_most_once;
        let queue = if may_wait { facts.spec.backlog } else { 0 };
        if self.plan.takes_slot(task) {
            ensure(facts.slots <= facts.spec.slots + queue, "more attempts than slots and queue")?;
        } else {
            ensure(facts.timers <= facts.spec.timers, "more timers than there are")?;
        }
        let is_asked = |name: &String| settings.resources.iter().any(|(asked, _)| asked == name);
        let mut asked = facts.spec.resources.iter().filter(|(name, _)| is_asked(name));
        let within = asked.all(|(name, amount)| facts.taken[name] <= *amount);
        ensure(within, "more of a resource than there is")
    }

    pub fn occupy(&mut self, task: TaskIndex, agent: AgentIndex, take: bool) {
        let facts = &mut self.agents[agent.get()];
        let used = if self.plan.takes_slot(task) { &mut facts.slots } else { &mut facts.timers };
        *used = if take { *used + 1 } else { *used - 1 };
        for (name, amount) in &self.plan.settings(task).resources {
            if let Some(taken) = facts.taken.get_mut(name) {
                *taken = if take { *taken + amount } else { *taken - amount };
            }
        }
    }

    pub fn bring_home(&mut self, task: TaskIndex) {
        let row = &mut self.tasks[task.get()];
        if let Some((_, agent)) = row.out.take() {
            let holder = row.pool.take().unwrap_or(agent);
            self.occupy(task, holder, false);
        }
    }
}
