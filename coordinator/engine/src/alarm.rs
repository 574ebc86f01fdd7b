//! When to look at a task again: at most one moment for each, found by time and by task.

use cairn_model::{TaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Moments of tasks, both ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Timestamp, TaskIndex)>,
    by_task: BTreeMap<TaskIndex, Timestamp>,
}

impl Alarms {
    /// Sets the moment of a task, in place of the one before.
    pub fn insert(&mut self, at: Timestamp, task: TaskIndex) {
        self.remove(task);
        self.by_time.insert((at, task));
        self.by_task.insert(task, at);
    }

    /// Forgets the moment of a task, if it has one.
    pub fn remove(&mut self, task: TaskIndex) {
        if let Some(at) = self.by_task.remove(&task) {
            self.by_time.remove(&(at, task));
        }
    }

    /// The moment of a task.
    pub fn of(&self, task: TaskIndex) -> Option<Timestamp> {
        self.by_task.get(&task).copied()
    }

    /// The earliest.
    pub fn first(&self) -> Option<(Timestamp, TaskIndex)> {
        self.by_time.first().copied()
    }
}
