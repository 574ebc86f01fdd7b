//! A log of which what was appended becomes durable a while later, all in order. A crash leaves what is durable, and any
//! part of what follows: an append can be on disk although nobody was told.

use super::env::{Env, Planned};
use cairn_engine::{AgentState, Image, State, apply};
use cairn_model::{Event, Timestamp};
use std::collections::BTreeMap;

/// An event of a run.
pub struct Entry {
    pub run: usize,
    pub at: Timestamp,
    pub event: Event,
}

pub struct Store {
    pub log: Vec<Entry>,
    pub durable: usize,
    /// Of a run, what a fold over its durable events gives.
    pub folded: Vec<State>,
    /// Of a run, its newest snapshot, and how much of the log it holds.
    snapshots: BTreeMap<usize, (usize, String)>,
}

impl Store {
    pub fn new(plans: &[Planned]) -> Self {
        let folded = plans.iter().map(|planned| State::new(planned.plan.clone(), planned.graph.clone()));
        Self { log: Vec::new(), durable: 0, folded: folded.collect(), snapshots: BTreeMap::new() }
    }

    /// The durable events of a run.
    pub fn events(&self, run: usize) -> impl Iterator<Item = (Timestamp, &Event)> {
        let durable = self.log[..self.durable].iter().filter(move |entry| entry.run == run);
        durable.map(|entry| (entry.at, &entry.event))
    }
}

impl Env {
    /// What was appended up to `length` is durable.
    pub fn make_durable(&mut self, length: usize) {
        for at in self.store.durable..length {
            let Entry { run, at, event } = &self.store.log[at];
            apply(&mut self.store.folded[*run], event, *at);
            self.summary.grants += u64::from(matches!(event, Event::TaskGranted { .. }));
            let folded = &self.store.folded[*run];
            match event {
                Event::TaskGranted { .. } if folded.agents().iter().any(AgentState::is_pool) => {
                    self.summary.pooled_grants += 1;
                }
                Event::LeaseExpired { .. } => self.summary.offers_expired += 1,
                Event::RunReopened => self.summary.reopened_runs += 1,
                Event::TaskReopened { .. } => self.summary.reopened_tasks += 1,
                _ => {}
            }
            self.judge.is_durable(*run, event, folded);
        }
        self.store.durable = self.store.durable.max(length);
    }

    /// The coordinator's machine dies.
    pub fn crash_store(&mut self) {
        let unsaid = self.store.log.len() - self.store.durable;
        let saved = if unsaid > 0 && self.random.chance(300) { self.random.index(unsaid + 1) } else { 0 };
        self.make_durable(self.store.durable + saved);
        self.summary.lost_events += (unsaid - saved) as u64;
        self.store.log.truncate(self.store.durable);
    }

    /// What a run's log gives, read from its beginning; and again from its snapshot, which must give the same.
    pub fn read_run(&self, run: usize) -> State {
        let planned = &self.plans[run];
        let mut state = State::new(planned.plan.clone(), planned.graph.clone());
        self.store.events(run).for_each(|(at, event)| apply(&mut state, event, at));
        self.ensure(state == self.store.folded[run], "a replay gives what was live");
        if let Some((length, image)) = self.store.snapshots.get(&run) {
            self.ensure(*length <= self.store.durable, "a snapshot holds what the log has not");
            let image: Image = serde_json::from_str(image).expect("what was written");
            let restored = State::restore(planned.plan.clone(), planned.graph.clone(), image);
            let mut restored = restored.expect("an image of this plan");
            let tail = self.store.log[*length..self.store.durable].iter().filter(|entry| entry.run == run);
            tail.for_each(|entry| apply(&mut restored, &entry.event, entry.at));
            self.ensure(restored == state, "a snapshot and what follows give another state than the log");
        }
        state
    }

    /// Keeps a snapshot of a run of which `length` of the log is told to be durable.
    pub fn keep_snapshot(&mut self, run: usize, state: &State, length: usize) {
        let image = serde_json::to_string(&state.image()).expect("a state has a form");
        self.summary.snapshots += 1;
        self.store.snapshots.insert(run, (length, image));
    }
}
