//! What the run knows of agents: who is there, and what of theirs is taken. Part of `apply`.

use crate::agenda::Agenda;
use crate::order::Order;
use crate::state::{AgentState, State};
use cairn_model::{AgentIndex, AgentSpec, TaskIndex};

pub(crate) fn join(state: &mut State, spec: &AgentSpec) {
    let agent = AgentState {
        spec: spec.clone(),
        lost: false,
        slots_used: 0,
        timers_used: 0,
        used: vec![0; spec.resources.len()],
        fits: fits(&state.order, spec),
    };
    state.facts.agents.push(agent);
    fit_pools(state);
}

/// What is out stays out, and on the books: also a resource of which there is none any more.
pub(crate) fn change(state: &mut State, spec: &AgentSpec) {
    let fits = fits(&state.order, spec);
    let is_meant = |agent: &&mut AgentState| {
        !agent.lost && agent.spec.id == spec.id && agent.spec.incarnation == spec.incarnation
    };
    let Some(agent) = state.facts.agents.iter_mut().rev().find(is_meant) else { return };
    let mut spec = spec.clone();
    for (name, used) in agent.resources_used() {
        if used > 0 && !spec.resources.iter().any(|(has, _)| has == name) {
            spec.resources.push((name.to_owned(), 0));
        }
    }
    spec.resources.sort_unstable();
    let used_of =
        |name: &String| agent.resources_used().find(|(has, _)| has == name).map_or(0, |(_, used)| used);
    let used = spec.resources.iter().map(|(name, _)| used_of(name)).collect();
    (agent.spec, agent.used, agent.fits) = (spec, used, fits);
    fit_pools(state);
}

pub(crate) fn lose(state: &mut State, agent: AgentIndex) {
    let Some(lost) = state.facts.agents.get_mut(agent.get()) else { return };
    lost.lost = true;
    for (index, row) in state.facts.tasks.iter().enumerate() {
        if row.status.is_out() && row.link == agent.0 {
            state.facts.agenda.push_back(Agenda::Lose(TaskIndex::new(index), row.attempt));
        }
    }
    fit_pools(state);
}

fn fits(order: &Order, spec: &AgentSpec) -> Vec<bool> {
    order.classes().iter().map(|class| class.fits(spec)).collect()
}

/// What a pool has together may be more than any of its members has.
fn fit_pools(state: &mut State) {
    let State { order, facts, .. } = state;
    for at in 0..facts.agents.len() {
        let pool = &facts.agents[at];
        if !pool.is_pool() {
            continue;
        }
        let members = || facts.agents.iter().filter(|agent| !agent.lost && agent.is_member_of(&pool.spec.id));
        let some_member = |class: usize| members().any(|member| member.fits[class]);
        let own = fits(order, &pool.spec).into_iter().enumerate();
        let fits = own.map(|(class, fits)| fits && some_member(class)).collect();
        facts.agents[at].fits = fits;
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Take {
    Occupy,
    Free,
}

/// Takes what the task asks for from its agent, or gives it back.
pub(crate) fn occupy(state: &mut State, task: TaskIndex, agent: AgentIndex, take: Take) {
    let class = &state.order.classes()[state.order.class_of(task)];
    let Some(agent) = state.facts.agents.get_mut(agent.get()) else { return };
    let used = if class.takes_slot { &mut agent.slots_used } else { &mut agent.timers_used };
    *used = match take {
        Take::Occupy => *used + 1,
        Take::Free => used.saturating_sub(1),
    };
    for (name, amount) in &class.resources {
        if let Some(at) = agent.spec.resources.iter().position(|(has, _)| has == name) {
            agent.used[at] = match take {
                Take::Occupy => agent.used[at].saturating_add(*amount),
                Take::Free => agent.used[at].saturating_sub(*amount),
            };
        }
    }
}
