//! Attempts that wait for a slot: the runs in turn, each in its order.

use super::{AttemptId, Terms};
use std::collections::{BTreeMap, VecDeque};

/// How many attempts of a run are looked at for one that fits into what is free.
const MAX_LOOKS: usize = 64;

/// What waits. An attempt that does not fit lets others pass, but none that would take what it lacks: it is not
/// overtaken for ever.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// Whose turn it is.
    turns: VecDeque<u32>,
    /// Of each run with a turn its attempts; those that are not in `terms` have been removed.
    waiting: BTreeMap<u32, VecDeque<AttemptId>>,
    terms: BTreeMap<AttemptId, Terms>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    pub fn contains(&self, id: AttemptId) -> bool {
        self.terms.contains_key(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (AttemptId, &Terms)> {
        self.terms.iter().map(|(&id, terms)| (id, terms))
    }

    pub fn push(&mut self, id: AttemptId, terms: Terms) {
        let waiting = self.waiting.entry(id.run).or_insert_with(|| {
            self.turns.push_back(id.run);
            VecDeque::new()
        });
        waiting.push_back(id);
        self.terms.insert(id, terms);
    }

    pub fn remove(&mut self, id: AttemptId) -> Option<Terms> {
        self.terms.remove(&id)
    }

    pub fn retain(&mut self, keep: impl Fn(AttemptId, &Terms) -> bool) {
        self.terms.retain(|&id, terms| keep(id, terms));
    }

    /// The next attempt that fits into what is `free` of each resource. `only_plain`: only if it takes none.
    pub fn take(&mut self, free: &[u64], only_plain: bool) -> Option<(AttemptId, Terms)> {
        let mut lacking: Vec<usize> = Vec::new();
        let mut turn = 0;
        while let Some(&run) = self.turns.get(turn) {
            let waiting = self.waiting.entry(run).or_default();
            while waiting.front().is_some_and(|id| !self.terms.contains_key(id)) {
                waiting.pop_front();
            }
            let there = waiting.iter().enumerate().filter_map(|(at, id)| Some((at, self.terms.get(id)?)));
            let found = there.take(MAX_LOOKS).find(|(_, terms)| {
                let takes = &terms.resources;
                let fits = takes.iter().all(|&(resource, amount)| {
                    amount <= free.get(resource).copied().unwrap_or(0) && !lacking.contains(&resource)
                });
                if !fits {
                    lacking.extend(takes.iter().map(|&(resource, _)| resource));
                }
                fits
            });
            if let Some((at, terms)) = found {
                if only_plain && !(terms.resources.is_empty() && lacking.is_empty()) {
                    return None;
                }
                let id = waiting.remove(at)?;
                self.turns.remove(turn);
                if waiting.is_empty() {
                    self.waiting.remove(&run);
                } else {
                    self.turns.push_back(run);
                }
                return self.terms.remove(&id).map(|terms| (id, terms));
            }
            if waiting.is_empty() {
                self.waiting.remove(&run);
                self.turns.remove(turn);
            } else {
                turn += 1;
            }
        }
        None
    }
}
