//! The agent's own numbers for runs, and their traces.

use cairn_shared::message::trace::TraceContext;
use std::collections::{HashMap, VecDeque};

/// Runs that are over and remembered, so that a late order about them starts nothing.
const MAX_REMEMBERED: usize = 4096;

/// Names and numbers of runs.
#[derive(Debug, Default)]
pub struct Runs {
    next: u32,
    numbers: HashMap<String, u32>,
    names: HashMap<u32, String>,
    /// As the newest orders said. Not in the journal: the next orders say it again, and nothing depends on it.
    traces: HashMap<u32, TraceContext>,
    over: VecDeque<u32>,
}

impl Runs {
    /// The name of a run.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    /// The number of a run that is known.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Learns the trace of a run, if the run is known.
    pub fn set_trace(&mut self, name: &str, trace: TraceContext) {
        if let Some(number) = self.find(name) {
            self.traces.insert(number, trace);
        }
    }

    /// The trace of a run.
    pub fn trace(&self, number: u32) -> Option<TraceContext> {
        self.traces.get(&number).copied()
    }

    /// The number of a run, and whether it is new.
    pub fn number(&mut self, name: &str) -> (u32, bool) {
        if let Some(number) = self.find(name) {
            return (number, false);
        }
        let number = self.next;
        self.restore(number, name.to_owned());
        (number, true)
    }

    /// Puts a number back that was given in an earlier life of the process.
    pub fn restore(&mut self, number: u32, name: String) {
        self.next = self.next.max(number + 1);
        self.numbers.insert(name.clone(), number);
        self.names.insert(number, name);
    }

    /// The run is over. What is returned was over longest, and is not known any more.
    #[must_use]
    pub fn is_over(&mut self, number: u32) -> Option<u32> {
        if !self.over.contains(&number) {
            self.over.push_back(number);
        }
        if self.over.len() <= MAX_REMEMBERED {
            return None;
        }
        let oldest = self.over.pop_front()?;
        self.traces.remove(&oldest);
        if let Some(name) = self.names.remove(&oldest) {
            self.numbers.remove(&name);
        }
        Some(oldest)
    }

    /// The run goes on: it was retried.
    pub fn goes_on(&mut self, number: u32) {
        self.over.retain(|over| *over != number);
    }

    /// All runs, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, bool)> {
        self.names.iter().map(|(&number, name)| (number, name.as_str(), self.over.contains(&number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_the_oldest_run_that_is_over_is_dropped() {
        let mut runs = Runs::default();
        runs.restore(7, "old.1".into());
        assert_eq!(
            (runs.number("a.1"), runs.number("a.1"), runs.number("old.1")),
            ((8, true), (8, false), (7, false))
        );
        for number in 0..MAX_REMEMBERED {
            let (number, _) = runs.number(&format!("b.{number}"));
            assert_eq!((runs.is_over(number), runs.is_over(number)), (None, None));
        }
        assert_eq!(runs.is_over(8), Some(9));
        assert_eq!((runs.name(9), runs.find("b.0"), runs.name(8)), (None, None, Some("a.1")));
    }
}
