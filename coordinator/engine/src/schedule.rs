//! Which ready task goes to which agent.
//!
//! Classes are looked at in the order of their first task; a class that finds no room now is left for this
//! decision, so that a task that asks for much does not hold up those that ask for little. It gets its turn when
//! they are done: a run has finitely many tasks.

use crate::agenda;
use crate::loan::Taken;
use crate::order::{Class, ClassIndex};
use crate::state::{AgentState, State};
use cairn_model::{AgentIndex, AgentSpec, Event, TaskIndex, Timestamp};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Most events of one decision; the next one goes on. A few thousand share an append well, and let the store
/// write one batch while the next is decided.
pub const MAX_EVENTS_PER_DECISION: usize = 4096;

impl Class {
    /// Whether an agent could run a task of this class if it had nothing else to do.
    #[must_use]
    pub fn fits(&self, agent: &AgentSpec) -> bool {
        let amount =
            |name: &str| agent.resources.iter().find(|(has, _)| has == name).map_or(0, |(_, amount)| *amount);
        let room = if self.takes_slot { agent.slots } else { agent.timers };
        room > 0
            && self.resources.iter().all(|(name, wanted)| amount(name) >= *wanted)
            && self.requires.iter().all(|label| agent.labels.contains(label))
    }
}

/// Whether some agent that is not lost could ever run the task.
#[must_use]
pub fn could_ever_run(state: &State, task: TaskIndex) -> bool {
    class_could_ever_run(state, state.order.class_of(task))
}

fn class_could_ever_run(state: &State, class: ClassIndex) -> bool {
    state.agents().iter().any(|agent| !agent.lost && agent.takes_offers() && agent.fits[class])
}

/// Agents that are there and are offered work. A pool without members is nobody.
pub fn takers(state: &State) -> impl Iterator<Item = &AgentState> + Clone {
    let has_room = |agent: &AgentState| agent.spec.slots > 0 || agent.spec.timers > 0;
    state.agents().iter().filter(move |agent| !agent.lost && agent.takes_offers() && has_room(agent))
}

/// Tasks that could run, were there an agent for them, where agents are there and none could ever run them: of each
/// class the first, and how many they are.
#[must_use]
pub fn unplaceable(state: &State) -> Vec<(TaskIndex, usize)> {
    if state.held() || takers(state).next().is_none() {
        return Vec::new();
    }
    let hopeless = (0..state.order.classes().len()).filter(|class| !class_could_ever_run(state, *class));
    hopeless.filter_map(|class| Some((state.ready_first(class)?, state.facts.ready[class].len()))).collect()
}

/// Dispatches ready tasks as far as there is room, within the bound of a decision.
pub(crate) fn dispatch(state: &mut State, now: Timestamp, events: &mut Vec<Event>) {
    if state.held() || state.agents().iter().all(|agent| agent.lost) {
        return;
    }
    let mut heads: BinaryHeap<Reverse<(u32, ClassIndex)>> = heads(state).map(Reverse).collect();
    while events.len() < MAX_EVENTS_PER_DECISION
        && let Some(Reverse((_, class))) = heads.pop()
    {
        let Some(task) = state.ready_first(class) else { continue };
        let event = match choose_for(state, class, task) {
            Some(agent) => Event::TaskDispatched { task, attempt: state.task(task).attempt + 1, agent },
            None if state.run().options.closed_fleet && !class_could_ever_run(state, class) => {
                agenda::unplaceable(state, task, now)
            }
            None => continue,
        };
        crate::apply(state, &event, now);
        events.push(event);
        heads.extend(state.ready_first(class).map(|task| Reverse((state.order.rank(task), class))));
    }
}

/// How far ahead an agent may be given work: what is likely to start within this time. It covers the way from the
/// end of a task to the next offer (an append and two hops), so that short tasks leave no slot idle; long tasks
/// wait here, where what has become urgent can still overtake them.
const LOOKAHEAD: Duration = Duration::from_millis(80);

/// How many attempts beyond its slots an agent may be given: none while other runs are hungry.
fn queue_of(state: &State, agent: &AgentState) -> u32 {
    if state.loan.most_slots.is_some() {
        return 0;
    }
    let mean = state.run().mean_process_micros;
    let ahead = u64::try_from(LOOKAHEAD.as_micros()).unwrap_or(u64::MAX);
    let each = ahead.checked_div(mean).unwrap_or(0).saturating_mul(u64::from(agent.spec.slots));
    u32::try_from(each).unwrap_or(u32::MAX).min(agent.spec.backlog)
}

/// Whether a decision would dispatch something.
pub(crate) fn can_dispatch(state: &State) -> bool {
    let hopeless = |class| state.run().options.closed_fleet && !class_could_ever_run(state, class);
    !state.held()
        && state.agents().iter().any(|agent| !agent.lost)
        && heads(state).any(|(_, class)| choose_agent(state, class, None).is_some() || hopeless(class))
}

/// Whether tasks are ready that some agent could run.
pub(crate) fn has_waiting(state: &State) -> bool {
    !state.held() && heads(state).any(|(_, class)| class_could_ever_run(state, class))
}

fn heads(state: &State) -> impl Iterator<Item = (u32, ClassIndex)> + '_ {
    let classes = 0..state.order.classes().len();
    classes.filter_map(|class| state.ready_first(class).map(|task| (state.order.rank(task), class)))
}

/// Who declined the task last is asked again only if there is nobody else.
fn choose_for(state: &State, class: ClassIndex, task: TaskIndex) -> Option<AgentIndex> {
    let declined_by = state.facts.troubles.get(&task).and_then(|trouble| trouble.declined_by);
    let elsewhere = declined_by.and_then(|_| choose_agent(state, class, declined_by));
    elsewhere.or_else(|| choose_agent(state, class, None))
}

/// The agent with the most free slots, the first among equals. Only where none has a free one, an agent whose
/// queue has room; the one with the shortest queue then.
fn choose_agent(state: &State, class: ClassIndex, except: Option<AgentIndex>) -> Option<AgentIndex> {
    let wanted = &state.order.classes()[class];
    let is_over = |most: u32| wanted.takes_slot && state.slots_out() >= most;
    if state.loan.most_slots.is_some_and(is_over) {
        return None;
    }
    let room = |index: usize, agent: &AgentState| {
        let taken = state.loan.agents.get(index);
        let (has, used, lent) = if wanted.takes_slot {
            (agent.spec.slots, agent.slots_used, taken.map_or(0, |taken| taken.slots))
        } else {
            (agent.spec.timers, agent.timers_used, taken.map_or(0, |taken| taken.timers))
        };
        i64::from(has) - i64::from(used) - i64::from(lent)
    };
    let queue = |agent: &AgentState| {
        if wanted.takes_slot && wanted.may_queue { i64::from(queue_of(state, agent)) } else { 0 }
    };
    let is_open = |index: usize, agent: &AgentState| {
        let taken = state.loan.agents.get(index);
        !agent.lost
            && agent.fits[class]
            && agent.takes_offers()
            && taken.is_none_or(|taken| !taken.closed)
            && except.is_none_or(|except| except.get() != index)
            && agent.has_free(wanted, taken)
            && room(index, agent) + queue(agent) > 0
    };
    let open = state.agents().iter().enumerate().filter(|&(index, agent)| is_open(index, agent));
    open.max_by_key(|&(index, agent)| (room(index, agent), Reverse(index)))
        .map(|(index, _)| AgentIndex::new(index))
}

impl AgentState {
    /// Whether the resources that the class asks for are free.
    fn has_free(&self, class: &Class, taken: Option<&Taken>) -> bool {
        let lent = |name: &str| taken.map_or(0, |taken| taken.of(name));
        class.resources.iter().all(|(name, wanted)| self.free(name).saturating_sub(lent(name)) >= *wanted)
    }
}
